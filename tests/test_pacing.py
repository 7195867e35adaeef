"""The times at which the frames of a recording are written."""

import numpy as np
import pytest

from kpedge.runtime.sinks.pacing import FASTEST, SLOWEST, UNKNOWN_RATE, Timeline, file_rate


@pytest.mark.parametrize("rate", [7.5, 24.0, 29.97, 30.0, 60.0])
def test_even_frames_are_neither_repeated_nor_left_out(rate):
    rng = np.random.default_rng(0)
    for phase in (0.0, 0.499, 0.501):
        timeline = Timeline(rate, 2.0)
        times = [0.0, *((n + phase + rng.uniform(-0.2, 0.2)) / rate for n in range(1, 500))]
        ticks = [timeline.place(time_s) for time_s in times]
        steps = np.diff([tick for tick in ticks if tick is not None])
        assert ticks.count(None) + (steps != 1).sum() <= 1
        assert abs(ticks[-1] - 499) <= 1


def test_twice_and_half_the_rate():
    for factor in (2, 0.5):
        timeline = Timeline(30.0, 2.0)
        ticks = [timeline.place(n / (30 * factor)) for n in range(600)]
        assert max(tick for tick in ticks if tick is not None) == pytest.approx(600 / factor, abs=2)


def test_time_that_stands_still_or_jumps_back_continues():
    timeline = Timeline(10.0, 2.0)
    assert [timeline.place(t) for t in (5.0, 5.0, 5.0, 1.0, 1.1, float("nan"), 0.0)] == list(range(7))


def test_rates():
    for times in ([], [3.0], [1.0, 1.0]):
        assert file_rate(times, None) == UNKNOWN_RATE
        assert file_rate(times, 29.97003) == 29.97
    for declared in (None, 0, -1, float("nan"), float("inf"), 1000.0, 25 / 1501, 90000):
        assert file_rate([0, 0.1, 0.2], declared) == 10, "a rate that is not what is measured"
    assert file_rate([n / 29.9 for n in range(30)], 30.0) == 30
    assert file_rate([0, 60], None) == SLOWEST
    assert file_rate([0, 1e-6], None) == FASTEST
    stumbling = [0, 0.7, *(0.7 + n / 30 for n in range(1, 20))]
    assert file_rate(stumbling, None) == pytest.approx(30, rel=0.01)
