"""The commands that measure and time a face detector."""

import json
import shutil

import cv2
import numpy as np
import onnx
import pytest
from conftest import SAMPLE, names_in
from onnx import TensorProto, helper, numpy_helper

from kpedge.cli.main import main
from kpedge.core.images import read_image, write_image
from kpedge.core.keypoints import FACES21
from kpedge.data.formats.label import read_labels
from kpedge.data.preparation import FrameOptions, prepare

(ROW,) = read_labels(SAMPLE, FACES21).rows


def background(seed):
    """A drawn picture of lines."""
    rng = np.random.default_rng(seed)
    image = np.full((240, 320, 3), rng.integers(40, 200, 3), np.uint8)
    for start, stop, ink in zip(
        rng.integers(0, 320, (20, 2)), rng.integers(0, 320, (20, 2)), rng.integers(0, 255, (20, 3)), strict=True
    ):
        cv2.line(image, start.tolist(), stop.tolist(), ink.tolist(), 3)
    return image


@pytest.fixture
def folder(tmp_path):
    """The sample photo with its label, and again with a second label where there is no face."""
    root = tmp_path / "photos"
    shutil.copytree(SAMPLE, root)
    write_image(root / "again.png", read_image(root / ROW.photo))
    text = (SAMPLE / "label.txt").read_text().strip()
    other = " ".join(str(value + 200) for value in (*ROW.box, *ROW.keypoints.ravel()))
    (root / "label.txt").write_text(f"{text}\n{text.replace(ROW.photo, 'again.png')}\nagain.png {other}\n")
    return root


@pytest.fixture
def without(tmp_path):
    """A folder of three pictures without a face."""
    root = tmp_path / "without"
    root.mkdir()
    for number in range(3):
        write_image(root / f"{number}.png", background(number))
    return root


def evaluated(capsys, *arguments):
    """The document that `kpedge eval detector --json` prints."""
    assert main(["eval", "detector", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_eval_measures_a_folder_of_photos(folder, tmp_path, capsys):
    out = tmp_path / "report"
    report = evaluated(capsys, "--data", folder, "--out", out)
    assert (report["frames"], report["faces"], report["faceless_frames"]) == (2, 3, 0)
    assert report["recall"] == pytest.approx(2 / 3)
    assert report["precision"] == 1
    assert report["average_precision"] == pytest.approx(2 / 3)
    assert report["false_alarms"] == 0
    assert report["faceless_alarms"] is None
    assert (report["boxes"], report["iou"], report["left_out"]) == ("ours", 0.5, [])
    assert report["data"] == str(folder)
    card = json.loads((tmp_path / "report" / "report.json").read_text())
    assert card == report
    assert names_in(out) == ["mistakes.png", "precision_recall.png", "report.json"]
    preview = read_image(out / "mistakes.png")
    assert preview.shape[0] >= 200, "one face was missed"
    assert read_image(out / "precision_recall.png").shape[1] > 300


def test_eval_says_the_same_in_tables(folder, capsys):
    assert main(["eval", "detector", "--data", str(folder)]) == 0
    rows = capsys.readouterr().out
    for words in ("photos, longer side in px", "faces of 16 px and more", "66.67%", "0.667", "100.00%", "128 and more"):
        assert words in rows


def test_the_side_decides_which_faces_count(folder, capsys):
    """The sample's face has 94 of 512 px: 14.7 at a side of 80."""
    report = evaluated(capsys, "--data", folder, "--max-side", "80")
    assert (report["side"], report["faces"]) == (80, 0)
    assert (report["average_precision"], report["recall"], report["precision"]) == (None, None, None)
    report = evaluated(capsys, "--data", folder, "--max-side", "320")
    assert (report["side"], report["faces"]) == (320, 3)
    assert [row["faces"] for row in report["by_size"]] == [0, 3, 0, 0]


def test_eval_of_a_list_is_of_these_photos_alone(folder, tmp_path, capsys):
    (tmp_path / "list.txt").write_text(f"{ROW.photo}\n")
    report = evaluated(capsys, "--data", folder, "--list", tmp_path / "list.txt")
    assert (report["frames"], report["faces"], report["recall"]) == (1, 1, 1.0)


def test_false_alarms_are_counted_on_pictures_without_a_face(without, tmp_path, capsys):
    out = tmp_path / "report"
    report = evaluated(capsys, "--data", without, "--format", "background", "--out", out)
    assert (report["frames"], report["faces"], report["faceless_frames"]) == (3, 0, 3)
    assert report["faceless_alarms"] == report["false_alarms"] == 0
    assert names_in(out) == ["report.json"], "no face, no curve; no mistake, no preview"
    shutil.copy(SAMPLE / ROW.photo, without / "3.jpg")
    report = evaluated(capsys, "--data", without, "--format", "background", "--out", tmp_path / "alarms")
    assert report["faceless_alarms"] == report["false_alarms"] == 0.25
    assert (tmp_path / "alarms" / "mistakes.png").exists()


def test_a_photo_that_cannot_be_read_is_left_out_and_named(folder, tmp_path, capsys):
    (folder / "again.png").write_bytes((folder / "again.png").read_bytes()[:3000])
    assert main(["eval", "detector", "--data", str(folder), "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert (report["frames"], report["faces"], report["recall"]) == (1, 1, 1.0)
    (left_out,) = report["left_out"]
    assert "again.png" in left_out
    assert f"left out: {left_out}" in captured.err


def test_a_frame_set_is_measured_by_its_splits(folder, tmp_path, capsys):
    prepare(folder, tmp_path / "set", FrameOptions(validation=0.0, test=0.0))
    train = evaluated(capsys, "--data", tmp_path / "set", "--split", "train")
    photos = evaluated(capsys, "--data", folder)
    assert (train["frames"], train["faces"]) == (2, 3)
    for name in ("average_precision", "precision", "recall"):
        assert train[name] == pytest.approx(photos[name])
    assert main(["eval", "detector", "--data", str(tmp_path / "set")]) == 1
    assert "no photo to measure on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["detector", "--data", "{folder}", "--box-noise", "0.1"],
            2,
            "--box-noise and --flip-test are for keypoint models",
        ),
        (["stage1", "--data", "{folder}", "--max-side", "320"], 2, "--max-side is for a detector"),
        (["detector", "--data", "{folder}", "--split", "test"], 2, "--split chooses of a frame set"),
        (["detector", "--data", "{folder}", "--max-side", "8"], 2, "--max-side must be at least 32, not 8"),
        (["detector", "--data", "{folder}", "--format", "x"], 2, "--format must be one of"),
        (["detector", "--data", "{tmp}/nowhere"], 1, "nowhere"),
        (["detector", "--data", "{set}", "--split", "x"], 2, "no split is called 'x'"),
        (["detector", "--data", "{set}", "--list", "a"], 2, "a frame set has --split"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_measured_gets_one_line(arguments, code, words, folder, tmp_path, capsys):
    if "{set}" in arguments:
        prepare(folder, tmp_path / "set", FrameOptions(validation=0.0, test=0.0))
    places = {"folder": folder, "tmp": tmp_path, "set": tmp_path / "set"}
    assert main(["eval", *(argument.format(**places) for argument in arguments)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.startswith("error: ")
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["report.json", "precision_recall.png", "mistakes.png"])
def test_reports_are_not_overwritten_unasked(folder, tmp_path, capsys, name):
    (tmp_path / name).write_text("mine")
    command = ["eval", "detector", "--data", str(folder), "--out", str(tmp_path), "--json"]
    assert main(command) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{tmp_path / name} exists already" in captured.err
    assert (tmp_path / name).read_text() == "mine"
    assert main([*command, "--force"]) == 0
    assert (tmp_path / name).read_bytes() != b"mine"


# How long it takes

QUICK = ["--detect", "--rounds", "2", "--calls", "2", "--warmup", "1"]


def yunet(path, found=True, outputs=("cls", "obj", "bbox", "kps")):
    """A network with YuNet's outputs that finds one face as large as the frame, or none."""
    channels = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
    nodes, tensors, values = [], [], []
    tensors.append(numpy_helper.from_array(np.array([1, -1, sum(channels.values())]), "rows"))
    tensors.append(numpy_helper.from_array(np.array(list(channels.values())), "parts"))
    for stride in (8, 16, 32):
        bias = np.zeros(16, np.float32)
        bias[1] = 1.0
        bias[0] = float(found and stride == 32)
        bias[4:6] = 5.0  # logarithms of width and height, in strides: every box covers the frame
        weight = np.zeros((16, 3, stride, stride), np.float32)
        for name, tensor in ((f"w{stride}", weight), (f"b{stride}", bias)):
            tensors.append(numpy_helper.from_array(tensor, name))
        own = [f"{name}_{stride}" for name in channels]
        nodes += [
            helper.make_node("Conv", ["input", f"w{stride}", f"b{stride}"], [f"m{stride}"], strides=[stride] * 2),
            helper.make_node("Transpose", [f"m{stride}"], [f"t{stride}"], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", [f"t{stride}", "rows"], [f"r{stride}"]),
            helper.make_node("Split", [f"r{stride}", "parts"], own, axis=2),
        ]
        cells = 256 // stride * (320 // stride)
        for name, output in zip(channels, own, strict=True):
            if name in outputs:
                shape = [1, cells, channels[name]]
                values.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, shape))
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 256, 320])
    graph = helper.make_graph(nodes, "yunet", [source], values, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def timed(capsys, *arguments):
    """The document that `kpedge bench --detect --json` prints."""
    assert main(["bench", *QUICK, *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_detector_is_timed_beside_stage_1(tmp_path, capsys):
    document = timed(capsys, "--out", tmp_path / "report")
    assert [(row["name"], row["what"], row["faces"]) for row in document["rows"]] == [
        ("stage1", "one crop", None),
        ("detector", "frame to faces", 1),
        ("detector", "network alone", None),
    ]
    for row in document["rows"]:
        assert row["calls"] == 4
        assert 0 < row["median_ms"] <= row["p95_ms"]
        assert row["ratio"] > 0
    assert document["rows"][0]["ratio"] == 1
    settings = {name: document[name] for name in ("frame", "threads", "rounds", "calls", "warmup")}
    assert settings == {"frame": "320x240", "threads": 1, "rounds": 2, "calls": 2, "warmup": 1}
    assert "cpu" in document["machine"]
    assert json.loads((tmp_path / "report" / "detection.json").read_text()) == document


def test_the_table_has_a_row_for_each(tmp_path, capsys):
    peer = yunet(tmp_path / "yunet.onnx", found=False)
    assert main(["bench", *QUICK, "--peer", f"yunet={peer}"]) == 0
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["stage1", "detector", "detector", "yunet"]
    assert rows[1][1:5] == ["frame", "to", "faces", "1"]
    assert rows[3][1:5] == ["frame", "to", "faces", "0"]
    assert "2 rounds of 2 calls after 1 to warm up" in captured.err


def test_a_peer_is_timed_on_the_same_frame(tmp_path, capsys):
    row = timed(capsys, "--peer", f"yunet={yunet(tmp_path / 'a=b.onnx')}")["rows"][3]
    assert (row["name"], row["what"], row["faces"], row["calls"]) == ("yunet", "frame to faces", 1, 4)
    assert 0 < row["median_ms"] <= row["p95_ms"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--detect", "--peer", "yunet={tmp}/none.onnx"], 1, "none.onnx: no such file"),
        (["--detect", "--peer", "yunet={tmp}/text.onnx"], 1, "text.onnx: OpenCV's FaceDetectorYN cannot use it"),
        (["--detect", "--peer", "yunet={tmp}/empty.onnx"], 1, "empty.onnx: OpenCV's FaceDetectorYN cannot use it"),
        (["--detect", "--peer", "yunet={tmp}/part.onnx"], 1, "part.onnx: OpenCV's FaceDetectorYN cannot use it"),
        (["--detect", "--peer", "yunet={stage1}"], 1, "stage1.onnx: OpenCV's FaceDetectorYN cannot use it"),
        (["--detect", "--peer", "mtcnn={tmp}/text.onnx"], 2, "no peer is called 'mtcnn'"),
        (["--detect", "--peer", "yunet"], 2, "--peer yunet: not NAME=FILE"),
        (["--peer", "yunet={tmp}/text.onnx"], 2, "--peer is another detector to time"),
        (["--detect", "{stage1}"], 2, "no faces in an image"),
        (["--detect", "{tmp}/text.onnx"], 3, "text.onnx: onnxruntime cannot load it"),
        (["--detect", "{stage1}", "{stage1}"], 2, "--detect times one detector"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_timed_gets_one_line(arguments, code, words, tmp_path, capfd):
    from kpedge.core.model_zoo import resolve_model

    (tmp_path / "text.onnx").write_text("no network")
    (tmp_path / "empty.onnx").write_bytes(b"")
    yunet(tmp_path / "part.onnx", outputs=("cls", "obj"))
    places = {"tmp": tmp_path, "stage1": resolve_model("stage1")}
    quick = QUICK[1:]
    assert main(["bench", *quick, *(argument.format(**places) for argument in arguments)]) == code
    captured = capfd.readouterr()
    assert captured.out == ""
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert words in line
    assert "Traceback" not in captured.err
