"""Sources whose frames lie there already: all of them in order, or at the speed at which they were taken."""

from __future__ import annotations

import abc
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from kpedge.runtime.sources.source import Frame

CATCH_UP_S = 1.0
"""Seconds that dropping frames may take: a file that cannot be read at its own speed is to show some, too."""


class Timer:
    """The clock by which frames are paced."""

    def now(self) -> float:
        """Seconds of a steady clock."""
        return time.monotonic()

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        """Wait so long, or until the condition is notified; its lock is held."""
        changed.wait(seconds)


class PacedSource(abc.ABC):
    """Frames that can be read at any speed.

    Iterating gives every frame in order. With `realtime` each comes when its time stamp says, counted from the first;
    those that nobody took in time are dropped, as a camera's are. Where that takes too long, because the file cannot be
    read at its own speed or because nobody took a frame for minutes, the rest comes later by as much.

    Args:
        name: what the user called it.
        realtime: keep to the time stamps.
        timer: for `realtime`.
    """

    def __init__(self, name: str, *, realtime: bool = False, timer: Timer | None = None) -> None:
        self.name, self.live = name, realtime
        self._timer = timer or Timer()
        # Re-entrant: `close` may be called by a signal handler of the thread that holds it.
        self._changed = threading.Condition()
        self._using = threading.Lock()
        self._closed = self._ended = False
        self._start_s: float | None = None

    @property
    @abc.abstractmethod
    def rate(self) -> float | None:
        """Frames a second."""

    @property
    @abc.abstractmethod
    def description(self) -> str:
        """What it is, for people."""

    @abc.abstractmethod
    def _advance(self) -> float | None:
        """Go to the next frame: its time stamp, seconds since the first; None at the end."""

    @abc.abstractmethod
    def _decode(self) -> Frame | None:
        """The frame gone to; None when it is broken."""

    @abc.abstractmethod
    def _release(self) -> None:
        """Let go of the file; called once or more, never while it is read."""

    def __iter__(self) -> Iterator[Frame]:
        """Frames in order; a second iteration goes on where the first stopped.

        Raises:
            SourceError: there are fewer than there ought to be; all that can be read were given before.
        """
        while (frame := self._next()) is not None:
            if self.live and not self._await_turn(frame.time_s):
                return
            yield frame

    def close(self) -> None:
        """Let go of the file; iteration ends."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._release_unused()

    def _release_unused(self) -> None:
        # A thread that is reading lets go of the file itself, when it has read its frame.
        if self._using.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._using.release()

    def _next(self) -> Frame | None:
        began_s, frame = self._timer.now(), None
        while frame is None and not self._is_over():
            with self._using:
                if self._is_over():  # closed in between
                    break
                spent = time.perf_counter()
                try:
                    time_s = self._advance()
                except BaseException:
                    self._ended = True
                    raise
                if time_s is None:
                    self._ended = True
                elif not (self.live and self._is_late(time_s, began_s)):
                    frame = self._decode()
                    if frame is not None:
                        frame = replace(frame, decode_s=time.perf_counter() - spent)
        if self._closed:
            self._release_unused()
            return None
        return frame

    def _is_over(self) -> bool:
        return self._closed or self._ended

    def _is_late(self, time_s: float, began_s: float) -> bool:
        """Whether the frame after this one is due already."""
        if self._start_s is None:
            return False
        now_s = self._timer.now()
        late = now_s - (self._start_s + time_s)
        if late <= 1 / (self.rate or 1):
            return False
        if now_s - began_s < CATCH_UP_S:
            return True
        self._start_s += late
        return False

    def _await_turn(self, time_s: float) -> bool:
        """Wait until a frame is due; False when the source was closed."""
        with self._changed:
            if self._start_s is None:
                self._start_s = self._timer.now() - time_s
            while not self._closed and (left := self._start_s + time_s - self._timer.now()) > 0:
                self._timer.wait(self._changed, left)
            return not self._closed
