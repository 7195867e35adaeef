"""Frames that come when they come, on the even beat of a video file."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

SLOWEST, FASTEST = 1.0, 240.0
"""Frames a second that a file is written with; what is slower is repeated."""
UNKNOWN_RATE = 25.0
"""Of a recording of a single frame."""
SLACK = 0.75
"""Frames by which one may come early or late before another is repeated or left out. More than a half, or frames that
come with a little jitter just between two beats would be repeated and left out in turn.
"""


def sound_rate(rate: float | None) -> float | None:
    """A rate that a file can have, rounded to what every container holds; None where there is no telling."""
    if rate is None or not math.isfinite(rate) or not 0 < rate <= FASTEST:
        return None
    return max(SLOWEST, round(rate, 2))  # MPEG-4 counts time in at most 65535 parts of a second


def measured_rate(times: Sequence[float]) -> float:
    """Frames a second of frames that were taken at these times, seconds.

    The slope of the frames' numbers over time; a frame after a gap of several usual ones counts as that many, so that
    neither jitter nor a stumble at the start matters.
    """
    gaps = np.diff(np.asarray(times, dtype=np.float64))
    gaps = gaps[gaps > 0]
    if not len(gaps):
        return UNKNOWN_RATE
    taken = np.concatenate([[0.0], np.cumsum(gaps)])
    numbers = np.concatenate([[0.0], np.cumsum(np.maximum(1, np.round(gaps / np.median(gaps))))])
    from_middle = taken - taken.mean()
    slope = float((from_middle * numbers).sum() / (from_middle**2).sum())
    return min(max(round(slope, 2), SLOWEST), FASTEST)


class Timeline:
    """Says how often each frame is written, so that a file of a constant rate keeps the frames' own time.

    Time that does not go on, or jumps back, counts as one frame.

    Args:
        rate: of the file, frames a second.
        longest_s: a longer gap between two frames is cut to this, seconds.
    """

    def __init__(self, rate: float, longest_s: float) -> None:
        self.rate = rate
        """Of the file, frames a second."""
        self._longest = longest_s
        self._written = 0
        self._clock = 0.0
        self._last: float | None = None

    def frames_for(self, time_s: float) -> int:
        """How many frames the file gets when a frame comes, taken at `time_s`, seconds: the last of them is the new
        one, those before repeat the one before it; 0 leaves it out.
        """
        if self._last is not None:
            gap = time_s - self._last
            self._clock += min(gap, self._longest) if gap > 0 else 1 / self.rate
        self._last = time_s
        place = self._clock * self.rate
        if place < self._written - SLACK:
            return 0
        count = 1 if place <= self._written + SLACK else round(place) + 1 - self._written
        self._written += count
        return count
