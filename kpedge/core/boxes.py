"""The one box convention, and how other sets' boxes are mapped into it.

A face's box is that of faces21: a square from the brows to the chin without the ears, which follows from the 21 points.
Its middle lies `BOX_BELOW` of its side below the mean of the points (docs/coordinates.md).

Points of another scheme give that box as far as those of faces21 follow from them (`kpedge.core.keypoints.conversion`);
a model for which too few do, or that was trained on other boxes, has a rule of its own, which follows from the mean
face in its card (`kpedge.runtime.keypoints.PointBoxes`).

Other sets box the head, from hairline or brow to chin and from ear to ear. Their boxes are made squares of the same
middle, a little smaller and higher. The numbers were measured with `benchmarks/box_conventions.py`.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.keypoints import FACES21, FACES21_MEAN, conversion
from kpedge.core.scheme import KeypointScheme

BOX_SIDE = 0.673
"""Side of a face's box, in the root of the summed squared distances of its 21 points from their mean. Measured on
faces21's training photos: 5 to 95 % lie from 0.632 to 0.738."""
FITTED_SIDE = 0.975  # the same in the scale at which the mean face fits a face with few labelled points
BOX_BELOW = 0.135  # how far the middle of the box lies below the mean of the points, in sides of the box
EXTENT_SIDE = 1.4
"""Side of the box of a face whose points give none of faces21's, in the longer extent of its points; faces21's mean
face has a little less."""
FEWEST = 2  # labelled points of faces21 from which on they give the box
HEAD_SIDE = 0.9  # side of our box, in the root of the area of a box around the head
HEAD_ABOVE = 0.03  # how far the middle of our box lies above that of a box around the head, in heights of that box

FACE, HEAD, POINTS = "face", "head", "points"
CONVENTIONS = (FACE, HEAD, POINTS)
"""What a set's boxes hold: the face as ours do; the head; or something else, so that the boxes that follow from the
points are taken instead."""


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
    """The mean of the points, (N, 2), of boxes (N, 4) of our convention: it turns with a face, the box does not."""
    middle: NDArray[Any] = (boxes[:, :2] + boxes[:, 2:]) / 2
    middle[:, 1] -= BOX_BELOW * (boxes[:, 3] - boxes[:, 1])
    return np.asarray(middle, dtype=np.float64)


def convention_centre(means: NDArray[np.float64], sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """The middle of the boxes, (N, 2), for means of points (N, 2) and sides (N,): undoes `convention_middle`."""
    return np.asarray(means + sides[:, None] * (0.0, BOX_BELOW), dtype=np.float64)


def box_of_points(keypoints: NDArray[np.float64], scheme: KeypointScheme = FACES21) -> NDArray[np.float64]:
    """The box that faces21 would give a face of points (K, 2), pixels, NaN where not labelled, at least two labelled:
    float64 (4,), a square, without area when all points are one.

    Where points are missing, the mean face, fitted to the others (moved, turned, scaled; least squares), stands in.
    Where fewer than `FEWEST` points of faces21 follow from those of the scheme, it is a square around the points.
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
    mean, found = FACES21_MEAN[known], anatomy[known]
    start, middle = mean.mean(axis=0), found.mean(axis=0)
    (a, b), (c, d) = (mean - start).T @ (found - middle)
    spread = float(((mean - start) ** 2).sum())
    cos, sin = (a + d) / spread, (b - c) / spread
    fitted = (FACES21_MEAN.mean(axis=0) - start) @ np.array([[cos, sin], [-sin, cos]]) + middle
    return np.ravel(_squares(fitted[None], np.array([FITTED_SIDE * math.hypot(cos, sin)])))


def boxes_of_points(keypoints: NDArray[np.float64]) -> NDArray[np.float64]:
    """`box_of_points` of many faces, all of whose points are known: (N, 21, 2) to (N, 4)."""
    middle = keypoints.mean(axis=1)
    around = keypoints - middle[:, None]
    return _squares(middle, BOX_SIDE * np.sqrt((around * around).sum(axis=(1, 2))))


def _squares(means: NDArray[np.float64], sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """The boxes (N, 4) of faces whose points have means (N, 2)."""
    middles, half = convention_centre(means, sides), sides[:, None] / 2
    return np.concatenate([middles - half, middles + half], axis=1)


def rotated_box(box: NDArray[np.float64], roll: float) -> NDArray[np.float64]:
    """The box (4,) that lies in the upright crop of a face rotated by `roll` radians as other boxes do in theirs: the
    mean of the points stays, the middle is below it along the face, not the image.
    """
    if not roll:
        return box
    below = BOX_BELOW * float(box[3] - box[1])
    x, y = -below * math.sin(roll), below * (math.cos(roll) - 1)
    return np.asarray(box + np.array([x, y, x, y]))
