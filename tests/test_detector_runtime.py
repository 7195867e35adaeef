from itertools import pairwise

import numpy as np
import pytest
from fake_detector import Fake, box_of, find_bright, picture, points_in

from kpedge.core.errors import UsageError
from kpedge.core.geometry import iou
from kpedge.runtime.detector import (
    COARSE,
    OVERLAP,
    TILE,
    FaceDetector,
    preprocess,
    suppress,
)

# From the frame back to the picture


@pytest.mark.parametrize(
    ("height", "width"), [(320, 320), (240, 320), (100, 150), (33, 47), (480, 640), (1080, 1920), (701, 333), (90, 340)]
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
    shown = list(detector.scaled_images(np.zeros((*shape, 3), np.uint8)))
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
        assert np.abs(found[0].box - box_of(spot)).max() < 1  # the mean of several sizes


def test_a_face_larger_than_the_overlap_is_found_in_a_smaller_picture():
    spot = (600, 20, 800, 460)  # cut by both seams
    (found,) = FaceDetector(Fake(find_bright, side=2000))(picture(500, 2000, spot))
    assert iou(found.box[None], np.array([box_of(spot)]))[0, 0] > 0.98


def test_a_face_at_the_pictures_own_edge_is_not_taken_for_one_at_a_seam():
    spots = [(0, 0, 60, 60), (1940, 160, 60, 60), (1000, 0, 60, 60)]
    found = FaceDetector(Fake(find_bright, side=2000))(picture(220, 2000, *spots))
    boxes = np.array(sorted(face.box.tolist() for face in found))
    assert np.abs(boxes - sorted(box_of(spot) for spot in spots)).max() < 1


# Which boxes are kept


def test_suppression_is_what_the_definition_gives():
    rng = np.random.default_rng(0)
    corner = rng.uniform(-20, 100, (80, 2))
    boxes, scores = np.concatenate([corner, corner + rng.uniform(20, 60, (80, 2))], axis=1), rng.uniform(0.1, 1, 80)
    kept = []
    for index in np.argsort(-scores):
        if not kept or iou(boxes[index][None], boxes[kept]).max() <= 0.45:
            kept.append(index)
    assert 5 < len(kept) < 70
    assert np.array_equal(suppress(boxes, scores, 0.45), kept)


@pytest.mark.parametrize("side", [320, 640, 1280])
def test_boxes_of_one_face_support_it_below_the_threshold_too(side):
    def find(frame):
        zoom = frame.shape[1] / 1280
        boxes = np.array([square(0, 400), square(20, 400), square(300, 400), square(10, 400), square(900, 300)]) * zoom
        return boxes, [0.9, 0.4, 0.8, 0.05, 0.7]

    faces = FaceDetector(Fake(find), side=side)(np.zeros((1280, 1280, 3), np.uint8))
    assert [face.support for face in faces] == pytest.approx([1.3, 0.8, 0.7])


def test_a_face_lies_at_the_mean_of_the_boxes_that_support_it():
    """Weighted by their scores; a box that overlaps less than 0.6, or whose score is too low, has no part in it."""
    boxes = [square(0, 100), square(12, 100), square(40, 100), square(20, 100), square(200, 50)]
    for lowest in (0.5, 0.01):
        model = Fake(lambda frame: (boxes, [0.6, 0.3, 0.2, 0.05, 0.04]), suppression=0.3)
        face, *others = FaceDetector(model, threshold=lowest)(np.zeros((320, 320, 3), np.uint8))
        assert face.box == pytest.approx(square(4, 100))
        assert face.points == pytest.approx(points_in(np.array([square(4, 100)]))[0])
        assert [one.box.tolist() for one in others] == ([boxes[4]] if lowest == 0.01 else [])


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


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_cannot_be_is_refused(threshold):
    with pytest.raises(UsageError, match="threshold must be from 0 to 1"):
        FaceDetector(Fake(lambda frame: ([], [])), threshold=threshold)


@pytest.mark.parametrize("side", [31, 0, -640])
def test_a_side_that_is_too_small_is_refused(side):
    with pytest.raises(UsageError, match=f"--max-side must be at least 32, not {side}"):
        FaceDetector(Fake(lambda frame: ([], [])), side=side)
