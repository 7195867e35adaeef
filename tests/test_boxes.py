import numpy as np
import pytest
from conftest import SAMPLE
from hypothesis import given, settings
from hypothesis import strategies as st

from kpedge.boxes import (
    BOX_BELOW,
    BOX_SIDE,
    FACE,
    HEAD,
    box_of_points,
    convention_centre,
    convention_middle,
    to_convention,
)
from kpedge.datasets.labels import parse_row
from kpedge.keypoints import FACES5, FACES21, FACES21_MEAN, convert_points

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


def test_five_points_are_found_by_name():
    _, _, points = parse_row((SAMPLE / "label.txt").read_text(), FACES21)
    five = convert_points(points, FACES21, FACES5)
    assert (five == points[[16, 17, 18, 19, 20]]).all()
    assert (convert_points(np.stack([points, points + 1]), FACES21, FACES5)[1] == five + 1).all()
    back = convert_points(five, FACES5, FACES21)
    assert (back[16:] == five).all()
    assert np.isnan(back[:16]).all()


def test_the_five_points_mirror_as_the_21_do():
    mirrored = convert_points(FACES21_MEAN[FACES21.mirror_order], FACES21, FACES5)
    assert (mirrored == convert_points(FACES21_MEAN, FACES21, FACES5)[FACES5.mirror_order]).all()
