"""The loop of a live run: take a frame, find the faces, pass them to every output, until it is stopped."""

import functools
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from kpedge.core.errors import OutputError
from kpedge.runtime.features import add_features
from kpedge.runtime.sinks.sink import Controls, LiveFrame, Sink
from kpedge.runtime.sinks.snapshots import SnapshotSink
from kpedge.runtime.sources.source import Frame, Source
from kpedge.runtime.tracker import FaceTracker

RATE_OVER = 1.0  # seconds over which the displayed frame rate is averaged
POLL = 0.03  # seconds between two polls of a window's keys while no frame comes
JOIN = 2.0  # seconds in which a source should close; a driver that hangs is left behind


@dataclass(slots=True)
class LiveReport:
    """What a run did."""

    frames: int = 0  # that were processed
    faces: int = 0  # in these frames
    seconds: float = 0.0  # from the first frame to the end
    steps: dict[str, float] = field(default_factory=dict)  # step -> seconds spent in it, in all
    broken: list[OutputError] = field(default_factory=list)  # errors of outputs that failed

    def add(self, steps: dict[str, float], faces: int) -> None:
        """Take a frame into account."""
        self.frames += 1
        self.faces += faces
        for step, seconds in steps.items():
            self.steps[step] = self.steps.get(step, 0.0) + seconds


class RateMeter:
    """Frames per second, averaged over about the last second."""

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
    features: bool = False,
    focal: float | None = None,
    names: bool = False,
    report: LiveReport | None = None,
    max_frames: int | None = None,
    duration: float | None = None,
    poll: Callable[[], object] = lambda: None,
    on_broken: Callable[[OutputError], None] = lambda _: None,
) -> LiveReport:
    """Run until the source ends, a limit is reached, `controls.stopping` is set, or the last output has failed. Source
    and sinks are closed then, whatever happened.

    A sink that fails is closed and removed, and `on_broken` is called; the others continue. The report is filled during
    the run, for a caller that needs it even if the source fails; `poll` is called now and then while no frame comes, to
    handle a window's keys.
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
            if features:
                faces = add_features(faces, scheme, (frame.image.shape[1], frame.image.shape[0]), focal=focal)
            steps = {"decode": frame.decode_s, **tracker.stage_seconds}
            report.add(steps, len(faces))
            rate = meter.tick(time.monotonic())
            live = LiveFrame(source.name, frame, faces, scheme, steps, rate, layers, names)
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
    source: Source, controls: Controls, is_over: Callable[[], bool], poll: Callable[[], object]
) -> Iterator[Frame]:
    """The frames of a source, each requested when the last one is done with. A thread waits for them, so that keys and
    signals are handled while none comes.
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
