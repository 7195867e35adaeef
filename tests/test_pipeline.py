"""From a picture to the keypoints of all its faces: turned ones, and very large pictures."""

import math
import tracemalloc

import cv2
import numpy as np
import pytest
from conftest import SAMPLE
from fake_detector import Fake, box_of, find_bright, picture

from kpedge.core.boxes import box_of_points, rotated_box
from kpedge.core.geometry import crop_transform, iou, transform_points
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES5, FACES21, FACES21_MEAN
from kpedge.core.model_zoo import resolve_model
from kpedge.data.formats.label import read_labels
from kpedge.runtime.detector import TILE, FaceDetector, detector_model
from kpedge.runtime.keypoints import KeypointPredictor, keypoint_model
from kpedge.runtime.looks import BATCH, SMALL_ROLL, faces_in_boxes
from kpedge.runtime.pipeline import FacePipeline
from kpedge.runtime.sessions import OnnxModel

(ROW,) = read_labels(SAMPLE, FACES21).rows
SIDE = float(ROW.box[2] - ROW.box[0])
FIVE = [16, 17, 18, 19, 20]


@pytest.fixture(scope="module")
def pipeline():
    finder = FaceDetector(detector_model(OnnxModel(resolve_model("detector"))))
    return FacePipeline(KeypointPredictor(keypoint_model(OnnxModel(resolve_model("stage3")))), finder)


@pytest.fixture(scope="module")
def photo():
    return read_image(SAMPLE / ROW.photo)


def turn(degrees, centre):
    """The transform that turns a picture clockwise around a place."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    way = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    way[:, 2] = centre - way[:, :2] @ centre
    return way


def face_at(centre, side, degrees):
    """The mean face's 21 points, turned clockwise."""
    return transform_points(turn(degrees, np.array(centre, dtype=float)), FACES21_MEAN * side + centre)


@pytest.mark.parametrize("degrees", [-30, -15, 0, 15, 30])
def test_points_of_a_turned_face_are_found(pipeline, photo, degrees):
    way = turn(degrees, ROW.keypoints.mean(axis=0))
    turned = cv2.warpAffine(photo, way, photo.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    points = transform_points(way, ROW.keypoints)
    (face,) = pipeline(turned)
    assert np.linalg.norm(face.keypoints - points, axis=1).mean() < 0.04 * SIDE
    assert math.degrees(FACES21.roll(face.keypoints)) == pytest.approx(math.degrees(FACES21.roll(points)), abs=4)
    assert iou(face.box[None], box_of_points(points)[None])[0, 0] > 0.6


class Told:
    """A keypoint model that answers with given points of the picture, of several faces those nearest to the middle of
    the crop, and keeps the crops it saw."""

    def __init__(self, predictor_ways, points, scheme=FACES21):
        real = OnnxModel(resolve_model("stage3")).card
        self.card, self.ways, self.points, self.crops = real, predictor_ways, points, []

    def __call__(self, crops):
        self.crops.append(crops)
        middle, known = (self.card.size - 1) / 2, np.reshape(self.points, (-1, len(FACES21), 2))
        inner = [
            min(
                (transform_points(way, face) for face in known),
                key=lambda face: np.abs(face.mean(axis=0) - middle).sum(),
            )
            for way in self.ways[-1]
        ]
        return {
            "keypoints": (np.array(inner) + 0.5) / self.card.size,
            "score": np.ones(len(crops)),
            "error": np.zeros((len(crops), len(FACES21))),
        }


NOISE = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
"""A picture in which something can be seen."""


class Watched(KeypointPredictor):
    """A predictor that keeps the boxes, rolls and transforms of its calls."""

    def __init__(self, points):
        self.tried, self.rolls, self.ways = [], [], []
        super().__init__(Told(self.ways, points))

    def preprocess(self, image, boxes, rolls=None):
        crops, ways = super().preprocess(image, boxes, rolls)
        self.tried.append(boxes)
        self.rolls.append(list(rolls))
        self.ways.append(ways)
        return crops, ways


class Finder(Fake):
    """A detector that finds given boxes with given points."""

    def __init__(self, boxes, points, scores=None):
        scores = np.linspace(0.9, 0.6, len(boxes)) if scores is None else scores
        super().__init__(lambda frame: (boxes, scores))
        self.points = points

    def __call__(self, frames):
        return {**super().__call__(frames), "points": np.asarray(self.points, dtype=np.float64)[None]}


def pipeline_for(points):
    """A pipeline that finds one face by these points in a picture of 320 x 320."""
    predictor = Watched(points)
    finder = Finder([box_of_points(points)], [points[FIVE]])
    return FacePipeline(predictor, FaceDetector(finder, side=320)), predictor


@pytest.mark.parametrize("degrees", [0, 40, 100, 180])
@pytest.mark.parametrize(
    ("scale", "up"), [(1.0, 0.0), (1.4, 0.1), (0.75, 0.0), (np.array([0.7, 1.3]), 0.0), (np.array([0.5, 1.2]), 0.0)]
)
def test_a_given_box_may_be_of_another_convention_and_its_face_rotated(pipeline, photo, degrees, scale, up):
    way = turn(degrees, ROW.keypoints.mean(axis=0))
    turned = cv2.warpAffine(photo, way, photo.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    points = transform_points(way, ROW.keypoints)
    box = box_of_points(points)
    middle, half = (box[:2] + box[2:]) / 2 - (0, up * SIDE), scale * (box[2] - box[0]) / 2
    given = np.concatenate([middle - half, middle + half])
    (face,) = pipeline.in_boxes(turned, [given])
    assert face.box == pytest.approx(given)
    assert np.linalg.norm(face.keypoints - points, axis=1).mean() < 0.05 * SIDE


def test_a_given_box_without_a_face_has_no_points_unless_every_box_is_taken(pipeline, photo):
    box, model = [2.0, 2.0, 42.0, 42.0], pipeline.predictor.model
    ((empty,), (kept,)) = (
        faces_in_boxes(KeypointPredictor(model, threshold=threshold), photo, [box]) for threshold in (None, 0.0)
    )
    assert len(empty.keypoints) == 0
    assert empty.score < 0.5
    assert len(kept.keypoints) == len(FACES21)


def test_no_boxes_give_no_faces_and_a_box_at_the_edge_gives_one_without_points(pipeline, photo):
    assert pipeline.in_boxes(photo, []) == ()
    assert pipeline.in_boxes(photo, np.empty((0, 4))) == ()
    (face,) = pipeline.in_boxes(photo, [[-40, -40, 1, 1]])
    assert len(face.keypoints) == 0


def test_a_given_box_stays_with_its_face_next_to_another(pipeline, photo):
    left, right = (ROW.keypoints + np.array([x, 0]) for x in (0, photo.shape[1]))
    both = np.concatenate([photo, photo], axis=1)
    faces = pipeline.in_boxes(both, [box_of_points(right), box_of_points(left)])
    for face, points in zip(faces, (right, left), strict=True):
        assert np.linalg.norm(face.keypoints - points, axis=1).mean() < 0.05 * SIDE


@pytest.mark.parametrize("degrees", [-170, -90, -45, -11, 11, 30, 60, 90, 135])
def test_the_crop_of_a_turned_face_shows_it_upright_and_in_its_usual_place(degrees):
    points = face_at((150, 160), 80, degrees)
    straight = face_at((150, 160), 80, 0)
    pipe, predictor = pipeline_for(points)
    (face,) = pipe(NOISE)
    card = predictor.model.card
    usual = transform_points(crop_transform(box_of_points(straight), card.size, card.crop), straight)
    assert len(predictor.ways) == 2, "a face is looked at twice"
    # The five points of the mean face tell its roll up to a fraction of a degree, all 21 likewise.
    for (way,) in predictor.ways:
        shown = transform_points(way, points)
        assert np.abs(shown.mean(axis=0) - usual.mean(axis=0)).max() < 0.01
        assert np.abs(shown - usual).max() < 0.02 * card.size
        assert abs(math.degrees(FACES21.roll(shown))) < 1.5
    assert np.abs(face.keypoints - points).max() < 1e-6, "the points come back into the picture"
    assert np.allclose(face.box, box_of_points(points)), "the box is the detector's"


@pytest.mark.parametrize("degrees", [-8, -3, 0, 5, 8])
def test_a_small_roll_is_left_in_the_crop(degrees):
    points = face_at((150, 160), 80, degrees)
    assert abs(FACES5.roll(points[FIVE])) < SMALL_ROLL
    pipe, predictor = pipeline_for(points)
    pipe(NOISE)
    assert predictor.rolls == [[0.0], [0.0]]
    assert np.array_equal(predictor.tried[0][0], FaceDetector(pipe.detector.model, side=320)(NOISE)[0].box)


def test_a_second_look_is_cut_around_the_points_of_the_first():
    points = face_at((150, 160), 80, 0)
    predictor = Watched(points)
    rough = box_of_points(points) + np.array([12.0, -9.0, 22.0, 1.0])
    pipe = FacePipeline(predictor, FaceDetector(Finder([rough], [points[FIVE]]), side=320))
    (face,) = pipe(NOISE)
    assert np.allclose(predictor.tried[0][0], rough)
    assert np.allclose(predictor.tried[1][0], box_of_points(points))
    assert np.allclose(face.box, rough)


def test_faces_come_by_the_detectors_score_whatever_their_number():
    """More faces than one run is given, in a grid."""
    centres = [(20 + 28 * (n % 11), 20 + 28 * (n // 11)) for n in range(BATCH + 20)]
    faces = [face_at(centre, 20, 0) for centre in centres]
    boxes = [box_of_points(points) for points in faces]
    scores = np.random.default_rng(0).permutation(np.linspace(0.6, 0.9, len(boxes)))
    predictor = Watched(faces)
    pipe = FacePipeline(predictor, FaceDetector(Finder(boxes, [p[FIVE] for p in faces], scores), side=320))
    found = pipe(NOISE)
    assert [len(one) for one in predictor.rolls] == [BATCH, 20, BATCH, 20]
    wanted = np.array(boxes)[np.argsort(-scores)]
    assert np.allclose([face.box for face in found], wanted)
    assert np.allclose(predictor.tried[0], wanted[:BATCH])


@pytest.mark.parametrize("other", [0, 1])
def test_two_boxes_that_lead_to_the_same_points_are_one_face(other):
    faces = [face_at((150, 160), 80, 0), face_at((200, 160), 80, 0)]
    near = box_of_points(faces[0]) + np.array([30.0, -25.0, 30.0, -25.0])
    points = faces[0] if other == 0 else faces
    boxes = [box_of_points(faces[0]), near if other == 0 else box_of_points(faces[1])]
    detector = FaceDetector(Finder(boxes, [faces[0][FIVE], faces[other][FIVE]]), side=320)
    found = FacePipeline(Watched(points), detector)(NOISE)
    assert [face.box.tolist() for face in found] == [box.tolist() for box in boxes[: 1 + other]]


def test_a_box_that_the_turn_takes_out_of_the_picture_is_left_out():
    """At the edge: what is left of the face lies within the picture, its upright crop's box does not."""
    points = face_at((0, 160), 80, 90)
    points[:, 0] += 3 - box_of_points(points)[2]
    box = box_of_points(points)
    assert box[2] > 0 > rotated_box(box, math.radians(90))[2] + 1
    predictor = Watched(points)
    pipe = FacePipeline(predictor, FaceDetector(Finder([box], [points[FIVE]]), side=320), keep_rejected=True)
    assert pipe(NOISE) == ()
    assert predictor.tried == []


def test_a_picture_without_faces_asks_the_keypoint_model_nothing():
    predictor = Watched(FACES21_MEAN)
    pipe = FacePipeline(predictor, FaceDetector(Fake(lambda frame: ([], []))))
    assert pipe(picture(50, 70)) == ()
    assert predictor.tried == []


# Very large pictures


@pytest.fixture(scope="module")
def huge(photo):
    """A picture of 102 megapixels with the sample's face in it, 1500 px wide, and the face's box."""
    zoom = 1500 / SIDE
    low = np.floor(ROW.box[:2] - 0.7 * SIDE).astype(int)
    high = np.ceil(ROW.box[2:] + 0.7 * SIDE).astype(int)
    assert (low >= 0).all()
    part = photo[low[1] : high[1], low[0] : high[0]]
    large = cv2.resize(part, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR)
    image = np.full((8500, 12000, 3), 128, np.uint8)
    x, y = 7000, 3000
    image[y : y + large.shape[0], x : x + large.shape[1]] = large
    box = (ROW.box + 0.5 - np.tile(low, 2)) * zoom - 0.5 + [x, y, x, y]
    points = (ROW.keypoints + 0.5 - low) * zoom - 0.5 + [x, y]
    return image, box, points


@pytest.mark.slow
def test_a_face_in_100_megapixels_is_found_in_bounded_memory(pipeline, huge):
    image, box, points = huge
    tracemalloc.start()
    try:
        (face,) = pipeline(image)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64e6, "the picture itself has 306 MB"
    assert iou(face.box[None], box[None])[0, 0] > 0.6
    assert np.linalg.norm(face.keypoints - points, axis=1).mean() < 0.04 * 1500


@pytest.mark.slow
def test_100_megapixels_are_searched_in_tiles():
    """A face that is larger than tiles overlap is found once, whole."""
    spot, side = (7000, 3000, 1500, 1500), 4000
    image = picture(8500, 12000, spot)
    model = Fake(find_bright)
    tracemalloc.start()
    try:
        (found,) = FaceDetector(model, side=side)(image)
        kept = tracemalloc.get_traced_memory()[1] - sum(frame.nbytes for frame in model.seen)
    finally:
        tracemalloc.stop()
    assert max(max(frame.shape) for frame in model.seen) == TILE
    assert len(model.seen) > 12
    assert iou(found.box[None], np.array([box_of(spot)]))[0, 0] > 0.97
    assert kept < 1.5 * 3 * side * side * 8500 / 12000, "the shrunk pictures, one after the other"


def test_a_doubtful_face_stays_where_its_flipped_crop_shows_none(pipeline, photo, monkeypatch):
    (expected,) = pipeline(photo)
    monkeypatch.setattr("kpedge.runtime.pipeline.DOUBTFUL", 0.0)
    (face,) = pipeline(photo)
    assert (face.keypoints == expected.keypoints).all()
