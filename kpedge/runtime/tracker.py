"""Faces through a video: detect now and then, follow the points from frame to frame.

A face that is followed needs no detector: its next crop lies around its last points, moved on as they moved, and the
keypoint model's score decides whether it still is a face. The detector looks for new faces within a set time, and at
once after a face was lost; one that comes back gets its number again.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import ModelCard
from kpedge.core.errors import UsageError
from kpedge.core.faces import Face, Pose
from kpedge.core.geometry import Image, iou, mean_weights
from kpedge.core.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.keypoints import SCALES, KeypointPredictor, PointBoxes, scaled_boxes
from kpedge.runtime.models import FOLLOWED, open_finders
from kpedge.runtime.pose import head_poses
from kpedge.runtime.smoothing import Smoothing, SmoothState, smooth
from kpedge.runtime.tracks import Track, doubles, owners, returning

Floats = NDArray[np.float64]

SIDE = 320
"""Longer side, pixels, at which a video's frames are searched unless the user asks for another."""
MAX_FACES = 10
FIND_WITHIN = 1.0
"""Seconds within which a new face is looked for, while others are followed."""
HURRIED = 0.1
"""Likewise while no face is there, or one is missing."""
REMEMBERED = 1.0
"""Seconds for which a lost face keeps its number."""
KEPT = 0.5
"""Of the score's threshold: above it a face that is followed stays one."""
JUMP = 1.6
"""Ratio of a face's sides in two frames that follow each other, up to which it is the same."""
SMALLEST = 8.0
"""Side of the smallest face that is followed, pixels."""
USUAL_SMOOTHING = Smoothing()
DOUBTFUL = 0.04
"""Mean expected error of a face, in its side, above which it is held against a new search: a crop that is too small
shows features that the model takes for others, and the next one follows from them. In good videos it is about 0.02.
"""
DOUBTED = 1.5
"""Likewise, in the error of validation faces that the model's card states, where this is more: some points, and some
models, are less exact. The released stage 3 stays with `DOUBTFUL`."""
AGREED_IOU = 0.7
"""Overlap of a found box with a followed one below which both are looked at."""
BETTER = 0.9
"""Of the expected error of a followed face, below which a rival takes its place."""
STAGES = ("detect", "crop", "keypoints", "track", "smooth", "pose")
"""What a tracker times, in order."""


@dataclass(slots=True, eq=False)
class _Candidates:
    """What the keypoint model finds in N boxes; one outside the image, or too small, has a score of 0.

    Attributes:
        points: float64 (N, K, 2), pixels of the image.
        boxes: float64 (N, 4), those of the points.
        scores: float (N,).
        errors: float64 (N, K), expected errors of the points, pixels; 0 where the model does not give them.
        has_errors: whether it does.
    """

    points: Floats
    boxes: Floats
    scores: NDArray[np.floating[Any]]
    errors: Floats
    has_errors: bool = False

    @classmethod
    def none(cls, count: int, points: int) -> _Candidates:
        """No face of K points in any of so many places."""
        return cls(np.zeros((count, points, 2)), np.zeros((count, 4)), np.zeros(count), np.zeros((count, points)))

    def scatter(self, rows: Sequence[int], count: int) -> _Candidates:
        """These as some rows of so many; nothing is found in the others."""
        whole = _Candidates.none(count, self.points.shape[1])
        for few, every in zip(self._values, whole._values, strict=True):
            every[rows] = few
        whole.has_errors = self.has_errors
        return whole

    @property
    def _values(self) -> tuple[NDArray[np.floating[Any]], ...]:
        return self.points, self.boxes, self.scores, self.errors

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Leave the other rows out."""
        self.points, self.boxes = self.points[rows], self.boxes[rows]
        self.scores, self.errors = self.scores[rows], self.errors[rows]

    def replace_row(self, row: int, other: int) -> None:
        """Put what was found in one place in that of another."""
        for values in self._values:
            values[row] = values[other]


class FaceTracker:
    """Finds and follows the faces of a video.

    Attributes:
        detector: finds new faces.
        predictor: finds the keypoints; its score tells a face that is gone.
        max_faces: most faces that are followed.
        find_within: seconds within which a new face is looked for.
        smooth: whether the points that are given are steadied.
        pose: whether faces tell how heads are turned.
        scheme: of the points.
        tracks: the faces that are followed, and those lost a moment ago, by number.
    """

    def __init__(
        self,
        detector: str | Path | FaceDetector = DEFAULT_DETECTOR,
        keypoints: str | Path | KeypointPredictor = DEFAULT_MODEL,
        *,
        side: int | None = SIDE,
        threshold: float | None = None,
        threads: int = 1,
        provider: str = "cpu",
        backend: str = "auto",
        max_faces: int = MAX_FACES,
        find_within: float = FIND_WITHIN,
        smoothing: Smoothing | None = USUAL_SMOOTHING,
        pose: bool = True,
    ) -> None:
        """Open the models.

        Args:
            detector: this and `keypoints`, `side`, `threshold`, `threads`, `provider`, `backend` are the arguments of
                `kpedge.runtime.models.open_finders`.
            keypoints: see there.
            side: see there.
            threshold: see there.
            threads: see there.
            provider: see there.
            backend: see there.
            max_faces: most faces that are followed.
            find_within: seconds within which a new face is looked for.
            smoothing: how points are steadied; None leaves them as the model gives them.
            pose: tell how heads are turned.

        Raises:
            ModelError: a model is missing, broken, or not of its kind.
            UsageError: a setting makes no sense, or the keypoint model cannot follow faces.
        """
        self.detector, self.predictor = open_finders(
            detector,
            keypoints,
            side=side,
            threshold=threshold,
            verified=FOLLOWED,
            threads=threads,
            provider=provider,
            backend=backend,
        )
        card = self.predictor.model.card
        self.scheme = card.scheme
        self._boxes = PointBoxes(card)
        self._mean = mean_weights(len(card.scheme))
        self._doubted = max(DOUBTFUL, DOUBTED * _validation_error(card))
        if not card.has_score:
            raise UsageError(f"{card.name} cannot follow faces: it has no face score", "give a stage 3")
        if not self._boxes.gives_size:
            raise UsageError(
                f"{card.name} cannot follow faces: one point does not tell how large a face is",
                "give a model with two points or more",
            )
        if max_faces < 1:
            raise UsageError(f"--max-faces must be at least 1, not {max_faces}")
        if not find_within > 0:
            raise UsageError(f"--find-within must be above 0, not {find_within:g}")
        self.max_faces = max_faces
        self.find_within = find_within
        self.smooth = smoothing is not None
        self.pose = pose
        self.tracks: list[Track] = []
        self._next_id = 1
        self._searched_s = self._last_s = -math.inf
        self._size = (0, 0)
        self._smoothing = smoothing or Smoothing()
        self._state: SmoothState | None = None
        self._followed: list[Track] = []
        self._doubtful = False
        self._marks: list[tuple[str, float]] = []

    @property
    def stage_seconds(self) -> dict[str, float]:
        """How long each of `STAGES` took for the last frame."""
        seconds: dict[str, float] = {}
        for (_, before), (stage, now) in itertools.pairwise(self._marks):
            seconds[stage] = seconds.get(stage, 0.0) + now - before
        return seconds

    def reset(self) -> None:
        """Forget every face; no number is given twice."""
        self.tracks, self._followed, self._state = [], [], None
        self._doubtful = False
        self._searched_s = self._last_s = -math.inf

    def __call__(self, image: Image, time_s: float) -> tuple[Face, ...]:
        """The faces of the next frame, by number.

        Args:
            image: uint8 (H, W, 3), blue-green-red.
            time_s: when it was taken, seconds. A frame that is older than the last one, or of another size, begins a
                new video.
        """
        size = (image.shape[1], image.shape[0])
        if time_s < self._last_s or size != self._size:
            self.reset()
        passed = time_s - self._last_s
        self._last_s, self._size = time_s, size
        self._marks = [("", time.perf_counter())]
        self.tracks = [track for track in self.tracks if time_s - track.seen_s <= REMEMBERED]
        followed = self._followed if passed <= REMEMBERED else []
        if followed and self._state is not None:
            boxes, rolls = self._boxes(self._state.predict(passed))
        else:
            boxes, rolls = np.empty((0, 4)), []
        rivals: list[int] = []
        if self._is_search_due(time_s, len(followed)):
            self._searched_s = time_s
            new, turns, rivals = self._search(image, boxes, self.max_faces - len(followed))
            boxes, rolls = np.concatenate([boxes, new]), rolls + turns
        self._marks.append(("track", time.perf_counter()))
        found = self._predict(image, boxes, rolls)
        seen, restarted = self._sort(followed, found, rivals, time_s)
        rows, tracks = [row for row, _ in seen], [track for _, track in seen]
        points, boxes = found.points, found.boxes
        if rows != list(range(len(points))):
            points, boxes = points[rows], boxes[rows]
        self._marks.append(("track", time.perf_counter()))
        # Smoothed points also say where to look next: crops cut around the model's own would shake, and it with them.
        before = [row if row < len(followed) and row not in restarted else -1 for row in rows]
        state = SmoothState.start(points) if self._state is None else self._state.select(before, points)
        smoothed, self._state = smooth(state, points, boxes[:, 2] - boxes[:, 0], passed, self._smoothing)
        self._followed = tracks
        if self.smooth:
            points, (boxes, _) = smoothed, self._boxes(smoothed)
        self._marks.append(("smooth", time.perf_counter()))
        poses: list[Pose | None] = [None] * len(seen)
        if self.pose:
            poses = head_poses(points, self.scheme, size)
            self._marks.append(("pose", time.perf_counter()))
        scores, faces = found.scores.tolist(), []
        for row, track, box, own, pose in zip(rows, tracks, boxes, points, poses, strict=True):
            faces.append(Face(box, own, scores[row], found.errors[row] if found.has_errors else None, track.id, pose))
        return tuple(faces)

    def _is_search_due(self, time_s: float, followed: int) -> bool:
        if followed >= self.max_faces and not self._doubtful:
            return False
        hurried = self._doubtful or followed == 0 or followed < len(self.tracks)
        within = min(HURRIED, self.find_within) if hurried else self.find_within
        return time_s - self._searched_s >= within - 1e-6  # a frame that is due is not put off by rounding

    def _search(self, image: Image, followed: Floats, room: int) -> tuple[Floats, list[float], list[int]]:
        """Where else to look for faces, given boxes of those that are followed: boxes (N, 4), rolls (N,), and for each
        the followed face that it may be the better place for, -1 for a new face.

        Boxes follow from the points of a first look at what the detector found, and are nearer to those that the
        keypoint model was trained on.
        """
        detections = self.detector(image)
        self._marks.append(("detect", time.perf_counter()))
        rolls = np.array([float(self.detector.model.card.scheme.roll(one.points)) for one in detections])
        boxes = self._boxes.from_detector(np.array([one.box for one in detections]).reshape(-1, 4), rolls)
        whose = owners(boxes, followed)
        known = np.flatnonzero(whose >= 0)
        wanted = whose < 0
        if len(known):
            wanted[known] = iou(boxes[known], followed)[np.arange(len(known)), whose[known]] < AGREED_IOU
        boxes, turns, whose = boxes[wanted], rolls[wanted].tolist(), whose[wanted]
        if self._boxes.relates_to_ours:
            found = self._predict(image, boxes, turns)
            good = found.scores >= self.predictor.threshold
        else:  # at several sizes, the best one goes on, and the next crop decides whether it is a face
            found = self._predict(image, scaled_boxes(boxes).reshape(-1, 4), np.repeat(turns, len(SCALES)).tolist())
            found.keep(np.argmax(found.scores.reshape(-1, len(SCALES)), axis=1) + len(SCALES) * np.arange(len(boxes)))
            good = found.scores > 0
        good &= (whose >= 0) | (np.cumsum(good & (whose < 0)) <= room)
        return *self._boxes(found.points[good]), whose[good].tolist()

    def _predict(self, image: Image, boxes: Floats, rolls: list[float]) -> _Candidates:
        """What the keypoint model finds in boxes (N, 4) of faces rotated by rolls (N,)."""
        height, width = image.shape[:2]
        shown = [
            row
            for row, (x1, y1, x2, y2) in enumerate(boxes.tolist())
            if x2 - x1 >= SMALLEST and x1 < width - 0.5 and y1 < height - 0.5 and x2 > -0.5 and y2 > -0.5
        ]
        whole = len(shown) == len(boxes)
        if not shown:
            return _Candidates.none(len(boxes), len(self.scheme))
        if not whole:
            boxes, rolls = boxes[shown], [rolls[row] for row in shown]
        crops, transforms = self.predictor.preprocess(image, boxes, rolls)
        self._marks.append(("crop", time.perf_counter()))
        outputs = self.predictor.model(crops)
        self._marks.append(("keypoints", time.perf_counter()))
        located = self.predictor.locate(outputs, transforms)
        points, scores, errors = located.keypoints, located.scores, located.errors
        found = _Candidates(
            points,
            self._boxes(points)[0],
            np.ones(len(points)) if scores is None else scores,
            np.zeros(points.shape[:2]) if errors is None else errors,
            errors is not None,
        )
        return found if whole else found.scatter(shown, len(boxes))

    def _sort(
        self, followed: Sequence[Track], found: _Candidates, rivals: Sequence[int], time_s: float
    ) -> tuple[list[tuple[int, Track]], list[int]]:
        """Decide which candidates show a face, and whose: first those that were followed, then rivals of those and new
        ones. A better rival takes the row of the face that it is.

        Returns:
            Rows with their faces, by number; and the rows that a rival took.
        """
        # Plain numbers: there are few faces, and a call of NumPy costs as much as twenty of these.
        count, threshold = len(followed), self.predictor.threshold
        scores, doubt = found.scores.tolist(), found.errors.dot(self._mean).tolist()
        sides = (found.boxes[:, 2] - found.boxes[:, 0]).tolist()
        good = []
        for row, (score, side) in enumerate(zip(scores, sides, strict=True)):
            if row < count:
                before = followed[row].side
                fits = score >= KEPT * threshold and side < JUMP * before and before < JUMP * side
            else:
                fits = score >= threshold
            doubt[row] /= max(side, SMALLEST)
            good.append(fits and side >= SMALLEST)
        restarted = []
        for row, owner in enumerate(rivals, count):
            if owner >= 0 and good[row] and (not good[owner] or doubt[row] < BETTER * doubt[owner]):
                found.replace_row(owner, row)
                doubt[owner], sides[owner], good[owner] = doubt[row], sides[row], True
                restarted.append(owner)
            good[row] = good[row] and owner < 0
        rows = [row for row, fits in enumerate(good) if fits]
        if len(rows) > 1:
            rows = [row for row, double in zip(rows, doubles(found.boxes[rows]), strict=True) if not double]
        for track in followed:
            track.lost = True
        seen = [(row, followed[row]) for row in rows if row < count]
        if len(seen) < count:
            self._searched_s = -math.inf  # a face was lost: the next frame is searched
        for _, track in seen:
            track.lost = False
        new = [row for row in rows if row >= count]
        if new:
            lost = [track for track in self.tracks if track.lost]
            for row, known in zip(new, returning(found.boxes[new], lost), strict=True):
                seen.append((row, known or self._new_track(time_s)))
        self._doubtful = False
        for row, track in seen:
            track.box, track.side, track.seen_s, track.lost = found.boxes[row], sides[row], time_s, False
            self._doubtful |= doubt[row] > self._doubted
        if len(seen) > 1:
            seen.sort(key=lambda pair: pair[1].id)
        return seen, restarted

    def _new_track(self, time_s: float) -> Track:
        track = Track(self._next_id, np.zeros(4), time_s)
        self._next_id += 1
        self.tracks.append(track)
        return track


def _validation_error(card: ModelCard) -> float:
    """The mean error of its validation faces, in sides of the box, that a card states; 0 where it does not."""
    stated = card.accuracy.get("validation", {})
    error = stated.get("nme_box") if isinstance(stated, dict) else None
    return float(error) if isinstance(error, int | float) else 0.0
