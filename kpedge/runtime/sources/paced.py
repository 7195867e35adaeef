"""Sources that can be read at any speed: every frame in order, or at the speed at which they were taken."""

import math
import threading
import time
from collections.abc import Iterator

from kpedge.core.errors import SourceError
from kpedge.runtime.sources.reader import JOIN_ADVICE, Notify, Reader
from kpedge.runtime.sources.source import Frame

DEFAULT_RATE = 25.0  # frames per second if neither the file nor the user gives a rate
CATCH_UP_S = 1.0  # longest time for which frames are dropped, seconds: a file too slow to decode should show some, too
JUMP_S, JUMP_FRAMES = 60.0, 20.0
"""A gap of so many seconds, and of so many times the usual, is a jump of the clock: the camera's clock was set, or
recordings were joined."""
COPY_ADVICE = "copy or download it again"
MISSING = 0.05  # part of its duration or frames that a file may lack: edit lists and late starts cut off some


class Timer:
    """The clock by which frames are paced."""

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        return time.monotonic()

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        """Wait until the time has passed or the condition is notified; its lock is held."""
        changed.wait(seconds)


class PacedSource:
    """Frames of a reader, every one in order; with `realtime` each at its time, and late ones are dropped.

    Time stamps start at 0 and rise: where they are missing, stand still or jump, a frame comes one frame's time after
    the one before. Where dropping takes too long, because decoding is slower than real time or because nobody took a
    frame for minutes, the rest is delayed by as much.

    Args:
        name: what the user called it, without passwords.
        reader: nothing read yet; closed with the source.
        rate: frames per second for the time stamps, in place of the reader's own.
        realtime: keep to the time stamps.
        notify: called with one line for people.
        timer: for `realtime`.

    Raises:
        SourceError: there is no frame in it.
    """

    def __init__(
        self,
        name: str,
        reader: Reader,
        *,
        rate: float | None = None,
        realtime: bool = False,
        notify: Notify = lambda _: None,
        timer: Timer | None = None,
    ) -> None:
        self.name, self.live = name, realtime
        self._reader, self._notify, self._timer = reader, notify, timer or Timer()
        self._fixed_rate = rate
        self.rate: float = rate or reader.rate or DEFAULT_RATE
        # Re-entrant: a signal handler may call `close` in the thread that holds it.
        self._changed = threading.Condition()
        self._using = threading.Lock()
        self._closed = self._ended = False
        self._broken, self._left_out_s = 0, 0.0
        self._start_s: float | None = None
        self._number, self._time_s, self._offset_s, self._usual_s = -1, 0.0, 0.0, 1 / self.rate
        self._pending = self._read_first()
        self._description = "" if self._pending is None else reader.describe(self._pending.image)

    @property
    def description(self) -> str:
        return self._description

    def __iter__(self) -> Iterator[Frame]:
        """Frames in order; a second iteration continues where the first stopped."""
        while (frame := self._next()) is not None:
            if self.live and not self._await_turn(frame.time_s):
                return
            yield frame

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._reader.interrupt()
        self._close_unused()

    def _close_unused(self) -> None:
        # A thread that is reading closes the reader itself, after its frame.
        if self._using.acquire(blocking=False):
            try:
                self._reader.close()
            finally:
                self._using.release()

    def _read_first(self) -> Frame | None:
        """The first frame, so that a file without any is refused when it is opened."""
        try:
            began_s = time.perf_counter()
            if self._advance() is None:
                raise SourceError(f"{self.name}: no frame of it can be read", self._reader.unreadable)
            return self._decode(began_s)
        except BaseException:
            self._reader.close()
            raise

    def _next(self) -> Frame | None:
        began_s, frame = self._timer.now(), None
        try:
            while frame is None and not self._is_over():
                with self._using:
                    frame = self._read(began_s)
        except BaseException:
            self._ended = True
            raise
        finally:
            if self._is_over():
                self._close_unused()
        return None if self._closed else frame

    def _read(self, began_s: float) -> Frame | None:
        """The next frame; None if it is broken or late, and at the end. `_using` is held."""
        if self._is_over():  # closed in between
            return None
        if self._pending is not None:
            frame, self._pending = self._pending, None
            return frame
        spent_s = time.perf_counter()
        time_s = self._advance()
        if time_s is None:
            self._ended = True
            self._check_end()
            return None
        return None if self.live and self._is_late(time_s, began_s) else self._decode(spent_s)

    def _is_over(self) -> bool:
        return self._closed or self._ended

    def _advance(self) -> float | None:
        """Move to the next frame: its time, seconds since the first; None at the end."""
        if not self._reader.grab():
            return None
        self._number += 1
        if self._fixed_rate:
            self._time_s = self._number / self.rate
            return self._time_s
        stamp_s, before_s = self._reader.time_s, self._time_s
        if stamp_s is None or not math.isfinite(stamp_s):
            self._time_s += 1 / self.rate if self._number else 0
            return self._time_s
        if not self._number:
            self._offset_s = stamp_s
        gap_s = stamp_s - self._offset_s - before_s
        if gap_s > max(JUMP_S, JUMP_FRAMES * self._usual_s) and not self._reader.arrival:
            self._notify(
                f"{self.name}: the time stamps jump by {gap_s:,.0f} s at frame {self._number}; the gap is left out"
            )
            self._offset_s += gap_s - self._usual_s
            self._left_out_s += gap_s - self._usual_s
            gap_s = self._usual_s
        if gap_s > 0:
            self._usual_s = gap_s
        elif self._number:
            gap_s = 1 / self.rate
        self._time_s += gap_s
        return self._time_s

    def _decode(self, began_s: float) -> Frame | None:
        image = self._reader.image()
        if image is None:
            if not self._broken:
                self._notify(f"{self.name}: a broken frame was left out; further ones are not reported")
            self._broken += 1
            return None
        return Frame(image, self._number, self._time_s, self._reader.name, time.perf_counter() - began_s)

    def _check_end(self) -> None:
        """Raise if the file ends earlier than it declares, or a part of it cannot be read."""
        if doubt := self._reader.check_end():
            self._notify(f"{self.name}: {doubt}")
        if self._reader.parts > 1:
            raise SourceError(
                f"{self.name}: {self._reader.parts} files in one, of which the first was read", JOIN_ADVICE
            )
        declared_s, read_s = self._reader.declared_s, self._time_s + self._left_out_s + self._usual_s
        if declared_s is not None and read_s < (1 - MISSING) * declared_s:
            raise SourceError(
                f"{self.name}: the file is cut off or damaged: it ends after {self._number + 1} "
                f"frame{'s' * (self._number != 0)}, {read_s:.1f} of {declared_s:.1f} s",
                COPY_ADVICE,
            )
        if self._broken > (self._number if self._reader.arrival else MISSING * (self._number + 1)):
            advice = COPY_ADVICE if self._broken <= self._number else self._reader.unreadable
            raise SourceError(f"{self.name}: {self._broken} of its {self._number + 1} frames cannot be decoded", advice)

    def _is_late(self, time_s: float, began_s: float) -> bool:
        """Whether the next frame is due already."""
        if self._start_s is None:
            return False
        now_s = self._timer.now()
        late_s = now_s - (self._start_s + time_s)
        if late_s <= 1 / self.rate:
            return False
        if now_s - began_s < CATCH_UP_S:
            return True
        self._start_s += late_s
        return False

    def _await_turn(self, time_s: float) -> bool:
        """Wait until a frame is due; False if the source was closed."""
        with self._changed:
            if self._start_s is None:
                self._start_s = self._timer.now() - time_s
            while not self._closed and (left_s := self._start_s + time_s - self._timer.now()) > 0:
                self._timer.wait(self._changed, left_s)
            return not self._closed
