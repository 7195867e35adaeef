"""Faces that are followed through a video: who is who."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kpedge.core.geometry import box_size

SAME = 0.5
"""Part of the smaller of two boxes that both share, from which on they are one face's: a box that has shrunk onto the
middle of a face has little overlap with the face's own, but lies in it.
"""
RETURN_NEAR = 1.0
"""How far from where it was lost a face may come back as itself, in sides of its box."""
RETURN_SIZE = 1.6
"""Ratio of its sides up to which it may."""


@dataclass(slots=True, eq=False)
class Track:
    """A face that is followed, or was until a moment ago.

    Attributes:
        id: number of the person, from 1.
        box: float64 (4,), pixels of the frame: that of its last points.
        seen_s: when it was last seen, seconds.
        lost: whether it has not been found since.
        side: of its box, pixels.
    """

    id: int
    box: NDArray[np.float64]
    seen_s: float
    lost: bool = False
    side: float = 0.0


def shared(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Part of the smaller box that every box (N, 4) shares with every other (M, 4), (N, M)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    smaller = np.minimum(box_size(boxes)[:, None], box_size(others)) ** 2
    return np.asarray(np.prod(np.clip(high - low, 0, None), axis=2) / np.maximum(smaller, 1e-9))


def owners(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.intp]:
    """For each box (N, 4) the one of others (M, 4) that is the same face's, (N,); -1 where none is."""
    if not len(boxes) or not len(others):
        return np.full(len(boxes), -1)
    part = shared(boxes, others)
    return np.where(part.max(axis=1) >= SAME, part.argmax(axis=1), -1)


def doubles(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes (N, 4) are of the same face as one that comes before them."""
    if len(boxes) < 2:
        return np.zeros(len(boxes), dtype=bool)
    return np.asarray((np.tril(shared(boxes, boxes), -1) >= SAME).any(axis=1))


def returning(boxes: NDArray[np.float64], lost: Sequence[Track]) -> list[Track | None]:
    """For each box (N, 4) the lost face that comes back with it, if any: the nearest of about its size."""
    found: list[Track | None] = [None] * len(boxes)
    if not len(boxes) or not lost:
        return found
    known = np.array([one.box for one in lost])
    sides, old = box_size(boxes)[:, None], box_size(known)
    middles, places = ((some[:, :2] + some[:, 2:]) / 2 for some in (boxes, known))
    away = np.linalg.norm(middles[:, None] - places, axis=2) / np.maximum(sides, old)
    away[np.maximum(sides / old, old / sides) > RETURN_SIZE] = np.inf
    while (away < RETURN_NEAR).any():
        number, which = divmod(int(away.argmin()), len(lost))
        found[number] = lost[which]
        away[number], away[:, which] = np.inf, np.inf
    return found
