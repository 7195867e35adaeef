"""How long the steps of a pipeline take."""

from __future__ import annotations

import time


class StepClock:
    """Adds up the time that passes between its laps, by step.

    Attributes:
        seconds: step -> time since `start`.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def start(self) -> None:
        """Forget all steps, and count from now on."""
        self.seconds = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """What passed since the last lap belongs to this step."""
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._last
        self._last = now
