"""Which faces of a view are to be ignored: small ones, those cut off, hidden or not labelled."""

import functools

import numpy as np
import pytest
from frame_sets import PLAIN, SIZE, frame_set, places, square
from hypothesis import given, settings
from hypothesis import strategies as st

from kpedge.data.frame_sampling import FrameJitter, FrameSampler


@settings(deadline=None, max_examples=200)
@given(places, st.sampled_from([0.0, 0.5, 1.0]))
def test_what_is_small_or_mostly_out_of_sight_is_to_be_ignored(place, whole):
    source = crowd()
    jitter = FrameJitter(whole=whole, mosaic=0.0, mirror=False, roll=0.0, blanks=0.0)
    view = FrameSampler([source], SIZE, jitter).sample(0, 0, 1, place)
    for box, ignore in zip(view.boxes.astype(float), view.ignore, strict=True):
        side = box[2] - box[0]
        middle = (box[:2] + box[2:]) / 2
        seen = np.minimum(box[2:], SIZE - 0.5) - np.maximum(box[:2], -0.5)
        assert (seen > 0).all(), "what a view does not show is left out"
        part = seen.prod() / side**2
        if side < 5.999 or part < 0.499 or ((middle < -0.501) | (middle > SIZE - 0.499)).any():
            assert ignore
        elif side > 6.001 and part > 0.501:
            assert not ignore


@functools.cache
def crowd():
    """Faces of 5 to 60 pixels all over a frame, some of them cut by its edge."""
    rng = np.random.default_rng(7)
    rows = [square(*rng.uniform(0, 200, 2), 5 * 12 ** rng.random()) for _ in range(40)]
    return frame_set([(np.zeros((200, 200, 3), np.uint8), "train", rows)])


def test_an_unlabelled_face_is_never_what_a_view_is_laid_around():
    """A far corner holds it; views around the labelled face, as large as they get, show that face in all of them."""
    rows = [square(40, 40, 30), square(560, 560, 30)]
    rows[1]["ignore"] = True
    sampler = FrameSampler(
        [frame_set([(np.zeros((600, 600, 3), np.uint8), "train", rows)])], SIZE, FrameJitter(0.0, 0.0, False, 0.0, 0.0)
    )
    for place in range(60):
        view = sampler.sample(0, 0, 1, place)
        assert (~view.ignore).sum() + (view.boxes[:, 2] - view.boxes[:, 0] < 6).sum() >= 1


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(places)
def test_faces_behind_painted_rectangles_are_to_be_ignored(place):
    """A frame all of one colour: every other pixel of the view is painted, or beyond the frame."""
    rows = [square(x, y, 28) for x in range(24, 200, 38) for y in range(24, 200, 38)]
    source = frame_set([(np.full((200, 200, 3), (0, 200, 0), np.uint8), "train", rows)])
    without = FrameSampler([source], 200, PLAIN).sample(0, 0, 1, place)
    painted = FrameSampler([source], 200, BLANKS).sample(0, 0, 1, place)
    assert (painted.boxes == without.boxes).all()
    changed = (painted.image != without.image).any(axis=2)
    assert ((painted.image[changed] == 0).all(axis=1) | (painted.image[changed] == 255).all(axis=1)).all()
    assert (painted.ignore >= without.ignore).all()
    for box, before, after in zip(painted.boxes, without.ignore, painted.ignore, strict=True):
        (x1, y1), (x2, y2) = np.round(box[:2]).astype(int), np.round(box[2:]).astype(int)
        if before or min(x1, y1) < 0 or max(x2, y2) >= 200:
            continue
        covered = changed[y1 : y2 + 1, x1 : x2 + 1].mean()
        if covered > 0.75:  # two rectangles may cover 0.3 each
            assert after
        if covered < 0.15:  # lines are up to 3 pixels thick
            assert not after


BLANKS = FrameJitter(whole=1.0, mosaic=0.0, mirror=False, roll=0.0, blanks=1.0)


def test_blanks_are_painted_where_nobody_is_and_hide_some_faces():
    empty = frame_set([(np.full((200, 200, 3), 100, np.uint8), "train", [])])
    for place in range(10):
        image = FrameSampler([empty], 200, BLANKS).sample(0, 0, 1, place).image
        assert (image == 255).all(axis=2).any(), "a white border"
    sampler = FrameSampler([crowd()], SIZE, BLANKS)
    plain = FrameSampler([crowd()], SIZE, PLAIN)
    views = [(sampler.sample(0, 0, 1, place), plain.sample(0, 0, 1, place)) for place in range(20)]
    more = [int(painted.ignore.sum() - without.ignore.sum()) for painted, without in views]
    assert min(more) >= 0
    assert sum(more) > 10
    rare = FrameSampler([empty], 200, FrameJitter(1.0, 0.0, False, 0.0, 0.3))
    often = sum(bool((rare.sample(0, 0, 1, place).image == 255).any()) for place in range(200))
    assert 35 < often < 85
