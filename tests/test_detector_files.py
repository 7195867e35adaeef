"""Files of a detector: exported, and verified from themselves."""

import hashlib
import json
from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest
import torch
from fake_detector import new_card

from kpedge.core.card import FRAME_EXTENT, DetectorCard, card_from_json
from kpedge.core.errors import CorruptModelError, ParityError
from kpedge.export.exporter import export_model
from kpedge.export.formats import onnx as onnx_format
from kpedge.export.load import open_eager, open_model
from kpedge.export.parity import check_parity
from kpedge.export.test_inputs import random_crops, recorded_answers, self_test_inputs
from kpedge.export.verification import verify
from kpedge.models.build import new_detector
from kpedge.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kpedge.models.keypoint_model import weights_hash
from kpedge.runtime.detector import FaceDetector, detector_model
from kpedge.runtime.sessions import OnnxModel

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = {"stem": [8, 16], "widths": [16, 16, 32], "depths": [1, 1, 1], "neck": 16}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A narrow detector that was not trained, but whose cells all say something else."""
    path = tmp_path_factory.mktemp("detector") / "best.pt"
    torch.manual_seed(0)
    card = new_card(architecture={"name": "detector", "options": OPTIONS}, accuracy={"validation": {"side": 320}})
    model = new_detector(card)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight)
        model.network.out.weight[2:] *= 0.2  # boxes that can be
        for seed in range(5):
            model.train().raw(torch.from_numpy(random_crops(4, (96, 96, 3), seed)))
    save_checkpoint(path, Checkpoint(replace(card, weights_sha256=weights_hash(model)), model.state_dict(), {}, {}))
    return path


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """A folder with its ONNX and TorchScript files and their card."""
    out = tmp_path_factory.mktemp("exported")
    export_model(checkpoint, out, ("onnx", "torchscript"))
    return out


def forms(exported, checkpoint):
    return [
        open_model(exported / "detector.onnx"),
        open_model(exported / "detector.torchscript.pt"),
        open_model(checkpoint),
        open_eager(exported / "detector.torchscript.pt"),
        open_eager(checkpoint),
    ]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (160, 64), (192, 320)])
def test_all_forms_of_a_detector_give_the_same_numbers_at_any_size(exported, checkpoint, height, width):
    onnx_model, *others = forms(exported, checkpoint)
    cells = height * width * (1 / 64 + 1 / 256 + 1 / 1024)
    for batch in (1, 2, 5):
        frames = random_crops(batch, (height, width, 3), seed=9)
        answers = onnx_model(frames)
        assert {name: values.shape for name, values in answers.items()} == {
            "boxes": (batch, cells, 4),
            "scores": (batch, cells),
            "points": (batch, cells, 5, 2),
        }
        assert np.ptp(answers["scores"]) > 0.1
        assert np.ptp(answers["boxes"]) > 32
        for other in others:
            for name, values in other(frames).items():
                allowed = 1e-5 * onnx_model.card.extents[name]
                assert np.abs(values - answers[name]).max() < allowed


def test_all_forms_find_the_same_faces(exported, checkpoint):
    image = cv2.resize(random_crops(1, (30, 40, 3))[0], (500, 375), interpolation=cv2.INTER_CUBIC)
    results = [
        FaceDetector(detector_model(form), threshold=0.3, side=500)(image) for form in forms(exported, checkpoint)
    ]
    assert len(results[0]) > 3
    for faces in results[1:]:
        assert len(faces) == len(results[0])
        by_place = [sorted(found, key=lambda face: tuple(face.box)) for found in (faces, results[0])]  # scores tie
        for one, other in zip(*by_place, strict=True):
            assert np.abs(one.box - other.box).max() < 0.05
            assert np.abs(one.points - other.points).max() < 0.05
            assert one.score == pytest.approx(other.score, abs=1e-4)


def test_the_onnx_file_takes_any_number_of_frames_of_any_size(exported):
    graph = onnx.load(exported / "detector.onnx").graph
    dims = graph.input[0].type.tensor_type.shape.dim
    assert graph.input[0].name == "frames"
    assert all(dim.dim_param and not dim.dim_value for dim in dims[:3])
    assert dims[3].dim_value == 3
    assert [value.name for value in graph.output] == ["boxes", "scores", "points"]


def test_frames_that_are_no_multiple_of_the_stride_are_not_answered(exported, checkpoint):
    for form in forms(exported, checkpoint)[:3]:
        with pytest.raises(Exception, match=r"(?i)size|shape|dimension|broadcast"):
            form(random_crops(1, (48, 64, 3)))


def test_the_card_goes_into_the_files_and_comes_out_again(exported, checkpoint):
    card = open_model(exported / "detector.onnx").card
    assert isinstance(card, DetectorCard)
    assert card.to_json() == open_model(exported / "detector.torchscript.pt").card.to_json()
    assert card.to_json() == card_from_json(card.to_json()).to_json()
    assert card.architecture == {"name": "detector", "options": OPTIONS, "folded": True}
    assert (card.threshold, card.side, card.stride, card.suppression) == (0.5, 320, 32, 0.45)
    assert card.weights_sha256 == load_checkpoint(checkpoint).card.weights_sha256
    beside = json.loads((exported / "detector.json").read_text())
    assert beside["input"]["shape"] == ["batch", "rows", "columns", 3]
    assert beside["accuracy"] == {"validation": {"side": 320}}
    assert beside["parity"]["batch_sizes"] == [1, 2, 7, 64]
    assert set(beside["files"]) == {"detector.onnx", "detector.torchscript.pt"}
    for name, entry in beside["files"].items():
        content = (exported / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def test_recorded_answers_are_those_of_pytorch_within_the_rounding(exported, checkpoint):
    card = open_model(exported / "detector.onnx").card
    frames, answers, tolerance = recorded_answers(card, "x")
    assert np.array_equal(frames, self_test_inputs(card))
    assert tolerance <= 1e-4
    eager = open_eager(checkpoint)(frames)
    for name, values in answers.items():
        assert np.abs(values - eager[name]).max() <= 0.51e-7 * card.extents[name]


def test_files_of_a_detector_are_verified_from_themselves(exported):
    checks = verify([exported / "detector.onnx", exported / "detector.torchscript.pt"])
    assert all(check.card_matches for check in checks)
    assert not any(check.skipped for check in checks)
    assert {row.candidate for row in checks[0].rows} == {"onnx = recorded", "onnx reference"}
    assert {row.candidate for row in checks[1].rows} == {
        "torchscript = recorded",
        "detector.torchscript.pt = detector.onnx",
    }
    for check in checks:
        assert {row.output for row in check.rows} == {"boxes", "scores", "points"}
        for row in check.rows:
            extent = 1.0 if row.output == "scores" else FRAME_EXTENT
            assert row.largest <= row.tolerance <= 1.01e-4 * extent


def nudged(path, output):
    """The content of an ONNX file with one number of the last layer's bias changed."""
    proto = onnx.load(path)
    tensor = next(one for one in proto.graph.initializer if one.name.endswith("out.bias"))
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[output] += 0.02
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return proto.SerializeToString()


def test_a_byte_of_a_weight_that_was_changed_is_found(exported, tmp_path):
    """In the file as it lies there, with its card beside it and without."""
    proto = onnx.load(exported / "detector.onnx")
    tensor = next(one for one in proto.graph.initializer if one.name.endswith("out.bias"))
    raw, content = onnx.numpy_helper.to_array(tensor).tobytes(), bytearray((exported / "detector.onnx").read_bytes())
    assert content.count(raw) == 1
    content[content.index(raw) + 3] ^= 0x40  # the sign's byte, a bit of the exponent
    (tmp_path / "detector.onnx").write_bytes(content)
    with pytest.raises(ParityError):
        verify([tmp_path / "detector.onnx"])
    (tmp_path / "detector.json").write_bytes((exported / "detector.json").read_bytes())
    with pytest.raises((ParityError, CorruptModelError)):
        verify([tmp_path / "detector.onnx"])


def test_an_export_that_computes_something_else_leaves_nothing_behind(exported, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_format, "onnx_bytes", lambda model, card: nudged(exported / "detector.onnx", 2))
    with pytest.raises(ParityError, match=r"onnx, random, batch 1: boxes differs by \d\.\d\de-0\d, allowed 1.0e-0\d"):
        export_model(checkpoint, tmp_path / "out", ("onnx",))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_pixels_are_compared_in_fractions_of_a_frame(exported):
    model = OnnxModel(exported / "detector.onnx")
    inputs = {"random": random_crops(2, model.card.dummy_input_shape)}
    for name, fraction, holds in (
        ("boxes", 9e-6, True),
        ("boxes", 1.2e-5, False),
        ("scores", 9e-6, True),
        ("scores", 1.2e-5, False),
    ):
        off = fraction * (1 if name == "scores" else FRAME_EXTENT)

        def moved(frames, name=name, off=off):
            return {key: values + np.float32(off * (key == name)) for key, values in model(frames).items()}

        def compared(moved=moved):
            return check_parity("x", moved, model, inputs, batch_sizes=(1, 2), extents=model.card.extents)

        if holds:
            assert len(compared()) == 6
        else:
            with pytest.raises(ParityError, match=f"{name} differs by"):
                compared()


def test_a_self_test_that_does_not_fit_is_refused(exported):
    card = OnnxModel(exported / "detector.onnx").card
    for wrong in (
        {**card.self_test, "points": card.self_test["boxes"]},
        {**card.self_test, "crops": 3},
        {**card.self_test, "boxes": []},
        {},
    ):
        with pytest.raises(CorruptModelError, match="self-test"):
            recorded_answers(replace(card, self_test=wrong), "x")
