"""The times of frames on the ticks of a video file's rate."""

import math
from collections.abc import Sequence

import numpy as np

SLOWEST, FASTEST = 1.0, 240.0  # bounds of a file's rate; a slower source has frames of several ticks
UNKNOWN_RATE = 25.0  # frames per second of a recording of a single frame
TRUSTED = 0.05  # relative error up to which a declared rate is taken for the measured one
SLACK = 0.75
"""Ticks by which a frame may come early or late before another is repeated or left out. With one half, frames that come
with a little jitter between two ticks would be repeated and left out in turn.
"""


def file_rate(times: Sequence[float], declared: float | None) -> float:
    """Frames per second of frames taken at these times, seconds; as declared, if that is about what is measured.

    The slope of the frames' numbers over time; a frame after a gap of several usual ones counts as that many, so that
    neither jitter nor a stumble at the start matters.
    """
    valid = declared if declared is not None and math.isfinite(declared) and 0 < declared <= FASTEST else None
    gaps = np.diff(np.asarray(times, dtype=np.float64))
    gaps = gaps[gaps > 0]
    if not len(gaps):
        return max(SLOWEST, round(valid or UNKNOWN_RATE, 2))
    usual = np.sort(gaps)[(len(gaps) - 1) // 2]
    taken = np.concatenate([[0.0], np.cumsum(gaps)])
    numbers = np.concatenate([[0.0], np.cumsum(np.maximum(1, np.round(gaps / usual)))])
    from_middle = taken - taken.mean()
    slope = float((from_middle * numbers).sum() / (from_middle**2).sum())
    if valid is not None and abs(slope - valid) <= TRUSTED * valid:
        slope = valid
    return min(max(round(slope, 2), SLOWEST), FASTEST)  # MPEG-4 counts time in at most 65535 parts of a second


class Timeline:
    """Places frames on the ticks of a file of this rate, so that they keep their own time. Time that stands still or
    jumps back counts as one frame; a gap of more than `longest_s` seconds is cut.
    """

    def __init__(self, rate: float, longest_s: float) -> None:
        self._rate, self._longest_s = rate, longest_s
        self._next = 0
        self._clock_s = 0.0
        self._last_s: float | None = None

    def place(self, time_s: float) -> int | None:
        """Tick of a frame that was taken at `time_s`, seconds; None leaves it out."""
        if self._last_s is not None:
            gap_s = time_s - self._last_s
            self._clock_s += min(gap_s, self._longest_s) if gap_s > 0 else 1 / self._rate
        self._last_s = time_s
        position = self._clock_s * self._rate
        if position < self._next - SLACK:
            return None
        tick = self._next if position <= self._next + SLACK else round(position)
        self._next = tick + 1
        return tick
