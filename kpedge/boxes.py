"""The one box convention, and how other sets' boxes are mapped into it.

A face's box is that of faces21: a square from the brows to the chin without the ears, which follows from the 21 points.
Its middle lies `BOX_BELOW` of its side below the mean of the points (docs/coordinates.md).

Other sets box the head, from hairline or brow to chin and from ear to ear. Their boxes are made squares of the same
middle, a little smaller and higher. The numbers were measured with `benchmarks/box_conventions.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.geometry import mean_weights, to_complex
from kpedge.keypoints import FACES21_MEAN

BOX_SIDE = 0.673
"""Side of a face's box, in the root of the summed squared distances of its 21 points from their mean. Measured on
faces21's training photos: 5 to 95 % lie from 0.632 to 0.738."""
FITTED_SIDE = 0.975
"""Side of the box, in the scale at which the mean face fits a face with few labelled points; likewise."""
BOX_BELOW = 0.135
"""How far the middle of the box lies below the mean of the points, in sides of the box."""
HEAD_SIDE = 0.9
"""Side of our box, in the root of the area of a box around the head."""
HEAD_ABOVE = 0.03
"""How far the middle of our box lies above that of a box around the head, in heights of that box."""

FACE, HEAD = "face", "head"
CONVENTIONS = (FACE, HEAD)
"""What a set's boxes hold: the face as ours do, or the head."""


def to_convention(boxes: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    """Boxes (N, 4) of a kind of `CONVENTIONS` as ours: those of heads become squares."""
    if kind == FACE:
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


def box_of_points(keypoints: NDArray[np.float64]) -> NDArray[np.float64]:
    """The box that faces21 would give a face.

    Where points are missing, the mean face, fitted to the others (moved, turned, scaled; least squares), stands in.

    Args:
        keypoints: (21, 2), pixels; NaN where a point is not labelled, but at least two labelled.

    Returns:
        float64 (4,), a square; without area when all points are one.
    """
    known = np.isfinite(keypoints).all(axis=1)
    if known.all():
        return np.ravel(boxes_of_points(keypoints[None]))
    mean, labelled = FACES21_MEAN @ (1, 1j), keypoints[known] @ (1, 1j)  # turning and scaling is one product
    start = mean[known].mean()
    around = mean[known] - start
    turn = np.vdot(around, labelled - labelled.mean()) / np.vdot(around, around)
    fitted = turn * (mean.mean() - start) + labelled.mean()
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
