"""From light to a file: exposure, tone, blur, noise and colour, as cameras and those who edit images leave them."""

import math

import cv2
import numpy as np

from kpedge.core.geometry import Image
from kpedge.data.augmentation import NOISE_SCALE, blur_along_line, noise_table
from kpedge.synthetic.shape import Floats

_TABLE = 2**19


def expose(colour: Floats, gain: float) -> Floats:
    """Linear light as grey levels, 0 to 255, with highlights that run out softly."""
    level = np.sqrt(np.maximum(colour * gain, 0))
    # Above 0.8 levels are squeezed: what is twice as bright must not be cut off.
    high = np.maximum(level - 0.8, 0)
    return np.asarray(255 * (np.minimum(level, 0.8) + 0.2 * high / (0.2 + high)), np.float32)


def develop(image: Image, rng: np.random.Generator, size: float, coarse: float = 0.0) -> Image:
    """An image, uint8 (H, W, 3), as a camera would store it. Blur is counted in the typical side of a face in it,
    `size` pixels; with the probability `coarse` it was enlarged from a small one, whose faces had 14 to 42 pixels.
    """
    draw = rng.random(12)
    if draw[0] < 0.5:
        sigma = 0.35 + size * 0.018 * float(draw[1]) ** 3
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)
    elif draw[0] < 0.56:
        half = min(size * 0.05 * float(draw[1]), 7.0)
        if half >= 0.4:
            image = blur_along_line(image, half, math.pi * float(draw[2]), 8 * math.ceil(half) + 4)
    if draw[3] < 0.25:  # sharpened by the camera
        soft = cv2.GaussianBlur(image, (0, 0), 1.0)
        image = np.asarray(cv2.addWeighted(image, 1 + float(draw[4]), soft, -float(draw[4]), 0), np.uint8)
    if draw[10] < coarse:
        image = _downscale(image, math.exp(math.log(14) + draw[11] * math.log(3)) / size)
    image = _adjust_tone(image, rng)
    if draw[5] < 0.6:
        strength = 6.5 * float(draw[6]) ** 3
        count = image.size
        start = int(draw[7] * max(_TABLE - count, 1))
        table = noise_table(3, _TABLE)
        if count + start > _TABLE:
            table = np.tile(table, 2 + count // _TABLE)
        grain = table[start : start + count].reshape(image.shape)
        if draw[8] < 0.5:  # the same in all colours
            grain = np.repeat(grain[..., :1], 3, axis=2)
        image = np.asarray(cv2.addWeighted(image, 1.0, grain, strength / NOISE_SCALE, 0.0, dtype=cv2.CV_8U), np.uint8)
    if draw[9] < 0.12:
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        image = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)
    return image


def _downscale(image: Image, zoom: float) -> Image:
    """An image as it looks that was smaller by `zoom` and has been enlarged."""
    if zoom >= 0.8:
        return image
    height, width = image.shape[:2]
    small = (max(4, round(width * zoom)), max(4, round(height * zoom)))
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _adjust_tone(image: Image, rng: np.random.Generator) -> Image:
    """Contrast, brightness, gamma and white balance, through a table of 256 levels a colour."""
    level = np.linspace(0, 1, 256)[:, None]
    gamma = math.exp(rng.normal(0, 0.18))
    contrast = math.exp(rng.normal(0.22, 0.20))
    lift = rng.uniform(0, 0.12) if rng.random() < 0.35 else 0.0
    balance = np.exp(rng.normal(0, 0.06, 3))
    curve = np.clip(level * balance, 0, 1) ** gamma
    curve = 0.42 + (curve - 0.42) * contrast + rng.normal(0, 0.03)
    curve = lift + (1 - lift) * np.clip(curve, 0, 1)
    table = np.clip(np.round(curve * 255), 0, 255).astype(np.uint8)[:, None, :]
    return np.asarray(cv2.LUT(image, np.ascontiguousarray(table.reshape(256, 1, 3))), np.uint8)
