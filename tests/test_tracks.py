"""Where a face is looked for next, and who is who."""

import cv2
import numpy as np
import pytest

from kpedge.runtime.tracks import (
    RETURN_NEAR,
    RETURN_SIZE,
    Track,
    appearance,
    difference,
    match_tracks,
    reidentify,
    shared,
)


def square(x, y, side):
    """The box (4,) around a middle."""
    return np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])


def squares(*places):
    return np.array([square(*place) for place in places]).reshape(-1, 4)


def middle(box):
    return (box[:2] + box[2:]) / 2


def a_track(x=100.0, y=80.0, side=40.0, seen_s=2.0, number=1, velocity=(0.0, 0.0)):
    vx, vy = velocity
    return Track(number, square(x, y, side), seen_s, lost=True, side=side, x=x, y=y, free_s=seen_s, vx=vx, vy=vy)


def again(places, lost, time_s=2.5, looks=None):
    return reidentify(squares(*places), looks or [None] * len(places), lost, time_s, [False] * len(places))


def test_boxes_share_a_part_of_the_smaller():
    boxes = squares((50, 50, 20), (60, 50, 20), (50, 50, 8), (90, 50, 20))
    assert shared(boxes[:1], boxes) == pytest.approx(np.array([[1, 0.5, 1, 0]]))


def test_whose_box_it_is():
    known = squares((50, 50, 20), (150, 50, 20))
    found = squares((51, 50, 20), (159.9, 50, 20), (160.1, 50, 20), (152, 51, 8), (100, 50, 20))
    assert match_tracks(found, known).tolist() == [0, 1, -1, 1, -1]


@pytest.mark.parametrize(("count", "others"), [(3, 0), (0, 3), (0, 0)])
def test_nobodys_where_nobody_is(count, others):
    assert match_tracks(np.ones((count, 4)), np.ones((others, 4))).tolist() == [-1] * count


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
    assert again([place], [one]) == [one if back else None]


def test_a_face_comes_back_where_it_was_going():
    one = a_track(velocity=(120.0, 0.0))
    assert again([(220, 80, 40)], [one], 3.0) == [one]
    assert again([(160, 80, 40)], [one], 3.0) == [one], "it may have stopped"
    assert again([(40, 80, 40)], [one], 3.0) == [None]


def test_nobody_comes_back_twice_and_the_nearest_comes_first():
    left, right = a_track(100, number=1), a_track(150, number=2)
    assert again([(120, 80, 40), (105, 80, 40)], [left, right]) == [right, left]
    assert again([(105, 80, 40), (101, 80, 40), (99.5, 80, 40)], [left]) == [None, None, left]
    assert again([(132, 80, 40)], [left, right]) == [right]


def test_who_looks_alike_comes_back_first_and_who_does_not_is_another():
    left, right = a_track(100, number=1), a_track(110, number=2)
    left.look, right.look = np.zeros(39), np.full(39, 0.2)
    assert again([(100, 80, 40)], [left, right], looks=[right.look]) == [right]
    assert again([(100, 80, 40)], [left], looks=[right.look]) == [None]


def test_nobody_comes_back_where_nobody_was_lost():
    assert again([(100, 80, 40)], []) == [None]
    assert again([], [a_track()]) == []


def test_an_appearance_does_not_depend_on_brightness_size_and_roll():
    rng = np.random.default_rng(0)
    small = rng.integers(60, 160, (8, 8, 3), dtype=np.uint8)
    image = cv2.resize(small, (200, 200), interpolation=cv2.INTER_CUBIC)
    look = appearance(image, square(100, 100, 80), 0.0)
    assert difference(look, appearance(cv2.resize(image, (400, 400)), square(200.5, 200.5, 160), 0.0)) < 0.05
    assert difference(look, appearance((0.6 * image).astype(np.uint8), square(100, 100, 80), 0.0)) < 0.05
    assert difference(look, appearance(image[:, ::-1], square(100, 100, 80), 0.0)) > 0.1
    assert difference(look, appearance(image[..., ::-1], square(100, 100, 80), 0.0)) > 0.02
    assert difference(None, look) == 0
