import pytest
import torch

from kpedge.core.errors import ModelError
from kpedge.core.keypoints import FACES21
from kpedge.models.build import model_from_state
from kpedge.models.initialise import initialise
from kpedge.models.keypoint_model import (
    KeypointModel,
    build_network,
    weights_hash,
)
from kpedge.models.normalise import PerCropNormalisation
from kpedge.models.stage1 import Stage1
from kpedge.models.summary import summarise


def test_sizes_and_parameters_are_those_of_the_prototxt():
    layers = summarise(Stage1(21), (1, 112, 112))
    maps = [layer.output for layer in layers if layer.kind in ("Conv2d", "AvgPool2d")]
    assert [112] + [shape[1] for shape in maps] == [112, 54, 27, 25, 23, 12, 10, 8, 4, 4, 4]
    assert [shape[0] for shape in maps] == [8, 8, 16, 16, 16, 24, 24, 24, 40, 80]
    assert [layer.output for layer in layers if layer.kind == "Linear"] == [(128,), (128,), (42,)]
    assert sum(layer.parameters for layer in layers) == 235_851
    assert sum(parameter.numel() for parameter in Stage1(21).parameters()) == 235_851
    slopes = [layer for layer in layers if layer.kind == "PReLU"]
    assert len(slopes) == 9
    assert all(layer.parameters == 1 for layer in slopes)


def test_padding_before_the_second_pool_is_pooling_with_a_part_window():
    network = Stage1(21)
    maps = torch.randn(2, 16, 23, 23)
    expected = torch.nn.functional.avg_pool2d(maps, 2, ceil_mode=True)
    assert torch.allclose(network.pool2(network.pad2(maps)), expected, atol=1e-6)


def _share_of_the_picture(init: str) -> float:
    """How much the output depends on the picture: its variation over pictures, by the spread of its initial values."""
    torch.manual_seed(0)
    network = Stage1(21)
    initialise(network, init)
    pictures = PerCropNormalisation()(torch.randint(0, 255, (32, 1, 112, 112)).float())
    with torch.no_grad():
        output = network(pictures)
    return float(output.std(dim=0).mean())


def test_pytorchs_default_initialisation_loses_the_picture_and_kaimings_keeps_it():
    assert _share_of_the_picture("torch") < 1e-4
    assert _share_of_the_picture("kaiming") > 20 * _share_of_the_picture("torch")


def test_raw_zero_is_the_mean_face():
    mean = torch.rand(21, 2)
    model = KeypointModel(Stage1(21), mean, 0.05)
    assert torch.allclose(model.standardise(mean.expand(4, 21, 2)), torch.zeros(4, 21, 2))
    points = torch.rand(4, 21, 2)
    assert torch.allclose(model.mean_shape + model.spread * model.standardise(points), points, atol=1e-6)


def test_the_hash_is_of_the_weights():
    torch.manual_seed(0)
    one = KeypointModel(Stage1(21), torch.rand(21, 2), 0.05)
    same = KeypointModel(Stage1(21), torch.rand(21, 2), 0.05)
    same.load_state_dict(one.state_dict())
    assert weights_hash(one) == weights_hash(same)
    with torch.no_grad():
        same.network.ip2.bias[3] += 1e-6
    assert weights_hash(one) != weights_hash(same)


def test_unknown_networks_options_and_weights_are_refused(prepared):
    from kpedge.training.config import TrainConfig
    from kpedge.training.keypoint_task import new_card

    with pytest.raises(ModelError, match="no network is called 'stage9'"):
        build_network({"name": "stage9"}, 21)
    with pytest.raises(ModelError, match="cannot be built"):
        build_network({"name": "stage1", "options": {"depth": 3}}, 21)
    card = new_card("stage1", [prepared], TrainConfig())
    assert card.scheme == FACES21
    state = KeypointModel(Stage1(21), torch.rand(21, 2), 1.0).state_dict()
    state["network.landmarks.bias"] = torch.zeros(10)
    with pytest.raises(ModelError, match=r"landmarks.bias should have shape \(42,\), the file has \(10,\)"):
        model_from_state(card, state, "a file")
