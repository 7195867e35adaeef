from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpedge.core.boxes import (
    BOX_BELOW,
    BOX_SIDE,
    FACE,
    HEAD,
    box_of_points,
    boxes_of_points,
    convention_centre,
    convention_middle,
    rotated_box,
    to_convention,
)
from kpedge.core.geometry import (
    CropRule,
    crop_transform,
    pixels_to_fractions,
    transform_points,
)
from kpedge.core.keypoints import BUILT_IN, FACES5, FACES21, FACES21_MEAN, conversion, convert_points, scheme_named
from kpedge.core.scheme import scheme_of_names
from kpedge.runtime.keypoints import PointBoxes

quickly = settings(deadline=None, max_examples=60)
corners = st.tuples(st.floats(-500, 900), st.floats(-500, 900), st.floats(2, 600), st.floats(2, 600))
head_boxes = st.lists(corners, min_size=1, max_size=5).map(
    lambda rows: np.array([[x, y, x + width, y + height] for x, y, width, height in rows])
)


def test_a_heads_box_becomes_a_smaller_square_a_little_higher():
    (box,) = to_convention(np.array([[100.0, 200.0, 180.0, 300.0]]), HEAD)
    side = 0.9 * np.sqrt(80 * 100)
    assert np.allclose(box, [140 - side / 2, 250 - 3 - side / 2, 140 + side / 2, 250 - 3 + side / 2])


@quickly
@given(head_boxes, st.floats(0.1, 10), st.floats(-300, 300), st.floats(-300, 300))
def test_mapping_a_head_does_not_depend_on_where_and_how_large_it_is(boxes, zoom, x, y):
    move = np.array([x, y, x, y])
    mapped = to_convention(boxes, HEAD)
    assert np.allclose(to_convention(boxes * zoom + move, HEAD), mapped * zoom + move, atol=1e-6)
    sides = mapped[:, 2:] - mapped[:, :2]
    assert np.allclose(sides[:, 0], sides[:, 1])
    assert np.allclose(sides.prod(axis=1), 0.81 * (boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def test_a_faces_box_stays_as_it_is_and_no_input_is_written_to():
    boxes = np.array([[1.0, 2.0, 30.0, 50.0]])
    before = boxes.copy()
    assert (to_convention(boxes, FACE) == before).all()
    to_convention(boxes, HEAD)
    convention_middle(boxes)
    assert (boxes == before).all()
    assert to_convention(np.empty((0, 4)), HEAD).shape == (0, 4)


@quickly
@given(st.floats(-0.6, 0.6), st.floats(5, 300), st.integers(0, 1000))
def test_the_mean_of_the_points_is_where_their_box_says(roll, side, seed):
    """Whatever the turn: the box that follows from points gives their mean back, and from it itself."""
    turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    shape = FACES21_MEAN + np.random.default_rng(seed).normal(0, 0.02, FACES21_MEAN.shape)
    points = side * shape @ turn + (200, 150)
    box = box_of_points(points)
    assert np.allclose(convention_middle(box[None])[0], points.mean(axis=0))
    width = box[2] - box[0]
    spread = np.sqrt(((points - points.mean(axis=0)) ** 2).sum())
    assert width == pytest.approx(BOX_SIDE * spread)
    assert np.allclose(convention_centre(points.mean(axis=0)[None], np.array([width]))[0], (box[:2] + box[2:]) / 2)
    assert (box[1] + box[3]) / 2 - points[:, 1].mean() == pytest.approx(BOX_BELOW * width)


RULE = CropRule(0.25)
THREE = scheme_of_names("three", ["brim", "left_lens", "bridge"])
"""Three points without a pair, and without a point that another scheme has."""
ONE = scheme_of_names("one", ["beak"])


def mean_crop(scheme, *, side=1.0, shift=(0.0, 0.0), seed=0):
    """A mean face, (K, 2), fractions of a crop: of faces21's where its points follow, at random elsewhere. `side` and
    `shift` say how much larger than ours the boxes of its set are, and where.
    """
    points = convert_points(FACES21_MEAN, FACES21, scheme)
    anywhere = np.random.default_rng(seed).uniform(-0.4, 0.4, points.shape)
    points = np.where(np.isfinite(points), points, anywhere)
    return (points - shift) / side / (1 + 2 * RULE.widen) + 0.5


def point_boxes(scheme, mean):
    """The boxes of a model whose card has only what they need."""
    return PointBoxes(SimpleNamespace(scheme=scheme, mean_shape=mean, crop=RULE))


def moved(points, angle, zoom, x, y):
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


@pytest.mark.parametrize("own", [{}, {"side": 1.4, "shift": (0.05, 0.2)}], ids=["our boxes", "its own boxes"])
@pytest.mark.parametrize("scheme", [*map(scheme_named, BUILT_IN), THREE], ids=lambda one: one.name)
@settings(deadline=None, max_examples=15)
@given(st.floats(-3.1, 3.1), st.floats(5, 900), st.floats(-300, 900), st.floats(-300, 900))
def test_a_faces_next_crop_shows_it_as_in_training(scheme, own, angle, zoom, x, y):
    """The box and roll of the mean face, turned, moved and zoomed, cut a crop in which it is the mean face again."""
    mean = mean_crop(scheme, **own)
    found = moved(mean, angle, zoom, x, y)[None]
    (box,), (roll,) = (boxes := point_boxes(scheme, mean))(found)
    assert boxes.gives_size
    back = transform_points(crop_transform(rotated_box(box, roll), 112, RULE, roll=roll), found[0])
    # Where the points tell those of faces21 the box is that of its photos, of which the model's is a mean.
    exact = own or scheme in (THREE, scheme_named("kaggle15"), FACES5)
    assert np.abs(pixels_to_fractions(back, 112) - mean).max() < (1e-6 if exact else 0.05)


def test_boxes_of_faces21_are_those_of_its_photos():
    points = FACES21_MEAN * 80 + np.random.default_rng(1).normal(0, 4, (6, 21, 2)) + 100
    boxes, rolls = point_boxes(FACES21, FACES21_MEAN / 1.5 + 0.5)(points)
    assert np.allclose(boxes, boxes_of_points(points))
    assert np.allclose(rolls, FACES21.roll(points))
    ibug = scheme_named("ibug68")
    points = np.random.default_rng(2).normal(100, 20, (6, 68, 2))
    boxes, rolls = point_boxes(ibug, mean_crop(ibug))(points)
    anatomy = convert_points(points, ibug, FACES21)
    assert np.allclose(boxes, boxes_of_points(anatomy))
    assert np.allclose(rolls, FACES21.roll(anatomy))


@pytest.mark.parametrize("own", [{"side": 1.4, "shift": (0.05, 0.2)}, {"side": 0.8}], ids=str)
@pytest.mark.parametrize("scheme", [FACES21, FACES5, scheme_named("wflw98")], ids=lambda one: one.name)
def test_a_detectors_box_becomes_one_of_the_models_own(scheme, own):
    """A model whose set has boxes of its own sees faces that a detector found as in training, whatever their turn."""
    mean = mean_crop(scheme, **own)
    ours = point_boxes(FACES21, mean_crop(FACES21))
    boxes = point_boxes(scheme, mean)
    for angle in (-0.8, 0.0, 0.3, 2.0):
        face = moved(FACES21_MEAN, angle, 90, 200, 150)
        found, (roll,) = ours(face[None])
        (box,) = boxes.from_detector(found, np.array([roll]))
        way = crop_transform(rotated_box(box, roll), 112, RULE, roll=roll)
        shown = pixels_to_fractions(transform_points(way, convert_points(face, FACES21, scheme)), 112)
        assert np.nanmax(np.abs(shown - mean)) < 0.05
    assert boxes.from_detector(np.empty((0, 4)), np.empty(0)).shape == (0, 4)


def test_a_detectors_box_is_left_alone_where_nothing_tells_better():
    boxes, rolls = np.array([[10.0, 20, 90, 100]]), np.array([0.4])
    for scheme in (*map(scheme_named, BUILT_IN), THREE):
        assert point_boxes(scheme, mean_crop(scheme)).from_detector(boxes, rolls) is boxes


def test_one_point_tells_no_size():
    boxes = point_boxes(ONE, np.array([[0.5, 0.6]]))
    assert not boxes.gives_size
    (box,), (roll,) = boxes(np.array([[[30.0, 40.0]]]))
    assert np.allclose(box, [30, 40, 30, 40])
    assert roll == 0


def test_a_box_of_points_of_any_scheme():
    face = FACES21_MEAN * 100 + 300
    expected = box_of_points(face)
    for name in ("faces5", "kaggle15"):
        scheme = scheme_named(name)
        box = box_of_points(convert_points(face, FACES21, scheme), scheme)
        assert np.allclose(box, [250, 250, 350, 350], atol=4), name
    ibug = np.full((68, 2), np.nan)
    known = conversion(FACES21, scheme_named("ibug68"))
    ibug[known.known] = known(face)[known.known]
    assert np.allclose(box_of_points(ibug, scheme_named("ibug68")), expected, atol=4), "eye contours are not labelled"
    strange = box_of_points(np.array([[0.0, 0], [60, 20], [np.nan, 5]]), THREE)
    assert np.allclose(strange, [-12, -32, 72, 52]), "a square around the points"
