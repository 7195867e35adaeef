import hashlib
import json
import re
import shutil
import zipfile

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from kpedge.cli.main import main
from kpedge.core.card import EXTRA_FILE, METADATA_KEY, card_from_json
from kpedge.core.errors import CorruptModelError, OutputError, ParityError, UsageError
from kpedge.export.exporter import export_model
from kpedge.export.formats import onnx as onnx_format
from kpedge.export.load import ONNX, TORCHSCRIPT, format_of, open_eager, open_model
from kpedge.export.parity import check_parity, compare
from kpedge.export.test_inputs import random_crops
from kpedge.export.verification import verify
from kpedge.models.checkpoint import load_checkpoint
from kpedge.runtime.sessions import OnnxModel

pytestmark = pytest.mark.slow


def test_random_crops_never_change():
    """They are part of every file's self-test: another byte would break files that are out there."""
    crops = random_crops(5, (112, 112, 1))
    assert crops.dtype == np.uint8
    digest = "49e422831027edca097125027b7b51a1ca3686b02b9dcb50c87f107afacc1a12"
    assert hashlib.sha256(crops.tobytes()).hexdigest() == digest
    assert (crops[3, :56, :56] == crops[3, 0, 0]).all(), "the fourth is made of cells of 56 px"


def test_all_formats_give_the_same_numbers(exported, trained):
    forms = [
        open_model(exported / "stage1.onnx"),
        open_model(exported / "stage1.torchscript.pt"),
        open_model(trained / "best.pt"),
    ]
    forms += [open_eager(exported / "stage1.torchscript.pt"), open_eager(trained / "best.pt")]
    for batch in (1, 2, 7, 64):
        crops = random_crops(batch, (112, 112, 1), seed=9)
        answers = [form(crops)["keypoints"] for form in forms]
        assert all(answer.shape == (batch, 21, 2) for answer in answers)
        assert all(np.abs(answer - answers[0]).max() < 1e-5 for answer in answers)
        assert np.ptp(answers[0]) > 0.1
    assert len({form.card.weights_sha256 for form in forms[:2]}) == 1


def test_the_same_checkpoint_gives_the_same_bytes(trained, exported, tmp_path):
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(not before)  # as training leaves it, or does not
    try:
        export_model(trained / "best.pt", tmp_path, ("onnx", "torchscript"))
        assert torch.are_deterministic_algorithms_enabled() != before
    finally:
        torch.use_deterministic_algorithms(before)
    for name in ("stage1.onnx", "stage1.torchscript.pt"):
        assert (tmp_path / name).read_bytes() == (exported / name).read_bytes()


def test_files_hold_no_trace_of_the_machine(exported):
    content = {"onnx": (exported / "stage1.onnx").read_bytes()}
    with zipfile.ZipFile(exported / "stage1.torchscript.pt") as archive:
        content |= {name: archive.read(name) for name in archive.namelist()}
    content["card"] = (exported / "stage1.json").read_bytes()
    for name, data in content.items():
        found = re.findall(rb"/(?:home|root|work|tmp|usr|opt|Users)/[\w/.-]+|site-packages[\w/.-]*|\w+\.py\b", data)
        # TorchScript names the Python modules of its classes, not files
        assert not found, (name, found[:3])
        assert not re.search(rb"20\d\d-\d\d-\d\d", data), name


def test_the_onnx_file_is_one_file_of_the_promised_form(exported):
    proto = onnx.load(exported / "stage1.onnx", load_external_data=False)
    assert {item.domain: item.version for item in proto.opset_import} == {"": 18}
    assert proto.ir_version == 8, "which onnxruntime 1.16 reads"
    assert not proto.graph.value_info
    assert not {"Gather", "Slice"} & {node.op_type for node in proto.graph.node}
    assert not any(tensor.data_location == TensorProto.EXTERNAL for tensor in proto.graph.initializer)
    (crops,), (keypoints,) = proto.graph.input, proto.graph.output
    dims = crops.type.tensor_type.shape.dim
    assert (crops.name, crops.type.tensor_type.elem_type) == ("crops", TensorProto.UINT8)
    assert (dims[0].dim_param, [d.dim_value for d in dims[1:]]) == ("batch", [112, 112, 1])
    dims = keypoints.type.tensor_type.shape.dim
    assert (keypoints.name, dims[0].dim_param, [d.dim_value for d in dims[1:]]) == ("keypoints", "batch", [21, 2])
    assert [entry.key for entry in proto.metadata_props] == [METADATA_KEY]
    assert sorted(path.name for path in exported.iterdir()) == ["stage1.json", "stage1.onnx", "stage1.torchscript.pt"]


def test_the_card_says_what_the_runtime_needs(exported, card_of, trained):
    card = OnnxModel(exported / "stage1.onnx").card
    assert card.to_json() == card_from_json(card.to_json()).to_json()
    assert card.to_json() == open_model(exported / "stage1.torchscript.pt").card.to_json()
    assert card_of["input"] == {
        "name": "crops",
        "dtype": "uint8",
        "layout": "NHWC",
        "shape": ["batch", 112, 112, 1],
        "colour": "grey",
    }
    assert card_of["training"]["sets"][0]["name"] == "photos"
    assert card_of["accuracy"]["validation"]["faces"] > 0
    assert {"torch", "onnx", "kpedge"} <= card_of["versions"].keys()
    assert card_of["parity"]["batch_sizes"] == [1, 2, 7, 64]
    assert max(card_of["parity"]["largest_difference"].values()) <= card_of["parity"]["tolerance"] == 1e-5
    assert card_of["latency"]["onnx"]["median_ms"] > 0
    assert load_checkpoint(trained / "best.pt").card.weights_sha256 == card_of["weights_sha256"]


unbroken = onnx_format.onnx_bytes


def break_onnx(model, card):
    """The exporter, but one weight is off by a thousandth."""
    with torch.no_grad():
        model.network.landmarks.bias[5] += 1e-3
        data = unbroken(model, card)
        model.network.landmarks.bias[5] -= 1e-3
    return data


def test_a_failed_gate_leaves_no_file_and_exits_with_3(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx_format, "onnx_bytes", break_onnx)
    out = tmp_path / "out"
    assert main(["export", str(trained / "best.pt"), "--out", str(out), "--format", "onnx,torchscript"]) == 3
    message = capsys.readouterr().err
    assert re.search(r"error: onnx, random, batch 1: keypoints differs by \d\.\d\de-0\d, allowed 1.0e-05", message)
    assert not out.exists() or list(out.iterdir()) == []


def test_existing_files_are_not_replaced_unasked(trained, exported):
    before = {path: path.read_bytes() for path in exported.iterdir()}
    with pytest.raises(OutputError, match="exists already"):
        export_model(trained / "best.pt", exported, ("onnx",))
    assert {path: path.read_bytes() for path in exported.iterdir()} == before
    with pytest.raises(UsageError, match="--format must be one of"):
        export_model(trained / "best.pt", exported, ("caffe",))


def test_comparison_goes_by_names_shapes_values():
    good = {"keypoints": np.zeros((2, 21, 2), np.float32)}
    with pytest.raises(ParityError, match="outputs are called points, expected keypoints"):
        compare("x", "random", {"points": good["keypoints"]}, good)
    with pytest.raises(ParityError, match=r"shape \(2, 42\), expected \(2, 21, 2\)"):
        compare("x", "random", {"keypoints": np.zeros((2, 42))}, good)
    with pytest.raises(ParityError, match="not finite"):
        compare("x", "random", {"keypoints": good["keypoints"] * np.nan}, good)
    with pytest.raises(ParityError, match=r"differs by 1\.10e-05"):
        compare("x", "random", {"keypoints": good["keypoints"] + 1.1e-5}, good)
    assert compare("x", "random", {"keypoints": good["keypoints"] + 9e-6}, good)[0].largest == pytest.approx(
        9e-6, rel=1e-3
    )


def test_a_model_that_breaks_at_one_batch_size_is_found(exported):
    model = OnnxModel(exported / "stage1.onnx")
    with pytest.raises(ParityError, match="batch 7"):
        check_parity(
            "x",
            lambda crops: {name: values + (len(crops) == 7) for name, values in model(crops).items()},
            model,
            {"random": random_crops(64, (112, 112, 1))},
        )


def test_files_are_verified_from_themselves(exported, tmp_path):
    checks = verify([exported / "stage1.onnx", exported / "stage1.torchscript.pt"])
    assert [check.kind for check in checks] == [ONNX, TORCHSCRIPT]
    assert all(check.card_matches for check in checks)
    assert {row.candidate for row in checks[0].rows} == {"onnx = recorded", "onnx reference"}
    assert {row.candidate for row in checks[1].rows} == {
        "torchscript = recorded",
        "stage1.torchscript.pt = stage1.onnx",
    }
    alone = shutil.copy(exported / "stage1.onnx", tmp_path / "alone.onnx")
    assert verify([alone])[0].card_matches is None


def changed(path, target, change):
    proto = onnx.load(path)
    change(proto)
    onnx.save(proto, target)
    return target


def nudge(proto):
    tensor = next(t for t in proto.graph.initializer if t.name.endswith("landmarks.bias"))
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[0] += 0.01
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


@pytest.mark.parametrize(
    ("excuse", "words"),
    [
        (lambda card: card["self_test"].update(tolerance=1e9), "differs by"),
        (
            lambda card: card.update(precision="int8", self_test={**card["self_test"], "tolerance": 1e9}),
            "card says int8",
        ),
    ],
)
def test_a_file_cannot_excuse_itself(exported, tmp_path, excuse, words):
    def change(proto):
        nudge(proto)
        card = json.loads(proto.metadata_props[0].value)
        excuse(card)
        proto.metadata_props[0].value = json.dumps(card, separators=(",", ":"))

    path = changed(exported / "stage1.onnx", tmp_path / "a.onnx", change)
    with pytest.raises((ParityError, CorruptModelError), match=words):
        verify([path, path])


def test_a_fixed_batch_size_is_refused(exported, tmp_path):
    def fix(proto):
        for value in (proto.graph.input[0], proto.graph.output[0]):
            value.type.tensor_type.shape.dim[0].dim_value = 1

    path = changed(exported / "stage1.onnx", tmp_path / "a.onnx", fix)
    with pytest.raises(CorruptModelError, match="batch size is fixed at 1"):
        OnnxModel(path)


def test_formats_that_are_exported_one_after_the_other_share_a_card(trained, exported, tmp_path):
    export_model(trained / "best.pt", tmp_path, ("onnx",))
    export_model(trained / "best.pt", tmp_path, ("torchscript",))
    card = json.loads((tmp_path / "stage1.json").read_text())
    together = json.loads((exported / "stage1.json").read_text())
    assert card["files"] == together["files"]
    assert card["parity"]["largest_difference"].keys() == together["parity"]["largest_difference"].keys()
    assert {"onnx", "torchscript"} < card["latency"].keys()
    assert all(check.card_matches for check in verify([tmp_path / "stage1.onnx", tmp_path / "stage1.torchscript.pt"]))


def test_a_file_that_its_card_does_not_name_is_found(exported, tmp_path):
    for name in ("stage1.onnx", "stage1.json"):
        shutil.copy(exported / name, tmp_path)
    changed(
        tmp_path / "stage1.onnx", tmp_path / "stage1.onnx", lambda proto: proto.graph.__setattr__("doc_string", "x")
    )
    with pytest.raises(CorruptModelError, match=r"not the one that stage1.json describes"):
        verify([tmp_path / "stage1.onnx"])


def test_files_of_different_models_are_told_apart(exported, prepared, tmp_path):
    from kpedge.training.config import TrainConfig
    from kpedge.training.loop import train

    best = train("stage1", prepared, tmp_path / "run", TrainConfig(epochs=1, seed=7)).best
    export_model(best, tmp_path / "out", ("onnx",), name="other")
    with pytest.raises(ParityError, match="different weights"):
        verify([exported / "stage1.onnx", tmp_path / "out" / "other.onnx"])


def foreign_onnx(path):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def card_text(change):
    """Makes a file whose card is changed."""

    def edit(proto):
        proto.metadata_props[0].value = change(proto.metadata_props[0].value)

    return lambda path, source: changed(source, path, edit)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path, source: path.write_bytes(b""), "file is empty"),
        (lambda path, source: path.write_bytes(b"hello, world"), "onnxruntime cannot load it"),
        (lambda path, source: path.write_bytes(source.read_bytes()[:5000]), "onnxruntime cannot load it"),
        (lambda path, source: foreign_onnx(path), "without a kpedge card"),
        (card_text(lambda text: "{"), "not JSON"),
        (card_text(lambda text: "{}"), "not a kpedge model card"),
        (card_text(lambda text: '{"format": 9}'), "format 9"),
        (card_text(lambda text: '{"format": 1}'), "card is damaged"),
        (card_text(lambda text: text.replace("112,112,1", "96,96,1")), "not what its card says"),
    ],
)
def test_a_broken_or_foreign_onnx_file_gets_one_clear_line(exported, tmp_path, capsys, make, words):
    path = tmp_path / "a.onnx"
    make(path, exported / "stage1.onnx")
    assert main(["verify", str(path)]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert words in captured.err
    assert "a.onnx" in captured.err


def test_a_broken_or_foreign_torchscript_file_is_refused(exported, tmp_path):
    data = (exported / "stage1.torchscript.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptModelError):
        open_model(tmp_path / "cut.pt")
    without = tmp_path / "without.pt"
    with zipfile.ZipFile(exported / "stage1.torchscript.pt") as old, zipfile.ZipFile(without, "w") as new:
        for name in old.namelist():
            if not name.endswith(EXTRA_FILE):
                new.writestr(name, old.read(name))
    assert format_of(without) == TORCHSCRIPT
    with pytest.raises(CorruptModelError, match="without a kpedge card"):
        open_model(without)


def test_accuracy_and_real_crops_come_from_a_prepared_set(trained, prepared, tmp_path, capsys):
    flags = ["--out", str(tmp_path), "--data", str(prepared.path), "--format", "onnx", "--json"]
    assert main(["export", str(trained / "best.pt"), *flags]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {row["inputs"] for row in document["parity"]} == {"random", "real"}
    card = json.loads((tmp_path / "stage1.json").read_text())
    assert card["accuracy"]["test"]["faces"] == len(prepared.indices("test"))
    assert OnnxModel(tmp_path / "stage1.onnx").card.accuracy == card["accuracy"]


def test_single_slopes_are_written_so_that_runtimes_fuse_them(exported):
    operators = [node.op_type for node in onnx.load(exported / "stage1.onnx").graph.node]
    assert operators.count("LeakyRelu") == 9
    assert "PRelu" not in operators
