"""Weights that other programs wrote: the course's checkpoints and torchvision's networks."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from kpedge.cli.main import main
from kpedge.core.errors import CorruptModelError
from kpedge.models.checkpoint import load_checkpoint
from kpedge.training.loop import train
from kpedge.training.recipes import RECIPES


class CourseNet(nn.Module):
    """The course's network as its definition reads: layers by kind, not in the order of their turn."""

    def __init__(self, *, norm=False, shared=False, face=False):
        super().__init__()
        self.conv1_1 = nn.Conv2d(1, 8, 5, 2)
        self.conv2_1, self.conv2_2 = nn.Conv2d(8, 16, 3), nn.Conv2d(16, 16, 3)
        self.conv3_1, self.conv3_2 = nn.Conv2d(16, 24, 3), nn.Conv2d(24, 24, 3)
        self.conv4_1, self.conv4_2 = nn.Conv2d(24, 40, 3, padding=1), nn.Conv2d(40, 80, 3, padding=1)
        if norm:
            self.bn_1, self.bn_2, self.bn_3, self.bn_4 = (nn.BatchNorm2d(size) for size in (8, 16, 24, 80))
        if face:
            self.conv4_2_cls, self.ip1_cls = nn.Conv2d(40, 40, 3, padding=1), nn.Linear(640, 128)
        self.ip1, self.ip2, self.ip3 = nn.Linear(1280, 128), nn.Linear(128, 128), nn.Linear(128, 42)
        names = ("",) if shared else ("_1", "_2_1", "_2_2", "_3_1", "_3_2", "_4_1", "_4_2", "_ip1", "_ip2")
        for name in names:
            setattr(self, f"prelu{name}", nn.PReLU())
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True)
        self.slopes = [f"prelu{name}" for name in names] * (9 // len(names))

    def forward(self, x):
        def prelu(number, values):
            return getattr(self, self.slopes[number])(values)

        def norm(number, values):
            layer = getattr(self, f"bn_{number}", None)
            return values if layer is None else layer(values)

        x = self.pool(prelu(0, norm(1, self.conv1_1(x))))
        x = self.pool(prelu(2, norm(2, self.conv2_2(prelu(1, self.conv2_1(x))))))
        x = self.pool(prelu(4, norm(3, self.conv3_2(prelu(3, self.conv3_1(x))))))
        x = prelu(6, norm(4, self.conv4_2(prelu(5, self.conv4_1(x)))))
        return self.ip3(prelu(8, self.ip2(prelu(7, self.ip1(x.flatten(1))))))


def course_net(*, unit=112.0, **options):
    """A course network with outputs around the middle of the crop, and weights of its own in every layer."""
    torch.manual_seed(3)
    network = CourseNet(**options).eval()
    for layer in network.modules():
        if isinstance(layer, nn.PReLU):
            nn.init.uniform_(layer.weight, 0.1, 0.9)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    with torch.no_grad():
        network.ip3.weight.mul_(unit)
        network.ip3.bias.copy_(torch.rand(42) * unit)
    return network


@pytest.mark.parametrize("options", [{}, {"norm": True}, {"shared": True}, {"face": True}, {"unit": 1.0}], ids=str)
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_a_course_checkpoint_finds_the_points_that_the_courses_network_finds(tmp_path, options, wrap):
    network = course_net(**options)
    torch.save(wrap({f"module.{name}": one for name, one in network.state_dict().items()}), tmp_path / "course.pt")
    checkpoint = load_checkpoint(tmp_path / "course.pt")
    crops = torch.randint(0, 256, (4, 112, 112, 1), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pixels = crops.permute(0, 3, 1, 2).float()
    normalised = (pixels - pixels.mean((1, 2, 3), keepdim=True)) / pixels.std((1, 2, 3), keepdim=True, correction=0)
    with torch.inference_mode():
        expected = network(normalised).reshape(4, 21, 2)
        found = checkpoint.model()(crops)
    unit = options.get("unit", 112.0)
    fractions = expected / unit + (0.5 / 112 if unit == 112 else 0)
    assert torch.allclose(found, fractions, atol=1e-4)
    assert ("pixels" if unit == 112 else "fractions") in checkpoint.card.training["origin"]


@pytest.mark.slow
def test_a_course_checkpoint_is_evaluated_finetuned_and_exported(prepared, tmp_path, capsys):
    path, data = tmp_path / "course.pt", str(prepared.path)
    torch.save(course_net(norm=True).state_dict(), path)
    assert main(["eval", str(path), "--data", data, "--split", "validation"]) == 0
    assert "a checkpoint of the course, with outputs in pixels" in capsys.readouterr().err
    assert main(["export", str(path), "--out", str(tmp_path / "out"), "--data", data, "--format", "onnx"]) == 0
    assert main(["verify", str(tmp_path / "out" / "stage1.onnx")]) == 0
    config = replace(RECIPES["stage1"], epochs=1, lr=0.0, norm="batch", threads=1)
    train("stage1", prepared, tmp_path / "run", config, init_from=path)
    before, after = load_checkpoint(path), load_checkpoint(tmp_path / "run" / "last.pt")
    assert torch.equal(before.state["network.ip1.weight"], after.state["network.ip1.weight"])
    assert torch.equal(before.state["mean_shape"], after.state["mean_shape"]), "outputs keep their unit"


@pytest.mark.parametrize("content", [{"a": torch.zeros(3)}, {"fc.weight": torch.zeros(42, 128)}, {}, [1], {"a": 1}])
def test_other_files_are_still_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CorruptModelError, match="not a checkpoint of kpedge"):
        load_checkpoint(tmp_path / "other.pt")


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "prefix"), [("resnet18", "layers.0"), ("shufflenet_v2_x0_5", "body.stage2")])
@pytest.mark.parametrize("colour", ["grey", "bgr"])
def test_torchvisions_weights_start_a_run(prepared, tmp_path, backbone, prefix, colour):
    import torchvision

    network = getattr(torchvision.models, backbone)(weights=None)
    torch.save(network.state_dict(), tmp_path / "theirs.pth")
    lines = []
    frozen, slower = "backbone.*conv1*", f"backbone.{prefix}*"
    config = replace(
        RECIPES["stage2"],
        **{"backbone": backbone, "colour": colour, "epochs": 1, "threads": 1, "lr": 0.0, "ema_decay": 0.0},
        **{"freeze": (frozen,), "lr_groups": ((slower, 1e-5),)},
    )
    result = train("stage2", prepared, tmp_path / "run", config, init_from=tmp_path / "theirs.pth", notify=lines.append)
    state = load_checkpoint(result.best).state
    first = next(one for name, one in network.state_dict().items() if one.ndim == 4)
    ours = next(one for name, one in state.items() if name.startswith("network.backbone") and one.ndim == 4)
    assert torch.equal(ours, first.flip(1) if colour == "bgr" else first.sum(1, keepdim=True))
    left = next(line for line in lines if line.startswith("left as initialised: "))
    assert "network.head" in left
    assert "backbone" not in left, "every weight of the backbone has its place"
    assert "fc.weight" in next(line for line in lines if line.startswith("not used: "))
    assert any(line.startswith("frozen: ") for line in lines)
    assert any(line.startswith("learning rate 1e-05") for line in lines)
