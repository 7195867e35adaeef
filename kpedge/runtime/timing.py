"""Timing a call."""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def time_calls(call: Callable[[], object], *, warmup: int, count: int) -> NDArray[np.float64]:
    """Call something `warmup` times, then `count` times, and return the duration of each of those, seconds."""
    for _ in range(warmup):
        call()
    durations = np.empty(count)
    for index in range(count):
        began = time.perf_counter()
        call()
        durations[index] = time.perf_counter() - began
    return durations
