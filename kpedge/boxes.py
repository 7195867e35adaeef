"""The one box convention, and how other sets' boxes are mapped into it.

A face's box is that of faces21: a square from the brows to the chin without the ears, which follows from the 21 points.
Its middle lies `BOX_BELOW` of its side below the mean of the points (docs/coordinates.md).

Points of another scheme give that box as far as they tell those of faces21 (`kpedge.keypoints.conversion`); a model
whose points tell too few of them has its own rule, which follows from the mean face in its card (`PointBoxes`).

Other sets box the head, from hairline or brow to chin and from ear to ear. Their boxes are made squares of the same
middle, a little smaller and higher. The numbers were measured with `benchmarks/box_conventions.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.geometry import CropRule, mean_weights, to_complex
from kpedge.keypoints import FACES21, FACES21_MEAN, conversion
from kpedge.scheme import KeypointScheme

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
    """Boxes and rolls of faces from their points, for a model: where to cut the next crop."""

    def __init__(self, scheme: KeypointScheme, mean_shape: NDArray[np.float64], rule: CropRule) -> None:
        """Choose the rule.

        Args:
            scheme: of the model's points.
            mean_shape: (K, 2), the mean of its training shapes, fractions of the crop.
            rule: how a box becomes a crop.
        """
        self._scheme = scheme
        anatomy = conversion(scheme, FACES21)
        self._is_faces21 = scheme == FACES21
        self._anatomy = anatomy if anatomy.is_whole else None
        mean = to_complex(np.ascontiguousarray(mean_shape))
        weights = mean_weights(len(mean))
        around = mean - mean.dot(weights)
        spread = float(np.vdot(around, around).real)
        self._fit = around.conj() / spread if spread > 0 else None
        self._middle = complex(0.5, 0.5) - complex(mean.dot(weights))
        self._side = 1 / (1 + 2 * rule.widen)
        self._weights = weights

    def __call__(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Boxes (N, 4), in the pixels of points (N, K, 2), all known, and rolls (N,), radians, so that the crop of
        `turned_box(box, roll)` shows the face as the model's training crops did.
        """
        if self._is_faces21:
            return boxes_of_points(points), self._scheme.roll(points)
        if self._anatomy is not None:
            anatomy = self._anatomy(points)
            return boxes_of_points(anatomy), FACES21.roll(anatomy)
        whole = to_complex(np.ascontiguousarray(points))
        middle = whole.dot(self._weights)
        if self._fit is None:  # one point, or all in one place: no size and no turn is told
            return _squares(middle, np.zeros(len(whole))), np.zeros(len(whole))
        turn = (whole - middle[:, None]).dot(self._fit)
        size = np.abs(turn)
        way = np.divide(turn, size, out=np.ones_like(turn), where=size > 0)
        side = self._side * size
        # `turned_box` moves the middle around a point that lies `BOX_BELOW` above it; what it adds is taken off here.
        middle = middle + self._middle * turn - 1j * BOX_BELOW * side * (way - 1)
        half = side / 2
        x, y = middle.real, middle.imag
        return np.array([x - half, y - half, x + half, y + half]).T, np.angle(way)


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
