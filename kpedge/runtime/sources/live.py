"""A source that does not wait: a thread reads it all the time and keeps only the newest frame."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kpedge.core.errors import SourceError
from kpedge.core.geometry import Image
from kpedge.runtime.sources.reader import Notify, Reader
from kpedge.runtime.sources.source import Frame

FAILURES = 5  # frames in a row that may fail: some cameras start with a few
FAILURE_WAIT_S = 0.02
HANGING = 3  # reads that may hang at a time before the source counts as broken
WATCHDOG = 1.5  # times `stall_s`: the reader's own time limit, which is `stall_s`, should come first
CLOSE_S = 1.0  # how long `close` waits for the thread


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a live source waits, and how often it reconnects."""

    open_s: float = 15.0  # for its first frame, seconds
    stall_s: float = 10.0  # for the next frame, before it reconnects, seconds
    first_wait_s: float = 0.5  # before the first attempt to reconnect, seconds; the wait doubles with each attempt
    longest_wait_s: float = 8.0  # between two attempts, seconds
    attempts: int | None = None  # to reconnect before it fails; None for no limit
    steady_s: float = 10.0  # after which a connection counts as good, so that attempts are counted from 0 again


@dataclass(frozen=True, slots=True)
class _Loss:
    """Why a connection ended: what to raise if it was the first, and whether frames just stopped coming."""

    error: SourceError
    stalled: bool = False


class LiveSource:
    """A camera or network stream.

    A thread reads frames and keeps the newest; frame numbers count those that nobody took. The loss of a source is
    reported once, and it is reopened, with growing waits, until it is back. Frames that cannot be decoded are left
    out; their size may change.

    Args:
        name: what the user called it, without passwords.
        open_reader: opens the camera or stream; raises `SourceError` if it cannot.
        notify: called with one line for people, from any thread.
        retry: how long to wait, and how often to reconnect.
        label: what messages call it; `name` if empty.
        silent_advice: what to do if it opens but gives no frame.
        ends: it ends when its reader ends, as a pipe does; otherwise it reconnects.

    Raises:
        SourceError: it cannot be opened, or gives no frame.
    """

    live = True

    def __init__(
        self,
        name: str,
        open_reader: Callable[[], Reader],
        *,
        notify: Notify,
        retry: RetryPolicy | None = None,
        label: str = "",
        silent_advice: str = "",
        ends: bool = False,
    ) -> None:
        self.name, self._label = name, label or name
        self._open, self._notify = open_reader, notify
        self._policy = retry or RetryPolicy()
        self._silent_advice, self._ends = silent_advice, ends
        # Its lock is re-entrant: `close` may be called by a signal handler of the thread that holds it.
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._error: SourceError | None = None
        self._closed = self._ended = self._gone = self._reported_broken = False
        self._count = self._attempts = self._turn = 0
        self._first_s: float | None = None
        self._deadline_s = math.inf
        self._rate: float | None = None
        self._description = ""
        self._current: Reader | None = None
        self._hanging: list[threading.Thread] = []
        self._start()
        try:
            self._await_first()
        except BaseException:
            self.close()
            raise

    @property
    def rate(self) -> float | None:
        return self._rate

    @property
    def description(self) -> str:
        return self._description

    def __iter__(self) -> Iterator[Frame]:
        """The newest frame, each at most once, until the source is closed."""
        while (frame := self._take()) is not None:
            yield frame

    def close(self) -> None:
        """Stop reading; iteration ends. A read that hangs in a driver is left behind, and ends with the process."""
        with self._changed:
            if self._closed:
                return
            self._closed, self._newest = True, None
            self._turn += 1
            self._changed.notify_all()
            current, thread = self._current, self._thread
        if current is not None:
            current.interrupt()
        if thread is not threading.current_thread():
            thread.join(CLOSE_S)

    # For whoever iterates

    def _start(self) -> None:
        self._turn += 1
        self._deadline_s = time.monotonic() + self._policy.open_s
        self._thread = threading.Thread(target=self._run, args=(self._turn,), name=f"kpedge {self.name}", daemon=True)
        self._thread.start()

    def _await_first(self) -> None:
        with self._changed:
            while self._newest is None and self._error is None and not self._ended:
                left = self._deadline_s - time.monotonic()
                if left <= 0:
                    raise SourceError(f"{self._label}: does not answer", self._silent_advice)
                self._changed.wait(left)
            if self._error is not None:
                raise self._error
            if self._newest is None:
                raise SourceError(f"{self._label}: no frame of it can be decoded", self._silent_advice)

    def _take(self) -> Frame | None:
        while True:
            hangs = False
            with self._changed:
                while self._newest is None and not (self._closed or self._ended or self._error or hangs):
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
                if self._ended:
                    return None
                report = self._replace_thread() and not self._gone
                self._gone = True
            if report:
                self._notify(self._stalled)

    @property
    def _stalled(self) -> str:
        return f"{self._label}: no frame for {self._policy.stall_s:g} s, reconnecting"

    def _replace_thread(self) -> bool:
        """Leave a thread behind that hangs in a read, and start another; False when too many hang."""
        self._hanging = [thread for thread in [*self._hanging, self._thread] if thread.is_alive()]
        if len(self._hanging) >= HANGING:
            self._error = SourceError(
                f"{self._label}: hangs; {len(self._hanging)} reads of it did not return",
                "disconnect it, connect it again, and restart",
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
                if (
                    turn == self._turn and self._error is None and not self._ended
                ):  # an exception is on its way to the thread's hook
                    self._error = SourceError(f"{self._label}: reading it failed for an unknown reason")
                self._changed.notify_all()

    def _expect(self, turn: int, within_s: float) -> bool:
        """Set when the next frame or error is due; False if this thread should end."""
        with self._changed:
            if turn == self._turn:
                before, self._deadline_s = self._deadline_s, time.monotonic() + within_s
                if self._deadline_s < before:  # whoever waits for a frame waits until then
                    self._changed.notify_all()
            return turn == self._turn

    def _connect(self, turn: int) -> bool:
        """Open it and read it until it ends; whether to try again."""
        if not self._expect(turn, self._policy.open_s):
            return False
        try:
            reader = self._open()
        except SourceError as error:
            return self._lost(turn, _Loss(error))
        try:
            with self._changed:
                if turn == self._turn:
                    self._current = reader
            loss = self._read(turn, reader)
        finally:
            with self._changed:
                if self._current is reader:
                    self._current = None
            reader.close()
        return loss is not None and self._lost(turn, loss)

    def _read(self, turn: int, reader: Reader) -> _Loss | None:
        """Read frames until there are no more, or this thread should end (None)."""
        policy, failures, shape = self._policy, 0, (0, 0)
        silent = SourceError(f"{self._label}: opens, but gives no frame", self._silent_advice)
        began_s = last_s = time.monotonic()
        while self._expect(turn, max(WATCHDOG * policy.stall_s - (time.monotonic() - last_s), 0)):
            got = reader.grab()
            taken_s = time.monotonic()
            if not got:
                failures += 1
                if taken_s - last_s >= policy.stall_s and not self._ends:
                    return _Loss(silent, stalled=True)
                if failures >= FAILURES or self._ends:
                    return _Loss(silent)
                self._pause(turn, FAILURE_WAIT_S)
                continue
            failures = 0
            image = reader.image()
            decode_s = time.monotonic() - taken_s
            if image is None:
                self._skip_broken(turn)
                if taken_s - last_s >= policy.stall_s:
                    return _Loss(silent, stalled=True)
                continue
            last_s = taken_s
            if image.shape[:2] != shape:
                self._describe(turn, reader, image, changed=shape != (0, 0))
                shape = image.shape[:2]
            self._put(turn, image, taken_s, decode_s, steady=taken_s - began_s >= policy.steady_s)
        return None

    def _pause(self, turn: int, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: turn != self._turn, seconds)

    def _skip_broken(self, turn: int) -> None:
        with self._changed:
            report = turn == self._turn and not self._reported_broken
            if turn == self._turn:
                self._count += 1
                self._reported_broken = True
        if report:
            self._notify(f"{self._label}: a broken frame was left out; further ones are not reported")

    def _describe(self, turn: int, reader: Reader, image: Image, *, changed: bool) -> None:
        with self._changed:
            if turn != self._turn:
                return
            self._rate, self._description = reader.rate, reader.describe(image)
        if changed:
            self._notify(f"{self._label}: now {self._description}")

    def _put(self, turn: int, image: Image, taken_s: float, decode_s: float, *, steady: bool) -> None:
        with self._changed:
            if turn != self._turn:
                return
            if self._first_s is None:
                self._first_s = taken_s
            self._newest = Frame(image, self._count, taken_s - self._first_s, decode_s=decode_s)
            self._count += 1
            if steady:
                self._attempts = 0
            back, self._gone = self._gone, False
            self._changed.notify_all()
        if back:
            self._notify(f"{self._label}: back, {self._description}")

    def _lost(self, turn: int, loss: _Loss) -> bool:
        """Report a loss once, and wait before the next attempt; False if there is none."""
        policy = self._policy
        with self._changed:
            if turn != self._turn:
                return False
            self._attempts += 1
            if self._first_s is None:
                self._error = loss.error
            elif self._ends:
                self._ended = True
            elif policy.attempts is not None and self._attempts > policy.attempts:
                self._error = SourceError(
                    f"{self._label}: lost, and not back after {policy.attempts} attempts", str(loss.error)
                )
            if self._error is not None or self._ended:
                return False
            report, self._gone = not self._gone, True
            self._deadline_s = math.inf
        if report:
            self._notify(self._stalled if loss.stalled else f"{self._label}: lost, waiting for it")
        self._pause(turn, min(policy.first_wait_s * 2.0 ** min(self._attempts - 1, 16), policy.longest_wait_s))
        return True
