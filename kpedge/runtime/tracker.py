"""Faces through a video: detect now and then, track the keypoints from frame to frame.

A face that is tracked needs no detector: its next crop lies around its last points, moved on as they moved, and the
keypoint model's score decides whether it still is a face. The detector looks for new faces at an interval, and in the
same frame when a face was lost; one that returns gets its id again (`kpedge.runtime.tracks`).
"""

import itertools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import UsageError
from kpedge.core.faces import Face, Pose
from kpedge.core.geometry import Image, mean_weights
from kpedge.core.joint_score import JOINT_THRESHOLD
from kpedge.core.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from kpedge.runtime.detector import FaceDetector, FrameModel
from kpedge.runtime.inputs import to_image
from kpedge.runtime.keypoints import SCALES, Candidates, CropModel, KeypointPredictor, scaled_boxes
from kpedge.runtime.models import FOLLOWED, joint_score, open_finders
from kpedge.runtime.pose import PoseEstimator
from kpedge.runtime.smoothing import Smoothing, SmoothState, smooth
from kpedge.runtime.tracks import (
    CHANGED,
    CLEAR,
    JOINT_SEARCH,
    JUMPED,
    JUMPED_DIFFERENT,
    KEEP_THRESHOLD,
    LOOK_INTERVAL,
    MAX_AGE,
    MAX_ERROR,
    MAX_ERROR_RATIO,
    MAX_SCALE_CHANGE,
    SETTLED,
    SMALLEST,
    VELOCITY_S,
    Track,
    appearance,
    boxes_to_try,
    check_tracking,
    choose,
    drop_duplicates,
    reidentify,
    score_jointly,
    take_better,
)

Floats = NDArray[np.float64]

SIDE = 320  # longer side, pixels, at which a video's frames are searched unless the user asks for another
MAX_FACES = 10
DETECTION_INTERVAL = 1.0  # seconds between searches for new faces while others are tracked
SHORT_INTERVAL = 0.1  # the same while there is no face, or one is missing or doubtful
DEFAULT_SMOOTHING = Smoothing()
STAGES = ("detect", "crop", "keypoints", "track", "smooth", "pose")  # what a tracker times, in order


class FaceTracker:
    """Finds and tracks the faces of a video.

    Attributes:
        detector: finds new faces.
        predictor: finds the keypoints; its score shows when a face is gone.
        max_faces: most faces that are tracked.
        prefer: which are, a key of `PREFERENCES`.
        detection_interval: seconds between searches for new faces.
        smooth: whether the points are smoothed in time.
        pose: whether head poses are estimated.
        scheme: of the points.
        tracks: the faces that are tracked, and those lost a moment ago, by id.
    """

    def __init__(
        self,
        model: str | Path | CropModel | KeypointPredictor = DEFAULT_MODEL,
        detector: str | Path | FrameModel | FaceDetector = DEFAULT_DETECTOR,
        *,
        max_side: int | None = SIDE,
        threshold: float | None = None,
        threads: int = 1,
        provider: str = "cpu",
        backend: str = "auto",
        max_faces: int = MAX_FACES,
        prefer: str = "largest",
        detection_interval: float = DETECTION_INTERVAL,
        smooth: bool | Smoothing = True,
        pose: bool = True,
    ) -> None:
        """Open the models.

        Args:
            model: finds the keypoints: a file, the name of a released model, an open model, or a predictor with its own
                settings.
            detector: finds new faces; the same.
            max_side: longer side, pixels, at which frames are searched; the detector's own when None.
            threshold: the model's score from which on there is a face; its own when None.
            threads: for each run of a model.
            provider: execution provider of onnxruntime.
            backend: what runs the models; by their files when "auto".
            max_faces: most faces that are tracked.
            prefer: which are, where there are more: `largest`, `score` or `centre`.
            detection_interval: seconds between searches for new faces while others are tracked.
            smooth: smooth the points in time, or how; False leaves them as the model gives them.
            pose: estimate head poses.

        Raises:
            ModelError: a model is missing, broken, or not of its kind.
            UsageError: a setting makes no sense, or the keypoint model cannot be used for tracking.
        """
        how: dict[str, Any] = {"threads": threads, "provider": provider, "backend": backend}
        self.detector, self.predictor = open_finders(
            detector, model, side=max_side, threshold=threshold, verified=FOLLOWED, **how
        )
        card = self.predictor.model.card
        opened = isinstance(model, KeypointPredictor) or isinstance(detector, FaceDetector)
        self._joint = None if opened or threshold is not None else joint_score(self.detector.model.card, card)
        if self._joint is not None:
            self.detector.threshold = JOINT_SEARCH * (self.detector.model.card.threshold or 0.0)
        self.scheme = card.scheme
        self._boxes = self.predictor.boxes
        self._poses = PoseEstimator(card.scheme)
        self._mean = mean_weights(len(card.scheme))
        self._max_error = max(MAX_ERROR, MAX_ERROR_RATIO * card.validation_error)
        check_tracking(card, self._boxes.gives_size, max_faces, prefer, detection_interval)
        self.max_faces, self.prefer, self.detection_interval = max_faces, prefer, detection_interval
        self.smooth = smooth is not False
        self.pose = pose
        self.tracks: list[Track] = []
        self._ids = itertools.count(1)
        self._searched_s = self._last_s = -math.inf
        self._size = (0, 0)
        self._smoothing = smooth if isinstance(smooth, Smoothing) else DEFAULT_SMOOTHING
        self._state: SmoothState | None = None
        self._tracked: list[Track] = []
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
        """Forget every face; no id is used twice."""
        self.tracks, self._tracked, self._state = [], [], None
        self._doubtful = False
        self._searched_s = self._last_s = -math.inf

    def __call__(self, image: Any, time_s: float | None = None, *, colour: str = "bgr") -> tuple[Face, ...]:
        """The faces of the next frame, by id.

        Args:
            image: uint8 (H, W, 3), or another image as `kpedge.load` takes it.
            time_s: when it was taken, seconds; now when None. An earlier time or another size begins a new video.
            colour: order of an array's channels: "bgr", as OpenCV reads images, or "rgb".

        Raises:
            UsageError: something that is no image; a time that is no number, or not finite.
        """
        plain = type(image) is np.ndarray and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        if not plain or not image.size or colour != "bgr":
            image = to_image(image, colour)
        try:
            time_s = time.monotonic() if time_s is None else float(time_s)
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"the time of a frame is a number of seconds, not {time_s!r}") from None
        if not math.isfinite(time_s):
            raise UsageError(f"the time of a frame must be finite, not {time_s}")
        size = (image.shape[1], image.shape[0])
        if time_s < self._last_s or size != self._size:
            self.reset()
        passed = time_s - self._last_s
        self._last_s, self._size = time_s, size
        self._marks = [("", time.perf_counter())]
        self.tracks = [track for track in self.tracks if time_s - track.seen_s <= MAX_AGE]
        tracked = self._tracked if passed <= MAX_AGE else []
        if tracked and self._state is not None:
            predicted, rolls = self._boxes(self._state.predict(passed))
        else:
            predicted, rolls = np.empty((0, 4)), []
        self._marks.append(("track", time.perf_counter()))
        found = self._predict(image, predicted, rolls)
        good, doubts = self._judge(found, tracked)
        restarted: list[int] = []
        suspicious = not all(good) or (not self._doubtful and max(doubts, default=0.0) > self._max_error)
        if suspicious or self._is_search_due(time_s, len(tracked)):
            self._searched_s = time_s
            found, good, doubts, restarted = self._search(image, found, good, doubts)
        rows = [row for row, fits in enumerate(good) if fits]
        near: set[int] = set()
        if len(rows) > 1:
            rows, near, replaced = drop_duplicates(image, rows, found, doubts, tracked, time_s)
            restarted += replaced
        if len(rows) > self.max_faces:
            rows = choose(rows, found, len(tracked), self.max_faces, self.prefer, size)
            gone = [track.id for row, track in enumerate(tracked) if row not in rows and good[row]]
            self.tracks = [track for track in self.tracks if track.id not in gone]
        seen = self._identify(image, rows, found, doubts, tracked, predicted, near, time_s)
        self._doubtful = False
        for row, track in seen:
            _move(track, found.boxes[row], time_s, row in near)
            self._doubtful |= doubts[row] > self._max_error
        rows, tracks = [row for row, _ in seen], [track for _, track in seen]
        points, boxes = found.points, found.boxes
        if rows != list(range(len(points))):
            points, boxes = points[rows], boxes[rows]
        self._marks.append(("track", time.perf_counter()))
        # Smoothed points also say where to look next: crops cut around the model's own would shake, and it with them.
        restarted += [row for row, track in seen if row >= len(tracked) or tracked[row] is not track]
        before = [-1 if row in restarted else row for row in rows]
        state = SmoothState.start(points) if self._state is None else self._state.select(before, points)
        smoothed, self._state = smooth(state, points, boxes[:, 2] - boxes[:, 0], passed, self._smoothing)
        self._tracked = tracks
        if self.smooth:
            points, (boxes, _) = smoothed, self._boxes(smoothed)
        self._marks.append(("smooth", time.perf_counter()))
        poses: list[Pose | None] = [None] * len(seen)
        if self.pose:
            poses = self._poses(points, size)
            self._marks.append(("pose", time.perf_counter()))
        scores, faces = found.scores.tolist(), []
        for row, track, box, own, pose in zip(rows, tracks, boxes, points, poses, strict=True):
            faces.append(Face(box, own, scores[row], found.errors[row], track.id, pose, self.scheme))
        return tuple(faces)

    def _is_search_due(self, time_s: float, tracked: int) -> bool:
        hurried = self._doubtful or (tracked < self.max_faces and (tracked == 0 or tracked < len(self.tracks)))
        within = min(SHORT_INTERVAL, self.detection_interval) if hurried else self.detection_interval
        return time_s - self._searched_s >= within - 1e-6  # a frame that is due is not put off by rounding

    def _predict(self, image: Image, boxes: Floats, rolls: list[float]) -> Candidates:
        """What the keypoint model finds in boxes (N, 4) of faces rotated by rolls (N,)."""
        (height, width), count = image.shape[:2], len(boxes)
        shown = [
            row
            for row, (x1, y1, x2, y2) in enumerate(boxes.tolist())
            if x2 - x1 >= SMALLEST and x1 < width - 0.5 and y1 < height - 0.5 and x2 > -0.5 and y2 > -0.5
        ]
        whole = len(shown) == count
        if not shown:
            return Candidates.none(count, len(self.scheme))
        if not whole:
            boxes, rolls = boxes[shown], [rolls[row] for row in shown]
        crops, transforms = self.predictor.preprocess(image, boxes, rolls)
        self._marks.append(("crop", time.perf_counter()))
        outputs = self.predictor.run(crops)
        self._marks.append(("keypoints", time.perf_counter()))
        found = self.predictor.locate(outputs, transforms)
        return found if whole else found.scatter(shown, count)

    def _judge(self, found: Candidates, tracked: Sequence[Track]) -> tuple[list[bool], list[float]]:
        """Which candidates show a face, and their mean expected error in their side. A tracked face, of the first rows,
        needs a lower score, and about its size of the frame before.
        """
        threshold, doubts = self.predictor.threshold, found.errors.dot(self._mean).tolist()
        good, (width, height) = [], self._size
        for row, (score, (x1, y1, x2, y2)) in enumerate(zip(found.scores.tolist(), found.boxes.tolist(), strict=True)):
            side = x2 - x1
            if row < len(tracked):
                before = tracked[row].side
                fits = score >= KEEP_THRESHOLD * threshold and (
                    side < MAX_SCALE_CHANGE * before and before < MAX_SCALE_CHANGE * side
                )
            else:
                fits = score >= threshold
            doubts[row] /= max(side, SMALLEST)
            good.append(fits and side >= SMALLEST and x1 < width and y1 < height and x2 > 0 and y2 > 0)
        return good, doubts

    def _search(
        self, image: Image, found: Candidates, good: list[bool], doubts: list[float]
    ) -> tuple[Candidates, list[bool], list[float], list[int]]:
        """Look for faces elsewhere than where tracked ones were found. A detected box that overlaps a tracked one less
        than it should is tried too, and takes its row if it is better. Boxes follow from the points of a first
        prediction in what the detector found, and are nearer to those that the keypoint model was trained on. Gives the
        candidates, with new ones at the end, what `_judge` says of them, and the rows that were taken.
        """
        joint = self._joint if self.predictor.threshold == self.predictor.model.card.threshold else None
        detections = self.detector(image)
        self._marks.append(("detect", time.perf_counter()))
        turns = np.array([float(self.detector.model.card.scheme.roll(one.points)) for one in detections])
        boxes = self._boxes.from_detector(np.array([one.box for one in detections]).reshape(-1, 4), turns)
        tracked = np.flatnonzero(good)
        wanted, owners = boxes_to_try(boxes, found.boxes[tracked])
        if not len(wanted):
            return found, good, doubts, []
        boxes, rolls = boxes[wanted], turns[wanted].tolist()
        if self._boxes.relates_to_ours:
            first = self._predict(image, boxes, rolls)
            shown = first.scores >= (KEEP_THRESHOLD if joint else 1.0) * self.predictor.threshold
        else:  # at several sizes, the best one goes on, and the next prediction decides whether it is a face
            first = self._predict(image, scaled_boxes(boxes).reshape(-1, 4), np.repeat(rolls, len(SCALES)).tolist())
            best = np.argmax(first.scores.reshape(-1, len(SCALES)), axis=1) + len(SCALES) * np.arange(len(boxes))
            first = first.select(best.tolist())
            shown = first.scores > 0
        rows = np.flatnonzero(shown).tolist()
        new = self._predict(image, first.boxes[rows], [first.rolls[row] for row in rows])
        fits, new_doubts = self._judge(new, ())
        if joint is not None:
            lowest, scored = KEEP_THRESHOLD * self.predictor.threshold, [detections[wanted[row]] for row in rows]
            jointly = score_jointly(joint, scored, new, max(image.shape[:2]))
            fits = [a >= JOINT_THRESHOLD and b >= lowest for a, b in zip(jointly, new.scores, strict=True)]
        count = len(good)
        found, doubts, good = found.join(new), doubts + new_doubts, good + fits
        rivals = {row: int(tracked[owner]) for row, owner in enumerate(owners[rows].tolist(), count) if owner >= 0}
        restarted = take_better(rivals, found, good, doubts)
        return found, good, doubts, restarted

    def _identify(
        self,
        image: Image,
        rows: list[int],
        found: Candidates,
        doubts: list[float],
        tracked: Sequence[Track],
        predicted: Floats,
        near: set[int],
        time_s: float,
    ) -> list[tuple[int, Track]]:
        """Rows with the track of each, by id. A tracked face whose appearance does not change belongs to its track."""
        count, seen, unknown, looks = len(tracked), [], [], dict[int, Floats]()
        for track in tracked:
            track.lost = True
        for row in rows:
            if row >= count:
                unknown.append(row)
                continue
            track = tracked[row]
            x1, y1, x2, y2 = found.boxes[row].tolist()
            a1, b1, a2, b2 = predicted[row].tolist()
            jump = max(abs(x1 + x2 - a1 - a2) / 2, abs(y1 + y2 - b1 - b2) / 2, abs(x2 - x1 - a2 + a1))
            jumped = jump > JUMPED * track.side
            if row not in near and (jumped or track.near or time_s - track.look_s >= LOOK_INTERVAL - 1e-6):
                looks[row] = look = appearance(image, found.boxes[row], found.rolls[row])
                limit = JUMPED_DIFFERENT if jumped else CHANGED
                clear = min(self._max_error, CLEAR * track.doubt)
                settled = time_s - track.born_s >= SETTLED and found.scores[row] >= self.predictor.threshold
                changed = track.unlike(look) > limit
                if changed and settled and doubts[row] > clear and self._center(image, found, doubts, row, clear):
                    looks[row] = look = appearance(image, found.boxes[row], found.rolls[row])
                    changed = track.unlike(look) > limit
                if changed and settled and doubts[row] <= clear:
                    unknown.append(row)
                    continue
                if track.unlike(look) <= CHANGED or doubts[row] <= clear:
                    track.learn(look, doubts[row], time_s)
            track.lost = False
            seen.append((row, track))
        if unknown:
            for row in unknown:
                if row not in looks:
                    looks[row] = appearance(image, found.boxes[row], found.rolls[row])
            lost = [track for track in self.tracks if track.lost]
            hidden = [row in near for row in unknown]
            again = reidentify(found.boxes[unknown], [looks[row] for row in unknown], lost, time_s, hidden)
            for row, known in zip(unknown, again, strict=True):
                own = tracked[row] if row < count and tracked[row].near and tracked[row] not in again else None
                track = known or own or Track(next(self._ids), np.zeros(4), time_s)
                if track not in self.tracks:
                    self.tracks.append(track)
                track.lost = False
                track.learn(looks[row], doubts[row], time_s)
                seen.append((row, track))
        if len(seen) > 1:
            seen.sort(key=lambda pair: pair[1].id)
        return seen

    def _center(self, image: Image, found: Candidates, doubts: list[float], row: int, clear: float) -> bool:
        """Repeat a prediction around its own box, as after a cut to another face; whether it is seen clearly then."""
        again = self._predict(image, found.boxes[row : row + 1], [found.rolls[row]])
        (good,), (doubt,) = self._judge(again, ())
        if good and doubt <= clear:
            found.replace_row(row, 0, again)
            doubts[row] = doubt
        return good and doubt <= clear


def _move(track: Track, box: Floats, time_s: float, near: bool) -> None:
    """Give a track its box in the next frame. Its motion is measured while no other face is near."""
    x1, y1, x2, y2 = box.tolist()
    track.box, track.side, track.seen_s, track.lost, track.near = box, x2 - x1, time_s, False, near
    if near and track.free_s > -math.inf:
        return
    x, y, passed = (x1 + x2) / 2, (y1 + y2) / 2, time_s - track.free_s
    if 0 < passed < MAX_AGE:
        gain = passed / (passed + VELOCITY_S)
        track.vx += gain * ((x - track.x) / passed - track.vx)
        track.vy += gain * ((y - track.y) / passed - track.vy)
    track.x, track.y, track.free_s = x, y, time_s
