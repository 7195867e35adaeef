from dataclasses import replace

import pytest
import torch
from test_networks import crops, pixels
from torch import nn

from kpedge.core.card import card_from_json
from kpedge.core.errors import ModelError
from kpedge.models.backbones.rep import RepBlock
from kpedge.models.build import model_from_state
from kpedge.models.fold import fold
from kpedge.models.keypoint_model import KeypointModel, build_network
from kpedge.models.registry import BACKBONES, HEADS, NORMS
from kpedge.models.stage2 import Stage2
from kpedge.models.stage3 import Stage3
from kpedge.training.config import TrainConfig
from kpedge.training.keypoint_task import new_card

POINTS = 21


pytestmark = pytest.mark.usefixtures("one_thread")


def settle(network, seed=0):
    """Give batch normalisations statistics and weights as after some training."""
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.running_mean, -0.3, 0.3),
                (layer.running_var, 0.5, 2.0),
                (layer.weight.data, 0.5, 1.5),
                (layer.bias.data, -0.2, 0.2),
            ):
                tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))
    return network


def distance(one, other):
    """The largest difference, relative to the largest value."""
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("head", HEADS)
def test_a_folded_network_computes_the_same_and_has_no_batch_normalisation(head):
    """With every backbone: below."""
    torch.manual_seed(0)
    network = settle(Stage3(POINTS, head=head, dropout=0.3)).train()
    state = {name: values.clone() for name, values in network.state_dict().items()}
    folded = fold(network)
    assert network.training
    assert all(torch.equal(values, state[name]) for name, values in network.state_dict().items()), "a copy is folded"
    assert not any(isinstance(layer, nn.BatchNorm2d | nn.Dropout) for layer in folded.modules())
    network.eval()
    with torch.inference_mode():
        expected, found = network(pixels()), folded(pixels())
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert distance(found[name], values) < 1e-4
    assert any((expected[name] - settle(network, 1)(pixels())[name]).abs().max() > 1e-3 for name in expected), (
        "the statistics matter in this test"
    )


def test_a_folded_rep_block_is_one_convolution_and_a_relu():
    network = Stage2(POINTS, backbone="rep")
    blocks = sum(isinstance(layer, RepBlock) for layer in network.modules())
    folded = fold(network)
    convolutions = [layer for layer in folded.backbone.stages.modules() if isinstance(layer, nn.Conv2d)]
    assert blocks == len(convolutions) == 5
    assert all(layer.kernel_size == (3, 3) and layer.bias is not None for layer in convolutions)
    assert not any(isinstance(layer, RepBlock) for layer in folded.modules())


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(8, 8, 1), (8, 16, 1), (8, 8, 2)])
def test_every_kind_of_rep_block_folds_right(inputs, outputs, stride):
    block = settle(RepBlock(inputs, outputs, stride)).eval()
    assert (block.identity_norm is not None) == (inputs == outputs and stride == 1)
    maps = torch.randn(2, inputs, 9, 9)
    with torch.inference_mode():
        assert distance(fold(block)(maps), block(maps)) < 1e-4


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "batch"])
def test_other_normalisations_stay_when_folding(norm):
    network = Stage2(POINTS, backbone="mobile", norm=norm).eval()
    folded = fold(network)
    assert folded.state_dict().keys() == network.state_dict().keys()
    with torch.inference_mode():
        assert torch.equal(folded(pixels())["points"], network(pixels())["points"])


def scored_model(**options):
    model = KeypointModel(settle(Stage3(POINTS, **options)), torch.rand(POINTS, 2), 0.07, face=True)
    model.calibration.copy_(torch.tensor([1.7, -0.4]))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_folded_model_computes_the_same_with_its_calibration(backbone):
    torch.manual_seed(0)
    model = scored_model(backbone=backbone).eval()
    folded = model.folded()
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    with torch.inference_mode():
        for found, expected in zip(folded(crops()), model(crops()), strict=True):
            assert distance(found, expected) < 1e-4
        logit = model.raw(crops())["logit"]
        assert torch.allclose(model(crops())[1], torch.sigmoid(1.7 * logit - 0.4), atol=1e-6)
        for name in ("points", "logit", "error"):  # in the units of training, whatever the last layers hold
            assert distance(folded.raw(crops())[name], model.raw(crops())[name]) < 1e-4 or name == "logit"
    assert model.calibration[0] == pytest.approx(1.7), "a copy is folded"


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_weights_of_a_folded_network_load_into_what_its_card_builds(prepared, backbone):
    torch.manual_seed(0)
    card = new_card("stage3", [prepared], TrainConfig(norm="batch", backbone=backbone))
    model = KeypointModel(settle(build_network(card.architecture, POINTS)), torch.rand(POINTS, 2), 0.07, face=True)
    folded = model.folded()
    told = replace(card, architecture={**card.architecture, "folded": True, "scaled_output": True})
    told = card_from_json(told.to_json())
    loaded = model_from_state(told, folded.state_dict(), "a file")
    with torch.inference_mode():
        for found, expected in zip(loaded(crops(2)), folded(crops(2)), strict=True):
            assert torch.equal(found, expected)
    with pytest.raises(ModelError, match=r"a file: network\.\S+ should have shape"):
        model_from_state(told, model.state_dict(), "a file")
    with pytest.raises(ModelError, match=r"a file: network\.\S+ should have shape"):
        model_from_state(card, folded.state_dict(), "a file")
