"""Videos whose truth is known: the face of the sample photo, once or many times, moved about by known transforms."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.geometry import (
    CropRule,
    Image,
    Transform,
    compose,
    crop_square,
    invert,
    shrink_factor,
    shrink_transform,
    shrunk_region,
    transform_points,
)
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES21
from kpedge.core.model_zoo import sample_folder, sample_photo
from kpedge.data.formats.label import read_labels

SIZE = (640, 480)  # width and height of a frame, pixels
RATE = 30.0  # frames per second
AROUND = CropRule(widen=0.45)  # how much of the photo is shown around a face's box: hair and shoulders, too


@dataclass(frozen=True, slots=True)
class Sway:
    """How a face moves: sines of time."""

    shift: float = 0.1  # how far to either side, in sides of its box
    zoom: float = 0.05  # how much larger and smaller, as a fraction
    roll: float = 5.0  # how far it turns to either side, degrees
    frequency: float = 0.5  # sways a second


STILL = Sway(shift=0, zoom=0, roll=0)


class FaceClip:
    """A video of faces that sway, each in a place of its own, with boxes of `side` pixels. `points`, float64 (21, 2),
    pixels of the photo, are its labels, or what a model finds in it, where a model's own error is not to count.
    """

    def __init__(
        self,
        faces: int = 1,
        *,
        size: tuple[int, int] = SIZE,
        side: float | None = None,
        sway: Sway = STILL,
        rate: float = RATE,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Lay out a clip of so many faces in frames of `size` pixels at `rate` frames per second. Their boxes have a
        side of `side` pixels, None for as large as the room allows; each begins to sway at another moment. `noise` is
        the standard deviation of the noise on every pixel, grey levels.
        """
        row = read_labels(sample_folder(), FACES21).rows[0]
        self.points: NDArray[np.float64] = row.keypoints
        self._photo = read_image(sample_photo())
        self._square = crop_square(row.box, AROUND)
        columns = math.ceil(math.sqrt(faces * size[0] / size[1]))
        rows = math.ceil(faces / columns)
        cell = size[0] / columns, size[1] / rows
        self._middles = [
            (cell[0] * (number % columns + 0.5) - 0.5, cell[1] * (number // columns + 0.5) - 0.5)
            for number in range(faces)
        ]
        self.side = min(cell) / (1 + 2 * AROUND.widen) if side is None else side
        self._size, self._sway, self._rate, self._noise, self._seed = size, sway, rate, noise, seed

    def transforms(self, number: int) -> list[Transform]:
        """From the photo to a frame, for each face."""
        ways = []
        x, y, side = self._square
        for face, (across, down) in enumerate(self._middles):
            phase = 2 * math.pi * self._sway.frequency * (number / self._rate) + 2.4 * face
            zoom = self.side * (1 + 2 * AROUND.widen) / side * (1 + self._sway.zoom * math.sin(0.7 * phase))
            roll = math.radians(self._sway.roll) * math.sin(1.3 * phase)
            cos, sin = zoom * math.cos(roll), zoom * math.sin(roll)
            across += self._sway.shift * self.side * math.sin(phase)
            down += self._sway.shift * self.side * math.cos(1.1 * phase)
            ways.append(np.array([[cos, -sin, across - cos * x + sin * y], [sin, cos, down - sin * x - cos * y]]))
        return ways

    def truth(self, number: int) -> NDArray[np.float64]:
        """Where the points of every face are in a frame, float64 (N, 21, 2)."""
        return np.array([transform_points(way, self.points) for way in self.transforms(number)])

    def frame(self, number: int) -> Image:
        """A frame, uint8 (H, W, 3)."""
        width, height = self._size
        shade = np.linspace(60, 150, height, dtype=np.float32)[:, None, None]
        drawn = np.broadcast_to(shade, (height, width, 3)).astype(np.uint8)
        x, y, side = self._square
        half = (side - 1) / 2
        for way in self.transforms(number):
            mask = np.zeros((height, width), np.uint8)
            corners = np.array([(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)])
            cv2.fillConvexPoly(mask, np.round(transform_points(way, corners)).astype(np.int32), 255)
            factor = shrink_factor(way, self._photo)
            cells, _ = shrunk_region(self._photo, (0, 0), (self._photo.shape[1], self._photo.shape[0]), factor)
            from_cells = compose(way, invert(shrink_transform(factor)))
            moved = cv2.warpAffine(cells, from_cells, (width, height), borderMode=cv2.BORDER_REPLICATE)
            cv2.copyTo(moved, mask, drawn)
        if self._noise:
            rng = np.random.default_rng((self._seed, number))
            drawn = np.clip(np.round(drawn + rng.normal(0, self._noise, drawn.shape)), 0, 255).astype(np.uint8)
        return drawn
