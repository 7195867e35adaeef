"""How long finding faces in a frame takes, next to stage 1 on one crop and to other detectors.

All take turns, round after round, on the same frame and one thread, so that a machine whose speed drifts slows all of
them alike; what is compared are ratios within a round.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from kpedge.bench.latency import percentiles
from kpedge.core.errors import ModelError, UsageError
from kpedge.core.geometry import Image, resize_to
from kpedge.core.images import read_image
from kpedge.core.model_zoo import resolve_model, sample_photo
from kpedge.export.test_inputs import random_crops
from kpedge.runtime.detector import FaceDetector, detector_model, preprocess
from kpedge.runtime.models import FOLLOWED
from kpedge.runtime.sessions import OnnxModel
from kpedge.runtime.timing import time_calls

FRAME = (320, 240)  # width and height of the frame, pixels
REFERENCE = "stage1"  # what the others are measured in: the released model's time for one crop
PEERS = ("yunet",)


@dataclass(frozen=True, slots=True)
class DetectionLatency:
    """One contestant."""

    name: str  # who
    what: str  # what is timed
    faces: int | None  # found in the frame; None where that has no meaning
    calls: int  # timed calls
    # median_ms, p95_ms: of a call, milliseconds
    median_ms: float
    p95_ms: float
    ratio: float  # to stage 1's time, the median over the rounds


def sample_frame() -> Image:
    """The sample photo as a frame of a small camera, uint8 (240, 320, 3): one face, the rest black."""
    photo = read_image(sample_photo())
    width, height = FRAME
    shown, _ = resize_to(photo, int(max(photo.shape[:2]) * min(width / photo.shape[1], height / photo.shape[0])))
    frame = np.zeros((height, width, 3), np.uint8)
    frame[: shown.shape[0], : shown.shape[1]] = shown[:height, :width]
    return frame


def bench_detection(
    detector: Path,
    peers: Mapping[str, Path],
    *,
    rounds: int,
    calls: int,
    warmup: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[DetectionLatency]:
    """Time a detector from frame to faces, its network alone, stage 1, and other detectors, of `PEERS`."""
    frame = sample_frame()
    model = OnnxModel(detector)
    finding = detector_model(model)
    finder = FaceDetector(finding, side=max(FRAME), threshold=FOLLOWED * (finding.card.threshold or 0.0))
    fed = preprocess(frame, finder.model.card.stride)
    small = OnnxModel(resolve_model(REFERENCE))
    crop = random_crops(1, small.card.nominal_input_shape)
    contestants: list[tuple[str, str, int | None, Callable[[], object]]] = [
        (REFERENCE, "one crop", None, lambda: small(crop)),
        (model.card.name, "frame to faces", len(finder(frame)), lambda: finder(frame)),
        (model.card.name, "network alone", None, lambda: model(fed)),
    ]
    for name, path in peers.items():
        look = _peer(name, path)
        contestants.append((name, "frame to faces", look(frame), functools.partial(look, frame)))
    turns = []
    for done in range(rounds + 1):
        turns.append([time_calls(call, warmup=warmup, count=calls) for _, _, _, call in contestants])
        if progress:
            progress(done, rounds)
    times = list(zip(*turns[1:], strict=True))  # the first round does not count, as in `measure_rounds`
    reference = [float(np.median(durations)) for durations in times[0]]
    rows = []
    for (name, what, faces, _), own in zip(contestants, times, strict=True):
        ratios = [float(np.median(durations)) / base for durations, base in zip(own, reference, strict=True)]
        rows.append(
            DetectionLatency(
                name,
                what,
                faces,
                sum(map(len, own)),
                *percentiles(own),
                round(float(np.median(ratios)), 2),
            )
        )
    return rows


def _peer(name: str, path: Path) -> Callable[[Image], int]:
    """A function that counts the faces that another detector finds in a frame."""
    if name not in PEERS:
        raise UsageError(f"no peer is called {name!r}", f"known: {', '.join(PEERS)}, as in --peer yunet=FILE")
    if not path.is_file():
        raise ModelError(f"{path}: no such file", "give YuNet's ONNX file of the OpenCV zoo")
    cv2.setNumThreads(1)
    try:
        detector = cv2.FaceDetectorYN.create(str(path), "", FRAME, score_threshold=0.6)
        detector.detect(np.zeros((FRAME[1], FRAME[0], 3), np.uint8))
    except cv2.error as error:
        raise ModelError(f"{path}: OpenCV's FaceDetectorYN cannot use it: {error.err}") from error

    def call(frame: Image) -> int:
        found = detector.detect(frame)[1]
        return 0 if found is None else len(found)

    return call
