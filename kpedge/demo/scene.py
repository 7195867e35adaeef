"""A video whose truth is known: a camera that moves over two prints of the sample photo on a wall."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.geometry import (
    Image,
    Transform,
    compose,
    invert,
    shrink_factor,
    shrink_transform,
    shrunk_region,
    transform_points,
)
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES21
from kpedge.core.model_zoo import sample_folder, sample_photo
from kpedge.core.scheme import KeypointScheme
from kpedge.data.formats.label import read_labels

SIZE = (640, 480)
"""Width and height of a frame, pixels."""
RATE = 25.0
"""Frames a second."""
NOISE = 2.5
"""Standard deviation of the sensor's noise on every pixel, grey levels."""
WALL = (1500, 900)
"""Width and height of the wall, pixels."""
MARGIN = 16
"""Of a print's white border, pixels of the photo."""


@dataclass(frozen=True, slots=True)
class Print:
    """A print of the photo.

    Attributes:
        x, y: its middle on the wall, pixels.
        zoom: pixels of the wall for one of the photo.
        roll: how far it hangs askew, degrees; positive clockwise.
        mirrored: whether it shows the photo mirrored.
    """

    x: float
    y: float
    zoom: float
    roll: float
    mirrored: bool

    def way(self, width: int, height: int) -> Transform:
        """From a photo of that size, or its mirrored copy, to the wall."""
        return _similarity((width - 1) / 2, (height - 1) / 2, self.x, self.y, self.zoom, self.roll)


PRINTS = (Print(420, 450, 1.0, -3, mirrored=False), Print(1080, 440, 0.92, 5, mirrored=True))


@dataclass(frozen=True, slots=True)
class View:
    """Where the camera is at a moment.

    Attributes:
        time_s: the moment, seconds.
        x, y: what it looks at, pixels of the wall.
        zoom: pixels of the frame for one of the wall.
        roll: how far the image turns, degrees.
    """

    time_s: float
    x: float
    y: float
    zoom: float
    roll: float


PATH = (
    View(0.0, 385, 360, 1.9, 0),
    View(1.0, 385, 360, 1.9, 0),  # at rest before one face
    View(2.4, 745, 430, 0.49, 11),  # back, until both are seen
    View(2.9, 745, 430, 0.49, 11),
    View(4.2, 1090, 350, 1.7, -16),  # before the other; the first has left the frame
    View(4.9, 1090, 350, 1.7, -16),
    View(5.7, 985, 560, 2.0, 4),  # down to the helmet: no face
    View(6.1, 985, 560, 2.0, 4),
    View(7.1, 745, 430, 0.52, -9),  # both are found again
    View(7.7, 745, 430, 0.52, -9),
    View(8.9, 400, 370, 2.1, 20),
    View(9.6, 400, 370, 2.1, 20),
)
"""The camera's path; it eases from view to view."""


def _similarity(x: float, y: float, to_x: float, to_y: float, zoom: float, roll: float) -> Transform:
    """Zoom and turn by `roll` degrees such that x y comes to lie at `to_x` `to_y`."""
    cos, sin = zoom * math.cos(math.radians(roll)), zoom * math.sin(math.radians(roll))
    return np.array([[cos, -sin, to_x - cos * x + sin * y], [sin, cos, to_y - sin * x - cos * y]])


def view_at(time_s: float) -> View:
    """Where the camera is at a moment; before the path it waits at its beginning, after it at its end."""
    if time_s <= PATH[0].time_s:
        return PATH[0]
    for one, other in itertools.pairwise(PATH):
        if time_s <= other.time_s:
            share = (time_s - one.time_s) / (other.time_s - one.time_s)
            share = share * share * (3 - 2 * share)

            def between(low: float, high: float, part: float = share) -> float:
                return low + (high - low) * part

            return View(
                time_s,
                between(one.x, other.x),
                between(one.y, other.y),
                math.exp(between(math.log(one.zoom), math.log(other.zoom))),
                between(one.roll, other.roll),
            )
    return PATH[-1]


class Scene:
    """The video: frames, and where the faces are in them.

    Attributes:
        frames: how many there are.
        scheme: of the points.
    """

    def __init__(self, seconds: float = PATH[-1].time_s, *, seed: int = 0) -> None:
        """Hang the prints.

        Args:
            seconds: after which the video is cut.
            seed: of the noise.
        """
        (row,) = read_labels(sample_folder(), FACES21).rows
        photo = read_image(sample_photo())
        height, width = photo.shape[:2]
        self.frames = max(1, round(min(seconds, PATH[-1].time_s) * RATE))
        self.scheme: KeypointScheme = FACES21
        self._wall = _wall(photo)
        self._cells: dict[int, Image] = {}
        self._points = []
        for one in PRINTS:
            points = row.keypoints
            if one.mirrored:
                points = (points * (-1, 1) + (width - 1, 0))[FACES21.mirror_order]
            self._points.append(transform_points(one.way(width, height), points))
        rng = np.random.default_rng(seed)
        # One field of noise, of which every frame takes another part, is as good and a tenth of the work.
        self._noise = rng.normal(0, NOISE, (SIZE[1] + 97, SIZE[0] + 97, 3)).astype(np.float32)
        self._shifts = rng.integers(0, 97, (self.frames, 2))

    def camera(self, number: int) -> Transform:
        """From the wall to a frame."""
        view = view_at(number / RATE)
        return _similarity(view.x, view.y, (SIZE[0] - 1) / 2, (SIZE[1] - 1) / 2, view.zoom, view.roll)

    def truth(self, number: int) -> NDArray[np.float64]:
        """Where the points of the prints' faces are in a frame, in it or beyond, float64 (2, 21, 2), pixels."""
        return np.stack([transform_points(self.camera(number), points) for points in self._points])

    def in_view(self, number: int) -> NDArray[np.bool_]:
        """Which of the faces have all their points in a frame, (2,)."""
        points = self.truth(number)
        inside = (points >= 0) & (points <= np.array(SIZE) - 1)
        return np.asarray(inside.all(axis=(1, 2)))

    def rests(self) -> list[range]:
        """The stretches of frames in which the camera stands still."""
        found: list[range] = []
        start = 0
        for number in range(1, self.frames + 1):
            if number == self.frames or (self.camera(number) != self.camera(number - 1)).any():
                if number - start > 1:
                    found.append(range(start, number))
                start = number
        return found

    def frame(self, number: int) -> Image:
        """A frame, uint8 (480, 640, 3), blue-green-red."""
        way = self.camera(number)
        factor = shrink_factor(way, self._wall)  # OpenCV's warp averages nothing: what is shrunk far would glitter
        if factor not in self._cells:
            self._cells[factor] = shrunk_region(self._wall, (0, 0), self._wall.shape[1::-1], factor)[0]
        from_cells = compose(way, invert(shrink_transform(factor)))
        seen = cv2.warpAffine(self._cells[factor], from_cells, SIZE, borderMode=cv2.BORDER_REPLICATE)
        across, down = self._shifts[number].tolist()
        noise = self._noise[down : down + SIZE[1], across : across + SIZE[0]]
        return cv2.add(seen, noise, dtype=cv2.CV_8U).astype(np.uint8)


def _wall(photo: Image) -> Image:
    """The wall with its prints, uint8 (900, 1500, 3): a soft light, white borders, shadows."""
    width, height = WALL
    x, y = np.meshgrid(np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32))
    light = 1.05 - 0.45 * (0.6 * x * x + (y + 0.25) ** 2)
    wall = light[..., None] * np.array([150, 128, 108], np.float32)
    for one in PRINTS:
        shown = cv2.flip(photo, 1) if one.mirrored else photo
        shown = cv2.copyMakeBorder(shown, *(4 * (MARGIN,)), cv2.BORDER_CONSTANT, value=(240, 244, 246))
        way = one.way(shown.shape[1], shown.shape[0])
        mask = cv2.warpAffine(np.full(shown.shape[:2], 1, np.float32), way, WALL, flags=cv2.INTER_LINEAR)
        shadow = cv2.GaussianBlur(np.roll(mask, (14, 9), axis=(0, 1)), (0, 0), 13)
        wall *= 1 - 0.5 * shadow[..., None]
        laid = cv2.warpAffine(shown, way, WALL, flags=cv2.INTER_LINEAR).astype(np.float32)
        wall = wall * (1 - mask[..., None]) + laid * mask[..., None]
    return np.asarray(np.clip(np.round(wall), 0, 255), dtype=np.uint8)
