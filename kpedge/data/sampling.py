"""Training samples from a prepared set: a pure function of seed, epoch and face.

Nothing here keeps a state between samples, so a training that is stopped and resumed sees the very same pixels.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import rotated_box
from kpedge.core.card import COLOURS
from kpedge.core.errors import UsageError
from kpedge.core.geometry import (
    CropRule,
    Image,
    compose,
    crop,
    crop_square,
    crop_transform,
    invert,
    pixels_to_fractions,
    transform_points,
)
from kpedge.data.accessories import draw_accessory
from kpedge.data.augmentation import UNDISTURBED, Photometric
from kpedge.data.packed import PreparedSet
from kpedge.data.transforms import Transforms

_DRAWS = 5  # random numbers that a face's square takes: mirror, roll, scale, shift x, shift y


@dataclass(frozen=True, slots=True)
class Jitter:
    """How the square that is cut out of a photo is disturbed in training, as a detector's box would be."""

    mirror: bool = False  # swap left and right for half of the samples, of sets whose scheme knows which points swap
    roll: float = 0.0  # largest turn either way, degrees
    scale: float = 0.0  # largest change of the square's side either way, as a fraction
    shift: float = 0.0  # largest move either way, along x and along y, as a fraction of the side
    # power to which the draws of scale and shift, from 0 to 1, are raised. 1 draws evenly. Above it small disturbances
    # are more frequent, large ones still occur: labelled boxes follow from the points, so a box that is almost exact
    # reveals where they are, and a model may learn to use that without relying on it.
    peak: float = 1.0
    # the same for rotations. Above 1 the square is where the box of a rotated face lies
    # (`kpedge.core.boxes.rotated_box`): below the middle of its points along the crop, not the face.
    roll_exponent: float = 1.0
    accessories: float = 0.0  # probability of a mask or dark glasses drawn onto a face (`kpedge.data.accessories`)

    def __post_init__(self) -> None:
        limits = (("roll", self.roll, 0, 180), ("scale", self.scale, 0, 0.9), ("shift", self.shift, 0, 1))
        exponents = (("jitter-exponent", self.peak, 1, 10), ("roll-exponent", self.roll_exponent, 1, 10))
        for name, value, low, high in (*limits, *exponents, ("accessories", self.accessories, 0, 1)):
            if not low <= value <= high:
                raise UsageError(f"--{name} must be from {low} to {high}, not {value:g}")

    def __bool__(self) -> bool:
        return self.mirror or any((self.roll, self.scale, self.shift))


def concentrate(draw: float, exponent: float) -> float:
    """A draw from -1 to 1, moved towards 0 by a power."""
    return float(draw) if exponent == 1 else math.copysign(abs(draw) ** exponent, draw)


def labelled_fractions(source: PreparedSet, indices: NDArray[np.intp], rule: CropRule) -> NDArray[np.float64]:
    """The labelled keypoints of some faces as fractions of their undisturbed crops, (N, K, 2)."""
    squares = np.array([crop_square(source.boxes[index], rule) for index in indices])
    centre, side = squares[:, None, :2], squares[:, None, 2:]
    return np.asarray((source.keypoints[indices] - centre) / side + 0.5)


@dataclass(frozen=True, slots=True)
class CropSampler:
    """Cuts model inputs out of a prepared set."""

    source: PreparedSet  # the prepared set
    size: int  # side of the crops, pixels
    colour: str  # a key of `kpedge.core.card.COLOURS`
    rule: CropRule  # how a box becomes a crop
    jitter: Jitter = Jitter()  # how the square is disturbed; not at all by default
    seed: int = 0  # of the disturbance
    photometric: Photometric = UNDISTURBED  # how the pixels are disturbed; not at all by default
    transforms: Transforms | None = None  # further ones, of torchvision; none by default

    def sample(self, index: int, epoch: int = 0) -> tuple[Image, NDArray[np.float64]]:
        """The crop of a row of the set, uint8 (size, size, channels), as an epoch disturbs it, and its keypoints,
        float64 (K, 2), fractions of the crop; what the set does not know is NaN.
        """
        index = int(index)  # NumPy's own integers cannot advance a generator
        draw = None
        if self.jitter:  # row `index` of default_rng((seed, epoch)).uniform(-1, 1, (N, 5)), without those before it
            bits = np.random.PCG64((self.seed, epoch))
            bits.advance(_DRAWS * index)
            draw = np.random.Generator(bits).uniform(-1, 1, _DRAWS)
        jitter, mirror = self.jitter, False
        if draw is None:
            to_crop = crop_transform(self.source.boxes[index], self.size, self.rule)
        else:
            mirror = jitter.mirror and self.source.scheme.can_mirror and bool(draw[0] < 0)
            roll, box = math.radians(jitter.roll * concentrate(draw[1], jitter.roll_exponent)), self.source.boxes[index]
            scale, x, y = (concentrate(one, jitter.peak) for one in draw[2:])
            to_crop = crop_transform(
                box if jitter.roll_exponent == 1 else rotated_box(box, roll),
                self.size,
                self.rule,
                roll=roll,
                scale=1 + jitter.scale * scale,
                shift=(jitter.shift * x, jitter.shift * y),
                mirror=mirror,
            )
        _, to_region = self.source.photo_from_region(index)
        image = crop(
            self.source.region(index),
            compose(to_crop, invert(to_region)),
            self.size,
            border=self.rule.border,
            colour="bgr" if self.photometric or self.transforms or jitter.accessories else self.colour,
        )
        if jitter.accessories:
            rng = np.random.default_rng((self.seed, epoch, 5, index))
            if rng.random() < jitter.accessories:
                order = self.source.scheme.mirror_order if mirror else slice(None)
                points = transform_points(to_crop, self.source.keypoints[index])[order]
                image = draw_accessory(image, points, self.source.scheme, rng)
        if self.photometric:
            image = self.photometric.apply(image, np.random.default_rng((self.seed, epoch, 2, index)))
        points = np.asarray(pixels_to_fractions(transform_points(to_crop, self.source.keypoints[index]), self.size))
        if mirror:
            points = points[self.source.scheme.mirror_order]
        if self.transforms:
            image, points = self.transforms.apply(image, points, (self.seed, epoch, 4, index))
        if image.shape[2] > COLOURS[self.colour]:
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8)[:, :, None]
        return image, points

    def batch(self, indices: NDArray[np.intp], epoch: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Some samples in their order: crops, uint8 (B, size, size, channels), and keypoints, float32 (B, K, 2)."""
        crops = np.empty((len(indices), self.size, self.size, COLOURS[self.colour]), np.uint8)
        points = np.empty((len(indices), len(self.source.scheme), 2), np.float32)
        for row, index in enumerate(indices):
            crops[row], points[row] = self.sample(index, epoch)
        return crops, points
