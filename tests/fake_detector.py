"""A detector that finds what a test tells it to find, and pictures for it."""

from __future__ import annotations

import cv2
import numpy as np

from kpedge.core.card import DETECTOR, DetectorCard
from kpedge.core.keypoints import FACES5


def new_card(**changes):
    return DetectorCard(
        **{
            "name": "detector",
            "task": DETECTOR,
            "architecture": {"name": "detector", "options": {}},
            "colour": "bgr",
            "scheme": FACES5,
            "threshold": 0.5,
            "stride": 32,
            "side": 320,
            "suppression": 0.45,
            **changes,
        }
    )


class Fake:
    """A model that answers with what `find` makes of each frame: boxes (D, 4) and scores (D,)."""

    def __init__(self, find, **card):
        self.card, self.find, self.seen = new_card(**card), find, []

    def __call__(self, frames):
        assert frames.dtype == np.uint8
        assert frames.flags["C_CONTIGUOUS"]
        assert frames.shape[0] == 1
        assert frames.shape[1] % 32 == frames.shape[2] % 32 == 0
        self.seen.append(frames)
        boxes, scores = (np.asarray(values, dtype=np.float64) for values in self.find(frames[0]))
        boxes = boxes.reshape(-1, 4)
        return {"boxes": boxes[None], "scores": scores[None], "points": points_in(boxes)[None]}


PLACES = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])


def points_in(boxes):
    """Five points at the same places in every box."""
    return boxes[:, None, :2] + PLACES * (boxes[:, None, 2:] - boxes[:, None, :2])


def find_bright(frame):
    """A box around every bright spot, along the edges of its pixels; large ones score higher."""
    count, _, rows, _ = cv2.connectedComponentsWithStats(np.asarray(frame[..., 0] > 127, np.uint8))
    spots = rows[1:count].astype(np.float64)
    low = spots[:, :2] - 0.5
    return np.concatenate([low, low + spots[:, 2:4]], axis=1), 0.5 + 0.4 * spots[:, 4] / (spots[:, 4] + 500)


def picture(height, width, *spots):
    """A black picture with white rectangles x, y, width, height."""
    image = np.zeros((height, width, 3), np.uint8)
    for x, y, across, down in spots:
        image[y : y + down, x : x + across] = 255
    return image


def box_of(spot):
    x, y, across, down = spot
    return [x - 0.5, y - 0.5, x + across - 0.5, y + down - 0.5]
