"""Every export format: written, opened, checked, and refused when it computes something else."""

import json
import socket
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from kpedge.cli.main import main
from kpedge.core.card import SCORES_NAME
from kpedge.core.errors import MissingExtraError, ModelError, ParityError, UsageError
from kpedge.core.joint_score import LOWEST
from kpedge.core.model_zoo import models_folder, resolve_model
from kpedge.evaluation.detection_metrics import FrameDetections
from kpedge.export.accuracy import FaceAnswers, FrameAnswers
from kpedge.export.calibration import calibration_inputs, synthetic_faces
from kpedge.export.converting import converting
from kpedge.export.export_format import AccuracyLimits
from kpedge.export.exporter import export_model
from kpedge.export.load import format_of, open_eager, open_model
from kpedge.export.registry import FORMATS, chosen_formats
from kpedge.export.test_inputs import random_crops
from kpedge.export.verification import verify
from kpedge.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kpedge.models.keypoint_model import empty_model, weights_hash
from kpedge.models.registry import BACKBONES
from kpedge.runtime.backends.card_of import card_of

pytestmark = pytest.mark.slow

HERE = [name for name, one in FORMATS.items() if not one.missing()]
NAMES = ["stage3", "detector"]


@pytest.fixture(scope="module")
def written(shared):
    """Gives the folder of a released model in every format that can be written here."""

    def write(name):
        weights = models_folder() / f"{name}.safetensors"
        return shared.folder(f"{name}-formats", lambda out: export_model(weights, out, HERE, frame=(320, 320)))

    return write


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_format_is_recognised_verified_and_close_to_the_released_model(written, name, kind):
    if kind not in HERE:
        pytest.skip(f"not installed: {', '.join(FORMATS[kind].missing())}")
    path = written(name) / f"{name}{FORMATS[kind].suffix}"
    assert format_of(resolve_model(path)) == kind
    assert card_of(path).name == name if kind not in ("torchscript", "ort") else True
    entry = json.loads((written(name) / f"{name}.json").read_text())["files"][path.name]
    if not FORMATS[kind].runs_here():
        assert entry["verified"] is False
        pytest.skip(f"{kind} files cannot be run on this machine")
    (check,) = verify([path])
    assert check.card_matches
    assert "verified" not in entry
    assert {row.batch for row in check.rows} >= set(FORMATS[kind].batch_sizes)
    model, released = open_model(path), open_model(models_folder() / f"{name}.onnx")
    assert model.card.precision == FORMATS[kind].precision
    crops = calibration_inputs(model.card)[:8]
    if name != "detector":
        crops = np.concatenate(
            [synthetic_faces(model.card, 100, 7)[0], random_crops(100, model.card.input_shape, seed=7)]
        )
    answers, wanted = model(crops), released(crops)
    # In 8 bits, cells of a detector that see no face may say anything of its box and points.
    seen = wanted[SCORES_NAME] >= LOWEST if name == "detector" else np.s_[:]
    for output, values in wanted.items():
        assert answers[output].shape == values.shape
        apart = np.abs(answers[output] - values) / model.card.extents[output]
        if FORMATS[kind].limits is None:
            assert apart.max() < 1e-5
        else:
            assert apart[np.s_[:] if output == SCORES_NAME else seen].mean() < 0.02


@pytest.mark.slow
def test_reduced_precision_is_smaller_and_its_accuracy_is_in_the_card(written):
    card = json.loads((written("stage3") / "stage3.json").read_text())
    whole = card["files"]["stage3.onnx"]["bytes"]
    for kind in HERE:
        if FORMATS[kind].limits is not None:
            entry = card["files"][f"stage3{FORMATS[kind].suffix}"]
            figures, most = entry["accuracy"], 1 + FORMATS[kind].limits.error
            assert entry["bytes"] < 0.9 * whole
            assert entry["precision"] == FORMATS[kind].precision
            assert figures["nme_box"] <= figures["nme_box_float32"] * most + figures["standard_error"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in HERE if kind.startswith("onnx-")])
def test_a_reduced_file_whose_weights_were_changed_is_found(written, tmp_path, kind):
    proto = onnx.load(written("stage3") / f"stage3{FORMATS[kind].suffix}")
    tensor = max(proto.graph.initializer, key=lambda one: len(one.raw_data))
    values = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array((values * 0.5).astype(values.dtype), tensor.name))
    path = tmp_path / f"a{FORMATS[kind].suffix}"
    onnx.save(proto, path)
    with pytest.raises(ParityError, match=f"{kind} = recorded"):
        verify([path])


LIMITS = AccuracyLimits(error=0.02)


def face_answers(errors, flipped=0):
    """Answers on faces with these errors, of which some are not accepted."""
    return FaceAnswers(np.array(errors), np.arange(len(errors)) >= flipped)


def frame_answers(frames, lost=0):
    """Answers on frames with a face each, of which every `lost`th was not found."""
    box, none = np.array([[10.0, 10, 60, 60]]), np.zeros((0, 4))
    found = [none if lost and number % lost == 0 else box for number in range(frames)]
    return FrameAnswers([FrameDetections(one, np.full(len(one), 0.9), box, np.zeros(1, bool)) for one in found])


@pytest.mark.parametrize(
    ("reduced", "exact", "message"),
    [
        (face_answers([0.02, 0.024] * 100), face_answers([0.02] * 200), "the mean error is"),
        (face_answers([0.02] * 198 + [0.12]), face_answers([0.02] * 198 + [0.09]), "newly off by more than 10%"),
        (face_answers([0.02] * 200, flipped=3), face_answers([0.02] * 200), "3 of 200 face decisions"),
        (frame_answers(400, lost=41), frame_answers(400), "the average precision is 0.97"),
    ],
)
def test_lost_accuracy_is_refused(reduced, exact, message):
    assert exact.check("x", exact, LIMITS)["standard_error"] == 0
    with pytest.raises(ParityError, match=f"^x: .*{message}"):
        reduced.check("x", exact, LIMITS)


@pytest.mark.parametrize(
    ("reduced", "exact"),
    [
        (face_answers([0.02] * 3 + [0.024]), face_answers([0.02] * 4)),
        (face_answers([0.02] * 198 + [0.1001]), face_answers([0.02] * 198 + [0.0999])),
        (face_answers([0.02] * 200, flipped=1), face_answers([0.02] * 200)),
        (frame_answers(40, lost=41), frame_answers(40)),
    ],
)
def test_a_loss_within_its_standard_error_is_not_refused(reduced, exact):
    reduced.check("x", exact, LIMITS)


def test_formats_are_chosen_by_name_and_listed(capsys):
    assert chosen_formats("onnx, torchscript,onnx") == ("onnx", "torchscript")
    assert chosen_formats("all") == tuple(HERE)
    with pytest.raises(UsageError):
        chosen_formats("caffe")
    assert main(["export", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in FORMATS)
    assert main(["export", "stage3", "--format", "onnx,caffe"]) == 2
    assert main(["export", "stage3", "--format", "caffe", "--format", "onnx"]) == 2
    assert main(["export", "detector", "--format", "onnx", "--frame-size", "wide"]) == 2
    assert main(["export", "nosuch"]) == main(["verify", "nosuch"]) == main(["bench", "nosuch"]) == 1


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in HERE])
def test_a_format_whose_package_is_missing_names_the_pip_line(tmp_path, kind):
    with pytest.raises(MissingExtraError) as error:
        export_model(models_folder() / "stage3.safetensors", tmp_path, ("onnx", kind))
    assert "pip install" in str(error.value.advice)
    assert not list(tmp_path.iterdir())


def test_a_converter_is_silent_without_network_and_fails_in_one_line(capfd):
    def convert():
        print("progress")
        raise RuntimeError("Traceback\n  no kernel for operator aten::fft\nlast")

    with pytest.raises(ModelError, match=r"^x cannot convert the model: .* operator aten::fft$"), converting("x"):
        convert()
    with pytest.raises(ModelError, match="network"), converting("x"):
        socket.create_connection(("127.0.0.1", 9))
    assert capfd.readouterr() == ("", "")


def test_a_detector_frame_must_fit_its_strides(tmp_path):
    with pytest.raises(UsageError, match="multiples of 32"):
        export_model(models_folder() / "detector.safetensors", tmp_path, ("tensorrt",), frame=(100, 320))
    assert not list(tmp_path.iterdir())


def test_without_a_model_the_newest_run_is_exported(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--format", "onnx"]) == 1
    assert "stage3" in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(trained)
    assert main(["export", "--format", "onnx", "--out", "out"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["out/stage1.onnx", "out/stage1.json"]
    assert "runs/mine/best.pt" in captured.err
    assert "next: kpedge predict" in captured.err


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrapped_models_do_not_matter(trained, tmp_path, prefix):
    plain = load_checkpoint(trained / "best.pt")
    wrapped = {f"{prefix}{name}": tensor for name, tensor in plain.state.items()}
    save_checkpoint(tmp_path / "best.pt", Checkpoint(plain.card, wrapped, plain.config, plain.progress))
    crops = random_crops(2, (112, 112, 1))
    got, expected = (open_eager(folder / "best.pt")(crops)["keypoints"] for folder in (tmp_path, trained))
    assert np.array_equal(got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_is_exported(tmp_path, backbone):
    torch.manual_seed(0)
    card = load_checkpoint(models_folder() / "stage3.safetensors").card
    card = replace(card, architecture={"name": "stage3", "options": {"backbone": backbone}})
    model = empty_model(card)
    with torch.no_grad():
        model.train().raw(torch.from_numpy(random_crops(8, (112, 112, 1))))  # statistics to fold
        model.spread.fill_(0.05)
    card = replace(card, weights_sha256=weights_hash(model))
    save_checkpoint(tmp_path / "best.pt", Checkpoint(card, model.state_dict(), {}, {}))
    result = export_model(tmp_path / "best.pt", tmp_path / "out", ("onnx",))
    graph = onnx.load(result.files[0]).graph
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    assert verify(result.files)


def test_all_leaves_out_what_a_model_cannot_be_written_in(tmp_path, monkeypatch, capsys):
    def fail(source, path):
        path.write_bytes(b"half a file")
        raise ModelError("the converter knows no operator Fft")

    monkeypatch.setattr("kpedge.export.formats.torchscript.FORMAT", replace(FORMATS["torchscript"], write=fail))
    monkeypatch.setattr("kpedge.export.registry.chosen_formats", lambda kinds: ("onnx", "torchscript"))
    weights = str(models_folder() / "stage1.safetensors")
    assert main(["export", weights, "--format", "onnx,torchscript", "--out", str(tmp_path)]) != 0
    assert not list(tmp_path.iterdir())
    assert main(["export", weights, "--format", "all", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage1.json", "stage1.onnx"]
    assert "operator Fft" in capsys.readouterr().err
