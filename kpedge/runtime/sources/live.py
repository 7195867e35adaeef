"""A source that does not wait: a thread reads it all the time and keeps the newest frame only."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2

from kpedge.core.errors import SourceError
from kpedge.core.geometry import Image
from kpedge.runtime.sources.capture import Capture, Interruptible, decode, describe, known_rate, pixel_format
from kpedge.runtime.sources.source import Frame

Say = Callable[[str], None]
"""Tells the user something, in one line."""
FAILURES = 5
"""Frames in a row that may fail: some cameras begin with a few."""
FAILURE_WAIT_S = 0.02
HANGING = 3
"""Reads that may hang at a time before the source is given up."""
WATCHDOG = 1.5
"""Times `stall_s`: OpenCV's own time limit, which is `stall_s`, is to come first."""
CLOSE_S = 1.0
"""How long `close` waits for the thread."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a live source waits.

    Attributes:
        open_s: for its first frame, seconds.
        stall_s: for the next frame, before it is connected again, seconds.
        first_wait_s: before the first try to connect again, seconds; the wait doubles with each try.
        longest_wait_s: between two tries, seconds.
        tries: to connect again before it is given up; None for ever.
        steady_s: after which a connection that held counts as good, so that tries are counted from 0 again.
    """

    open_s: float = 15.0
    stall_s: float = 10.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0
    tries: int | None = None
    steady_s: float = 10.0


@dataclass(frozen=True, slots=True)
class _Loss:
    """Why a connection ended: what to raise if it was the first, and whether frames just stopped coming."""

    error: SourceError
    stalled: bool = False


class LiveSource:
    """A camera or network stream.

    A thread reads frames and keeps the newest; numbers count those that nobody took, too. A source that goes away is
    told of once, and opened again, with growing waits, until it is back. Frames that cannot be decoded are left out;
    their size may change.

    Args:
        name: what the user called it, without passwords.
        open_capture: opens the camera or stream, and raises `SourceError` when it cannot.
        say: tells the user of what happens; called from any thread.
        patience: how long to wait for what.
        label: what messages call it; `name` when empty.
        silent_advice: what to do when it opens but gives no frame.

    Raises:
        SourceError: it cannot be opened, or gives no frame.
    """

    live = True

    def __init__(
        self,
        name: str,
        open_capture: Callable[[], Capture],
        *,
        say: Say,
        patience: Patience | None = None,
        label: str = "",
        silent_advice: str = "",
    ) -> None:
        self.name, self._label = name, label or name
        self._open, self._say = open_capture, say
        self._patience = patience or Patience()
        self._silent_advice = silent_advice
        # Its lock is re-entrant: `close` may be called by a signal handler of the thread that holds it.
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._error: SourceError | None = None
        self._closed = self._gone = self._told_broken = False
        self._count = self._tries = self._turn = 0
        self._first_s: float | None = None
        self._deadline_s = math.inf
        self._rate: float | None = None
        self._description = ""
        self._capture: Capture | None = None
        self._hanging: list[threading.Thread] = []
        self._start()
        try:
            self._await_first()
        except BaseException:
            self.close()
            raise

    @property
    def rate(self) -> float | None:
        """Frames a second that were granted; None when it is not known."""
        return self._rate

    @property
    def description(self) -> str:
        """The size of the newest frame, and the rate and format that were granted."""
        return self._description

    def __iter__(self) -> Iterator[Frame]:
        """The newest frame, each at most once; ends when the source is closed.

        Raises:
            SourceError: it went away and did not come back, or hangs.
        """
        while (frame := self._take()) is not None:
            yield frame

    def close(self) -> None:
        """Let go of it; iteration ends. A read that hangs in a driver is left behind, and ends with the process."""
        with self._changed:
            if self._closed:
                return
            self._closed, self._newest = True, None
            self._turn += 1
            self._changed.notify_all()
            capture, reader = self._capture, self._reader
        if isinstance(capture, Interruptible):
            capture.interrupt()
        if reader is not threading.current_thread():
            reader.join(CLOSE_S)
            if reader.is_alive():
                self._say(f"{self._label}: a read of it still hangs; it is left behind")

    # For whoever iterates

    def _start(self) -> None:
        self._turn += 1
        self._deadline_s = time.monotonic() + self._patience.open_s
        self._reader = threading.Thread(target=self._run, args=(self._turn,), name=f"kpedge {self.name}", daemon=True)
        self._reader.start()

    def _await_first(self) -> None:
        with self._changed:
            while self._newest is None and self._error is None:
                left = self._deadline_s - time.monotonic()
                if left <= 0:
                    raise SourceError(f"{self._label}: does not answer", self._silent_advice)
                self._changed.wait(left)
            if self._error is not None:
                raise self._error

    def _take(self) -> Frame | None:
        while True:
            hangs = False
            with self._changed:
                while not self._closed and self._newest is None and self._error is None and not hangs:
                    left = self._deadline_s - time.monotonic()
                    hangs = left <= 0
                    if not hangs:
                        self._changed.wait(None if left == math.inf else left)
                if self._closed:
                    return None
                if self._newest is not None:
                    frame, self._newest = self._newest, None
                    return frame
                if self._error is not None:
                    raise self._error
                tell = self._replace_reader() and not self._gone
                self._gone = True
            if tell:
                self._say(self._stalled)

    @property
    def _stalled(self) -> str:
        return f"{self._label}: no frame for {self._patience.stall_s:g} s, connecting again"

    def _replace_reader(self) -> bool:
        """Leave a thread behind that hangs in a read, and start another; False when too many hang."""
        self._hanging = [thread for thread in [*self._hanging, self._reader] if thread.is_alive()]
        if len(self._hanging) >= HANGING:
            self._error = SourceError(
                f"{self._label}: hangs; {len(self._hanging)} reads of it did not return",
                "disconnect it and connect it again, then start again",
            )
            return False
        self._start()
        return True

    # For the thread

    def _run(self, turn: int) -> None:
        try:
            while self._connect(turn):
                pass
        finally:
            with self._changed:
                if turn == self._turn and self._error is None:  # an exception is on its way to the thread's hook
                    self._error = SourceError(f"{self._label}: reading it failed for an unknown reason")
                self._changed.notify_all()

    def _expect(self, turn: int, within_s: float) -> bool:
        """Say when the next sign of life is due; False when this thread is to end."""
        with self._changed:
            if turn == self._turn:
                before, self._deadline_s = self._deadline_s, time.monotonic() + within_s
                if self._deadline_s < before:  # whoever waits for a frame waits until then
                    self._changed.notify_all()
            return turn == self._turn

    def _connect(self, turn: int) -> bool:
        """Open it and read it until it ends; whether to try again."""
        if not self._expect(turn, self._patience.open_s):
            return False
        try:
            capture = self._open()
        except SourceError as error:
            return self._lost(turn, _Loss(error))
        try:
            with self._changed:
                if turn == self._turn:
                    self._capture = capture
            loss = self._read(turn, capture)
        finally:
            with self._changed:
                if self._capture is capture:
                    self._capture = None
            capture.release()
        return loss is not None and self._lost(turn, loss)

    def _read(self, turn: int, capture: Capture) -> _Loss | None:
        """Read frames until there are no more, or this thread is to end (None)."""
        patience, failures, shape = self._patience, 0, (0, 0)
        silent = SourceError(f"{self._label}: opens, but gives no frame", self._silent_advice)
        began_s = last_s = time.monotonic()
        while self._expect(turn, max(WATCHDOG * patience.stall_s - (time.monotonic() - last_s), 0)):
            try:
                got = capture.grab()
            except cv2.error:
                got = False
            taken_s = time.monotonic()
            if not got:
                failures += 1
                if taken_s - last_s >= patience.stall_s:
                    return _Loss(silent, stalled=True)
                if failures >= FAILURES:
                    return _Loss(silent)
                self._pause(turn, FAILURE_WAIT_S)
                continue
            failures = 0
            image = decode(capture)
            decode_s = time.monotonic() - taken_s
            if image is None:
                self._skip_broken(turn)
                if taken_s - last_s >= patience.stall_s:
                    return _Loss(silent, stalled=True)
                continue
            last_s = taken_s
            if image.shape[:2] != shape:
                self._granted(turn, capture, image, changed=shape != (0, 0))
                shape = image.shape[:2]
            self._put(turn, image, taken_s, decode_s, steady=taken_s - began_s >= patience.steady_s)
        return None

    def _pause(self, turn: int, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: turn != self._turn, seconds)

    def _skip_broken(self, turn: int) -> None:
        with self._changed:
            tell = turn == self._turn and not self._told_broken
            if turn == self._turn:
                self._count += 1
                self._told_broken = True
        if tell:
            self._say(f"{self._label}: a broken frame was left out; further ones are not told of")

    def _granted(self, turn: int, capture: Capture, image: Image, *, changed: bool) -> None:
        rate, kind = known_rate(capture), pixel_format(capture)
        with self._changed:
            if turn != self._turn:
                return
            self._rate, self._description = rate, describe(image, rate, kind)
        if changed:
            self._say(f"{self._label}: now {self._description}")

    def _put(self, turn: int, image: Image, taken_s: float, decode_s: float, *, steady: bool) -> None:
        with self._changed:
            if turn != self._turn:
                return
            if self._first_s is None:
                self._first_s = taken_s
            self._newest = Frame(image, self._count, taken_s - self._first_s, decode_s=decode_s)
            self._count += 1
            if steady:
                self._tries = 0
            back, self._gone = self._gone, False
            self._changed.notify_all()
        if back:
            self._say(f"{self._label}: back, {self._description}")

    def _lost(self, turn: int, loss: _Loss) -> bool:
        """Tell of a loss once, and wait before the next try; False when there is none."""
        patience = self._patience
        with self._changed:
            if turn != self._turn:
                return False
            self._tries += 1
            if self._first_s is None:
                self._error = loss.error
            elif patience.tries is not None and self._tries > patience.tries:
                self._error = SourceError(
                    f"{self._label}: gone, and not back after {patience.tries} tries", str(loss.error)
                )
            if self._error is not None:
                return False
            tell, self._gone = not self._gone, True
            self._deadline_s = math.inf
        if tell:
            self._say(self._stalled if loss.stalled else f"{self._label}: gone, waiting for it")
        self._pause(turn, min(patience.first_wait_s * 2.0 ** min(self._tries - 1, 16), patience.longest_wait_s))
        return True
