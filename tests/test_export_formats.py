"""Every export format: written, opened, checked, and refused when it computes something else."""

import json
import socket
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from kpedge.cli.main import main
from kpedge.core.errors import MissingExtraError, ModelError, ParityError, UsageError
from kpedge.core.model_zoo import models_folder, resolve_model
from kpedge.export.accuracy import check_accuracy
from kpedge.export.calibration import calibration_inputs, samples_to_check, synthetic_faces
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
    """Folder of each released model in every format that can be written here."""

    def write(out):
        for name in NAMES:
            export_model(models_folder() / f"{name}.safetensors", out / name, HERE, frame=(320, 320))

    return shared.folder("all-formats", write)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_format_is_recognised_verified_and_close_to_the_released_model(written, name, kind):
    if kind not in HERE:
        pytest.skip(f"not installed: {', '.join(FORMATS[kind].missing())}")
    path = written / name / f"{name}{FORMATS[kind].suffix}"
    assert format_of(resolve_model(path)) == kind
    assert card_of(path).name == name if kind not in ("torchscript", "ort") else True
    entry = json.loads((written / name / f"{name}.json").read_text())["files"][path.name]
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
    answers = model(crops)
    for output, values in released(crops).items():
        got = answers[output]
        assert got.shape == values.shape
        if FORMATS[kind].limits is None:
            assert np.abs(got - values).max() < 1e-5 * model.card.extents[output]
        # The mean, as a single cell of a detector that sees no face may say anything in 8 bits.
        assert (
            np.abs(got - values).mean() < (1e-5 if FORMATS[kind].limits is None else 0.02) * model.card.extents[output]
        )


@pytest.mark.slow
def test_reduced_precision_is_smaller_and_its_accuracy_is_in_the_card(written):
    card = json.loads((written / "stage3" / "stage3.json").read_text())
    whole = card["files"]["stage3.onnx"]["bytes"]
    for kind in HERE:
        if FORMATS[kind].limits is not None:
            entry = card["files"][f"stage3{FORMATS[kind].suffix}"]
            assert entry["bytes"] < 0.9 * whole
            assert entry["precision"] == FORMATS[kind].precision
            assert entry["accuracy"]["nme_box"] <= entry["accuracy"]["nme_box_float32"] * (
                1 + FORMATS[kind].limits.error
            )


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in HERE if kind.startswith("onnx-")])
def test_a_reduced_file_whose_weights_were_changed_is_found(written, tmp_path, kind):
    proto = onnx.load(written / "stage3" / f"stage3{FORMATS[kind].suffix}")
    tensor = max(proto.graph.initializer, key=lambda one: len(one.raw_data))
    values = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array((values * 0.5).astype(values.dtype), tensor.name))
    path = tmp_path / f"a{FORMATS[kind].suffix}"
    onnx.save(proto, path)
    with pytest.raises(ParityError, match=f"{kind} = recorded"):
        verify([path])


class Shifted:
    """A model whose points lie off by a part of the crop, for some crops."""

    def __init__(self, model, shift, every=1):
        self.model, self.card, self.shift, self.every = model, model.card, shift, every

    def __call__(self, crops):
        outputs = dict(self.model(crops))
        moved = np.arange(len(crops)) % self.every == 0
        outputs["keypoints"] = outputs["keypoints"] + self.shift * moved[:, None, None]
        return outputs


@pytest.mark.slow
def test_lost_accuracy_is_refused():
    model = open_eager(models_folder() / "stage3.safetensors")
    faces = samples_to_check(model.card)
    limits = AccuracyLimits(error=0.02)
    assert check_accuracy("x", model, model, faces, limits)["decisions_changed"] == 0
    with pytest.raises(ParityError, match="x: the mean error is"):
        check_accuracy("x", Shifted(model, 0.02), model, faces, limits)
    with pytest.raises(ParityError, match="newly off by more than 10%"):
        check_accuracy("x", Shifted(model, 0.1, every=50), model, faces, AccuracyLimits(error=1.0))


def test_formats_are_chosen_by_name_and_listed(capsys):
    assert chosen_formats("onnx, torchscript,onnx") == ("onnx", "torchscript")
    assert chosen_formats("all") == tuple(HERE)
    with pytest.raises(UsageError):
        chosen_formats("caffe")
    assert main(["export", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in FORMATS)
    assert main(["export", "stage3", "--format", "onnx,caffe"]) == 2
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
