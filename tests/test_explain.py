from dataclasses import replace

import numpy as np
import pytest
import torch

from kpedge.cli.main import main
from kpedge.core.errors import UsageError
from kpedge.core.images import read_image, write_image
from kpedge.core.keypoints import FACES21
from kpedge.core.model_zoo import sample_photo
from kpedge.models.checkpoint import load_checkpoint
from kpedge.models.explain import CellGrid, explain
from kpedge.models.explain_preview import draw_all
from kpedge.models.keypoint_model import empty_model


@pytest.fixture(scope="module")
def card(trained):
    """The card of the short training."""
    return load_checkpoint(trained / "best.pt").card


@pytest.fixture(scope="module")
def crop(prepared, card):
    """A drawn face."""
    from kpedge.data.sampling import CropSampler

    return CropSampler(prepared, card.size, card.colour, card.crop).sample(3)[0]


def fresh(card, name="stage2", *, colour="grey", **options):
    """An untrained model."""
    torch.manual_seed(0)
    task = "face keypoints" if name == "stage3" else "keypoints"
    options = {**options, **({} if colour == "grey" else {"colour": colour})}
    return empty_model(
        replace(card, name=name, task=task, colour=colour, architecture={"name": name, "options": options})
    )


def hooks_of(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_a_trained_model_is_explained_and_left_as_it_was(trained, crop):
    model = load_checkpoint(trained / "best.pt").model()
    model.train()
    found = explain(model, crop, [16, 18])
    assert hooks_of(model) == 0
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()
    with torch.no_grad():
        assert np.allclose(found.keypoints, model(torch.from_numpy(crop)[None])[0].numpy(), atol=1e-6)
    assert found.score is None
    assert found.face is None
    assert found.points.keys() == {16, 18}
    for heat in found.points.values():
        assert heat.layer == "prelu4_2"
        assert heat.values.shape == (4, 4)
        assert heat.values.min() >= 0
        assert heat.values.max() == pytest.approx(1)
        assert heat.grid == CellGrid(16, 33)
    assert [maps.name for maps in found.stages] == ["prelu1_1", "prelu2_2", "prelu3_2", "prelu4_2"]
    assert [maps.values.shape for maps in found.stages] == [(8, 54, 54), (16, 23, 23), (24, 8, 8), (80, 4, 4)]
    assert found.kernels.shape == (8, 1, 5, 5)


@pytest.mark.parametrize("averaged", [False, True])
def test_heat_is_the_gradient_times_the_maps(trained, crop, averaged):
    model = load_checkpoint(trained / "best.pt").model()
    kept = []
    handle = model.network.prelu3_2.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    keypoints = model(torch.from_numpy(crop)[None])[0]
    handle.remove()
    parts = []
    for axis in (0, 1):
        (gradient,) = torch.autograd.grad(keypoints[18, axis], kept[0], retain_graph=True)
        weights = gradient.mean(dim=(2, 3), keepdim=True) if averaged else gradient
        parts.append((weights * kept[0]).sum(dim=1)[0].detach().numpy())
    heat = np.hypot(*parts)
    found = explain(model, crop, [18], layer="prelu3_2", averaged=averaged).points[18]
    assert found.layer == "prelu3_2"
    assert np.allclose(found.values, heat / heat.max(), atol=1e-4)


def test_a_network_that_reads_one_cell_is_seen_to_do_so(card, crop):
    model = fresh(card)
    linear = model.network.neck.linear
    with torch.no_grad():
        reads = torch.zeros(linear.in_features // 49, 7, 7)
        reads[:, 2, 5] = 1
        linear.weight.mul_(reads.flatten())
    heat = explain(model, crop, [0]).points[0].values
    assert heat[2, 5] == 1
    assert heat.sum() == 1
    assert (explain(model, crop, [0], averaged=True).points[0].values > 0).sum() > 10, "averages lose the place"


@pytest.mark.parametrize(("name", "layer"), [("stage1", "prelu3_2"), ("stage2", "backbone.stages.1")])
def test_cells_lie_in_the_middle_of_what_they_see(card, crop, name, layer):
    model = fresh(card, name).eval()
    grid = explain(model, crop, [0], layer=layer).points[0].grid
    kept = []
    model.network.get_submodule(layer).register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    pixels = torch.randn(1, 1, 112, 112, requires_grad=True)
    model.network(pixels)
    (seen,) = torch.autograd.grad(kept[0][0, :, 4, 6].sum(), pixels)
    rows, columns = np.nonzero(seen[0, 0].numpy())
    assert (columns.min() + columns.max()) / 2 == pytest.approx(grid.start + 6 * grid.pitch, abs=grid.pitch / 4)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(grid.start + 4 * grid.pitch, abs=grid.pitch / 4)


@pytest.mark.parametrize(
    ("options", "layer", "side", "stages"),
    [
        ({"head": "heatmap", "backbone": "pyramid"}, "backbone.smooth.0", 28, None),
        ({"head": "heatmap"}, "backbone.stages.2", 7, ["backbone.stem", "backbone.stages.0", "backbone.stages.1"]),
        ({"head": "simcc", "norm": "group"}, "backbone.stages.2", 7, None),
        ({"backbone": "pyramid"}, "backbone.smooth.2", 7, None),
        ({"backbone": "mobile"}, "backbone.stages.2", 7, None),
        ({"backbone": "rep", "colour": "bgr"}, "backbone.stages.2", 7, None),
        ({"backbone": "resnet18"}, "backbone.layers.3", 4, ["backbone.relu", "backbone.layers.0", "backbone.layers.1"]),
    ],
)
def test_every_network_can_be_explained(card, crop, options, layer, side, stages):
    model = fresh(card, "stage3", **options)
    if options.get("colour") == "bgr":
        crop = np.repeat(crop, 3, axis=2)
    found = explain(model, crop, [0, 20])
    assert {heat.layer for heat in found.points.values()} == {layer}
    assert found.points[0].values.shape == (side, side)
    assert found.face.values.shape == found.face.values.T.shape
    if stages:
        assert [maps.name for maps in found.stages][:3] == stages
    if options.get("head") == "heatmap":
        assert found.stages[-1].name == "head.last"
        assert found.stages[-1].values.shape == (21, 28, 28)
    with torch.no_grad():
        assert found.score == pytest.approx(float(model.eval()(torch.from_numpy(crop)[None])[1][0]), abs=1e-5)
    if stages:
        return
    drawn = draw_all(found, FACES21)
    assert {"overview.png", "face.png", "kernels.png", "point_20_mouth_right_corner.png"} <= drawn.keys()
    assert all(picture.dtype == np.uint8 and picture.ndim == 3 for picture in drawn.values())


def test_layers_that_cannot_be_traced_to_are_refused(card, crop):
    model = fresh(card, "stage3", head="heatmap", backbone="pyramid")
    with pytest.raises(UsageError, match="--layer conv9: no feature maps of that name") as caught:
        explain(model, crop, [0], layer="conv9")
    assert "backbone.smooth.2" in caught.value.advice
    assert hooks_of(model) == 0
    with pytest.raises(UsageError, match=r"--layer backbone\.smooth\.2: point 0 does not depend on it"):
        explain(model, crop, [0], layer="backbone.smooth.2")


@pytest.fixture
def command(trained, photos, tmp_path):
    """The arguments for one face, and where its pictures go."""
    box = ",".join((photos / "label.txt").read_text().split()[1:5])
    start = ["explain", str(trained / "best.pt"), str(photos / "000.png"), "--out", str(tmp_path / "out")]
    return [*start, "--box", box, "--point", "nose_tip", "--point", "3"], tmp_path / "out"


def test_the_command_writes_pictures_of_what_is_asked(command, capsys):
    arguments, out = command
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out / 'overview.png'}\n"
    maps = [
        f"maps_{number}_{name}.png" for number, name in enumerate(("prelu1_1", "prelu2_2", "prelu3_2", "prelu4_2"), 1)
    ]
    points = ["point_18_nose_tip.png", "point_03_right_brow_inner.png"]
    assert {path.name for path in out.glob("*.png")} == {"overview.png", "kernels.png", *maps, *points}
    assert read_image(out / points[0]).shape[1] > 500
    assert main([*arguments, "--layer", "prelu2_2", "--averaged"]) == 0, "kpedge's own files may be replaced"
    (out / "overview.png").write_bytes(b"mine")
    assert main(arguments) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_part_of_the_face_stands_for_its_points(trained, photos, tmp_path):
    photo, boxes = str(photos / "000.png"), str(photos / "label.txt")
    wanted = ["--point", "nose", "--point", "nose_tip", "--point", "0", "--out", str(tmp_path)]
    assert main(["explain", str(trained / "best.pt"), photo, "--boxes", boxes, *wanted]) == 0
    points = sorted(path.name[6:8] for path in tmp_path.glob("point_*.png"))
    assert points == ["00", "10", "11", "12", "18"]


def test_without_a_box_the_largest_face_is_explained(trained, tmp_path, capsys):
    photo = read_image(sample_photo())
    both = np.zeros((photo.shape[0], photo.shape[1] * 3 // 2, 3), np.uint8)
    both[:, : photo.shape[1]] = photo
    small = photo[::2, ::2]
    both[: small.shape[0], photo.shape[1] : photo.shape[1] + small.shape[1]] = small
    for name, image, code, said in (("none", photo * 0, 1, "no face was found"), ("two", both, 0, "the largest face")):
        write_image(tmp_path / f"{name}.png", image)
        rest = [str(tmp_path / f"{name}.png"), "--point", "0", "--out", str(tmp_path / name)]
        assert main(["explain", str(trained / "best.pt"), *rest]) == code
        line = capsys.readouterr().err
        assert said in line
    box = [int(number) for number in line.partition("--box ")[2].split()[0].split(",")]
    assert box[2] - box[0] > 70, "that of the photo in its full size"
    assert box[2] < photo.shape[1]


def test_what_cannot_be_explained_is_named(command, exported, photos, capsys):
    arguments, out = command
    model, photo, rest = arguments[1], arguments[2], arguments[3:]

    def failure(*given):
        code = main(list(given))
        return code, capsys.readouterr().err

    code, line = failure("explain", str(exported / "stage1.onnx"), photo, *rest)
    assert code == 1
    assert "no weights for PyTorch" in line
    code, line = failure("explain", model, photo, *rest, "--point", "chin")
    assert code == 2
    assert "--point chin: no such point of faces21 — parts: brows, eyes, mouth, nose; points: 0 left_b" in line
    assert failure("explain", model, photo, *rest, "--point", "21")[0] == 2
    code, line = failure("explain", model, photo, *rest, "--layer", "x")
    assert code == 2
    assert "layers: conv1_1, prelu1_1, pool1" in line
    assert failure("explain", model, photo, *rest, "--boxes", "x")[1].startswith("error: give either --boxes FILE")
    code, line = failure("explain", model, photo, "--box", "900,900,950,950", "--out", str(out))
    assert code == 1
    assert "lies outside the image" in line
    (out.parent / "boxes.txt").write_text("other.png 1 2 30 40\n")
    code, line = failure("explain", model, photo, "--boxes", str(out.parent / "boxes.txt"))
    assert code == 1
    assert f"boxes.txt: no box for {photo}" in line
    assert failure("explain", model, str(photos / "gone.png"), *rest)[0] == 1
    assert not out.exists()
