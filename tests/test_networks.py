import itertools
import re

import numpy as np
import pytest
import torch
from torch import nn

from kpedge.core.errors import UsageError
from kpedge.core.model_zoo import resolve_weights
from kpedge.models.blocks import ConvBlock
from kpedge.models.checkpoint import load_checkpoint
from kpedge.models.fold import fold
from kpedge.models.heads.head import MapShapes, target_distributions
from kpedge.models.heads.heatmap import HeatmapHead
from kpedge.models.heads.simcc import SimccHead
from kpedge.models.initialise import initialise
from kpedge.models.keypoint_model import KeypointModel
from kpedge.models.normalise import FixedNormalisation, PerCropNormalisation
from kpedge.models.registry import BACKBONES, HEADS, NORMALISATIONS, NORMS
from kpedge.models.stage1 import Stage1
from kpedge.models.stage2 import Stage2
from kpedge.models.stage3 import Stage3
from kpedge.models.summary import summarise
from kpedge.training.recipes import RECIPES, network_options

POINTS = 21


def combine(backbone, **options):
    """Whether a backbone says that it can be combined with these options."""
    return all(value not in BACKBONES[backbone].excludes.get(flag, ()) for flag, value in options.items())


def head_in_turn(backbone, place):
    """A head that the backbone can be combined with, another one at each place."""
    heads = [head for head in HEADS if combine(backbone, head=head)]
    return heads[place % len(heads)]


PAIRS = [pair for pair in itertools.product(BACKBONES, HEADS) if combine(pair[0], head=pair[1])]
COMBINATIONS = [
    (backbone, head_in_turn(backbone, place), norm)
    for place, (backbone, norm) in enumerate(itertools.product(BACKBONES, NORMS))
    if combine(backbone, norm=norm)
]
"""Every backbone with every norm; `PAIRS` has every backbone with every head."""


pytestmark = pytest.mark.usefixtures("one_thread")


def pixels(count=2, channels=1, seed=0):
    return torch.randn(count, channels, 112, 112, generator=torch.Generator().manual_seed(seed))


def crops(count=2, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 112, 112, channels), dtype=torch.uint8, generator=generator)


def bins_shape(head):
    return {"coordinates": None, "simcc": (POINTS, 2, 112), "heatmap": (POINTS, 28, 28)}[head]


@pytest.mark.parametrize(("backbone", "head", "norm"), COMBINATIONS)
def test_every_combination_gives_points_and_a_gradient_to_every_parameter(backbone, head, norm):
    torch.manual_seed(0)
    network = Stage2(POINTS, backbone=backbone, head=head, norm=norm).eval()
    with torch.inference_mode():
        two, one = network(pixels()), network(pixels()[:1])
    assert two["points"].shape == (2, POINTS, 2)
    shape = bins_shape(head)
    assert ("bins" in two) == (shape is not None)
    assert shape is None or two["bins"].shape == (2, *shape)
    for name, values in two.items():
        assert values.isfinite().all()
        assert torch.allclose(one[name][0], values[0], atol=1e-4), "a sample depends on the others of its batch"
    output = network.train()(pixels())
    sum((values * torch.randn_like(values)).sum() for values in output.values()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient: distributed training would wait for it"
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("backbone", BACKBONES)
def test_colour_and_width(backbone):
    width = 0.5 if BACKBONES[backbone].scalable else 1.0
    network = Stage2(5, backbone=backbone, colour="bgr", width=width).eval()
    assert network(pixels(2, 3))["points"].shape == (2, 5, 2)
    with pytest.raises(RuntimeError, match="3 channels"):
        network(pixels(2, 1))


def test_the_width_scales_the_channels():
    assert Stage2(5).backbone.channels == [32, 48, 80]
    assert Stage2(5, width=2).backbone.channels == [64, 96, 160]
    for width in (0.125, 0.5, 0.7):
        channels = Stage2(5, width=width).backbone.channels
        assert channels < [32, 48, 80]
        assert all(count > 0 and count % 8 == 0 for count in channels), "group normalisation has 8 groups"
    assert Stage2(5, backbone="pyramid", width=2).backbone.channels == [48, 48, 48]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backbone": "none"}, f"--backbone must be one of {', '.join(BACKBONES)}, a name of torchvision.models"),
        ({"head": "tail"}, f"--head must be one of {', '.join(HEADS)}, not 'tail'"),
        ({"norm": "l2"}, f"--norm must be one of {', '.join(NORMS)}, not 'l2'"),
        *(
            ({"backbone": name, flag: value}, f"--backbone {name} cannot be combined with --{flag} {value}")
            for name, backbone in BACKBONES.items()
            for flag, values in backbone.excludes.items()
            for value in values
        ),
        *(
            ({"backbone": name, "width": 0.5}, f"--backbone {name} has one width")
            for name, backbone in BACKBONES.items()
            if not backbone.scalable
        ),
    ],
)
def test_what_cannot_be_combined_is_refused_by_flag(options, words):
    for network in (Stage2, Stage3):
        with pytest.raises(UsageError, match=re.escape(words)):
            network(POINTS, **options)


def test_a_registry_of_a_library_refuses_its_modules_and_names_what_is_near():
    with pytest.raises(UsageError, match=r"torchvision\.models.*not 'vgg'") as raised:
        BACKBONES["vgg"]
    assert "vgg16" in raised.value.advice


# Heads


def heatmap_head(cells):
    """A head that gives its maps' first K channels as logits."""
    head = HeatmapHead(MapShapes([4], [cells], merged=True), 8, 4, norm="none")
    with torch.no_grad():
        head.last.weight.copy_(torch.eye(4)[:, :, None, None])
        head.last.bias.zero_()
    return head


def simcc_head(bins, monkeypatch):
    """A head that gives its vector as logits."""
    monkeypatch.setattr(SimccHead, "bins", bins)
    head = SimccHead(MapShapes([4], [7], merged=False), 4 * 2 * bins, 4, norm="none")
    with torch.no_grad():
        head.linear.weight.copy_(torch.eye(4 * 2 * bins))
        head.linear.bias.zero_()
    return head


def test_points_between_cells_are_read_where_they_are(monkeypatch):
    points = 0.15 + 0.7 * torch.rand(5, 4, 2, generator=torch.Generator().manual_seed(0))
    wanted = target_distributions(points, torch.empty(5, 4, 28, 28))
    found, _ = heatmap_head(28)(None, [wanted.log()])
    assert ((found - points).abs() * 28).max() < 0.2
    wanted = target_distributions(points, torch.empty(5, 4, 2, 40))
    found, _ = simcc_head(40, monkeypatch)(wanted.log().flatten(1), [])
    assert ((found - points).abs() * 40).max() < 0.2


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 3, 20, 28), (2, 3, 2, 112)])
def test_target_distributions_sum_to_1_and_peak_at_their_points(shape):
    points = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(1))
    points[0, 0], points[0, 1], points[0, 2] = 0, 1, torch.tensor([-2.0, 5.0])  # far outside the crop
    found = target_distributions(points, torch.empty(shape))
    assert found.shape == shape
    assert (found >= 0).all()
    if shape[2] == 2:
        assert torch.allclose(found.sum(dim=-1), torch.ones(2, 3, 2), atol=1e-5)
        columns, rows = found.argmax(dim=-1).unbind(dim=-1)
        sides = (112, 112)
    else:
        assert torch.allclose(found.sum(dim=(2, 3)), torch.ones(2, 3), atol=1e-5)
        columns, rows = found.sum(dim=2).argmax(dim=-1), found.sum(dim=3).argmax(dim=-1)
        sides = (shape[3], shape[2])
    for axis, (cells, count) in enumerate(zip((columns, rows), sides, strict=True)):
        assert torch.equal(cells, (points[..., axis] * count).long().clamp(0, count - 1))


def test_only_coordinates_are_relative_to_the_mean_face():
    mean = torch.rand(POINTS, 2)
    for head in HEADS:
        model = KeypointModel(Stage2(POINTS, head=head), mean, 0.05).eval()
        with torch.inference_mode():
            raw, own = model.raw(crops())["points"], model.network(model.normalise(crops().permute(0, 3, 1, 2).float()))
            assert torch.allclose(model(crops()), mean + 0.05 * raw, atol=1e-6)
            if head == "coordinates":
                assert torch.equal(raw, own["points"])
            else:
                assert torch.allclose(model(crops()), own["points"], atol=1e-5)


# Starting weights


def layers(*more):
    return nn.Sequential(nn.Conv2d(48, 96, 3), nn.BatchNorm2d(96), nn.Linear(256, 512), nn.Linear(512, 256), *more)


def test_torch_leaves_pytorchs_weights():
    network = layers()
    before = {name: values.clone() for name, values in network.state_dict().items()}
    initialise(network, "torch")
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())


@pytest.mark.parametrize("scheme", ["kaiming", "xavier", "orthogonal"])
@pytest.mark.parametrize("head", HEADS)
def test_outputs_start_small_and_nothing_else(scheme, head):
    networks = []
    for starts_small in (True, False):
        torch.manual_seed(0)
        networks.append(Stage3(POINTS, head=head))
        networks[-1].outputs = networks[-1].outputs if starts_small else ()
        initialise(networks[-1], scheme)
    small = [
        name
        for (name, one), (_, other) in zip(*(network.named_modules() for network in networks), strict=True)
        if isinstance(one, nn.Conv2d | nn.Linear)
        and not torch.equal(one.weight, other.weight)
        and torch.allclose(one.weight, 0.1 * other.weight)
    ]
    assert sorted(small) == sorted(["head.last" if head == "heatmap" else "head.linear", "face", "error"])
    assert Stage1.outputs == ("landmarks",)


# Pixels


def test_per_crop_normalisation_does_not_see_brightness_contrast_or_the_other_crops():
    normalise, pictures = PerCropNormalisation(), torch.rand(4, 1, 16, 16) * 100
    plain = normalise(pictures)
    assert torch.allclose(normalise(pictures + 70), plain, atol=1e-4)
    assert torch.allclose(normalise(2 * pictures), plain, atol=0.05)
    ratio = normalise(2 * pictures) / plain
    assert float(ratio.std()) < 1e-2, "contrast is a factor of all pixels"
    assert torch.allclose(normalise(pictures[:1]), plain[:1], atol=1e-6)
    assert torch.allclose(normalise(pictures.flip(3)), plain.flip(3), atol=1e-5)
    assert torch.equal(normalise(torch.full((1, 1, 8, 8), 200.0)), torch.zeros(1, 1, 8, 8))
    assert normalise(200 + torch.randint(0, 2, (1, 1, 8, 8)).float()).abs().max() < 1, "noise is not blown up"


def test_fixed_and_no_normalisation():
    ends = torch.tensor([0.0, 127.5, 255.0])
    assert torch.equal(FixedNormalisation()(ends), torch.tensor([-1.0, 0.0, 1.0]))
    assert torch.equal(NORMALISATIONS["none"]()(ends), ends)


# Stage 3


@pytest.mark.parametrize(("backbone", "head"), PAIRS)
def test_stage_3_gives_points_a_logit_and_an_error(backbone, head):
    network = Stage3(POINTS, backbone=backbone, head=head).eval()
    for count in (1, 2):
        with torch.inference_mode():
            output = network(pixels(count))
        shapes = {name: tuple(values.shape) for name, values in output.items() if name != "bins"}
        assert shapes == {"points": (count, POINTS, 2), "logit": (count,), "error": (count, POINTS)}
        assert ("bins" in output) == (head != "coordinates")
    model = KeypointModel(network, torch.rand(POINTS, 2), 0.05, face=True).eval()
    with torch.inference_mode():
        keypoints, score, error = model(crops())
    assert (keypoints.shape, score.shape, error.shape) == ((2, POINTS, 2), (2,), (2, POINTS))
    assert ((score >= 0) & (score <= 1)).all()
    assert (error > 0).all()
    assert torch.allclose(error, 0.05 * model.raw(crops())["error"], atol=1e-6), "fractions of the crop"


@pytest.mark.parametrize("head", HEADS)
def test_expecting_errors_does_not_change_the_features(head):
    network = Stage3(POINTS, head=head)
    network(pixels())["error"].square().sum().backward()
    moved = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert moved == {"error.weight", "error.bias"}
    assert network.error.weight.grad.abs().max() > 0
    network(pixels())["logit"].square().sum().backward()
    assert network.backbone.stem.conv.weight.grad.abs().max() > 0, "the face's logit shares the features"


def test_the_folded_stage_3_fits_an_edge_device():
    network = fold(Stage3(POINTS))
    rows = summarise(network, (1, 112, 112))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert sum(row.parameters for row in rows) == parameters
    assert 4 * parameters < 2e6
    assert sum(row.flops for row in rows) < 35e6
    stem = rows[0]
    assert (stem.name, stem.output, stem.flops) == ("backbone.stem.conv", (16, 56, 56), 2 * 9 * 16 * 56 * 56)


def test_a_summary_counts_normalisations_and_grouped_convolutions():
    block = nn.Sequential(ConvBlock(8, 8, groups=8), nn.AvgPool2d(2))
    rows = {row.name: row for row in summarise(block, (8, 10, 10))}
    assert rows["0.conv"].flops == 800 * (2 * 9 - 1)
    assert rows["0.norm"].flops == 2 * 800
    assert rows["0.act"].flops == 800
    assert rows["1"].flops == 4 * 8 * 25
    assert block.training
    assert np.prod(rows["1"].output) == 200


def test_the_face_branch_is_read_by_the_face_score_alone():
    network = Stage3(POINTS, face_branch=True).eval()
    before = network(pixels())
    with torch.no_grad():
        for values in network.face_branch.parameters():
            values.add_(0.1)
    after = network(pixels())
    assert not torch.equal(before["logit"], after["logit"])
    assert torch.equal(before["points"], after["points"])
    assert torch.equal(before["error"], after["error"])


def test_training_starts_from_all_of_the_released_weights():
    released = load_checkpoint(resolve_weights("stage3"))
    network = Stage3(POINTS, **network_options("stage3", RECIPES["stage3"]))
    names = {f"network.{name}": tensor.shape for name, tensor in network.state_dict().items()}
    assert names.items() <= {name: tensor.shape for name, tensor in released.state.items()}.items()
