"""Faces through a video: detect now and then, follow the points from frame to frame.

A face that is followed needs no detector: its next crop lies around its last points, moved on as they moved, and the
keypoint model's score decides whether it still is a face. The detector looks for new faces within a set time, and at
once after a face was lost; one that comes back gets its number again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.boxes import boxes_of_points, turned_box
from kpedge.errors import UsageError
from kpedge.faces import Face, Pose
from kpedge.geometry import Image, box_overlaps_image, box_size
from kpedge.keypoints import FACES21
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.keypoints import KeypointPredictor
from kpedge.runtime.models import open_finders
from kpedge.runtime.pose import head_poses
from kpedge.runtime.smoothing import Smoothing, SmoothState, smooth
from kpedge.runtime.steps import StepClock
from kpedge.runtime.tracks import Track, apart, doubles, returning
from kpedge.shelf import DEFAULT_DETECTOR, DEFAULT_MODEL

SIDE = 320
"""Longer side, pixels, at which a video's frames are searched unless the user asks for another."""
MAX_FACES = 10
FIND_WITHIN = 0.5
"""Seconds within which a new face is looked for."""
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
STEPS = ("detect", "crop", "keypoints", "track", "smooth", "pose")
"""What a tracker times, in its order."""


class FaceTracker:
    """Finds and follows the faces of a video.

    Attributes:
        detector: finds new faces.
        predictor: finds the keypoints; its score tells a face that is gone.
        max_faces: most faces that are followed.
        find_within: seconds within which a new face is looked for.
        smoothing: how points are steadied, or None.
        pose: whether faces tell how heads are turned.
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
            detector, keypoints, side=side, threshold=threshold, threads=threads, provider=provider
        )
        card = self.predictor.model.card
        if card.scheme != FACES21 or not card.has_score:
            raise UsageError(f"{card.name} cannot follow faces", "give a stage 3, with 21 points and a face score")
        if max_faces < 1:
            raise UsageError(f"--max-faces must be at least 1, not {max_faces}")
        if not find_within > 0:
            raise UsageError(f"--find-within must be above 0, not {find_within:g}")
        self.max_faces = max_faces
        self.find_within = find_within
        self.smoothing = smoothing
        self.pose = pose
        self.clock = StepClock()
        self.tracks: list[Track] = []
        self._next_id = 1
        self._searched_s = self._last_s = -math.inf
        self._size = (0, 0)
        self._steadied: tuple[list[int], SmoothState] | None = None

    def reset(self) -> None:
        """Forget every face; no number is given twice."""
        self.tracks = []
        self._steadied = None
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
        boxes = np.array([one.moved_on(time_s) for one in followed]).reshape(-1, 4)
        rolls = np.array([one.roll for one in followed])
        if self._is_search_due(time_s, len(followed)):
            self._searched_s = time_s
            new, turns = self._search(image, boxes, self.max_faces - len(followed))
            boxes, rolls = np.concatenate([boxes, new]), np.concatenate([rolls, turns])
        self.clock.lap("track")
        points, scores, errors = self._locate(image, boxes, rolls)
        seen = self._sort(followed, points, scores, time_s)
        rows = [row for row, _ in seen]
        points, boxes = points[rows], np.array([one.box for _, one in seen]).reshape(-1, 4)
        self.clock.lap("track")
        if self.smoothing is not None:
            points = self._steady([one.id for _, one in seen], points, box_size(boxes), passed)
            boxes = boxes_of_points(points)
            self.clock.lap("smooth")
        poses: list[Pose | None] = [None] * len(seen)
        if self.pose:
            poses = head_poses(points, FACES21, size)
            self.clock.lap("pose")
        return tuple(
            Face(box, own, float(scores[row]), None if errors is None else errors[row], track.id, pose)
            for (row, track), box, own, pose in zip(seen, boxes, points, poses, strict=True)
        )

    def _steady(
        self, ids: list[int], points: NDArray[np.float64], sides: NDArray[np.float64], passed: float
    ) -> NDArray[np.float64]:
        """Points (N, 21, 2) of faces, smoothed in time; of those that were not seen in the last frame, as they are."""
        if self.smoothing is None or not ids:
            self._steadied = None
            return points
        old, state = self._steadied or ([], SmoothState.start(points[:0]))
        if old != ids:
            new = [place for place, one in enumerate(ids) if one not in old]
            state = SmoothState.joined([state, SmoothState.start(points[new])])
            known = [*old, *(ids[place] for place in new)]
            state = state.take([known.index(one) for one in ids])
        points, state = smooth(state, points, sides, passed, self.smoothing)
        self._steadied = ids, state
        return points

    def _is_search_due(self, time_s: float, followed: int) -> bool:
        if followed >= self.max_faces:
            return False
        hurried = followed == 0 or followed < len(self.tracks)
        within = min(HURRIED, self.find_within) if hurried else self.find_within
        return time_s - self._searched_s >= within - 1e-6  # a frame that is due is not put off by rounding

    def _search(
        self, image: Image, followed: NDArray[np.float64], room: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Boxes (N, 4) and rolls (N,) of new faces, apart from boxes of faces that are followed.

        They follow from the points of a first look at what the detector found, and are nearer to those that the
        keypoint model was trained on.
        """
        found = self.detector(image)
        self.clock.lap("detect")
        boxes = np.array([one.box for one in found]).reshape(-1, 4)
        rolls = np.array([float(self.detector.model.card.scheme.roll(one.points)) for one in found])
        new = apart(boxes, followed)
        points, scores, _ = self._locate(image, boxes[new], rolls[new])
        points = points[scores >= self.predictor.threshold][:room]
        return boxes_of_points(points), FACES21.roll(points)

    def _locate(
        self, image: Image, boxes: NDArray[np.float64], rolls: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
        """Keypoints (N, 21, 2), scores (N,) and expected errors (N, 21) for boxes (N, 4): pixels of the image. What
        lies outside the image, or is too small, has a score of 0.
        """
        height, width = image.shape[:2]
        turned = [turned_box(box, roll) for box, roll in zip(boxes, rolls, strict=True)]
        shown = [
            row
            for row, box in enumerate(turned)
            if box[2] - box[0] >= SMALLEST and box_overlaps_image(box, width, height)
        ]
        points, scores = np.zeros((len(boxes), len(FACES21), 2)), np.zeros(len(boxes))
        if not shown:
            return points, scores, None
        crops, transforms = self.predictor.preprocess(image, np.array(turned)[shown], rolls[shown].tolist())
        self.clock.lap("crop")
        outputs = self.predictor.model(crops)
        self.clock.lap("keypoints")
        located = self.predictor.locate(outputs, transforms)
        points[shown] = located.keypoints
        scores[shown] = located.scores
        errors = None
        if located.errors is not None:
            errors = np.zeros(points.shape[:2])
            errors[shown] = located.errors
        return points, scores, errors

    def _sort(
        self, followed: Sequence[Track], points: NDArray[np.float64], scores: NDArray[np.float64], time_s: float
    ) -> list[tuple[int, Track]]:
        """Decide which rows show a face, and whose: first those that were followed, then new ones."""
        boxes, rolls, count = boxes_of_points(points), FACES21.roll(points), len(followed)
        wanted = np.full(len(points), self.predictor.threshold)
        wanted[:count] *= KEPT
        sides = box_size(boxes)
        good = (scores >= wanted) & (sides >= SMALLEST)
        if count:
            before = box_size(np.array([one.box for one in followed]))
            good[:count] &= (sides[:count] < JUMP * before) & (before < JUMP * sides[:count])
        rows = np.flatnonzero(good)
        rows = rows[~doubles(boxes[rows])]
        for track in followed:
            track.lost = True
        seen = [(int(row), followed[row]) for row in rows[rows < count]]
        for row, track in seen:
            track.lost = False
            track.see(boxes[row], float(rolls[row]), time_s)
        if len(seen) < count:
            self._searched_s = -math.inf  # a face was lost: the next frame is searched
        new = rows[rows >= count]
        lost = [one for one in self.tracks if one.lost]
        for row, known in zip(new.tolist(), returning(boxes[new], lost), strict=True):
            track = known or self._new_track(boxes[row], time_s)
            track.see(boxes[row], float(rolls[row]), time_s)
            seen.append((row, track))
        return sorted(seen, key=lambda pair: pair[1].id)

    def _new_track(self, box: NDArray[np.float64], time_s: float) -> Track:
        track = Track(self._next_id, box, 0.0, np.zeros(2), time_s)
        self._next_id += 1
        self.tracks.append(track)
        return track
