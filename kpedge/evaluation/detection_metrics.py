"""How well faces are found: average precision, precision and recall, by size, and false alarms.

A found box hits a face when their IoU is at least `IOU`; each face is hit once, by the box with the highest score.
Faces below a given side, and those marked to be ignored, count neither as hit nor as missed, and a box on one of them
is no false alarm; nor is a box that is itself smaller than that side. Precision is interpolated: at a recall, it is the
highest at that recall or above (PASCAL VOC from 2010 on, all points).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.geometry import Image, box_size, iou
from kpedge.data.frames import FrameSet
from kpedge.runtime.detector import FaceDetector, FrameModel

IOU = 0.5
SMALLEST = 16.0  # side of the smallest face that counts, pixels of the frame as the network sees it
SIZES = (16.0, 32.0, 64.0, 128.0)  # sides at which faces are grouped by size, in the same unit
LOWEST = 0.02  # score of the lowest boxes that count for average precision
SIDE = 640  # longer side, pixels, at which frames are looked at unless the user asks for another

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FrameDetections:
    """What was found in one frame, and what is there; all in pixels of the frame as the network sees it."""

    boxes: Floats  # float64 (D, 4), found
    scores: Floats  # float64 (D,)
    truth: Floats  # float64 (G, 4), labelled
    ignore: NDArray[np.bool_]  # bool (G,), faces that do not count


def find_in_frames(
    model: FrameModel,
    source: FrameSet,
    frames: Sequence[int] | NDArray[np.intp],
    side: int,
) -> list[FrameDetections]:
    """What a detector finds in frames of a set whose longer side has `side` pixels, as the boxes count them."""
    detector = FaceDetector(model, threshold=LOWEST, side=side)
    found = []
    for frame in frames:
        rows = source.faces(int(frame))
        image = source.image(int(frame))
        found.append(find_in_image(detector, image, source.boxes[rows], source.ignore[rows]))
    return found


def find_in_image(
    detector: FaceDetector, image: Image, truth: NDArray[np.float64], ignore: NDArray[np.bool_]
) -> FrameDetections:
    """What a detector finds in an image, with its labelled boxes (G, 4) and which of them to ignore (G,)."""
    _, zoom = next(detector.scaled_images(image))
    faces = detector(image)
    boxes = np.array([face.box for face in faces]).reshape(-1, 2, 2)
    return FrameDetections(
        boxes=((boxes + 0.5) * zoom - 0.5).reshape(-1, 4),
        scores=np.array([face.score for face in faces], dtype=np.float64),
        truth=((truth.reshape(-1, 2, 2) + 0.5) * zoom - 0.5).reshape(-1, 4),
        ignore=ignore,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Every found box that counts, over all frames, by falling score."""

    scores: Floats  # float64 (D,)
    hit: NDArray[np.bool_]  # bool (D,), whether it found a face
    frame: NDArray[np.intp]  # int (D,), number of its frame
    box: NDArray[np.intp]  # int (D,), its number in that frame
    face: NDArray[np.intp]  # int (D,), number of the face that it hit in that frame; -1 of none
    missed: tuple[tuple[int, int], ...]  # (frame, face) of each face that no box found
    faces: int  # faces that count
    frames: int  # frames, with and without faces

    def at(self, threshold: float) -> tuple[float, float]:
        """Precision and recall of the boxes from a score on; a precision of 1 where there is none."""
        chosen = self.hit[self.scores >= threshold]
        hits = int(np.count_nonzero(chosen))
        return (hits / len(chosen) if len(chosen) else 1.0), hits / max(self.faces, 1)

    def faces_at(self, threshold: float) -> dict[tuple[int, int], bool]:
        """(frame, face) of each face that counts -> whether a box from a score on found it."""
        hits = zip(self.frame, self.face, self.scores, strict=True)
        found = {(int(frame), int(face)): bool(score >= threshold) for frame, face, score in hits if face >= 0}
        return dict(sorted((dict.fromkeys(self.missed, False) | found).items()))

    def false_alarms(self, threshold: float) -> float:
        """False alarms per frame, of the boxes from a score on."""
        return float(np.count_nonzero(~self.hit & (self.scores >= threshold)) / max(self.frames, 1))


def match(
    found: Sequence[FrameDetections], *, smallest: float = SMALLEST, largest: float = np.inf, needed: float = IOU
) -> Matches:
    """Hold found boxes against labelled ones, of faces whose side is from `smallest` to below `largest`."""
    rows: list[tuple[float, int, int, int]] = []  # score, face, frame, box
    missed: list[tuple[int, int]] = []
    faces = 0
    for number, frame in enumerate(found):
        sides = box_size(frame.truth)
        counts = (sides >= smallest) & (sides < largest) & ~frame.ignore
        faces += int(np.count_nonzero(counts))
        overlaps = iou(frame.boxes, frame.truth) if len(frame.boxes) and len(frame.truth) else np.zeros((0, 0))
        own = box_size(frame.boxes) if len(frame.boxes) else np.zeros(0)
        free = counts.copy()
        for box in np.argsort(-frame.scores, kind="stable"):
            score = float(frame.scores[box])
            if overlaps.size:
                best = np.where(free, overlaps[box], -1.0)
                if best.max() >= needed:
                    free[best.argmax()] = False
                    rows.append((score, int(best.argmax()), number, int(box)))
                    continue
                if (overlaps[box][~counts] >= needed).any():
                    continue
            if smallest <= own[box] < largest:
                rows.append((score, -1, number, int(box)))
        missed += [(number, int(face)) for face in np.flatnonzero(free)]
    rows.sort(key=lambda row: -row[0])
    return Matches(
        scores=np.array([row[0] for row in rows], dtype=np.float64),
        hit=np.array([row[1] >= 0 for row in rows], dtype=bool),
        frame=np.array([row[2] for row in rows], dtype=np.intp),
        box=np.array([row[3] for row in rows], dtype=np.intp),
        face=np.array([row[1] for row in rows], dtype=np.intp),
        missed=tuple(missed),
        faces=faces,
        frames=len(found),
    )


def precision_recall(matches: Matches) -> tuple[Floats, Floats]:
    """Interpolated precision and recall after each box, by falling score."""
    hits = np.cumsum(matches.hit)
    precision = hits / np.arange(1, len(hits) + 1)
    return np.maximum.accumulate(precision[::-1])[::-1], np.asarray(hits / max(matches.faces, 1), dtype=np.float64)


def average_precision(matches: Matches) -> float:
    """Area under the curve of `precision_recall`; 0 where nothing was found."""
    precision, recall = precision_recall(matches)
    return float(np.sum(np.diff(np.concatenate([[0.0], recall])) * precision))


@dataclass(frozen=True, slots=True)
class DetectionAccuracy:
    """The figures of one set at one resolution."""

    # frames, faces: how many; faces are those that count
    frames: int
    faces: int
    average_precision: float | None  # at an IoU of `IOU`; None where no face counts
    threshold: float  # score from which on a box is taken for a face
    # precision, recall: at the threshold; None where no face counts
    precision: float | None
    recall: float | None
    false_alarms: float  # a frame, at the threshold
    faceless_frames: int  # frames without a labelled face
    # false alarms of any size in each of these, at the threshold; None where there are none
    faceless_alarms: float | None
    # a row for each range of sides: from_px, to_px (None: and more), faces, average precision
    by_size: tuple[dict[str, Any], ...]
    smallest_px: float  # side of the smallest face that counts

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON types."""
        return {**asdict(self), "by_size": list(self.by_size)}


def measure_detections(found: Sequence[FrameDetections], threshold: float) -> tuple[DetectionAccuracy, Matches]:
    """All figures of some frames at a threshold; their boxes reach down to a low score."""
    matches = match(found)
    by_size = []
    for low, high in zip(SIZES, (*SIZES[1:], np.inf), strict=True):
        part = match(found, smallest=low, largest=high)
        by_size.append(
            {
                "from_px": low,
                "to_px": None if np.isinf(high) else high,
                "faces": part.faces,
                "average_precision": average_precision(part) if part.faces else None,
            }
        )
    background = [frame for frame in found if not len(frame.truth)]
    precision, recall = matches.at(threshold)
    counted = bool(matches.faces)
    return (
        DetectionAccuracy(
            frames=matches.frames,
            faces=matches.faces,
            average_precision=average_precision(matches) if counted else None,
            threshold=threshold,
            precision=precision if counted else None,
            recall=recall if counted else None,
            false_alarms=matches.false_alarms(threshold),
            faceless_frames=len(background),
            faceless_alarms=match(background, smallest=0.0).false_alarms(threshold) if background else None,
            by_size=tuple(by_size),
            smallest_px=SMALLEST,
        ),
        matches,
    )


def choose_threshold(matches: Matches, background: Sequence[Matches], *, alarms: float) -> float:
    """The score with the highest F1 of precision and recall in frames with faces among those that raise at most
    `alarms` false alarms per frame in frames without, at each size at which these were looked at, rounded up to two
    decimals.
    """
    candidates = [percent / 100 for percent in range(5, 100)]

    def f1(threshold: float) -> float:
        precision, recall = matches.at(threshold)
        return 2 * precision * recall / max(precision + recall, 1e-9)

    allowed = [score for score in candidates if all(one.false_alarms(score) <= alarms for one in background)]
    return max(allowed or candidates[-1:], key=f1)
