import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import onnx
import pytest
import torch

from kpedge.card import DETECTOR, FRAME_EXTENT, DetectorCard, ModelCard, card_from_json
from kpedge.errors import CorruptModelError, ParityError, UsageError
from kpedge.export import gate
from kpedge.export.formats import open_eager, open_model
from kpedge.export.gate import export_model
from kpedge.export.parity import check_parity
from kpedge.export.probes import random_crops, recorded_answers, self_test_inputs
from kpedge.export.verify import verify
from kpedge.geometry import CropRule, iou
from kpedge.keypoints import FACES5, FACES21
from kpedge.models.build import new_detector
from kpedge.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kpedge.models.keypoint_model import weights_hash
from kpedge.runtime.detector import (
    COARSE,
    OVERLAP,
    TILE,
    FaceDetector,
    candidates,
    detector_model,
    preprocess,
    resize_to,
    suppress,
)
from kpedge.runtime.keypoints import keypoint_model
from kpedge.runtime.sessions import OnnxModel


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def new_card(**changes):
    return DetectorCard(
        **{
            "name": "detector",
            "task": DETECTOR,
            "architecture": {"name": "detector", "options": {}},
            "colour": "bgr",
            "scheme": FACES5,
            "threshold": 0.5,
            "stride": 32,
            "side": 320,
            "suppression": 0.45,
            **changes,
        }
    )


class Fake:
    """A model that answers with what `find` makes of each frame: boxes (D, 4) and scores (D,)."""

    def __init__(self, find, **card):
        self.card, self.find, self.seen = new_card(**card), find, []

    def __call__(self, frames):
        assert frames.dtype == np.uint8
        assert frames.flags["C_CONTIGUOUS"]
        assert frames.shape[0] == 1
        assert frames.shape[1] % 32 == frames.shape[2] % 32 == 0
        self.seen.append(frames)
        boxes, scores = (np.asarray(values, dtype=np.float64) for values in self.find(frames[0]))
        boxes = boxes.reshape(-1, 4)
        return {"boxes": boxes[None], "scores": scores[None], "points": points_in(boxes)[None]}


PLACES = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])


def points_in(boxes):
    """Five points at the same places in every box."""
    return boxes[:, None, :2] + PLACES * (boxes[:, None, 2:] - boxes[:, None, :2])


def find_bright(frame):
    """A box around every bright spot, along the edges of its pixels; large ones score higher."""
    count, _, rows, _ = cv2.connectedComponentsWithStats((frame.max(axis=2) > 127).astype(np.uint8))
    spots = rows[1:count].astype(np.float64)
    low = spots[:, :2] - 0.5
    return np.concatenate([low, low + spots[:, 2:4]], axis=1), 0.5 + 0.4 * spots[:, 4] / (spots[:, 4] + 500)


def picture(height, width, *spots):
    """A black picture with white rectangles x, y, width, height."""
    image = np.zeros((height, width, 3), np.uint8)
    for x, y, across, down in spots:
        image[y : y + down, x : x + across] = 255
    return image


def box_of(spot):
    x, y, across, down = spot
    return [x - 0.5, y - 0.5, x + across - 0.5, y + down - 0.5]


# From the frame back to the picture


@pytest.mark.parametrize(
    ("height", "width"), [(320, 320), (240, 320), (100, 150), (33, 47), (480, 640), (1080, 1920), (701, 333), (7, 900)]
)
def test_boxes_and_points_come_back_in_pixels_of_the_picture(height, width):
    """Pixel edges go to pixel edges: -0.5 to -0.5, the picture's far edge to that of the shrunk or enlarged one."""
    side = min(320, 2 * max(height, width))
    across, down = (max(1, round(length * side / max(height, width))) for length in (width, height))
    places = np.array([[0.0, 0.0, 1.0, 1.0], [0.25, 0.5, 0.75, 0.9], [-0.1, -0.2, 0.3, 0.1]])
    sizes = np.array([across, down] * 2)
    model = Fake(lambda frame: (places * sizes - 0.5, [0.9, 0.8, 0.7]), suppression=0.99)
    found = FaceDetector(model)(np.zeros((height, width, 3), np.uint8))
    assert len(found) == 3
    wanted = places * np.array([width, height] * 2) - 0.5
    for face, box, score in zip(found, wanted, (0.9, 0.8, 0.7), strict=True):
        assert np.abs(face.box - box).max() < 1e-6
        assert np.abs(face.points - points_in(box[None])[0]).max() < 1e-6
        assert face.score == pytest.approx(score)
        assert (face.box.dtype, face.points.shape) == (np.float64, (5, 2))


def test_pixels_reach_the_model_as_they_are_with_black_right_and_below():
    image = np.random.default_rng(0).integers(1, 256, (200, 320, 3), dtype=np.uint8)
    model = Fake(lambda frame: ([], []))
    assert FaceDetector(model)(image) == ()
    (frame,) = model.seen
    assert frame.shape == (1, 224, 320, 3)
    assert np.array_equal(frame[0, :200], image)
    assert not frame[0, 200:].any()
    exact = preprocess(np.ascontiguousarray(image[:32, :64]), 32)
    assert np.array_equal(exact[0], image[:32, :64])
    assert preprocess(image[:1, :33], 32).shape == (1, 32, 64, 3)


@pytest.mark.parametrize(("height", "width", "zoom"), [(640, 480, 0.5), (160, 120, 2.0), (960, 720, 1 / 3)])
def test_spots_are_found_where_they_are(height, width, zoom):
    """Through real pixels: OpenCV's resizing has the same convention as ours."""
    spots = [(0, 0, 24, 24), (48, 96, 36, 36), (84, 12, 24, 48)]
    found = FaceDetector(Fake(find_bright))(picture(height, width, *spots))
    assert len(found) == 3
    for spot in spots:
        assert min(np.abs(face.box - box_of(spot)).max() for face in found) < 0.51 / zoom


def test_resizing_gives_the_zoom_of_each_axis():
    image = np.zeros((100, 333, 3), np.uint8)
    same, zoom = resize_to(image, 333)
    assert same is image
    assert zoom.tolist() == [1, 1]
    shrunk, zoom = resize_to(image, 64)
    assert shrunk.shape == (19, 64, 3)
    assert zoom.tolist() == [64 / 333, 19 / 100]
    thin, zoom = resize_to(np.zeros((1, 500, 3), np.uint8), 100)
    assert thin.shape == (1, 100, 3)
    assert zoom.tolist() == [1 / 5, 1]


# Sizes and tiles


@pytest.mark.parametrize(
    ("shape", "side", "sides"),
    [
        ((240, 320), 320, [320]),
        ((240, 320), 160, [160]),
        ((480, 640), 640, [640, 320]),
        ((480, 640), 2000, [1280, 640, 320]),
        ((400, 500), 500, [500, 320]),
        ((1000, 3000), 1200, [1200, 600, 320]),
        ((100, 60), 640, [200]),
        ((90, 200), 640, [400, 320]),
        ((1, 1), 640, [2]),
    ],
)
def test_a_picture_is_looked_at_in_halving_sizes(shape, side, sides):
    model = Fake(lambda frame: ([], []))
    detector = FaceDetector(model, side=side)
    shown = list(detector.pictures(np.zeros((*shape, 3), np.uint8)))
    assert [max(image.shape[:2]) for image, _ in shown] == sides
    for image, zoom in shown:
        assert np.allclose(zoom, np.array(image.shape[1::-1]) / shape[::-1])
    assert COARSE == 320


def test_without_a_side_that_of_the_card_is_used():
    image = np.zeros((500, 1000, 3), np.uint8)
    model = Fake(lambda frame: ([], []), side=160)
    FaceDetector(model)(image)
    FaceDetector(model, side=96)(image)
    assert [frame.shape for frame in model.seen] == [(1, 96, 160, 3), (1, 64, 96, 3)]


@pytest.mark.parametrize(("height", "width"), [(200, 1281), (300, 2400), (1300, 1500), (60, 5000), (2369, 40)])
def test_tiles_cover_the_picture_and_overlap(height, width):
    rows, columns = np.mgrid[:height, :width]
    high = columns // 256 * 10 + rows // 256
    image = np.stack([columns % 256, rows % 256, high], axis=2).astype(np.uint8)  # each pixel names its place
    model = Fake(lambda frame: ([], []))
    FaceDetector(model, side=max(height, width))(image)
    seen, covered = set(), np.zeros((height, width), bool)
    for frame in model.seen:
        assert max(frame.shape) <= TILE
        x, y, high = (int(value) for value in frame[0, 0, 0])
        left, top = x + high // 10 * 256, y + high % 10 * 256
        part = image[top : top + TILE, left : left + TILE]
        if (left, top) in seen or not np.array_equal(frame[0, : part.shape[0], : part.shape[1]], part):
            break  # the first of a smaller picture
        seen.add((left, top))
        covered[top : top + TILE, left : left + TILE] = True
    assert covered.all()
    for axis, length in ((0, width), (1, height)):
        starts = sorted({place[axis] for place in seen})
        assert starts[0] == 0
        assert starts[-1] == max(length - TILE, 0)
        assert all(later - sooner <= TILE - OVERLAP for sooner, later in pairwise(starts))


@pytest.mark.parametrize(("width", "seams"), [(2000, (720, 1280)), (2460, (590, 1180, 1280))])
@pytest.mark.parametrize("side", [20, 180])
def test_a_face_at_a_seam_is_found_once_and_whole(width, seams, side):
    """Two tiles would do for 2460 px, but they would overlap by less than a face of 180."""
    for start in (seam - part for seam in seams for part in (side + 3, side, side // 2, 1, 0, -3)):
        spot = (start, 40, side, side)
        model = Fake(find_bright, side=width)
        found = FaceDetector(model)(picture(220, width, spot))
        assert max(max(frame.shape) for frame in model.seen) == TILE
        assert len(found) == 1
        assert np.abs(found[0].box - box_of(spot)).max() < 1e-6


def test_a_face_larger_than_the_overlap_is_found_in_a_smaller_picture():
    spot = (600, 20, 800, 460)  # cut by both seams
    (found,) = FaceDetector(Fake(find_bright, side=2000))(picture(500, 2000, spot))
    assert iou(found.box[None], np.array([box_of(spot)]))[0, 0] > 0.98


def test_a_face_at_the_pictures_own_edge_is_not_taken_for_one_at_a_seam():
    spots = [(0, 0, 60, 60), (1940, 160, 60, 60), (1000, 0, 60, 60)]
    found = FaceDetector(Fake(find_bright, side=2000))(picture(220, 2000, *spots))
    assert sorted(face.box.tolist() for face in found) == sorted(box_of(spot) for spot in spots)


# Which boxes are kept


def test_suppression_keeps_the_best_of_each_face():
    boxes = np.array(
        [[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10], [31, 1, 41, 11], [2, 0, 12, 10]], dtype=np.float64
    )
    scores = np.array([0.6, 0.9, 0.8, 0.3, 0.7])
    points = points_in(boxes)
    found = suppress(boxes, scores, points, 0.45)
    assert [face.score for face in found] == pytest.approx([0.9, 0.8])
    for face, index in zip(found, (1, 2), strict=True):
        assert np.array_equal(face.box, boxes[index])
        assert np.array_equal(face.points, points[index])
    assert suppress(boxes[:0], scores[:0], points[:0], 0.45) == ()


@pytest.mark.parametrize("origin", [0.0, -500.0, 1e4])
def test_suppression_goes_by_the_overlap_wherever_the_boxes_lie(origin):
    # Moved by d, a square of 30 overlaps by (30 - d) / (30 + d): 0.5 at 10.
    for moved, count in ((9.8, 1), (10.2, 2)):
        boxes = origin + np.array([[0, 0, 30, 30], [moved, 0, moved + 30, 30]])
        found = suppress(boxes, np.array([0.5, 0.6]), points_in(boxes), 0.5)
        assert len(found) == count
        assert np.array_equal(found[0].box, boxes[1])


def test_a_box_that_was_suppressed_suppresses_nothing():
    boxes = np.array([[0, 0, 30, 30], [8, 0, 38, 30], [16, 0, 46, 30]], dtype=np.float64)
    found = suppress(boxes, np.array([0.9, 0.8, 0.7]), points_in(boxes), 0.5)
    assert [face.score for face in found] == pytest.approx([0.9, 0.7])


def test_suppression_is_what_the_definition_gives():
    rng = np.random.default_rng(0)
    corner = rng.uniform(-20, 100, (80, 2))
    boxes, scores = np.concatenate([corner, corner + rng.uniform(20, 60, (80, 2))], axis=1), rng.uniform(0.1, 1, 80)
    kept = []
    for index in np.argsort(-scores):
        if not kept or iou(boxes[index][None], boxes[kept]).max() <= 0.45:
            kept.append(index)
    found = suppress(boxes, scores, points_in(boxes), 0.45)
    assert 5 < len(kept) < 70
    assert np.array_equal([face.box for face in found], boxes[kept])


def test_the_threshold_is_that_of_the_card_or_the_users():
    boxes = [square(40 * n) for n in range(4)]

    def find(frame):
        return boxes, [0.2, 0.5, 0.7, 0.9]

    image = np.zeros((320, 320, 3), np.uint8)
    assert [face.score for face in FaceDetector(Fake(find))(image)] == [0.9, 0.7, 0.5]
    assert [face.score for face in FaceDetector(Fake(find), threshold=0.8)(image)] == [0.9]
    assert len(FaceDetector(Fake(find), threshold=0.0)(image)) == 4
    assert FaceDetector(Fake(find), threshold=1.0)(image) == ()
    assert len(FaceDetector(Fake(find, threshold=None))(image)) == 4


def square(x, side=30.0):
    return [x, 0.0, x + side, side]


def test_candidates_are_those_of_the_first_frame_from_the_threshold_on():
    outputs = {
        "boxes": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "scores": np.array([[0.25, 0.5, 0.75], [1, 1, 1]], np.float32),
        "points": np.arange(60, dtype=np.float32).reshape(2, 3, 5, 2),
    }
    boxes, scores, points = candidates(outputs, 0.5)
    assert scores.tolist() == [0.5, 0.75]
    assert boxes.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]
    assert np.array_equal(points, outputs["points"][0, 1:])
    assert boxes.dtype == scores.dtype == points.dtype == np.float64


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_cannot_be_is_refused(threshold):
    with pytest.raises(UsageError, match="threshold must be from 0 to 1"):
        FaceDetector(Fake(lambda frame: ([], [])), threshold=threshold)


@pytest.mark.parametrize("side", [31, 0, -640])
def test_a_side_that_is_too_small_is_refused(side):
    with pytest.raises(UsageError, match=f"--max-side must be at least 32, not {side}"):
        FaceDetector(Fake(lambda frame: ([], [])), side=side)


# Which model does what


def keypoint_card():
    return ModelCard(
        name="stage1",
        task="keypoints",
        architecture={"name": "stage1", "options": {}},
        colour="grey",
        scheme=FACES21,
        size=112,
        crop=CropRule(),
        mean_shape=np.full((21, 2), 0.5),
    )


def test_a_keypoint_model_finds_no_faces_and_a_detector_no_keypoints():
    detector = Fake(lambda frame: ([], []))
    assert detector_model(detector) is detector
    with pytest.raises(UsageError, match="detector is a detector: it finds no keypoints"):
        keypoint_model(detector)
    keypoints = Fake(lambda frame: ([], []))
    keypoints.card = keypoint_card()
    assert keypoint_model(keypoints) is keypoints
    with pytest.raises(UsageError, match="stage1 finds keypoints, no faces") as caught:
        detector_model(keypoints)
    assert caught.value.advice == "give a detector"


def test_finding_faces_needs_no_torch():
    code = "import sys, kpedge.runtime.detector\nsys.exit(' '.join({'torch', 'onnx', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


# Files


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
    assert tolerance == 1e-5
    eager = open_eager(checkpoint)(frames)
    for name, values in answers.items():
        assert np.abs(values - eager[name]).max() <= 0.51e-7 * card.extents[name]


def test_files_of_a_detector_are_verified_from_themselves(exported):
    checks = verify([exported / "detector.onnx", exported / "detector.torchscript.pt"])
    assert all(check.card_matches for check in checks)
    assert not any(check.skipped for check in checks)
    assert {row.form for row in checks[0].rows} == {"onnx = recorded", "onnx reference"}
    assert {row.form for row in checks[1].rows} == {"torchscript = recorded", "detector.torchscript.pt = detector.onnx"}
    for check in checks:
        assert {row.output for row in check.rows} == {"boxes", "scores", "points"}
        for row in check.rows:
            extent = 1.0 if row.output == "scores" else FRAME_EXTENT
            assert row.largest <= row.tolerance <= 1.01e-5 * extent


def nudged(path, output):
    """The content of an ONNX file with one number of the last layer's bias changed."""
    proto = onnx.load(path)
    tensor = next(one for one in proto.graph.initializer if one.name.endswith("out.bias"))
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[output] += 0.02
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return proto.SerializeToString()


@pytest.mark.parametrize("output", [0, 1, 4, 14])
def test_a_weight_that_was_changed_is_found(exported, tmp_path, output):
    (tmp_path / "a.onnx").write_bytes(nudged(exported / "detector.onnx", output))
    with pytest.raises(ParityError, match=r"onnx = recorded, random, batch 1: (scores|boxes|points) differs by"):
        verify([tmp_path / "a.onnx"])


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
    monkeypatch.setattr(gate, "onnx_bytes", lambda model, card: nudged(exported / "detector.onnx", 2))
    with pytest.raises(ParityError, match=r"onnx, random, batch 1: boxes differs by \d\.\d\de-0\d, allowed 1e-0\d"):
        export_model(checkpoint, tmp_path / "out", ("onnx",))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_pixels_are_compared_in_fractions_of_a_frame(exported):
    model = OnnxModel(exported / "detector.onnx")
    inputs = {"random": random_crops(2, model.card.probe_shape)}
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
