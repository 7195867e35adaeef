"""How long the live pipeline takes per frame, stage by stage, compared with its keypoint network and with stage 1.

A clip of swaying faces is decoded, tracked and drawn as `kpedge webcam` does it, on one thread. Clips with one face and
with many take turns, round after round, each next to the released stage 1, and each frame next to a run of its network
alone, so that a machine whose speed drifts slows all alike; what is compared are ratios of neighbours.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import cv2
import numpy as np

from kpedge.bench.clip import RATE, SIZE, FaceClip, Sway
from kpedge.bench.detection_latency import REFERENCE
from kpedge.core.errors import KpedgeError
from kpedge.core.leftovers import temporary_folder
from kpedge.core.model_zoo import resolve_model
from kpedge.export.test_inputs import random_crops
from kpedge.runtime.overlay import Layers, draw_overlay
from kpedge.runtime.sessions import OnnxModel
from kpedge.runtime.sources.open import open_source
from kpedge.runtime.timing import time_calls
from kpedge.runtime.tracker import STAGES, FaceTracker

FACES = (1, 2, 5, 10)
FACE_SIDE = 70.0  # side of a face's box in every clip, pixels: ten of them have room
SHOWN = 6  # frames that the comparison with the network repeats: few, as a decoded frame lies in the cache
ALL_STEPS = ("decode", *STAGES, "draw")
NOT_COUNTED = ("decode", "draw")  # steps that are the video's and the screen's, not the tracker's


@dataclass(frozen=True, slots=True)
class PipelineLatency:
    """One clip."""

    faces: int  # in it
    found: float  # that were tracked, in the mean over the frames
    frames: int  # that were timed
    steps_ms: dict[str, float]  # step -> mean time per frame, milliseconds
    total_ms: float  # their sum
    tracking_ms: float  # the sum without decoding and drawing
    ratio: float  # `tracking_ms` in stage 1's time for a crop, the median over the rounds
    # time of a tracked frame, without a search, in that of a run of its network on as many crops, the median over the
    # frames; NaN where every frame was searched
    network_ratio: float
    calls: int  # Python functions called for such a frame
    files: int  # of kpedge, that they are in


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
    progress: Callable[[int, int], None] | None = None,
) -> list[PipelineLatency]:
    """Time the pipeline in steady state, for clips of so many faces, each with a turn in every round: `warmup` frames,
    in which the faces are found, then timed ones. Stage 1 has one thread. `progress` gets (turns done, turns).
    """
    small = OnnxModel(resolve_model(REFERENCE))
    crop = random_crops(1, small.card.nominal_input_shape)
    steps = {count: dict.fromkeys(ALL_STEPS, 0.0) for count in counts}
    found, ratios = dict.fromkeys(counts, 0), {count: list[float]() for count in counts}
    to_network = {count: list[float]() for count in counts}
    with one_cv2_thread(), temporary_folder() as folder:
        clips = {count: folder / f"{count}.avi" for count in counts}
        layouts = {count: FaceClip(count, side=FACE_SIDE, sway=Sway()) for count in counts}
        for count, path in clips.items():
            write_clip(path, layouts[count], warmup + frames)
        trackers = {count: FaceTracker(max_faces=count + 1) for count in counts}
        for count in counts:  # a first round, which does not count
            _turn(clips[count], trackers[count], warmup)
        for turn, count in enumerate([*counts] * rounds, 1):
            reference = float(np.mean(time_calls(lambda: small(crop), warmup=20, count=200)))
            own, seen = _turn(clips[count], trackers[count], warmup)
            to_network[count] += _to_network(trackers[count], layouts[count], frames)
            found[count] += seen
            for step, seconds in own.items():
                steps[count][step] += seconds
            counted = sum(seconds for step, seconds in own.items() if step not in NOT_COUNTED)
            ratios[count].append(counted / frames / reference)
            if progress:
                progress(turn, rounds * len(counts))
    rows = []
    for count in counts:
        every = rounds * frames
        mean = {step: round(1000 * seconds / every, 4) for step, seconds in steps[count].items()}
        tracking = sum(value for step, value in mean.items() if step not in NOT_COUNTED)
        calls = traced_calls(trackers[count], layouts[count])
        rows.append(
            PipelineLatency(
                count,
                round(found[count] / every, 3),
                every,
                mean,
                round(sum(mean.values()), 4),
                round(tracking, 4),
                round(float(np.median(ratios[count])), 2),
                round(float(np.median(to_network[count] or [np.nan])), 2),
                len(calls),
                len({file for file in calls if "kpedge" in Path(file).parts}),
            )
        )
    return rows


def _turn(clip: Path, tracker: FaceTracker, warmup: int) -> tuple[dict[str, float], int]:
    """Seconds by step, and faces, over the frames of a clip but the first ones."""
    tracker.reset()
    steps, found = dict.fromkeys(ALL_STEPS, 0.0), 0
    with closing(open_source(str(clip))) as frames:
        for frame in frames:
            faces = tracker(frame.image, frame.time_s)
            began = time.perf_counter()
            draw_overlay(frame.image, faces, tracker.scheme, Layers())
            drawing = time.perf_counter() - began
            if frame.number < warmup:
                continue
            found += len(faces)
            for step, seconds in {"decode": frame.decode_s, **tracker.stage_seconds, "draw": drawing}.items():
                steps[step] += seconds
    return steps, found


def _to_network(tracker: FaceTracker, clip: FaceClip, frames: int) -> list[float]:
    """The time of each tracked frame, without a search, in that of a run of its network on as many crops after it."""
    tracker.reset()
    images = [clip.frame(number) for number in range(SHOWN)]
    model, ratios = tracker.predictor.model, []
    crops = random_crops(len(tracker(images[0], 0.0)) or 1, model.card.nominal_input_shape)
    for number in range(1, frames + 1):
        image = images[SHOWN - 1 - abs(number % (2 * SHOWN - 2) - SHOWN + 1)]  # there and back
        began = time.perf_counter()
        tracker(image, number / RATE)
        tracked = time.perf_counter()
        model(crops)
        if "detect" not in tracker.stage_seconds:
            ratios.append((tracked - began) / (time.perf_counter() - tracked))
    return ratios


def traced_calls(tracker: FaceTracker, clip: FaceClip) -> list[str]:
    """The files of all Python functions that are called, in order, for a frame of a clip that is not searched."""
    tracker.reset()
    files: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            files.append(frame.f_code.co_filename)

    for number in range(5):
        image, before = clip.frame(number), sys.getprofile()
        files.clear()
        sys.setprofile(note)
        try:
            tracker(image, number / RATE)
        finally:
            sys.setprofile(before)
    return files


@dataclass(frozen=True, slots=True)
class Load:
    """What a process costs that is fed frames as a camera feeds it, in percent of a core."""

    seconds: float  # for which it was fed
    frames: int  # that it got through
    rate: float  # frames per second that it was fed
    decoding: float  # of a run that only decodes
    tracking: float  # beyond that, of a run that tracks a face
    with_pose: float  # the same, with the head pose


def bench_load(seconds: float) -> Load:
    """Measure the processor time of tracking one face at 30 frames per second."""
    frames = max(2, round(seconds * RATE))
    trackers = (None, FaceTracker(pose=False), FaceTracker(pose=True))
    share, got = [], 0
    with one_cv2_thread(), temporary_folder() as folder:
        path = folder / "1.avi"
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
