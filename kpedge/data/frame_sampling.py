"""Training samples of the detector: views of whole frames, a pure function of seed, epoch and frame.

A view is a square window that is laid over a frame at some scale, turn and place. So every face is seen at every size,
from a few pixels to most of the view, and cut off at edges as it is in real frames.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import convention_centre, convention_middle
from kpedge.core.geometry import Image, crop, transform_points
from kpedge.core.keypoints import FACES5
from kpedge.data.augmentation import UNDISTURBED, Photometric
from kpedge.data.frames import FrameSet
from kpedge.data.sampling import concentrate

SMALLEST = 6.0  # side of the smallest box that is learnt, pixels; smaller ones are neither face nor background
VISIBLE = 0.5  # part of a box that a view has to show for the face to be learnt
FACE_SIDES = (8.0, 0.85)  # sides of a face that a view is laid around: pixels, and part of the view
LARGEST_ZOOM = 2.0  # largest enlargement of a frame's pixels; beyond it a face is only blurred
WHOLE = (0.75, 1.2)  # longer side of a frame, in the view's, where the whole frame is shown
LEAST = 0.6  # longer side of a frame, in the view's, that is left at least: views are not to be empty
HIDDEN = 0.3  # part of a box that a painted rectangle may cover; behind more a face is neither face nor background


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One training sample."""

    image: Image  # uint8 (S, S, 3), blue-green-red
    boxes: NDArray[np.float32]  # float32 (G, 4), pixels of the view
    points: NDArray[np.float32]  # float32 (G, 5, 2), pixels of the view; NaN if not labelled
    ignore: NDArray[np.bool_]  # bool (G,): neither face nor background


@dataclass(frozen=True, slots=True)
class FrameJitter:
    """How views are laid over frames, and what is done to their pixels."""

    whole: float = 0.4  # probability that a view shows the whole frame; otherwise it is laid around one of its faces
    mosaic: float = 0.25  # probability that a sample is made of four views of half the side
    mirror: bool = True  # swap left and right for half of the views
    roll: float = 12.0  # largest turn either way, degrees
    # probability of black rectangles with a white border, as they hide people in some photos: they are also painted
    # where nobody is, so that they give nothing away
    blanks: float = 0.15
    photometric: Photometric = UNDISTURBED  # how the pixels are disturbed
    roll_exponent: float = 1.0  # of the distribution of rotations; above 1, small ones are the more frequent


@dataclass(frozen=True, slots=True)
class FrameSampler:
    """Cuts views out of frame sets."""

    sets: Sequence[FrameSet]  # where frames come from
    size: int  # side of a view, pixels
    jitter: FrameJitter  # how views are laid
    seed: int = 0  # of all that is drawn
    background: float = 1.0  # how often a frame without a face is shown an epoch, on average

    def order(self, epoch: int) -> NDArray[np.intp]:
        """The samples of an epoch, (M, 2): number of the set and of the frame, shuffled.

        A frame with many faces is shown more often: as often as the root of their number, but three times at most;
        one without as often as `background` says.
        """
        rng = np.random.default_rng((self.seed, epoch, 0))
        chosen = []
        for number, source in enumerate(self.sets):
            frames = source.frames("train")
            faces = np.array([np.count_nonzero(~source.ignore[source.faces(frame)]) for frame in frames])
            times = np.where(faces, np.clip(np.sqrt(faces), 1, 3), self.background)
            times = np.floor(times + rng.random(len(times))).astype(int)
            repeated = np.repeat(frames, times)
            chosen.append(np.stack([np.full(len(repeated), number), repeated], axis=1))
        return np.asarray(rng.permutation(np.concatenate(chosen)), dtype=np.intp)

    def sample(self, number: int, frame: int, epoch: int, place: int) -> View:
        """A sample of a frame and, in a mosaic, of three others; `place` is its own in the epoch's order."""
        rng = np.random.default_rng((self.seed, epoch, 1 + place))
        jitter = self.jitter
        if rng.random() < jitter.mosaic:
            half = self.size // 2
            parts = [(number, frame)]
            for _ in range(3):
                other = int(rng.integers(len(self.sets)))
                frames = self.sets[other].frames("train")
                parts.append((other, int(frames[rng.integers(len(frames))])))
            views = [self._view(rng, one, which, half) for one, which in parts]
            corners = [(0, 0), (half, 0), (0, half), (half, half)]
            image = np.zeros((self.size, self.size, 3), np.uint8)
            for view, (x, y) in zip(views, corners, strict=True):
                image[y : y + half, x : x + half] = view.image
            moves = [np.array(corner, dtype=np.float32) for corner in corners]
            boxes = np.concatenate([v.boxes + np.tile(m, 2) for v, m in zip(views, moves, strict=True)])
            points = np.concatenate([v.points + m for v, m in zip(views, moves, strict=True)])
            ignore = np.concatenate([v.ignore for v in views])
        else:
            view = self._view(rng, number, frame, self.size)
            image, boxes, points, ignore = view.image, view.boxes, view.points, view.ignore.copy()
        if rng.random() < jitter.blanks:
            image = np.ascontiguousarray(image)
            _paint_blanks(image, boxes, ignore, rng)
        return View(jitter.photometric.apply(image, rng), boxes, points, ignore)

    def _view(self, rng: np.random.Generator, number: int, frame: int, size: int) -> View:
        source, jitter = self.sets[number], self.jitter
        pixels, rows = source.image(frame), source.faces(frame)
        height, width = pixels.shape[:2]
        boxes = source.boxes[rows]
        faces = np.flatnonzero(~source.ignore[rows])
        low, high = WHOLE
        draws = rng.random(8)
        zoom = size / max(height, width) * math.exp(math.log(low) + draws[1] * math.log(high / low))
        at = np.array([width - 1, height - 1]) / 2
        # The whole frame lies anywhere in the view; a face lies anywhere in it, too.
        room = np.maximum(size - zoom * np.array([width, height]), 0) / 2 / size + 0.03
        target = 0.5 + (2 * draws[2:4] - 1) * np.minimum(room, 0.5)
        if draws[0] >= jitter.whole:
            smallest, largest = FACE_SIDES
            if len(faces):
                box = boxes[faces[int(draws[4] * len(faces))]]
                side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
                wanted = smallest * (largest * size / smallest) ** draws[1]
                zoom = max(min(wanted / side, LARGEST_ZOOM), LEAST * size / max(height, width))
                at = (box[:2] + box[2:]) / 2
            else:
                least = LEAST * size / max(height, width)
                zoom = least * (max(LARGEST_ZOOM / least, 1)) ** draws[1]
                at = draws[5:7] * [width, height]
            target = 0.08 + 0.84 * draws[2:4]
        angle = math.radians(jitter.roll * concentrate(2 * draws[7] - 1, jitter.roll_exponent))
        mirror = jitter.mirror and bool(rng.random() < 0.5)
        flip = -1.0 if mirror else 1.0
        cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
        way = np.array([[flip * cos, flip * sin, 0.0], [-sin, cos, 0.0]])
        way[:, 2] = target * size - 0.5 - way[:, :2] @ at
        image = crop(pixels, way, size, border="black")
        found, points = _moved(way, zoom, boxes, source.points[rows], mirror)
        shown = _visible(found, size, size)
        keep = shown > 0
        small = np.sqrt(np.prod(found[:, 2:] - found[:, :2], axis=1)) < SMALLEST
        middle = (found[:, :2] + found[:, 2:]) / 2
        inside = ((middle > -0.5) & (middle < size - 0.5)).all(axis=1)
        ignore = source.ignore[rows] | small | (shown < VISIBLE) | ~inside
        return View(image, found[keep].astype(np.float32), points[keep].astype(np.float32), ignore[keep])


def _moved(
    way: NDArray[np.float64], zoom: float, boxes: NDArray[np.float64], points: NDArray[np.float64], mirror: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes (G, 4) and points (G, 5, 2) in a view: the middle of the face turns with it, the box stays upright."""
    side = zoom * (boxes[:, 2:] - boxes[:, :2])
    middle = convention_centre(transform_points(way, convention_middle(boxes)), side[:, 1])
    moved = transform_points(way, points[:, FACES5.mirror_order] if mirror else points)
    return np.concatenate([middle - side / 2, middle + side / 2], axis=1), moved


def _visible(boxes: NDArray[np.floating], width: float, height: float) -> NDArray[np.float64]:
    """Part of each box (G, 4) that lies within an image of that size."""
    low = np.maximum(boxes[:, :2], -0.5)
    high = np.minimum(boxes[:, 2:], [width - 0.5, height - 0.5])
    shown = np.prod(np.clip(high - low, 0, None), axis=1)
    return np.asarray(shown / np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1e-9), dtype=np.float64)


def _paint_blanks(
    image: Image, boxes: NDArray[np.float32], ignore: NDArray[np.bool_], rng: np.random.Generator
) -> None:
    """Paint one or two black rectangles with a white border into an image; faces behind them are ignored."""
    size = image.shape[0]
    for draw in rng.random((1 + int(rng.random() * 2), 5)):
        sides = size * (0.04 + 0.4 * draw[:2] ** 2)
        low = draw[2:4] * size - sides / 2
        high = low + sides
        (x1, y1), (x2, y2) = np.round(low).astype(int).tolist(), np.round(high).astype(int).tolist()
        cv2.rectangle(image, (x1, y1), (x2, y2), (0, 0, 0), -1)
        cv2.rectangle(image, (x1, y1), (x2, y2), (255, 255, 255), 1 + int(draw[4] * 3))
        inner = np.concatenate([np.maximum(boxes[:, :2], low), np.minimum(boxes[:, 2:], high)], axis=1)
        covered = np.prod(np.clip(inner[:, 2:] - inner[:, :2], 0, None), axis=1)
        ignore |= covered > HIDDEN * np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
