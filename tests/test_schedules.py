"""Schedules, optimizers, the average of weights, and the configuration that names them."""

import io
from itertools import pairwise

import pytest
import torch
from torch import nn

from kpedge.core.errors import UsageError
from kpedge.training.config import TrainConfig
from kpedge.training.optimizers import Phase, new_optimizer, phases
from kpedge.training.registry import SCHEDULES
from kpedge.training.schedules import Schedule, epochs_since_best
from kpedge.training.weights import average_weights, resume_average

NAN = float("nan")
STEPS = 100


@pytest.fixture(autouse=True, scope="module")
def loaded():
    """The first optimizer of a process loads half of PyTorch."""
    torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)


def groups(*rates, decay=0.01):
    return [{"params": [nn.Parameter(torch.ones(2))], "lr": lr, "weight_decay": decay} for lr in rates]


def rates(length=STEPS, epochs=10, criteria=(), **options):
    """The learning rate of each step, where the highest is 1."""
    config = TrainConfig(**{"warmup": 0.0, "lr": 1.0, "epochs": epochs, **options})
    optimizer = new_optimizer(phases(config)[0], groups(1.0), config)
    schedule, found = Schedule(optimizer, length, config), []
    for step in range(length):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
        if (step + 1) % (length // epochs) == 0:
            schedule.end_epoch(criteria[step // (length // epochs)] if criteria else None)
    return found


# Schedules

ENDS = {
    "cosine": (1.0, 0.0),
    "constant": (1.0, 1.0),
    "step": (1.0, 0.01),
    "multi-step": (1.0, 0.01),
    "exponential": (1.0, 0.1),
    "one-cycle": (0.04, 0.0),
    "plateau": (1.0, 1.0),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_where_schedules_start_and_end(name):
    found = rates(schedule=name)
    assert found[0] == pytest.approx(ENDS[name][0])
    assert found[-1] == pytest.approx(ENDS[name][1], rel=0.03, abs=1e-3)
    assert all(0 <= rate <= 1 + 1e-9 for rate in found)
    if name != "one-cycle":
        assert all(later <= sooner + 1e-12 for sooner, later in pairwise(found))


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "one-cycle"])
def test_warm_up_is_a_straight_rise_in_front_of_the_schedule(name):
    plain, warm = rates(schedule=name), rates(schedule=name, warmup=0.4)
    assert warm == pytest.approx([rate * min(1, (step + 1) / 40) for step, rate in enumerate(plain)], abs=1e-6)


@pytest.mark.parametrize("steps", [3, 6, 10])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_short_run_is_not_all_warm_up(name, steps):
    found = rates(steps, epochs=1, schedule=name, warmup=TrainConfig().warmup)
    assert max(found) == pytest.approx(1, rel=0.2)


def test_steps_are_in_fractions_of_the_run():
    found = rates(schedule="multi-step", milestones=(0.6, 0.29, 0.85), gamma=0.5)
    assert [step for step in range(1, STEPS) if found[step] != found[step - 1]] == [29, 60, 85]
    found = rates(schedule="step", gamma=0.5)
    assert [step for step in range(1, STEPS) if found[step] != found[step - 1]] == [34, 68]
    assert set(rates(schedule="multi-step", milestones=())) == {1.0}


@pytest.mark.parametrize(
    ("criteria", "falls"),
    [([3, 2, 1] * 2, 1), ([3] * 6, 2), ([3, 4, 2, 2.5, 1, 0.5], 0), ([NAN, NAN, 1, 0.9, 0.8, 0.7], 1)],
)
def test_a_plateau_is_two_epochs_without_a_better_validation(criteria, falls):
    options = {"schedule": "plateau", "plateau": 2, "gamma": 0.5}
    found = rates(70, epochs=7, criteria=[*map(float, criteria), 9.0], **options)
    assert found[-1] == pytest.approx(0.5**falls)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("StepLR", "step_size=2, gamma=0.5", [1, 1, 0.5, 0.5, 0.25]),
        ("torch.optim.lr_scheduler.ExponentialLR", "gamma=0.5", [1, 0.5, 0.25, 0.125, 0.0625]),
        ("CosineAnnealingWarmRestarts", "T_0=2", [1, 0.5, 1, 0.5, 1]),
    ],
)
def test_schedules_of_pytorch_advance_by_the_epoch(name, arguments, expected):
    found = rates(50, epochs=5, schedule=name, schedule_args=arguments)
    assert found[::10] == pytest.approx(expected)
    assert found[9::10] == pytest.approx(expected)


@pytest.mark.parametrize("name", [*SCHEDULES, "CyclicLR"])
def test_a_schedule_goes_on_from_its_state(name):
    arguments = "base_lr=0.1, max_lr=1.0" if name == "CyclicLR" else ""
    config = TrainConfig(schedule=name, schedule_args=arguments, warmup=0.3, plateau=1, lr=0.5)

    def run(schedule, optimizer, steps):
        found = []
        for step in steps:
            optimizer.step()
            schedule.step()
            if step % 5 == 4:
                schedule.end_epoch(1.0)
            found.append(optimizer.param_groups[0]["lr"])
        return found

    whole = new_optimizer(phases(config)[0], groups(0.5), config)
    schedule = Schedule(whole, 30, config)
    run(schedule, whole, range(12))
    buffer = io.BytesIO()
    torch.save([schedule.state_dict(), whole.state_dict()], buffer)
    buffer.seek(0)
    state, optimizer_state = torch.load(buffer, weights_only=True)
    resumed = new_optimizer(phases(config)[0], groups(0.5), config)
    other = Schedule(resumed, 30, config)
    resumed.load_state_dict(optimizer_state)
    other.load_state_dict(state)
    assert run(other, resumed, range(12, 30)) == run(schedule, whole, range(12, 30))


@pytest.mark.parametrize(
    "wrong",
    [
        {"schedule": "linear"},
        {"schedule": "SequentialLR"},
        {"schedule": "StepLR", "schedule_args": "step=3"},
        {"schedule": "cosine", "schedule_args": "T_max=3"},
        {"schedule_args": "3"},
        {"schedule": "os.getcwd"},
    ],
)
def test_schedules_that_cannot_be_made_are_refused(wrong):
    with pytest.raises(UsageError, match="--schedule"):
        rates(**wrong)


def test_epochs_since_the_best():
    for criteria, expected in (
        ([], 0),
        ([3.0, 2.0, 1.0], 0),
        ([3.0, 1.0, 2.0, 4.0], 2),
        ([1.0, 1.0, 1.0], 2),
        ([NAN, 0.5, 0.4], 0),
        ([0.5, NAN, NAN], 2),
    ):
        assert epochs_since_best(criteria) == expected


# Optimizers


def test_any_optimizer_of_pytorch_takes_its_arguments():
    config = TrainConfig(optimizer="RAdam", optimizer_args="betas=(0.8, 0.99), decoupled_weight_decay=True")
    optimizer = new_optimizer(phases(config)[0], groups(0.1), config)
    assert type(optimizer) is torch.optim.RAdam
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.99)
    config = TrainConfig(optimizer="sgd", optimizer_args="momentum=0.5, dampening=0.1")
    first = new_optimizer(phases(config)[0], groups(0.1), config).param_groups[0]
    assert (first["momentum"], first["dampening"]) == (0.5, 0.1)
    config = TrainConfig(optimizer="torch.optim.Rprop")
    assert type(new_optimizer(phases(config)[0], groups(0.1), config)) is torch.optim.Rprop


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimizer": "lion"},
        {"optimizer": "LBFGS"},
        {"optimizer": "no.such.Module"},
        {"optimizer": "adam", "optimizer_args": "speed=3"},
        {"optimizer": "adam", "optimizer_args": "lr=3"},
        {"optimizer_args": "momentum"},
        {"optimizer": "adamw", "optimizer_args": "betas=(2, 3)"},
    ],
)
def test_optimizers_that_cannot_be_made_are_refused(wrong):
    with pytest.raises(UsageError, match="--optimizer"):
        rates(**wrong)


@pytest.mark.parametrize(("switch", "epochs", "adam"), [(0.3, 10, 3), (0.29, 100, 29), (0.5, 5, 2)])
def test_adam_sgd_has_two_phases(switch, epochs, adam):
    config = TrainConfig(optimizer="adam-sgd", lr=0.001, sgd_lr=0.05, epochs=epochs, switch_at=switch)
    first, second = phases(config)
    assert first == Phase("adam", 0.001, 1, adam)
    assert second == Phase("sgd", 0.05, adam + 1, epochs - adam)
    optimizer = new_optimizer(second, groups(0.001, 0.0001, 0.0), config)
    assert type(optimizer) is torch.optim.SGD
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.005, 0])


@pytest.mark.parametrize(("switch", "name"), [(0.0, "sgd"), (1.0, "adam")])
def test_adam_sgd_may_have_one_phase_only(switch, name):
    (phase,) = phases(TrainConfig(optimizer="adam-sgd", epochs=5, switch_at=switch))
    assert (phase.optimizer, phase.first, phase.epochs) == (name, 1, 5)


# The average of weights


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))


def move(model, seed):
    """As a step of training does: other weights and statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in model.state_dict().values():
            if values.is_floating_point():
                values.add_(torch.randn(values.shape, generator=generator))


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_average_is_exponential_and_forgets_the_start(decay):
    model = network()
    averaged = average_weights(model, decay)
    expected = {}
    for step in range(40):
        move(model, step)
        averaged.update_parameters(model)
        kept = min(decay, (1 + step) / (10 + step)) if step else 0.0
        for name, values in model.state_dict().items():
            if values.is_floating_point():
                expected[name] = kept * expected.get(name, 0) + (1 - kept) * values
    for name, values in expected.items():
        assert torch.allclose(averaged.module.state_dict()[name], values, atol=1e-4), name
    assert not averaged.training
    assert not any(parameter.requires_grad for parameter in averaged.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_resumed_average_ends_with_the_same_bits():
    model = network()
    straight = average_weights(model, 0.9)
    for step in range(5):
        move(model, step)
        straight.update_parameters(model)
    resumed = average_weights(network(3), 0.9)
    resume_average(resumed, {name: values.clone() for name, values in straight.module.state_dict().items()}, 5)
    for step in range(5, 20):
        move(model, step)
        straight.update_parameters(model)
        resumed.update_parameters(model)
    for name, values in resumed.state_dict().items():
        assert torch.equal(values, straight.state_dict()[name]), name
