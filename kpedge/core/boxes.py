"""The one box convention, and how other sets' boxes are mapped into it.

A face's box is that of faces21: a square from the brows to the chin without the ears, which follows from the 21 points.
Its middle lies `BOX_BELOW` of its side below the mean of the points (docs/coordinates.md).

Points of another scheme give that box as far as they tell those of faces21 (`kpedge.core.keypoints.conversion`); a
model whose points tell too few of them, or whose boxes are others, has a rule of its own, which follows from the mean
face in its card (`PointBoxes`).

Other sets box the head, from hairline or brow to chin and from ear to ear. Their boxes are made squares of the same
middle, a little smaller and higher. The numbers were measured with `benchmarks/box_conventions.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.geometry import CropRule, mean_weights, to_complex
from kpedge.core.keypoints import FACES21, FACES21_MEAN, conversion
from kpedge.core.scheme import KeypointScheme

BOX_SIDE = 0.673
"""Side of a face's box, in the root of the summed squared distances of its 21 points from their mean. Measured on
faces21's training photos: 5 to 95 % lie from 0.632 to 0.738."""
FITTED_SIDE = 0.975
"""Side of the box, in the scale at which the mean face fits a face with few labelled points; likewise."""
BOX_BELOW = 0.135
"""How far the middle of the box lies below the mean of the points, in sides of the box."""
EXTENT_SIDE = 1.4
"""Side of the box of a face whose points tell none of faces21's, in the longer extent of its points; faces21's mean
face has a little less."""
FEWEST = 2
"""Labelled points of faces21 from which on they tell the box."""
OUR_OWN = 0.08
"""How far the box that follows from a model's mean face may be from that of its crops, in sides, for the model to count
as trained on boxes of our convention. The released ones are 0.035 off."""
GUESSES = (1.0, 0.8, 1.25)
"""Sides, in that of a detected box, at which a face is looked for where nothing tells how a model's boxes lie to it."""
HEAD_SIDE = 0.9
"""Side of our box, in the root of the area of a box around the head."""
HEAD_ABOVE = 0.03
"""How far the middle of our box lies above that of a box around the head, in heights of that box."""

FACE, HEAD, POINTS = "face", "head", "points"
CONVENTIONS = (FACE, HEAD, POINTS)
"""What a set's boxes hold: the face as ours do; the head; or something else, so that the boxes that follow from the
points are to be taken instead."""


def to_convention(boxes: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    """Boxes (N, 4) of a kind of `CONVENTIONS` as ours: those of heads become squares, others stay."""
    if kind != HEAD:
        return boxes
    sides = boxes[:, 2:] - boxes[:, :2]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    middle[:, 1] -= HEAD_ABOVE * sides[:, 1]
    half = HEAD_SIDE * np.sqrt(sides.prod(axis=1, keepdims=True)) / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def convention_middle(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the points, (N, 2), that belongs to boxes (N, 4) of our convention: it turns with a face, the box
    does not.
    """
    middle: NDArray[Any] = (boxes[:, :2] + boxes[:, 2:]) / 2
    middle[:, 1] -= BOX_BELOW * (boxes[:, 3] - boxes[:, 1])
    return np.asarray(middle, dtype=np.float64)


def convention_centre(means: NDArray[np.float64], sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """The middle of the boxes, (N, 2), for means of points (N, 2) and sides (N,): undoes `convention_middle`."""
    return np.asarray(means + sides[:, None] * (0.0, BOX_BELOW), dtype=np.float64)


def box_of_points(keypoints: NDArray[np.float64], scheme: KeypointScheme = FACES21) -> NDArray[np.float64]:
    """The box that faces21 would give a face.

    Where points are missing, the mean face, fitted to the others (moved, turned, scaled; least squares), stands in.
    Where fewer than `FEWEST` points of faces21 can be told from those of the scheme, it is a square around the points.

    Args:
        keypoints: (K, 2), pixels; NaN where a point is not labelled, but at least two labelled.
        scheme: of the points.

    Returns:
        float64 (4,), a square; without area when all points are one.
    """
    anatomy = keypoints if scheme is FACES21 else conversion(scheme, FACES21)(keypoints)
    known = np.isfinite(anatomy).all(axis=1)
    if known.all():
        return np.ravel(boxes_of_points(anatomy[None]))
    if known.sum() < FEWEST:
        labelled = keypoints[np.isfinite(keypoints).all(axis=1)]
        low, high = labelled.min(axis=0), labelled.max(axis=0)
        middle, half = (low + high) / 2, EXTENT_SIDE * (high - low).max() / 2
        return np.concatenate([middle - half, middle + half])
    mean, found = to_complex(FACES21_MEAN), to_complex(anatomy[known])  # turning and scaling is one product
    start = mean[known].mean()
    around = mean[known] - start
    turn = np.vdot(around, found - found.mean()) / np.vdot(around, around)
    fitted = turn * (mean.mean() - start) + found.mean()
    return np.ravel(_squares(np.array([fitted]), FITTED_SIDE * np.abs(turn)[None]))


def boxes_of_points(keypoints: NDArray[np.float64]) -> NDArray[np.float64]:
    """`box_of_points` of many faces, all of whose points are known: (N, 21, 2) to (N, 4)."""
    whole = to_complex(keypoints)
    middle = whole.dot(mean_weights(whole.shape[1]))
    around = (whole - middle[:, None]).view(np.float64)
    return _squares(middle, BOX_SIDE * np.sqrt(np.einsum("nk,nk->n", around, around)))


def _squares(means: NDArray[np.complex128], sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """The boxes (N, 4) of faces whose points have means (N,), x + iy."""
    x, y, half = means.real, means.imag + BOX_BELOW * sides, sides / 2
    return np.array([x - half, y - half, x + half, y + half]).T


class PointBoxes:
    """Boxes and rolls of faces from their points, for a model: where to cut the next crop.

    Where the points tell all of faces21's, and the model's mean face says that it was trained on boxes of our
    convention, they follow as they do there. Else they follow from the similarity transform that takes the mean face
    nearest to the points (least squares): whatever a set's boxes hold, crops show faces as in training.

    Attributes:
        tells_size: whether the model's points tell how large a face is; one point alone does not.
        knows_faces: whether they tell how the model's boxes lie to ours; points of which faces21 has none do not.
    """

    def __init__(self, scheme: KeypointScheme, mean_shape: NDArray[np.float64], rule: CropRule) -> None:
        """Choose the rule.

        Args:
            scheme: of the model's points.
            mean_shape: (K, 2), the mean of its training shapes, fractions of the crop.
            rule: how a box becomes a crop.
        """
        mean = to_complex(mean_shape)
        self._weights = mean_weights(len(mean))
        around = mean - mean.dot(self._weights)
        spread = float(np.vdot(around, around).real)
        self.tells_size = spread > 0
        self._fit = around.conj() / spread if spread > 0 else np.zeros_like(around)
        self._below = complex(0.5, 0.5) - complex(mean.dot(self._weights))
        self._side = 1 / (1 + 2 * rule.widen)
        anatomy = conversion(scheme, FACES21)
        self.knows_faces = len(anatomy.known) >= FEWEST
        self._own = _own_convention(mean_shape, scheme, self._side) if self.knows_faces else None
        self._exact = anatomy.is_whole and self._own is None
        self._anatomy = None if scheme.points == FACES21.points else anatomy

    def __call__(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Boxes (N, 4), in the pixels of points (N, K, 2), all known, and rolls (N,), radians, so that the crop of
        `turned_box(box, roll)` shows the face as the model's training crops did.
        """
        if self._exact:
            anatomy = points if self._anatomy is None else self._anatomy(points)
            return boxes_of_points(anatomy), FACES21.roll(anatomy)
        return self._fitted(points)

    def boxes(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The boxes alone."""
        if self._exact:
            return boxes_of_points(points if self._anatomy is None else self._anatomy(points))
        return self._fitted(points)[0]

    def of_faces(self, boxes: NDArray[np.float64], rolls: NDArray[np.float64]) -> NDArray[np.float64]:
        """Boxes (N, 4) of our convention, as a detector gives them, of faces that are turned by rolls (N,), as boxes of
        the model's own; as they are where its points do not tell how those differ.
        """
        if self._own is None:
            return boxes
        scale, shift = self._own
        way = np.exp(1j * rolls)
        side = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        middle = to_complex(convention_middle(boxes)) + way * (1j * BOX_BELOW + shift) * side
        return _untilted(middle, scale * side, way)

    def _fitted(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        whole = to_complex(points)
        mean = whole.dot(self._weights)
        turn = (whole - mean[:, None]).dot(self._fit)
        size = np.abs(turn)
        way = np.divide(turn, size, out=np.ones_like(turn), where=size > 0)
        return _untilted(mean + self._below * turn, self._side * size, way), np.angle(way)


def guessed(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes (N, 4) in each of the sizes of `GUESSES`, (N, G, 4)."""
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    half = half[:, None] * np.array(GUESSES)[:, None]
    return np.concatenate([middle[:, None] - half, middle[:, None] + half], axis=2)


def _own_convention(
    mean_shape: NDArray[np.float64], scheme: KeypointScheme, side: float
) -> tuple[float, complex] | None:
    """How a model's boxes, of `side` in the middle of its crops, differ from those of our convention: their side and
    how far their middle is moved, x + iy, in sides of ours; None where they do not.
    """
    x1, y1, x2, _ = box_of_points(mean_shape, scheme).tolist()
    if not x2 > x1:
        return None
    ours = x2 - x1
    scale, shift = side / ours, complex(0.5 - x1 - ours / 2, 0.5 - y1 - ours / 2) / ours
    return None if abs(scale - 1) < OUR_OWN and abs(shift) < OUR_OWN else (scale, shift)


def _untilted(
    middles: NDArray[np.complex128], sides: NDArray[np.float64], ways: NDArray[np.complex128]
) -> NDArray[np.float64]:
    """Boxes (N, 4) of which `turned_box` makes squares with these middles, for faces turned by the angles of `ways`."""
    middles = middles - 1j * BOX_BELOW * sides * (ways - 1)
    x, y, half = middles.real, middles.imag, sides / 2
    return np.array([x - half, y - half, x + half, y + half]).T


def turned_box(box: NDArray[np.float64], roll: float) -> NDArray[np.float64]:
    """The box (4,) around which a face that is turned by `roll` radians is to be cut, so that it lies in its upright
    crop as other faces do: the mean of the points stays, the middle is below it along the face, not the picture.
    """
    if not roll:
        return box
    x1, y1, x2, y2 = box.tolist()  # plain floats are faster than NumPy's calls
    below = BOX_BELOW * (y2 - y1)
    x, y = (x1 + x2) / 2 - below * math.sin(roll), (y1 + y2) / 2 + below * (math.cos(roll) - 1)
    half_width, half_height = (x2 - x1) / 2, (y2 - y1) / 2
    return np.array([x - half_width, y - half_height, x + half_width, y + half_height])
