"""Photometric augmentation: light, lens, sensor and file format. Points are never moved by it.

The order is a camera's: something stands before the face, the light falls, the lens blurs, the face is small on the
sensor, the sensor adds noise, the file is compressed; only then is the small face enlarged to the crop.
"""

import functools
import math
from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import UsageError
from kpedge.core.geometry import Image

_LIMITS = {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 180, "blur": 10, "noise": 100}
"""Largest value of each amplitude; the other fields are probabilities, up to 1."""
_DRAWS = 16  # random numbers that every sample takes, whatever is on: a setting changes no other disturbance

OCCLUDERS = 3  # largest number of things before a face
OCCLUDER_AREA = 0.25  # largest area of one of them, as a fraction of the crop's
LOWRES = (1.5, 4.0)  # by how much a small face is smaller than the crop
JPEG_QUALITY = (20, 90)
DARKEST = 0.04  # smallest factor of the pixels in a dark image
MOTION_SHARE = 0.3  # share of the blurred samples that are blurred along a line, by a moving camera, not by a lens
MOTION_REACH = 5  # longest such line to either side, pixels: beyond kernels of 11 x 11 OpenCV is twenty times slower

_LUMA = np.array([0.114, 0.587, 0.299])  # luma of blue, green, red (ITU-R BT.601), as OpenCV makes grey
_YUV = np.array([_LUMA, (np.array([1.0, 0, 0]) - _LUMA) * 0.492, (np.array([0, 0, 1.0]) - _LUMA) * 0.877])
"""Blue-green-red to luma and two chroma axes (BT.601)."""
_LUMA_PART, _CHROMA_PART, _CHROMA_TURNED = (
    np.linalg.inv(_YUV) @ np.array(part, dtype=np.float64) @ _YUV
    for part in (
        [[1, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0, 0, 0], [0, 0, -1], [0, 1, 0]],
    )
)
"""A colour is the sum of the first two of these, applied to it; the third is its chroma turned by 90 degrees."""

NOISE_SCALE = 32  # counts of a noise table that make one standard deviation


@functools.cache
def noise_table(seed: int, size: int) -> NDArray[np.int8]:
    """So many numbers of a normal distribution, drawn once: an image takes a stretch of them.

    Drawing 112 x 112 x 3 of them takes longer than all other disturbances together.
    """
    drawn = np.random.default_rng(seed).standard_normal(size) * NOISE_SCALE
    return np.asarray(np.clip(np.round(drawn), -127, 127).astype(np.int8))


def _noise_field(shape: tuple[int, ...], where: float) -> NDArray[np.int8]:
    """A stretch of the noise table in an image's shape; `where`, from 0 to 1, says which."""
    table, count = noise_table(0, 2**20), math.prod(shape)
    if count > len(table) // 2:  # crops beyond 400 pixels: the table is repeated
        table = np.tile(table, 1 + 2 * count // len(table))
    start = int(where * (len(table) - count))
    return table[start : start + count].reshape(shape)


@dataclass(frozen=True, slots=True)
class Photometric:
    """How the pixels of a crop are disturbed in training. All zero, the default, leaves them as they are."""

    brightness: float = 0.0  # largest shift either way, as a fraction of 255
    # largest change around the crop's mean grey: factors from 1 / (1 + contrast) to 1 + contrast, evenly on a
    # logarithmic scale
    contrast: float = 0.0
    saturation: float = 0.0  # the same of the distance from grey
    hue: float = 0.0  # largest turn of the colours either way, degrees
    # largest standard deviation, pixels of the crop; for half of the samples, some of them along a line
    blur: float = 0.0
    noise: float = 0.0  # largest standard deviation of the sensor's noise, grey levels; for half of the samples
    jpeg: float = 0.0  # probability of a round trip through JPEG, with a quality from `JPEG_QUALITY`
    # probability of showing the face small: shrunk by a factor from `LOWRES` before noise and JPEG, and enlarged again
    # afterwards
    lowres: float = 0.0
    # probability that one to `OCCLUDERS` rectangles or ellipses, plain or textured, cover parts of it
    occlusion: float = 0.0
    grey: float = 0.0  # probability of removing the colour
    # probability of little light: before noise, pixels are multiplied by a factor from `DARKEST` to 1, evenly on a
    # logarithmic scale, and rounded
    dark: float = 0.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value, limit = getattr(self, item.name), _LIMITS.get(item.name, 1)
            if not 0 <= value <= limit:
                raise UsageError(f"--{item.name} must be from 0 to {limit}, not {value:g}")

    def __bool__(self) -> bool:
        return any(getattr(self, item.name) for item in fields(self))

    def apply(self, image: Image, rng: np.random.Generator) -> Image:
        """Disturb a crop, uint8 (S, S, 3), blue-green-red, which is not written to: a pure function of the settings,
        the crop and the state of the generator. Gives the crop itself when nothing is on.
        """
        if not self:
            return image
        draw = rng.random(_DRAWS).tolist()
        size = image.shape[0]
        if draw[0] < self.occlusion:
            image = _occlude(image, rng)
        image = self._recolour(image, draw[1:6])
        if self.blur and draw[6] < 0.5:
            image = _blur(image, self.blur * draw[7], draw[8], draw[9])
        small = draw[10] < self.lowres
        if small:
            low, high = LOWRES
            side = max(1, round(size / (low * (high / low) ** draw[11])))
            image = _resize(image, side, cv2.INTER_AREA)
        light = 1.0
        if self.dark and rng.random() < self.dark:
            light = DARKEST ** float(rng.random())
            image = np.asarray(cv2.convertScaleAbs(image, alpha=light), dtype=np.uint8)
        if self.noise and draw[12] < 0.5:
            strength = self.noise * 2 * draw[12] / NOISE_SCALE * math.sqrt(light)
            field = _noise_field(image.shape, draw[13])
            image = np.asarray(cv2.addWeighted(image, 1.0, field, strength, 0.0, dtype=cv2.CV_8U), dtype=np.uint8)
        if draw[14] < self.jpeg:
            low, high = JPEG_QUALITY
            image = _through_jpeg(image, low + int(draw[15] * (high - low + 1)))
        return _resize(image, size, cv2.INTER_LINEAR) if small else image

    def _recolour(self, image: Image, draw: list[float]) -> Image:
        """Brightness, contrast, saturation and hue, or grey, as one affine map of the colours."""
        if not (self.brightness or self.contrast or self.saturation or self.hue or self.grey):
            return image
        brightness, contrast, saturation, hue, grey = draw
        shift = 255 * self.brightness * (2 * brightness - 1)
        stretch = (1 + self.contrast) ** (2 * contrast - 1)
        chroma = 0.0 if grey < self.grey else (1 + self.saturation) ** (2 * saturation - 1)
        angle = math.radians(self.hue * (2 * hue - 1))
        mean = float(np.dot(_LUMA, cv2.mean(image)[:3]))
        way = np.empty((3, 4))
        way[:, :3] = _LUMA_PART + chroma * (math.cos(angle) * _CHROMA_PART + math.sin(angle) * _CHROMA_TURNED)
        way[:, :3] *= stretch
        way[:, 3] = mean * (1 - stretch) + shift
        return np.asarray(cv2.transform(image, way), dtype=np.uint8)


UNDISTURBED = Photometric()  # pixels as they are


def _resize(image: Image, side: int, how: int) -> Image:
    return np.asarray(cv2.resize(image, (side, side), interpolation=how), dtype=np.uint8)


def _occlude(image: Image, rng: np.random.Generator) -> Image:
    """Cover parts of a crop with one to `OCCLUDERS` turned rectangles or ellipses."""
    size = image.shape[0]
    image = image.copy()
    for draw in rng.random((1 + int(rng.random() * OCCLUDERS), 12)).tolist():
        area = OCCLUDER_AREA * draw[0] ** 2 * size**2  # squared: small things are commoner than large ones
        ratio = 3.0 ** (2 * draw[1] - 1)
        across, along = math.sqrt(area * ratio), math.sqrt(area / ratio)
        ellipse = draw[2] < 0.5
        if ellipse:  # of the same area as the rectangle
            across, along = across * math.sqrt(4 / math.pi), along * math.sqrt(4 / math.pi)
        shape = ((draw[3] * size, draw[4] * size), (across, along), 180 * draw[5])
        colour = [255 * draw[6], 255 * draw[7], 255 * draw[8]]
        if draw[9] < 0.5:
            _fill(image, shape, ellipse, colour)
            continue
        cells = 2 + int(draw[10] ** 2 * size / 2)  # of the texture: from a gradient to a weave of two pixels
        pattern = colour + rng.uniform(-80 * draw[11], 80 * draw[11], (cells, cells, 1))
        texture = _resize(np.clip(pattern, 0, 255).astype(np.uint8), size, cv2.INTER_LINEAR)
        mask = np.zeros((size, size), np.uint8)
        _fill(mask, shape, ellipse, [255.0])
        cv2.copyTo(texture, mask, image)
    return image


def _fill(
    image: Image, shape: tuple[tuple[float, float], tuple[float, float], float], ellipse: bool, colour: list[float]
) -> None:
    """Fill a turned rectangle (centre, sides, degrees) or the ellipse within it."""
    if ellipse:
        cv2.ellipse(image, shape, colour, -1)
    else:
        cv2.fillConvexPoly(image, np.round(cv2.boxPoints(shape)).astype(np.int32), colour)


def _blur(image: Image, sigma: float, kind: float, angle: float) -> Image:
    """Blur a crop by a standard deviation in pixels, round or along a line; the kernel is symmetric, nothing moves."""
    if sigma < 0.2:  # no pixel would change by more than a few grey levels
        return image
    if kind >= MOTION_SHARE:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.uint8)
    half = min(sigma * math.sqrt(3), MOTION_REACH)  # half of the length of a line with this standard deviation
    return blur_along_line(image, half, math.pi * angle, 4 * math.ceil(half) + 1)


def blur_along_line(image: Image, half: float, angle: float, steps: int) -> Image:
    """Blur as by a moving camera: a mean over so many steps along a line, `half` pixels to either side."""
    reach = math.ceil(half)
    cells, places = np.arange(-reach, reach + 1), np.linspace(-half, half, steps)[:, None]
    # Every step along the line falls on the four pixels around it, as bilinear sampling would take it from them.
    columns = np.maximum(0, 1 - np.abs(cells - math.cos(angle) * places))
    rows = np.maximum(0, 1 - np.abs(cells - math.sin(angle) * places))
    return np.asarray(cv2.filter2D(image, -1, rows.T @ columns / steps), dtype=np.uint8)


def _through_jpeg(image: Image, quality: int) -> Image:
    """A crop as it comes back from a JPEG file."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
