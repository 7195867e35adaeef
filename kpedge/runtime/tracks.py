"""Faces that are followed through a video: where each is to be looked for next, and who is who."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kpedge.geometry import box_size, iou

SAME_IOU = 0.3
"""Overlap from which on a found box is that of a face that is followed."""
DOUBLE_IOU = 0.5
"""Overlap from which on two faces that are followed are one."""
RETURN_NEAR = 1.0
"""How far from where it was lost a face may come back as itself, in sides of its box."""
RETURN_SIZE = 1.6
"""Ratio of its sides up to which it may."""
FASTEST = 0.4
"""How far a crop is moved on at most, in sides of the face."""
SHORTEST = 1 / 120
"""Seconds that count at least between two sights of a face: over less, which is the jitter of a stream's time stamps, a
speed is noise.
"""


@dataclass(slots=True, eq=False)
class Track:
    """A face that is followed, or was until a moment ago.

    Attributes:
        id: number of the person, from 1.
        box: float64 (4,), pixels of the frame: that of its last points.
        roll: in-plane rotation, radians.
        speed: float64 (2,), of the box's middle, pixels a second.
        seen_s: when it was last seen.
        lost: whether it has not been found since.
    """

    id: int
    box: NDArray[np.float64]
    roll: float
    speed: NDArray[np.float64]
    seen_s: float
    lost: bool = False

    def moved_on(self, time_s: float) -> NDArray[np.float64]:
        """The box (4,) at a later time, if the face goes on as it moved."""
        passed = time_s - self.seen_s
        across, down = (passed * float(one) for one in self.speed)
        length = math.hypot(across, down)
        short = min(1.0, FASTEST * float(box_size(self.box)) / length) if length else 0.0
        return self.box + short * np.array([across, down, across, down])

    def see(self, box: NDArray[np.float64], roll: float, time_s: float) -> None:
        """Take note of where the face is now."""
        passed = time_s - self.seen_s
        if self.lost or passed <= 0:
            self.speed = np.zeros(2)
        else:
            moved = (box[:2] + box[2:] - self.box[:2] - self.box[2:]) / 2
            self.speed = (self.speed + moved / max(passed, SHORTEST)) / 2
        self.box, self.roll, self.seen_s, self.lost = box, roll, time_s, False


def apart(boxes: NDArray[np.float64], others: NDArray[np.float64], overlap: float = SAME_IOU) -> NDArray[np.bool_]:
    """Which boxes (N, 4) overlap none of the others (M, 4) by so much."""
    if not len(boxes) or not len(others):
        return np.ones(len(boxes), dtype=bool)
    return np.asarray(iou(boxes, others).max(axis=1) < overlap)


def doubles(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes (N, 4) lie on one that comes before them."""
    if len(boxes) < 2:
        return np.zeros(len(boxes), dtype=bool)
    return np.asarray((np.tril(iou(boxes, boxes), -1) >= DOUBLE_IOU).any(axis=1))


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
