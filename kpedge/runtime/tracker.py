"""Faces through a video: detect now and then, follow the points from frame to frame.

A face that is followed needs no detector: its next crop lies around its last points, moved on as they moved, and the
keypoint model's score decides whether it still is a face. The detector looks for new faces within a set time, and at
once after a face was lost; one that comes back gets its number again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import GUESSES, PointBoxes, guessed, turned_box
from kpedge.core.card import ModelCard
from kpedge.core.errors import UsageError
from kpedge.core.faces import Face, Pose
from kpedge.core.geometry import Image, box_overlaps_image, box_size, iou, mean_weights
from kpedge.core.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.keypoints import KeypointPredictor, Located
from kpedge.runtime.models import FOLLOWED, open_finders
from kpedge.runtime.pose import head_poses
from kpedge.runtime.smoothing import FaceSmoother, Smoothing
from kpedge.runtime.steps import StepClock
from kpedge.runtime.tracks import Track, doubles, owners, returning

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
STEPS = ("detect", "crop", "keypoints", "track", "smooth", "pose")
"""What a tracker times, in its order."""


@dataclass(slots=True, eq=False)
class _Looks:
    """What the keypoint model says of N places; one outside the image, or too small, has a score of 0.

    Attributes:
        points: float64 (N, K, 2), pixels of the image.
        boxes: float64 (N, 4), those of the points.
        scores: float (N,).
        errors: float64 (N, K), expected errors of the points, pixels; 0 where the model does not tell them.
        tells_errors: whether it does.
    """

    points: NDArray[np.float64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.floating[Any]]
    errors: NDArray[np.float64]
    tells_errors: bool = False

    @classmethod
    def nothing(cls, count: int, points: int) -> _Looks:
        """No face of K points in any of so many places."""
        return cls(np.zeros((count, points, 2)), np.zeros((count, 4)), np.zeros(count), np.zeros((count, points)))

    @classmethod
    def of(cls, located: Located, boxes: PointBoxes) -> _Looks:
        """What was located."""
        points, scores, errors = located.keypoints, located.scores, located.errors
        scores = np.ones(len(points), np.float32) if scores is None else scores
        told = np.zeros(points.shape[:2]) if errors is None else errors
        return cls(points, boxes.boxes(points), scores, told, errors is not None)

    def spread(self, rows: Sequence[int], count: int) -> _Looks:
        """These looks as some rows of so many; nothing is seen in the others."""
        whole = _Looks.nothing(count, self.points.shape[1])
        for few, all_rows in zip(self._values, whole._values, strict=True):
            all_rows[rows] = few
        whole.tells_errors = self.tells_errors
        return whole

    @property
    def _values(self) -> tuple[NDArray[np.floating[Any]], ...]:
        return self.points, self.boxes, self.scores, self.errors

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Leave the other rows out."""
        self.points, self.boxes = self.points[rows], self.boxes[rows]
        self.scores, self.errors = self.scores[rows], self.errors[rows]

    def take_over(self, row: int, other: int) -> None:
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
        clock: how long each of `STEPS` took for the last frame.
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
        max_faces: int = MAX_FACES,
        find_within: float = FIND_WITHIN,
        smoothing: Smoothing | None = USUAL_SMOOTHING,
        pose: bool = True,
    ) -> None:
        """Open the models.

        Args:
            detector: this and `keypoints`, `side`, `threshold`, `threads`, `provider` are the arguments of
                `kpedge.runtime.models.open_finders`.
            keypoints: see there.
            side: see there.
            threshold: see there.
            threads: see there.
            provider: see there.
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
        )
        card = self.predictor.model.card
        self.scheme = card.scheme
        self._boxes = PointBoxes(card.scheme, card.mean_shape, card.crop)
        self._doubted = max(DOUBTFUL, DOUBTED * _validation_error(card))
        if not card.has_score:
            raise UsageError(f"{card.name} cannot follow faces: it has no face score", "give a stage 3")
        if not self._boxes.tells_size:
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
        self.clock = StepClock()
        self.tracks: list[Track] = []
        self._next_id = 1
        self._searched_s = self._last_s = -math.inf
        self._size = (0, 0)
        self._smoother = FaceSmoother(smoothing or Smoothing())
        self._doubtful = False

    def reset(self) -> None:
        """Forget every face; no number is given twice."""
        self.tracks = []
        self._smoother.reset()
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
        self.clock.start()
        self.tracks = [one for one in self.tracks if time_s - one.seen_s <= REMEMBERED]
        followed = [one for one in self.tracks if not one.lost]
        boxes, rolls = np.empty((0, 4)), np.empty(0)
        if followed:
            ahead = self._smoother.expected([one.id for one in followed], passed)
            boxes, rolls = self._boxes(ahead)
        rivals: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        if self._is_search_due(time_s, len(followed)):
            self._searched_s = time_s
            new, turns, rivals = self._search(image, boxes, self.max_faces - len(followed))
            boxes, rolls = np.concatenate([boxes, new]), np.concatenate([rolls, turns])
        self.clock.lap("track")
        looks = self._look(image, boxes, rolls)
        seen, changed = self._sort(followed, looks, rivals, time_s)
        rows = [row for row, _ in seen]
        points, boxes = looks.points[rows], looks.boxes[rows]
        self.clock.lap("track")
        # Smoothed points also say where to look next: crops cut around the model's own would shake, and it with them.
        smoothed = self._smoother([one.id for _, one in seen], points, box_size(boxes), passed, changed)
        if self.smooth:
            points, boxes = smoothed, self._boxes.boxes(smoothed)
        self.clock.lap("smooth")
        poses: list[Pose | None] = [None] * len(seen)
        if self.pose:
            poses = head_poses(points, self.scheme, size)
            self.clock.lap("pose")
        return tuple(
            Face(box, own, float(looks.scores[row]), looks.errors[row] if looks.tells_errors else None, one.id, pose)
            for (row, one), box, own, pose in zip(seen, boxes, points, poses, strict=True)
        )

    def _is_search_due(self, time_s: float, followed: int) -> bool:
        if followed >= self.max_faces and not self._doubtful:
            return False
        hurried = self._doubtful or followed == 0 or followed < len(self.tracks)
        within = min(HURRIED, self.find_within) if hurried else self.find_within
        return time_s - self._searched_s >= within - 1e-6  # a frame that is due is not put off by rounding

    def _search(
        self, image: Image, followed: NDArray[np.float64], room: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
        """Where else to look for faces, given boxes of those that are followed: boxes (N, 4), rolls (N,), and for each
        the followed face that it may be the better place for, -1 for a new face.

        Boxes follow from the points of a first look at what the detector found, and are nearer to those that the
        keypoint model was trained on.
        """
        found = self.detector(image)
        self.clock.lap("detect")
        rolls = np.array([float(self.detector.model.card.scheme.roll(one.points)) for one in found])
        boxes = self._boxes.of_faces(np.array([one.box for one in found]).reshape(-1, 4), rolls)
        whose = owners(boxes, followed)
        known = np.flatnonzero(whose >= 0)
        wanted = whose < 0
        if len(known):
            wanted[known] = iou(boxes[known], followed)[np.arange(len(known)), whose[known]] < AGREED_IOU
        boxes, rolls, whose = boxes[wanted], rolls[wanted], whose[wanted]
        if self._boxes.knows_faces:
            looks = self._look(image, boxes, rolls)
            good = looks.scores >= self.predictor.threshold
        else:  # at several sizes, the best one goes on, and the next look decides whether it is a face
            looks = self._look(image, guessed(boxes).reshape(-1, 4), np.repeat(rolls, len(GUESSES)))
            looks.keep(np.argmax(looks.scores.reshape(-1, len(GUESSES)), axis=1) + len(GUESSES) * np.arange(len(boxes)))
            good = looks.scores > 0
        good &= (whose >= 0) | (np.cumsum(good & (whose < 0)) <= room)
        return *self._boxes(looks.points[good]), whose[good]

    def _look(self, image: Image, boxes: NDArray[np.float64], rolls: NDArray[np.float64]) -> _Looks:
        """What the keypoint model says of boxes (N, 4) that are turned by rolls (N,)."""
        height, width = image.shape[:2]
        turned = [turned_box(box, roll) for box, roll in zip(boxes, rolls.tolist(), strict=True)]
        shown = [
            row
            for row, box in enumerate(turned)
            if box[2] - box[0] >= SMALLEST and box_overlaps_image(box, width, height)
        ]
        if not shown:
            return _Looks.nothing(len(boxes), len(self.scheme))
        whole = len(shown) == len(boxes)
        crops, transforms = self.predictor.preprocess(
            image, np.array(turned if whole else [turned[row] for row in shown]), rolls[shown].tolist()
        )
        self.clock.lap("crop")
        outputs = self.predictor.model(crops)
        self.clock.lap("keypoints")
        looks = _Looks.of(self.predictor.locate(outputs, transforms), self._boxes)
        return looks if whole else looks.spread(shown, len(boxes))

    def _sort(
        self, followed: Sequence[Track], looks: _Looks, rivals: NDArray[np.intp], time_s: float
    ) -> tuple[list[tuple[int, Track]], list[int]]:
        """Decide which rows of looks show a face, and whose: first those that were followed, then rivals of those and
        new ones. A better rival takes the row of the face that it is.

        Returns:
            Rows with their faces, by number; and the numbers of the faces whose rows were taken.
        """
        # Plain numbers: there are few faces, and a call of NumPy costs as much as twenty of these.
        count, threshold = len(followed), self.predictor.threshold
        scores, doubt = looks.scores.tolist(), looks.errors.dot(mean_weights(len(self.scheme))).tolist()
        sides = (looks.boxes[:, 2] - looks.boxes[:, 0]).tolist()
        good = []
        for row, (score, side) in enumerate(zip(scores, sides, strict=True)):
            fits = side >= SMALLEST
            if row < count:
                before = float(followed[row].box[2] - followed[row].box[0])
                fits = fits and score >= KEPT * threshold and side < JUMP * before and before < JUMP * side
            else:
                fits = fits and score >= threshold
            doubt[row] /= max(side, SMALLEST)
            good.append(fits)
        changed = []
        for row, owner in enumerate(rivals.tolist(), count):
            if owner >= 0 and good[row] and (not good[owner] or doubt[row] < BETTER * doubt[owner]):
                looks.take_over(owner, row)
                doubt[owner], good[owner] = doubt[row], True
                changed.append(followed[owner].id)
            good[row] = good[row] and owner < 0
        rows = [row for row, fits in enumerate(good) if fits]
        rows = [row for row, double in zip(rows, doubles(looks.boxes[rows]), strict=True) if not double]
        for track in followed:
            track.lost = True
        seen = [(row, followed[row]) for row in rows if row < count]
        if len(seen) < count:
            self._searched_s = -math.inf  # a face was lost: the next frame is searched
        for _, track in seen:
            track.lost = False
        new = [row for row in rows if row >= count]
        if new:
            lost = [one for one in self.tracks if one.lost]
            for row, known in zip(new, returning(looks.boxes[new], lost), strict=True):
                seen.append((row, known or self._new_track(time_s)))
        for row, track in seen:
            track.box, track.seen_s, track.lost = looks.boxes[row], time_s, False
        self._doubtful = any(doubt[row] > self._doubted for row, _ in seen)
        return sorted(seen, key=lambda pair: pair[1].id), changed

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
