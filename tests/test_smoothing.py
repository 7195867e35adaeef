import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpedge.core.errors import UsageError
from kpedge.core.keypoints import FACES21_MEAN
from kpedge.runtime.smoothing import MAX_GAP, Smoothing, SmoothState, smooth

RATE = 30.0
SIDE = 120.0
DEFAULT = Smoothing()
quickly = settings(deadline=None, max_examples=40)


def faces(count: int = 1) -> np.ndarray:
    """Mean faces of SIDE pixels, (count, 21, 2), one beside the other."""
    return SIDE * FACES21_MEAN + (200, 200) + np.arange(count)[:, None, None] * (150, 0)


def run(frames: np.ndarray, parameters: Smoothing = DEFAULT, rate: float = RATE, side: float = SIDE) -> np.ndarray:
    """Frames (T, F, K, 2) through the filter."""
    state, out = SmoothState.start(frames[0]), [frames[0]]
    for points in frames[1:]:
        steady, state = smooth(state, points, np.full(len(points), side), 1 / rate, parameters)
        out.append(steady)
    return np.array(out)


def noise(frames: int, count: int = 1, sigma: float = 0.001, seed: int = 0) -> np.ndarray:
    """Still faces with noise of a thousandth of their side."""
    rng = np.random.default_rng(seed)
    return faces(count) + SIDE * sigma * rng.normal(0, 1, (frames, count, 21, 2))


def test_a_still_face_stays_to_the_last_bit():
    still = np.repeat(faces(3)[None], 50, axis=0)
    assert np.allclose(run(still), still, rtol=0, atol=1e-12)


def test_noise_at_rest_is_taken_out():
    noisy = noise(400)
    calm = run(noisy)[60:]
    assert calm.std(axis=0).mean() < 0.45 * noisy.std(axis=0).mean()
    moved, before = (np.abs(np.diff(some, axis=0)).mean() for some in (calm, noisy[60:]))
    assert moved < 0.2 * before


@pytest.mark.parametrize("count", [5, 68, 98])
def test_it_steadies_faces_of_any_number_of_points_alike(count):
    """The common motion is known the better the more points there are; what is left to shake is much the same."""
    rng = np.random.default_rng(0)

    def shaking(shape: np.ndarray) -> float:
        raw = 200 + SIDE * (shape + 0.005 * rng.normal(0, 1, (400, 1, len(shape), 2)))
        still = [np.linalg.norm(np.diff(one[50:, 0], axis=0), axis=2).mean() for one in (run(raw), raw)]
        return float(still[0] / still[1])

    others = FACES21_MEAN[rng.integers(0, 21, count)] + rng.normal(0, 0.05, (count, 2))
    assert shaking(others) == pytest.approx(shaking(FACES21_MEAN), rel=0.15)


@pytest.mark.parametrize("speed", [0.1, 0.5, 2.0])
def test_at_a_steady_speed_points_are_at_most_a_set_distance_behind(speed):
    """The cutoff rises with speed, so the distance is bounded by 1 / (2 pi beta) sides; the trend shortens it."""
    step = np.array([speed * SIDE / RATE, 0])
    frames = faces() + np.arange(120)[:, None, None, None] * step
    behind = (frames - run(frames))[-1, 0]
    assert np.allclose(behind[:, 1], 0, atol=1e-6)
    assert (behind[:, 0] > 0).all()
    assert (behind[:, 0] < SIDE / (2 * math.pi * DEFAULT.beta)).all()
    assert (behind[:, 0] < max(step[0], SIDE * 0.001)).all()  # and by less than a frame
    without = (frames - run(frames, replace(DEFAULT, trend=0)))[-1, 0]
    assert (behind[:, 0] < 0.5 * without[:, 0]).all()


def test_an_expression_is_followed_on_a_face_that_is_at_rest():
    opened = 0.04 * SIDE * (1 - np.cos(2 * np.pi * np.arange(120) / RATE))
    frames = np.repeat(faces()[None], 120, axis=0)
    frames[:, 0, 15, 1] += opened
    given = run(frames)
    off = given[31:, 0, 15, 1] - frames[31:, 0, 15, 1]
    assert off.std() < np.diff(opened)[30:].std()  # nearer to the truth than that of a frame ago is
    assert np.abs(given[:, 0, :3] - frames[:, 0, :3]).max() < 0.003 * SIDE  # the brows stay


def test_a_moving_face_keeps_its_shape():
    """All points follow the common motion alike: filters for each point would pull them apart."""
    turns = 1j * np.radians(25) * np.sin(np.arange(120) / 8)
    shape = (FACES21_MEAN * SIDE) @ np.array([1, 1j])
    at = np.exp(turns[:, None]) * (1 + 0.2 * np.sin(np.arange(120) / 10))[:, None] * shape + 200
    given = run(np.stack([at.real, at.imag], axis=-1)[:, None])[:, 0] @ np.array([1, 1j])
    for points in given[20:]:
        around = points - points.mean()
        start = shape - shape.mean()
        fitted = np.vdot(start, around) / np.vdot(start, start) * start
        assert np.abs(around - fitted).max() < 0.002 * SIDE


@quickly
@given(st.floats(0.2, 8), st.floats(-3, 3), st.floats(-300, 300), st.integers(0, 99))
def test_it_does_not_depend_on_size_turn_and_place(zoom, turn, shift, seed):
    way = zoom * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    frames = noise(20, seed=seed) + np.arange(20)[:, None, None, None] * np.array([1.5, 0.5])
    there = run(frames @ way.T + shift, side=zoom * SIDE)
    assert np.allclose(there, run(frames) @ way.T + shift, atol=1e-5 * zoom * SIDE)


def test_time_counts_and_not_frames():
    """The same motion seen twice as often comes out the same, at the times that both have."""
    at = 0.3 * SIDE * np.sin(2 * np.pi * 0.5 * np.arange(240) / 60)
    often = faces() + at[:, None, None, None] * np.array([1.0, 0])
    assert np.abs(run(often, rate=60)[::2] - run(often[::2], rate=30)).max() < 0.006 * SIDE


def test_faces_do_not_touch_each_other():
    frames = noise(25, count=4)
    frames[:, 2] += np.arange(25)[:, None, None] * 4.0
    together = run(frames)
    for number in range(4):
        assert np.allclose(together[:, number], run(frames[:, number : number + 1])[:, 0], rtol=0, atol=1e-9)


def test_states_follow_their_faces():
    frames = noise(10, count=3)
    state = SmoothState.start(frames[0])
    for points in frames[1:9]:
        _, state = smooth(state, points, np.full(3, SIDE), 1 / RATE, DEFAULT)
    whole, _ = smooth(state, frames[9], np.full(3, SIDE), 1 / RATE, DEFAULT)
    assert state.select([0, 1, 2], frames[9]) is state
    mixed = state.select([2, -1, 0], frames[9][[2, 1, 0]])
    given, _ = smooth(mixed, frames[9][[2, 1, 0]], np.full(3, SIDE), 1 / RATE, DEFAULT)
    assert np.allclose(given[[0, 2]], whole[[2, 0]], rtol=0, atol=1e-12)
    assert np.allclose(given[1], frames[9][1], rtol=0, atol=1e-12)


def test_no_faces():
    state = SmoothState.start(np.empty((0, 21, 2)))
    given, after = smooth(state, np.empty((0, 21, 2)), np.empty(0), 1 / RATE, DEFAULT)
    assert given.shape == after.predict(1 / RATE).shape == (0, 21, 2)
    assert len(after.select([-1, -1], faces(2)).points) == 2


@pytest.mark.parametrize("gap", [MAX_GAP + 0.01, 60.0, math.inf])
def test_after_a_gap_it_begins_anew(gap):
    state = SmoothState.start(faces(2))
    _, state = smooth(state, faces(2) + 9, np.full(2, SIDE), 1 / RATE, DEFAULT)
    given, after = smooth(state, faces(2) + 50, np.full(2, SIDE), gap, DEFAULT)
    assert (given == faces(2) + 50).all()
    assert (after.predict(1.0) == faces(2) + 50).all()


@pytest.mark.parametrize("dt", [0.0, -0.4, 1e-9])
def test_broken_time_stamps_do_not_freeze_the_points(dt):
    state, points = SmoothState.start(faces()), faces()
    for _ in range(60):
        points, state = smooth(state, faces() + 5, np.full(1, SIDE), dt, DEFAULT)
    assert np.isfinite(points).all()
    assert np.allclose(points, faces() + 5, atol=0.1)


def test_degenerate_points_give_numbers():
    one_place = np.full((2, 21, 2), 7.0)
    state = SmoothState.start(one_place)
    for _ in range(3):
        given, state = smooth(state, one_place + 1, np.array([0.0, 1e-9]), 1 / RATE, DEFAULT)
        assert np.isfinite(given).all()


def test_what_is_expected_goes_on_as_the_face_did():
    step = np.array([3.0, -2.0])
    state = SmoothState.start(faces(2))
    for number in range(1, 60):
        points, state = smooth(state, faces(2) + number * step, np.full(2, SIDE), 1 / RATE, DEFAULT)
    assert np.allclose(state.predict(1 / RATE), points + step, atol=0.02)
    assert np.allclose(state.predict(2 / RATE), points + 2 * step, atol=0.04)
    assert np.allclose(state.predict(0.0), points)


@pytest.mark.parametrize(
    ("name", "value"),
    [("min_cutoff", 0.0), ("d_cutoff", -1.0), ("beta", -0.1), ("local_beta", math.nan), ("min_cutoff", math.inf)],
)
def test_settings_that_make_no_sense_are_named(name, value):
    with pytest.raises(UsageError, match=name):
        Smoothing(**{name: value})


def test_without_beta_it_is_a_plain_low_pass():
    """A step of the input decays by (1 - gain) a frame, gain = r / (1 + r), r = 2 pi cutoff dt."""
    frames = np.repeat(faces()[None] + 10, 6, axis=0)
    frames[0] -= 10
    radians = 2 * math.pi * 1.5 / RATE
    left = (frames - run(frames, Smoothing(min_cutoff=1.5, beta=0, local_beta=0, trend=0)))[:, 0, :, 0]
    for number in range(1, 6):
        assert np.allclose(left[number], 10 / (1 + radians) ** number)


def test_lag_is_below_a_frame_at_a_start_and_a_stop():
    at = np.concatenate([np.zeros(30), np.arange(15) * 0.05, np.full(30, 0.7)]) * SIDE
    frames = faces() + at[:, None, None, None] * np.array([1.0, 0])
    given = run(frames)[:, 0, 0, 0] - faces()[0, 0, 0]
    late = np.concatenate([[0], at[:-1]])  # the truth, a frame late
    assert (given[30:45] >= late[30:45] - 0.02 * SIDE).all()
    assert np.abs(given[-20:] - at[-1]).max() < 0.01 * SIDE
    assert given.max() <= at.max() + 0.015 * SIDE  # and hardly any overshoot


def test_irregular_steps_are_followed_as_regular_ones():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([1 / 60, 1 / 30, 0.1], 200))
    state, off = SmoothState.start(faces()), []
    last = 0.0
    for time in times:
        truth = faces() + 0.3 * SIDE * math.sin(math.pi * time)
        points, state = smooth(state, truth, np.full(1, SIDE), time - last, DEFAULT)
        off.append(np.abs(points - truth).max())
        last = time
    assert max(off) < 0.025 * SIDE  # it moves by up to 0.09 in a step


def test_what_is_expected_of_a_still_face_shakes_no_more_than_its_points():
    frames = noise(300)
    state, given, expected = SmoothState.start(frames[0]), [], []
    for points in frames[1:]:
        steady, state = smooth(state, points, np.full(1, SIDE), 1 / RATE, DEFAULT)
        given.append(steady)
        expected.append(state.predict(1 / RATE))
    assert np.std(expected[60:], axis=0).mean() < 1.15 * np.std(given[60:], axis=0).mean()


def test_nothing_given_is_written_to_and_nothing_is_shared():
    points, state = faces(2), SmoothState.start(faces(2))
    before = points.copy(), state.points.copy()
    given, after = smooth(state, points, np.full(2, SIDE), 1 / RATE, DEFAULT)
    again, _ = smooth(after, points + 1, np.full(2, SIDE), 1 / RATE, DEFAULT)
    given[:] = 0
    assert (points == before[0]).all()
    assert (state.points == before[1]).all()
    assert (smooth(after, points + 1, np.full(2, SIDE), 1 / RATE, DEFAULT)[0] == again).all()
    points[:] = -1
    assert (state.points == before[1]).all()
