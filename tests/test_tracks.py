"""Where a face is looked for next, and who is who."""

import math

import numpy as np
import pytest

from kpedge.runtime.tracks import (
    FASTEST,
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


def a_track(x=100.0, y=80.0, side=40.0, speed=(0.0, 0.0), seen_s=2.0, number=1):
    return Track(number, square(x, y, side), 0.0, np.array(speed), seen_s)


def test_a_face_at_rest_is_looked_for_where_it_was():
    one = a_track()
    assert (one.moved_on(2.5) == one.box).all()
    assert (one.moved_on(100.0) == one.box).all()


def test_a_face_is_looked_for_where_its_motion_takes_it():
    one = a_track(speed=(90.0, -30.0))
    assert one.moved_on(2.1) == pytest.approx(square(109, 77, 40))
    assert (one.moved_on(2.0) == one.box).all()


def test_a_crop_is_moved_by_a_part_of_the_face_at_most():
    one = a_track(speed=(300.0, -400.0))
    assert one.moved_on(2.01) == pytest.approx(square(103, 76, 40))
    for time_s in (2.1, 3.0, 1e6):
        away = middle(one.moved_on(time_s)) - middle(one.box)
        assert math.hypot(*away) == pytest.approx(FASTEST * 40)
        assert away[1] / away[0] == pytest.approx(-4 / 3), "in the direction of its motion"
        assert np.diff(one.moved_on(time_s)[[0, 2]]) == pytest.approx(40), "its size is kept"


def test_the_speed_follows_what_is_seen():
    one = a_track()
    one.see(square(104, 80, 40), 0.1, 2.1)
    assert one.speed == pytest.approx([20, 0]), "half of 40 pixels a second: one step may be noise"
    assert (one.roll, one.seen_s, one.lost) == (0.1, 2.1, False)
    for step in range(2, 12):
        one.see(square(100 + 4 * step, 80, 40), 0.1, 2 + step / 10)
    assert one.speed == pytest.approx([40, 0], abs=0.1)
    assert one.moved_on(3.2) == pytest.approx(square(148, 80, 40), abs=0.02)


def test_a_face_that_only_grows_does_not_move():
    one = a_track()
    one.see(square(100, 80, 44), 0.0, 2.1)
    assert one.speed == pytest.approx([0, 0])


def test_a_face_that_comes_back_is_at_rest():
    one = a_track(speed=(50.0, 0.0))
    one.lost = True
    one.see(square(130, 80, 40), 0.0, 2.4)
    assert (one.speed == 0).all()
    assert not one.lost


def test_two_frames_of_one_time_tell_no_speed():
    one = a_track(speed=(50.0, 0.0))
    one.see(square(130, 80, 40), 0.0, 2.0)
    assert (one.speed == 0).all()
    assert np.isfinite(one.moved_on(2.0)).all()


def test_time_stamps_that_come_in_pairs_make_no_speed_of_noise():
    one, rng, time_s = a_track(), np.random.default_rng(0), 2.0
    for _ in range(40):
        for passed in (1e-5, 1 / 15):
            time_s += passed
            x, y = rng.normal((100, 80), 0.1)
            one.see(square(x, y, 40), 0.0, time_s)
            away = middle(one.moved_on(time_s + 1 / 15)) - middle(one.box)
            assert np.hypot(*away) < 0.1 * 40


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
