"""From an image and boxes to keypoints: preprocess, run, postprocess. And from keypoints to the next boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from kpedge.core.boxes import BOX_BELOW, BOX_SIDE, FEWEST, box_of_points, convention_middle, rotated_box
from kpedge.core.card import ERROR_NAME, KEYPOINTS_NAME, SCORE_NAME, ModelCard, Outputs
from kpedge.core.errors import DataError, UsageError
from kpedge.core.faces import Face
from kpedge.core.geometry import Image, Transform, as_box, box_overlaps_image, crop, inverse_numbers, square_transform
from kpedge.core.keypoints import FACES21, FACES21_MEAN, conversion
from kpedge.core.scheme import KeypointScheme
from kpedge.runtime.sessions import Model, card_of, not_finite

Floats = NDArray[np.float64]

SAME_CONVENTION = 0.08
"""How far the box that follows from a model's mean face may be from that of its crops, in sides, for the model to count
as trained on boxes of our convention. The released ones are 0.035 off."""
MIN_CONTRAST = 1.2  # standard deviation of a crop's grey levels below which nothing can be seen in it
SCALES = (1.0, 0.8, 1.25)  # sides, in a detected box's, of models whose boxes nothing relates to ours


class CropModel(Model, Protocol):
    """A model in any format that takes crops."""

    @property
    def card(self) -> ModelCard:
        """What the model expects and promises."""
        ...


def keypoint_model(model: Model) -> CropModel:
    """A model as one that finds keypoints.

    Raises:
        UsageError: it is a detector, or no model.
    """
    card = card_of(model)
    if not isinstance(card, ModelCard):
        raise UsageError(f"{card.name} is a {card.task}: it finds no keypoints", "give a stage 1, 2 or 3")
    return cast(CropModel, model)


class PointBoxes:
    """Boxes and rolls of faces from their points, for a model: where to cut the next crop.

    Where faces21's points all follow from the model's, and its mean face says that it was trained on boxes of our
    convention, they follow as they do there. Else they follow from the similarity transform that takes the mean face
    nearest to the points (least squares): whatever a set's boxes hold, crops show faces as in training.

    One point alone does not say how large a face is (`gives_size`), and points of which faces21 has none do not say how
    the model's boxes relate to ours (`relates_to_ours`).
    """

    def __init__(self, card: ModelCard) -> None:
        scheme, count = card.scheme, len(card.scheme)
        weights = np.full(count, 1 / count)
        mean = weights @ card.mean_shape
        around = card.mean_shape - mean
        spread = float((around * around).sum())
        self.gives_size = spread > 0
        self._side = 1 / (1 + 2 * card.crop.widen)
        anatomy = conversion(scheme, FACES21)
        self.relates_to_ours = len(anatomy.known) >= FEWEST
        self._own = _own_convention(card.mean_shape, scheme, self._side) if self.relates_to_ours else None
        self._exact = anatomy.is_whole and self._own is None
        # Linear in the points, x and y in turn: their mean, and a vector that rotates with the face.
        self._to_anatomy: NDArray[Any] | None = None
        if self._exact:
            shares = np.zeros((len(FACES21), count))
            for share, group in zip(shares, anatomy.groups, strict=True):
                share[list(group)] = 1 / len(group)
            if scheme.points != FACES21.points:
                self._to_anatomy = np.kron(shares, np.eye(2)).T
            rows = np.array([np.full(len(FACES21), 1 / len(FACES21)) @ shares, FACES21.across @ shares])
            self._linear = np.kron(rows.T, np.eye(2))
        else:
            fit = around / spread if self.gives_size else np.zeros_like(around)
            self._linear = np.kron(np.array([weights, np.zeros(count)]).T, np.eye(2))
            self._linear[:, 2] = fit.reshape(-1)
            self._linear[:, 3] = (fit[:, ::-1] * (-1, 1)).reshape(-1)
            self._below_x, self._below_y = (0.5 - mean).tolist()

    def __call__(self, points: Floats) -> tuple[Floats, list[float]]:
        """Boxes (N, 4), in the pixels of points (N, K, 2), all known, and N rolls, radians, so that a crop of a box
        with its roll shows the face as the model's training crops did.
        """
        boxes, rolls = [], []
        for flat in points.reshape(len(points), 2 * points.shape[1]):  # plain numbers: there are few faces
            x, y, cos, sin = flat.dot(self._linear).tolist()
            roll = math.atan2(sin, cos)
            if self._exact:
                anatomy = flat if self._to_anatomy is None else flat.dot(self._to_anatomy)
                side = BOX_SIDE * math.sqrt(max(float(anatomy.dot(anatomy)) - len(FACES21_MEAN) * (x * x + y * y), 0.0))
            else:
                size = math.hypot(cos, sin)
                side = self._side * size
                x += self._below_x * cos - self._below_y * sin + BOX_BELOW * side * math.sin(roll)
                y += self._below_x * sin + self._below_y * cos - BOX_BELOW * side * math.cos(roll)
            half, y = side / 2, y + BOX_BELOW * side
            boxes.append((x - half, y - half, x + half, y + half))
            rolls.append(roll)
        return np.array(boxes).reshape(-1, 4), rolls

    def from_detector(self, boxes: Floats, rolls: Floats) -> Floats:
        """Boxes (N, 4) of our convention, as a detector gives them, of faces rotated by rolls (N,), as boxes of the
        model's own; as they are where it is unknown how those differ.
        """
        if self._own is None:
            return boxes
        scale, shift_x, shift_y = self._own
        cos, sin = np.cos(rolls), np.sin(rolls)
        side = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        x, y = shift_x * side, (shift_y + BOX_BELOW - BOX_BELOW * scale) * side
        centres = convention_middle(boxes) + np.array([cos * x - sin * y, sin * x + cos * y]).T
        return np.asarray(np.tile(centres, 2) + (scale * side)[:, None] * (-0.5, BOX_BELOW - 0.5, 0.5, BOX_BELOW + 0.5))


def _own_convention(mean_shape: Floats, scheme: KeypointScheme, side: float) -> tuple[float, float, float] | None:
    """How a model's boxes, of `side` in the middle of its crops, differ from those of our convention: their side, and
    how far their middle is moved (x, y), in sides of ours; None where they do not.
    """
    x1, y1, x2, _ = box_of_points(mean_shape, scheme).tolist()
    if not x2 > x1:
        return None
    ours = x2 - x1
    scale, x, y = side / ours, (0.5 - x1 - ours / 2) / ours, (0.5 - y1 - ours / 2) / ours
    same = abs(scale - 1) < SAME_CONVENTION and math.hypot(x, y) < SAME_CONVENTION
    return None if same else (scale, x, y)


def scaled_boxes(boxes: Floats) -> Floats:
    """Boxes (N, 4) in each size of `SCALES`, (N, G, 4)."""
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    half = half[:, None] * np.array(SCALES)[:, None]
    return np.concatenate([middle[:, None] - half, middle[:, None] + half], axis=2)


@dataclass(slots=True, eq=False)
class Candidates:
    """What a keypoint model finds in N crops."""

    points: Floats  # float64 (N, K, 2), pixels of the image
    boxes: Floats  # float64 (N, 4), those of the points
    rolls: list[float]  # N rolls, radians
    scores: NDArray[np.floating[Any]]  # float (N,), of a face, 0 to 1; 1 where the model does not give them
    errors: Floats  # float64 (N, K), expected errors of the points, pixels; 0 where the model does not give them

    @classmethod
    def none(cls, count: int, points: int) -> Candidates:
        """No face of K points in any of so many places."""
        zeros = np.zeros((count, points, 2))
        return cls(zeros, np.zeros((count, 4)), [0.0] * count, np.zeros(count), np.zeros((count, points)))

    @property
    def _arrays(self) -> tuple[NDArray[np.floating[Any]], ...]:
        return self.points, self.boxes, self.scores, self.errors

    def scatter(self, rows: Sequence[int], count: int) -> Candidates:
        """These as some rows of so many; nothing is found in the others."""
        whole = Candidates.none(count, self.points.shape[1])
        for few, every in zip(self._arrays, whole._arrays, strict=True):
            every[rows] = few
        for row, roll in zip(rows, self.rolls, strict=True):
            whole.rolls[row] = roll
        return whole

    def select(self, rows: Sequence[int]) -> Candidates:
        """Some rows."""
        rolls = [self.rolls[row] for row in rows]
        return Candidates(self.points[rows], self.boxes[rows], rolls, self.scores[rows], self.errors[rows])

    def join(self, other: Candidates) -> Candidates:
        """These, then others."""
        pairs = zip(self._arrays, other._arrays, strict=True)
        points, boxes, scores, errors = (np.concatenate(pair) for pair in pairs)
        return Candidates(points, boxes, self.rolls + other.rolls, scores, errors)

    def replace_row(self, row: int, other: int, source: Candidates | None = None) -> None:
        """Put what was found in one place, of these or of other candidates, in that of another."""
        source = source or self
        for values, others in zip(self._arrays, source._arrays, strict=True):
            values[row] = others[other]
        self.rolls[row] = source.rolls[other]


class KeypointPredictor:
    """Finds the keypoints of faces whose boxes are known, and rejects boxes with a score below `threshold` as no face.
    `boxes` gives the boxes of its points.
    """

    def __init__(self, model: CropModel, *, threshold: float | None = None) -> None:
        """Take a model in any format, and a threshold instead of the one that its card states.

        Raises:
            UsageError: a threshold is given, but the model has no score, or it lies outside 0 to 1.
        """
        if threshold is not None and not model.card.has_score:
            raise UsageError(f"{model.card.name} has no face score, so no threshold", "use a stage 3")
        if threshold is not None and not 0 <= threshold <= 1:
            raise UsageError(f"the threshold must be from 0 to 1, not {threshold:g}")
        self.model = model
        self.boxes = PointBoxes(model.card)
        self._crops_shape, self._has_score = model.card.input_shape, model.card.has_score
        self.threshold = (model.card.threshold or 0.0) if threshold is None else threshold

    def __call__(
        self, image: Image, boxes: Sequence[ArrayLike], *, rolls: Sequence[float] | None = None
    ) -> tuple[Face, ...]:
        """Faces for boxes, each x1 y1 x2 y2, pixels of an image, uint8 (H, W, 3), blue-green-red. The in-plane rotation
        of each face, `rolls` in radians, is removed from its crop.

        Raises:
            DataError: a box is not one, or lies outside the image.
        """
        if not len(boxes):
            return ()
        checked = np.array([as_box(box) for box in boxes])
        height, width = image.shape[:2]
        angles = [0.0] * len(checked) if rolls is None else rolls
        for box, roll in zip(checked, angles, strict=True):
            if not box_overlaps_image(rotated_box(box, roll), width, height):
                text = ",".join(f"{value:g}" for value in box)
                raise DataError(f"box {text} lies outside the image of {width}x{height}")
        crops, transforms = self.preprocess(image, checked, angles)
        return self.postprocess(self.run(crops), checked, transforms)

    def preprocess(
        self, image: Image, boxes: Floats, rolls: Sequence[float] | None = None
    ) -> tuple[NDArray[np.uint8], list[Transform]]:
        """The upright crops of boxes (N, 4), uint8 (N, H, W, C), and the transforms that cut them, image to crop."""
        card = self.model.card
        size, widened, border, colour = card.size, 1 + 2 * card.crop.widen, card.crop.border, card.colour
        crops, transforms = np.empty((len(boxes), *self._crops_shape), np.uint8), []
        for place, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            roll = rolls[place] if rolls is not None else 0.0
            x, y = (x1 + x2) / 2, (y1 + y2) / 2
            if roll:  # the middle of `rotated_box`
                below = BOX_BELOW * (y2 - y1)
                x, y = x - below * math.sin(roll), y + below * (math.cos(roll) - 1)
            transform = square_transform(x, y, widened * max(x2 - x1, y2 - y1), size, roll=roll)
            crops[place] = crop(image, transform, size, border=border, colour=colour)
            transforms.append(transform)
        return crops, transforms

    def postprocess(
        self, outputs: Outputs, boxes: NDArray[np.float64], transforms: Sequence[Transform]
    ) -> tuple[Face, ...]:
        """A model's outputs for the crops of boxes (N, 4) as faces in pixels of the image."""
        found, card = self.locate(outputs, transforms), self.model.card
        has_score, scheme = card.has_score, card.scheme
        faces = []
        for number, box in enumerate(boxes):
            score = float(found.scores[number]) if has_score else None
            if score is not None and score < self.threshold:
                faces.append(Face(box=box, keypoints=np.empty((0, 2)), score=score, scheme=scheme))
                continue
            errors = found.errors[number] if has_score else None
            faces.append(Face(box, found.points[number], score, errors, scheme=scheme))
        return tuple(faces)

    def run(self, crops: NDArray[np.uint8]) -> Outputs:
        """The model's outputs for crops, uint8 (N, H, W, C). A crop in which nothing can be seen has a score of 0: the
        network takes out brightness and contrast, and finds faces in what a covered lens leaves.

        Raises:
            ModelError: the outputs are not finite.
        """
        outputs = self.model(crops)
        if not math.isfinite(np.add.reduce(outputs[KEYPOINTS_NAME], axis=None, dtype=float)):
            raise not_finite(self.model.card)
        if SCORE_NAME in outputs:
            for place, crop_ in enumerate(crops):
                if max(cv2.meanStdDev(crop_)[1].ravel().tolist()) < MIN_CONTRAST:
                    scores = outputs[SCORE_NAME].copy()
                    scores[place] = 0.0
                    outputs = {**outputs, SCORE_NAME: scores}
        return outputs

    def locate(self, outputs: Outputs, transforms: Sequence[Transform]) -> Candidates:
        """A model's outputs for crops in pixels of the image."""
        size, fractions = self.model.card.size, outputs[KEYPOINTS_NAME]
        keypoints, scales = np.empty(fractions.shape), []
        for place, transform in enumerate(transforms):
            a, b, x, c, d, y = inverse_numbers(transform)
            zoom = np.array([[size * a, size * c], [size * b, size * d]])
            points = fractions[place].dot(zoom, out=keypoints[place])
            points += (x - (a + b) / 2, y - (c + d) / 2)
            scales.append(size * math.hypot(a, c))
        boxes, rolls = self.boxes(keypoints)
        if not self._has_score:
            return Candidates(keypoints, boxes, rolls, np.ones(len(boxes)), np.zeros(keypoints.shape[:2]))
        return Candidates(keypoints, boxes, rolls, outputs[SCORE_NAME], outputs[ERROR_NAME] * np.array(scales)[:, None])
