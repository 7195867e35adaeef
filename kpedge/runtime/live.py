"""The loop of a live run: take a frame, find the faces, hand them to every output, until somebody stops it."""

from __future__ import annotations

import functools
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from kpedge.core.errors import OutputError
from kpedge.runtime.sinks.sink import Controls, LiveFrame, Sink
from kpedge.runtime.sinks.snapshots import SnapshotSink
from kpedge.runtime.sources.source import Frame, Source
from kpedge.runtime.tracker import FaceTracker

RATE_OVER = 1.0
"""Seconds over which the frame rate that is shown is averaged."""
POLL = 0.03
"""Seconds between two looks at the keys of a window while no frame comes."""
JOIN = 2.0
"""Seconds that a source is given to let go; a camera's driver may hang, and is left behind then."""


@dataclass(slots=True)
class LiveReport:
    """What a run did.

    Attributes:
        frames: that were looked at.
        faces: that were found in them.
        seconds: from the first frame to the end.
        steps: step -> seconds spent in it, in all.
        broken: outputs that could not go on.
    """

    frames: int = 0
    faces: int = 0
    seconds: float = 0.0
    steps: dict[str, float] = field(default_factory=dict)
    broken: list[OutputError] = field(default_factory=list)

    def add(self, steps: dict[str, float], faces: int) -> None:
        """Take a frame into account."""
        self.frames += 1
        self.faces += faces
        for step, seconds in steps.items():
            self.steps[step] = self.steps.get(step, 0.0) + seconds


class RateMeter:
    """Frames a second, averaged over about the last second."""

    def __init__(self) -> None:
        self.rate = 0.0
        self._last: float | None = None

    def tick(self, now: float) -> float:
        """Count a frame at a time, seconds, and return the rate."""
        if self._last is not None and now > self._last:
            passed = now - self._last
            kept = math.exp(-passed / RATE_OVER) if self.rate else 0.0
            self.rate = kept * self.rate + (1 - kept) / passed
        self._last = now
        return self.rate


def run_live(
    source: Source,
    tracker: FaceTracker,
    sinks: Sequence[Sink],
    controls: Controls,
    *,
    pose: bool = True,
    report: LiveReport | None = None,
    max_frames: int | None = None,
    duration: float | None = None,
    poll: Callable[[], None] = lambda: None,
    on_broken: Callable[[OutputError], None] = lambda _: None,
) -> LiveReport:
    """Run until the source ends, a limit is reached, `controls.stopping` is set, or the last output has failed. Source
    and sinks are closed then, whatever happened.

    Args:
        source: where frames come from.
        tracker: finds the faces.
        sinks: each is given every frame; one that fails is closed and left out, the others go on.
        controls: what a window or a browser may change.
        pose: tell how heads are turned, also while that is not drawn.
        report: filled while the run goes on, for a caller that wants it even when the source fails.
        max_frames: stop after so many frames.
        duration: stop after so many seconds.
        poll: called now and then while no frame comes: a window's keys are heeded there.
        on_broken: told once of each output that fails.

    Raises:
        SourceError: the source failed.
    """
    report, meter, going = report or LiveReport(), RateMeter(), list(sinks)
    scheme = tracker.predictor.model.card.scheme
    began = time.monotonic()

    def is_over() -> bool:
        late = duration is not None and time.monotonic() - began >= duration
        return controls.stopping.is_set() or late or report.frames == max_frames

    def attempt(act: Callable[[], None]) -> bool:
        try:
            act()
        except OutputError as problem:
            report.broken.append(problem)
            on_broken(problem)
            return False
        return True

    try:
        for frame in _frames(source, controls, is_over, poll):
            tracker.predictor.threshold, layers = controls.threshold, controls.layers
            tracker.pose = pose or layers.pose
            faces = tracker(frame.image, frame.time_s)
            steps = {"decode": frame.decode_s, **tracker.stage_seconds}
            report.add(steps, len(faces))
            rate = meter.tick(time.monotonic())
            live = LiveFrame(source.name, frame, faces, scheme, steps, rate, layers)
            for sink in list(going):
                if not attempt(functools.partial(sink.show, live)):
                    going.remove(sink)
                    attempt(sink.close)
                    if all(isinstance(other, SnapshotSink) for other in going):
                        return report  # nobody would see the rest
    finally:
        report.seconds = time.monotonic() - began
        source.close()
        for sink in sinks:
            attempt(sink.close)
    return report


def _frames(
    source: Source, controls: Controls, is_over: Callable[[], bool], poll: Callable[[], None]
) -> Iterator[Frame]:
    """The frames of a source, each asked for when the last one is done with. A thread waits for them, so that keys and
    signals are heeded while none comes.
    """
    wanted, given = queue.SimpleQueue[bool](), queue.SimpleQueue[Frame | BaseException | None]()

    def fetch() -> None:
        try:
            frames = iter(source)
            while wanted.get():
                given.put(next(frames, None))
        except BaseException as problem:  # noqa: BLE001 -- it is raised again where the frames are used
            given.put(problem)

    reader = threading.Thread(target=fetch, name="frames", daemon=True)
    reader.start()
    asked = False
    try:
        while not is_over():
            if not asked and controls.paused.is_set():
                poll()
                time.sleep(POLL)
                continue
            if not asked:
                wanted.put(True)
                asked = True
            try:
                frame = given.get(timeout=POLL)
            except queue.Empty:
                poll()
                continue
            asked = False
            if isinstance(frame, BaseException):
                raise frame
            if frame is None:
                return
            yield frame
    finally:
        wanted.put(False)
        source.close()
        reader.join(timeout=JOIN)
