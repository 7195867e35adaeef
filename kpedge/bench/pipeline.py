"""How long the live pipeline takes for a frame, step by step, beside stage 1 on one crop.

A clip of swaying faces is decoded, tracked and drawn as `kpedge webcam` does it, on one thread. Clips with one face
and with many take turns, round after round, each beside the released stage 1, so that a machine whose speed drifts
slows all alike; what is compared are ratios within a round.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kpedge.bench.clip import RATE, SIZE, FaceClip, Sway
from kpedge.bench.detection_latency import REFERENCE
from kpedge.core.errors import KpedgeError
from kpedge.core.model_zoo import resolve_model
from kpedge.export.inputs import random_crops
from kpedge.runtime.overlay import Layers, draw_overlay
from kpedge.runtime.sessions import OnnxModel
from kpedge.runtime.sources.open import open_source
from kpedge.runtime.timing import time_calls
from kpedge.runtime.tracker import STEPS, FaceTracker

FACES = (1, 2, 5, 10)
FACE_SIDE = 70.0
"""Side of a face's box in every clip, pixels: ten of them have room."""
ALL_STEPS = ("decode", *STEPS, "draw")
NOT_COUNTED = ("decode", "draw")
"""Steps that are the video's and the screen's, not the tracker's."""


@dataclass(frozen=True, slots=True)
class PipelineLatency:
    """One clip.

    Attributes:
        faces: in it.
        found: that were followed, in the mean over the frames.
        frames: that were timed.
        steps_ms: step -> mean time a frame, milliseconds.
        total_ms: their sum.
        tracking_ms: the sum without decoding and drawing.
        ratio: `tracking_ms` in stage 1's time for a crop, the median over the rounds.
    """

    faces: int
    found: float
    frames: int
    steps_ms: dict[str, float]
    total_ms: float
    tracking_ms: float
    ratio: float

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return asdict(self)


def write_clip(path: Path, clip: FaceClip, frames: int) -> None:
    """Write a clip as MJPEG in AVI: frames that are decoded one by one, as a camera's are.

    Raises:
        KpedgeError: OpenCV cannot write it.
    """
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, SIZE)
    if not writer.isOpened():
        raise KpedgeError(f"{path}: this OpenCV cannot write a clip to measure with")
    for number in range(frames):
        writer.write(clip.frame(number))
    writer.release()


@contextmanager
def one_cv2_thread() -> Iterator[None]:
    """OpenCV computes on one thread meanwhile."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def bench_pipeline(
    counts: Sequence[int] = FACES,
    *,
    rounds: int,
    frames: int,
    warmup: int,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[PipelineLatency]:
    """Time the pipeline in steady state.

    Args:
        counts: faces of each clip.
        rounds: how often each clip has its turn.
        frames: timed frames in a turn.
        warmup: frames before them, in which the faces are found.
        threads: of onnxruntime, for the tracker; stage 1 has one.
        progress: told (turns done, turns).
    """
    small = OnnxModel(resolve_model(REFERENCE))
    crop = random_crops(1, small.card.usual_shape)
    steps = {count: dict.fromkeys(ALL_STEPS, 0.0) for count in counts}
    found, ratios = dict.fromkeys(counts, 0), {count: list[float]() for count in counts}
    with one_cv2_thread(), tempfile.TemporaryDirectory() as folder:
        clips = {count: Path(folder) / f"{count}.avi" for count in counts}
        for count, path in clips.items():
            clip = FaceClip(count, side=FACE_SIDE, sway=Sway())
            write_clip(path, clip, warmup + frames)
        trackers = {count: FaceTracker(max_faces=count + 1, threads=threads) for count in counts}
        for turn in range(rounds * len(counts)):
            count = counts[turn % len(counts)]
            reference = float(np.mean(time_calls(lambda: small(crop), warmup=20, count=200)))
            own, seen = _turn(clips[count], trackers[count], warmup)
            found[count] += seen
            for step, seconds in own.items():
                steps[count][step] += seconds
            counted = sum(seconds for step, seconds in own.items() if step not in NOT_COUNTED)
            ratios[count].append(counted / frames / reference)
            if progress:
                progress(turn + 1, rounds * len(counts))
    rows = []
    for count in counts:
        every = rounds * frames
        mean = {step: round(1000 * seconds / every, 4) for step, seconds in steps[count].items()}
        tracking = sum(value for step, value in mean.items() if step not in NOT_COUNTED)
        rows.append(
            PipelineLatency(
                count,
                round(found[count] / every, 3),
                every,
                mean,
                round(sum(mean.values()), 4),
                round(tracking, 4),
                round(float(np.median(ratios[count])), 2),
            )
        )
    return rows


def _turn(clip: Path, tracker: FaceTracker, warmup: int) -> tuple[dict[str, float], int]:
    """Seconds by step, and faces, over the frames of a clip but the first ones."""
    tracker.reset()
    scheme = tracker.predictor.model.card.scheme
    steps, found = dict.fromkeys(ALL_STEPS, 0.0), 0
    with closing(open_source(str(clip))) as frames:
        for frame in frames:
            faces = tracker(frame.image, frame.time_s)
            began = time.perf_counter()
            draw_overlay(frame.image, faces, scheme, Layers())
            drawing = time.perf_counter() - began
            if frame.number < warmup:
                continue
            found += len(faces)
            for step, seconds in {"decode": frame.decode_s, **tracker.clock.seconds, "draw": drawing}.items():
                steps[step] += seconds
    return steps, found


@dataclass(frozen=True, slots=True)
class Load:
    """What a process costs that is fed frames as a camera feeds it, in percent of a core.

    Attributes:
        seconds: for which it was fed.
        frames: that it got through.
        rate: frames a second that it was fed.
        decoding: of a run that only decodes.
        tracking: beyond that, of a run that follows a face.
        with_pose: likewise, and tells how the head is turned.
    """

    seconds: float
    frames: int
    rate: float
    decoding: float
    tracking: float
    with_pose: float

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON types."""
        return asdict(self)


def bench_load(seconds: float) -> Load:
    """Measure the processor time of following one face at 30 frames a second."""
    frames = max(2, round(seconds * RATE))
    trackers = (None, FaceTracker(pose=False), FaceTracker(pose=True))
    share, got = [], 0
    with one_cv2_thread(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "1.avi"
        write_clip(path, FaceClip(1, side=FACE_SIDE, sway=Sway()), frames)
        for tracker in trackers:
            used, began, got = time.process_time(), time.perf_counter(), 0
            with closing(open_source(str(path), realtime=True)) as source:
                for frame in source:
                    got += 1
                    if tracker is not None:
                        tracker(frame.image, frame.time_s)
            share.append(100 * (time.process_time() - used) / (time.perf_counter() - began))
    only, tracking, posing = share
    return Load(seconds, got, RATE, round(only, 2), round(tracking - only, 2), round(posing - only, 2))
