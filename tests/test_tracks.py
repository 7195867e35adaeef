"""Where a face is looked for next, and who is who."""

import numpy as np
import pytest

from kpedge.runtime.tracks import (
    RETURN_NEAR,
    RETURN_SIZE,
    SAME,
    Track,
    doubles,
    owners,
    returning,
    shared,
)


def square(x, y, side):
    """The box (4,) around a middle."""
    return np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])


def squares(*places):
    return np.array([square(*place) for place in places]).reshape(-1, 4)


def middle(box):
    return (box[:2] + box[2:]) / 2


def a_track(x=100.0, y=80.0, side=40.0, seen_s=2.0, number=1):
    return Track(number, square(x, y, side), seen_s, lost=True)


def test_boxes_share_a_part_of_the_smaller():
    boxes = squares((50, 50, 20), (60, 50, 20), (50, 50, 8), (90, 50, 20))
    assert shared(boxes[:1], boxes) == pytest.approx(np.array([[1, 0.5, 1, 0]]))


def test_whose_box_it_is():
    known = squares((50, 50, 20), (150, 50, 20))
    found = squares((51, 50, 20), (159.9, 50, 20), (160.1, 50, 20), (152, 51, 8), (100, 50, 20))
    assert owners(found, known).tolist() == [0, 1, -1, 1, -1]


@pytest.mark.parametrize(("count", "others"), [(3, 0), (0, 3), (0, 0)])
def test_nobodys_where_nobody_is(count, others):
    assert owners(np.ones((count, 4)), np.ones((others, 4))).tolist() == [-1] * count


def test_of_two_boxes_on_one_face_the_second_is_a_double():
    near = 20 * (1 - SAME)
    boxes = squares((50, 50, 20), (150, 50, 20), (50 + near - 0.1, 50, 20), (150, 50 + near + 0.1, 20), (150, 50, 20))
    assert doubles(boxes).tolist() == [False, False, True, False, True]
    assert doubles(boxes[:1]).tolist() == [False]
    assert doubles(boxes[:0]).tolist() == []


@pytest.mark.parametrize(
    ("place", "back"),
    [
        ((100, 80, 40), True),
        ((100 + 0.95 * RETURN_NEAR * 40, 80, 40), True),
        ((100, 80 - 1.05 * RETURN_NEAR * 40, 40), False),
        ((100, 80, 0.95 * RETURN_SIZE * 40), True),
        ((100, 80, 1.05 * RETURN_SIZE * 40), False),
        ((100, 80, 40 / RETURN_SIZE / 0.95), True),
        ((100, 80, 40 / RETURN_SIZE / 1.05), False),
    ],
)
def test_a_face_comes_back_near_where_it_was_lost_and_of_about_its_size(place, back):
    one = a_track()
    assert returning(squares(place), [one]) == [one if back else None]


def test_distances_count_in_the_larger_of_the_two_faces():
    one = a_track(side=30.0)
    assert returning(squares((140, 80, 45)), [one]) == [one]
    assert returning(squares((146, 80, 45)), [one]) == [None]


def test_nobody_comes_back_twice_and_the_nearest_comes_first():
    left, right = a_track(100, number=1), a_track(150, number=2)
    assert returning(squares((120, 80, 40), (105, 80, 40)), [left, right]) == [right, left]
    assert returning(squares((105, 80, 40), (101, 80, 40), (99.5, 80, 40)), [left]) == [None, None, left]
    assert returning(squares((120, 80, 40)), [left, right]) == [left]
    assert returning(squares((132, 80, 40)), [left, right]) == [right]


def test_nobody_comes_back_where_nobody_was_lost():
    assert returning(squares((100, 80, 40)), []) == [None]
    assert returning(np.empty((0, 4)), [a_track()]) == []
