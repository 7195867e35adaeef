import pytest
import torch
from torch import nn

from kpedge.training.average import WeightAverage


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))


def copy_of(model):
    return {name: values.clone() for name, values in model.state_dict().items()}


def move(model, seed):
    """As a step of training does: other weights, other statistics, one batch more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in model.state_dict().values():
            if values.is_floating_point():
                values.add_(torch.randn(values.shape, generator=generator))
            else:
                values.add_(1)


def test_it_starts_as_a_copy_that_is_not_trained():
    model = network().train()
    average = WeightAverage(model, 0.9)
    assert all(torch.equal(values, model.state_dict()[name]) for name, values in average.model.state_dict().items())
    assert not average.model.training
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    before = copy_of(average.model)
    move(model, 0)
    assert all(torch.equal(values, before[name]) for name, values in average.model.state_dict().items())


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_it_follows_the_formula(decay):
    model = network()
    average = WeightAverage(model, decay)
    expected = copy_of(model)
    for step in range(1, 40):
        move(model, step)
        average.update(model)
        kept = min(decay, (1 + step) / (10 + step))
        for name, values in model.state_dict().items():
            if values.is_floating_point():
                expected[name] = kept * expected[name] + (1 - kept) * values
    assert average.steps == 39
    for name, values in average.model.state_dict().items():
        if values.is_floating_point():
            assert torch.allclose(values, expected[name], atol=1e-4), name
    assert average.model[1].running_mean.abs().max() > 0, "statistics are averaged too"


def test_the_first_steps_forget_the_start():
    model = network()
    average = WeightAverage(model, 0.9999)
    with torch.no_grad():
        for values in model.parameters():
            values.fill_(1.0)
    for _ in range(50):
        average.update(model)
    assert (average.model[0].weight - 1).abs().max() < 1e-4


def test_whole_numbers_are_copied():
    model = network()
    average = WeightAverage(model, 0.99)
    for step in range(3):
        move(model, step)
        average.update(model)
    assert average.model[1].num_batches_tracked == model[1].num_batches_tracked == 3


def test_the_model_is_left_as_it_is():
    model = network()
    average = WeightAverage(model, 0.5)
    move(model, 1)
    before = copy_of(model)
    average.update(model)
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    average.model(torch.zeros(1, 1, 5, 5))
    assert all(parameter.grad is None for parameter in average.model.parameters())


def test_a_resumed_average_goes_on_to_the_same_bits():
    model, straight = network(), WeightAverage(network(), 0.9)
    for step in range(5):
        move(model, step)
        straight.update(model)
    resumed = WeightAverage(network(3), 0.9)
    resumed.load(copy_of(straight.model), straight.steps)
    for step in range(5, 20):
        move(model, step)
        straight.update(model)
        resumed.update(model)
    assert resumed.steps == straight.steps == 20
    for name, values in resumed.model.state_dict().items():
        assert torch.equal(values, straight.model.state_dict()[name]), name
    forgetful = WeightAverage(network(3), 0.9)
    forgetful.load(copy_of(straight.model), 0)
    move(model, 20)
    forgetful.update(model)
    straight.update(model)
    assert not torch.equal(forgetful.model[0].weight, straight.model[0].weight), "the number of steps matters"
