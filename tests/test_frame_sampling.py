"""Views of frames: whatever is done to the pixels is done to the labels."""

import functools

import cv2
import numpy as np
import pytest
from frame_sets import PLAIN, SIZE, frame_set, labelled, places, square
from hypothesis import given, settings
from hypothesis import strategies as st

from kpedge.core.boxes import box_of_points
from kpedge.core.keypoints import FACES5, FACES21_MEAN
from kpedge.data.augmentation import Photometric
from kpedge.data.frame_sampling import FrameJitter, FrameSampler

FIVE = [16, 17, 18, 19, 20]
MARKER = 4
"""Radius of a drawn point, pixels of the frame."""
CHANNELS = (2, 2, 1, 0, 0)
"""The colour of each of the five points: pupils red, nose green, mouth blue."""
MOVED = FrameJitter(whole=0.4, mosaic=0.0, mirror=True, roll=25.0, blanks=0.0)
MOSAIC = FrameJitter(whole=0.4, mosaic=1.0, mirror=True, roll=25.0, blanks=0.0)


def face_at(x, y, side, roll=0.0):
    """The 21 points of a face."""
    turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    return side * FACES21_MEAN @ turn + (x, y)


def marked(shape, faces):
    """A black frame with a disc at each labelled point, and its rows."""
    image = np.zeros((*shape, 3), np.uint8)
    rows = []
    for face in faces:
        for (x, y), channel in zip(face[FIVE], CHANNELS, strict=True):
            plane = np.ascontiguousarray(image[..., channel])
            cv2.circle(plane, (round(x * 256), round(y * 256)), MARKER * 256, 255, -1, cv2.LINE_AA, 8)
            image[..., channel] = plane
        rows.append(labelled(box_of_points(face), face[FIVE]))
    return image, rows


LONE = face_at(105, 70, 62, 0.1)


@functools.cache
def lone():
    """One frame with one face."""
    image, rows = marked((150, 230), [LONE])
    return frame_set([(image, "train", rows)])


@functools.cache
def company():
    """Frames with one, two and no face; the last is not for training."""
    frames = [
        ((120, 110), [face_at(60, 60, 50, -0.2)], "train"),
        ((190, 200), [face_at(50, 100, 55), face_at(150, 90, 70, 0.15)], "train"),
        ((64, 90), [], "train"),
        ((80, 80), [face_at(40, 40, 50)], "test"),
    ]
    drawn = [(*marked(shape, faces), split) for shape, faces, split in frames]
    return frame_set([(image, split, rows) for image, rows, split in drawn])


def zoom_of(view, row, side):
    """How much larger a face is in a view than in its frame."""
    return float(view.boxes[row, 2] - view.boxes[row, 0]) / side


def check_markers(image, points, reach, low, high):
    """How many of the five points lie safely in the part `low` to `high` of a view; each has its marker there."""
    seen = 0
    for place, channel in zip(points, CHANNELS, strict=True):
        x, y = np.round(place).astype(int)
        if min(x - low[0], y - low[1], high[0] - 1 - x, high[1] - 1 - y) < reach:
            continue
        part = image[y - reach : y + reach + 1, x - reach : x + reach + 1, channel].astype(float)
        assert part.sum() > 40, "nothing is drawn where a point should be"
        rows, columns = np.mgrid[y - reach : y + reach + 1, x - reach : x + reach + 1]
        found = np.array([(columns * part).sum(), (rows * part).sum()]) / part.sum()
        assert np.abs(found - place).max() < 0.2
        seen += 1
    return seen


@settings(deadline=None, max_examples=150)
@given(places, st.integers(0, 3))
def test_the_markers_of_a_face_are_where_the_view_says(place, seed):
    view = FrameSampler([lone()], SIZE, MOVED, seed).sample(0, 0, 1, place)
    assert view.image.shape == (SIZE, SIZE, 3)
    assert len(view.boxes) == len(view.points) == len(view.ignore) <= 1
    if not len(view.boxes):
        assert view.image[..., 1].max() < 128, "a nose without a box"
        return
    zoom = zoom_of(view, 0, 62 * 0.975)
    reach = int(np.ceil(MARKER * zoom + 1.5))
    seen = check_markers(view.image, view.points[0], reach, (0, 0), (SIZE, SIZE))
    if view.boxes.min() > reach and view.boxes.max() < SIZE - 1 - reach:
        assert seen == 5
    left, right, _, mouth_left, mouth_right = view.points[0]
    assert left[0] < right[0], "after mirroring, the left pupil is the left one still"
    assert mouth_left[0] < mouth_right[0]


def test_views_differ_in_all_that_they_may():
    """What the test above goes through: large and small faces, turned, mirrored, and cut off."""
    sampler = FrameSampler([lone()], SIZE, MOVED)
    views = [sampler.sample(0, 0, 1, place) for place in range(300)]
    faces = [view for view in views if len(view.boxes)]
    sides = np.array([view.boxes[0, 2] - view.boxes[0, 0] for view in faces])
    assert sides.min() < 26, "the frame fills 0.6 of the view at least"
    assert sides.max() > 95
    cut = [view for view in faces if view.boxes.min() < -1 or view.boxes.max() > SIZE]
    assert sum(not view.ignore[0] for view in cut) > 20
    roll = np.degrees([FACES5.roll(view.points[0]) for view in faces])
    # The face itself is turned by 0.1, either way where mirrored.
    assert np.degrees(0.1) + 15 < roll.max() < np.degrees(0.1) + 25.5
    assert -np.degrees(0.1) - 15 > roll.min() > -np.degrees(0.1) - 25.5
    middles = np.array([(view.boxes[0, :2] + view.boxes[0, 2:]) / 2 for view in faces if not view.ignore[0]])
    assert (middles.min(axis=0) < 0.25 * SIZE).all()
    assert (middles.max(axis=0) > 0.75 * SIZE).all()


@settings(deadline=None, max_examples=150)
@given(places)
def test_boxes_are_those_that_follow_from_the_moved_points(place):
    """Moved, zoomed, turned and mirrored, all 21 points give the box of the view by the one convention."""
    view = FrameSampler([lone()], SIZE, MOVED).sample(0, 0, 1, place)
    if not len(view.boxes):
        return
    known = np.concatenate([LONE[FIVE], np.ones((5, 1))], axis=1)
    misses = []
    for order in (np.arange(5), FACES5.mirror_order):
        way, _, _, _ = np.linalg.lstsq(known, view.points[0][order].astype(float), rcond=None)
        moved = np.concatenate([LONE, np.ones((21, 1))], axis=1) @ way
        if np.abs(moved[FIVE] - view.points[0][order]).max() < 1e-3:
            misses.append(np.abs(box_of_points(moved) - view.boxes[0]).max())
            assert (np.linalg.det(way[:2]) > 0) == (order is not FACES5.mirror_order and order[0] == 0)
    assert len(misses) == 1, "the view is one zoom and turn, mirrored or not"
    assert misses[0] < 1e-2


@settings(deadline=None, max_examples=100)
@given(places, st.integers(0, 1))
def test_the_four_views_of_a_mosaic_hold_their_own_faces(place, frame):
    view = FrameSampler([lone(), company()], SIZE, MOSAIC).sample(1, frame, 1, place)
    half = SIZE // 2
    middles = (view.boxes[:, :2] + view.boxes[:, 2:]) / 2
    for middle, points, ignore, box in zip(middles, view.points, view.ignore, view.boxes, strict=True):
        if ignore or box[2] - box[0] < 26:  # in smaller ones the markers touch each other
            continue
        assert ((middle > -0.5) & (middle < SIZE - 0.5)).all()
        low = half * (middle > half - 0.5)
        zoom = (box[2] - box[0]) / 48  # of the smallest face: the reach is rather too large
        reach = int(np.ceil(MARKER * zoom + 1.5))
        seen = check_markers(view.image, points, reach, low, low + half)
        if (box.reshape(2, 2) > low + reach).all() and (box.reshape(2, 2) < low + half - 1 - reach).all():
            assert seen == 5
        assert np.abs(points.mean(axis=0) - middle).max() < 0.3 * (box[2] - box[0])
    # No nose that can be seen is background.
    for y, x in np.argwhere(view.image[..., 1] > 200):
        assert ((view.boxes[:, :2] < (x + 1, y + 1)) & (view.boxes[:, 2:] > (x - 1, y - 1))).all(axis=1).any()


def test_a_mosaic_begins_with_the_frame_that_was_asked_for():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    source = frame_set([(np.full((40, 60, 3), colour, np.uint8), "train", []) for colour in colours])
    sampler = FrameSampler([source], 64, MOSAIC)
    others = set()
    for place in range(30):
        image = sampler.sample(0, 1, 1, place).image
        assert not image[:32, :32, (0, 2)].any()
        for part in (image[:32, 32:], image[32:, :32], image[32:, 32:]):
            others.add(int(part.reshape(-1, 3).sum(axis=0).argmax()))
            assert np.count_nonzero(part.reshape(-1, 3).any(axis=0)) <= 1, "each quarter shows one frame"
    assert others == {0, 1, 2}


def test_a_mosaic_takes_no_frame_that_is_held_out():
    frames = [(np.full((40, 60, 3), 100, np.uint8), "train", [])]
    frames += [(np.full((40, 60, 3), 255, np.uint8), split, []) for split in ("validation", "test")]
    sampler = FrameSampler([frame_set(frames)], 64, MOSAIC)
    assert max(sampler.sample(0, 0, 1, place).image.max() for place in range(30)) == 100
    assert (sampler.order(1)[:, 1] == 0).all()


ALL_ON = FrameJitter(photometric=Photometric(0.2, 0.2, 0.3, 10, 1.0, 6.0, 0.3, 0.2, 0.2, 0.1))


def same(one, other):
    return (
        np.array_equal(one.image, other.image)
        and np.array_equal(one.boxes, other.boxes)
        and np.array_equal(one.points, other.points, equal_nan=True)
        and np.array_equal(one.ignore, other.ignore)
    )


def test_a_sample_is_a_function_of_seed_epoch_and_place_alone():
    sampler = FrameSampler([lone(), company()], SIZE, ALL_ON, seed=3)
    first = [sampler.sample(1, 1, 2, place) for place in range(12)]
    other = FrameSampler([lone(), company()], SIZE, ALL_ON, seed=3)
    again = [other.sample(1, 1, 2, place) for place in reversed(range(12))][::-1]
    assert all(same(one, two) for one, two in zip(first, again, strict=True))
    assert len({view.image.tobytes() for view in first}) == 12, "another place, another view"
    for changed in (
        [sampler.sample(1, 1, 3, place) for place in range(12)],
        [FrameSampler([lone(), company()], SIZE, ALL_ON, seed=4).sample(1, 1, 2, place) for place in range(12)],
    ):
        assert not any(same(one, two) for one, two in zip(first, changed, strict=True))
    order = sampler.order(2)
    assert (other.order(2) == order).all()
    assert len(order) != len(sampler.order(3)) or (sampler.order(3) != order).any()


def test_samples_leave_the_set_as_it_is():
    source = lone()
    before = source.boxes.copy(), source.points.copy(), source.ignore.copy(), source.pixels.copy()
    sampler = FrameSampler([source], SIZE, FrameJitter(blanks=1.0, photometric=ALL_ON.photometric))
    for place in range(30):
        view = sampler.sample(0, 0, 1, place)
        assert (view.image.dtype, view.boxes.dtype, view.points.dtype) == (np.uint8, np.float32, np.float32)
        assert view.ignore.dtype == bool
    after = source.boxes, source.points, source.ignore, source.pixels
    assert all((one == two).all() for one, two in zip(before, after, strict=True))


def test_crowded_frames_are_shown_more_often():
    counts = (0, 1, 2, 4, 9, 30)
    frames = [(np.zeros((8, 8, 3), np.uint8), "train", [square(4, 4, 3)] * count) for count in counts]
    hidden = [labelled(np.array([1.0, 1.0, 3.0, 3.0]), ignore=True)] * 9
    frames.insert(2, (np.zeros((8, 8, 3), np.uint8), "validation", [square(4, 4, 3)] * 9))
    frames.append((np.zeros((8, 8, 3), np.uint8), "train", hidden))
    sampler = FrameSampler([lone(), frame_set(frames)], SIZE, PLAIN, seed=1)
    shown = np.zeros(len(frames))
    for epoch in range(1, 201):
        order = sampler.order(epoch)
        assert order.shape[1] == 2
        assert (order[:, 0] == 0).sum() == 1, "the frame of the other set"
        times = np.bincount(order[order[:, 0] == 1, 1], minlength=len(frames))
        # Frames of no, one, four, nine, thirty faces; one to validate; one of two faces; one of faces to be ignored.
        assert times[[0, 1, 4, 5, 6]].tolist() == [1, 1, 2, 3, 3]
        assert times[2] == 0
        assert times[3] in (1, 2)
        assert times[7] == 1
        shown += times
    assert 1.3 < shown[3] / 200 < 1.53, "the root of two"
    orders = [sampler.order(epoch)[:, 1].tolist() for epoch in (1, 2, 3)]
    assert any(order != sorted(order) for order in orders), "they are shuffled"
    often = FrameSampler([frame_set(frames)], SIZE, PLAIN, background=2.5)
    shown = np.mean([np.bincount(often.order(epoch)[:, 1], minlength=8) for epoch in range(1, 201)], axis=0)
    assert shown[[0, 7]] == pytest.approx([2.5, 2.5], abs=0.15), "frames without a face to learn"
    assert shown[1] == 1


def test_what_is_beyond_a_frame_is_black_and_the_whole_frame_is_shown():
    frame = np.full((100, 160, 3), 200, np.uint8)
    sampler = FrameSampler([frame_set([(frame, "train", [])])], SIZE, PLAIN)
    widths = []
    for place in range(60):
        image = sampler.sample(0, 0, 1, place).image
        values = np.unique(image)
        assert values[0] == 0
        assert values[-1] == 200
        light = image[..., 0] > 100
        rows, columns = np.flatnonzero(light.any(axis=1)), np.flatnonzero(light.any(axis=0))
        assert light[rows[0] + 1 : rows[-1], columns[0] + 1 : columns[-1]].all(), "one rectangle"
        widths.append(columns[-1] - columns[0] + 1)
    assert 0.74 * SIZE < min(widths) < 0.85 * SIZE
    assert max(widths) == SIZE
