"""What lies around a head: rooms, walls, leaves, lights, lettering, clothes, and things the colour of skin."""

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.drawing import SHIFT, fixed_point
from kpedge.core.geometry import Image


def _colour(rng: np.random.Generator, calm: bool = True) -> NDArray[np.float64]:
    """A colour as things have it: most are dull."""
    grey = 5 + 245 * rng.random()
    tint = rng.standard_normal(3) * (14 if calm and rng.random() < 0.75 else 60)
    return np.asarray(np.minimum(np.maximum(tint + (grey - tint.sum() / 3), 0), 255), np.float64)


def skin_tone(rng: np.random.Generator) -> NDArray[np.float64]:
    """A colour of skin, blue-green-red, for what is no face."""
    light = rng.uniform(40, 235)
    return np.asarray(np.clip(np.array([0.62, 0.74, 1.0]) * light + rng.normal(0, 10, 3), 0, 255), np.float64)


def _field(rng: np.random.Generator, height: int, width: int, cells: float, deep: int = 3) -> NDArray[np.float32]:
    """Noise whose spots are `cells` pixels wide, of about unit variance."""
    shape = (max(2, int(height / cells) + 2), max(2, int(width / cells) + 2), deep)
    small = rng.standard_normal(shape).astype(np.float32)
    how = cv2.INTER_CUBIC if rng.random() < 0.7 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(small, (width, height), interpolation=how), np.float32).reshape(height, width, deep)


def _gradient(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    corners = np.array([_colour(rng) for _ in range(4)], np.float32).reshape(2, 2, 3)
    if rng.random() < 0.5:
        corners = corners.mean(axis=(0, 1)) + (corners - corners.mean(axis=(0, 1))) * 0.3
    return np.asarray(cv2.resize(np.asarray(corners, np.float32), (width, height)), np.float32)


def _noise(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Leaves, grass, rock, carpet: noise of several sizes."""
    made = np.tile(_colour(rng).astype(np.float32), (height, width, 1))
    size = rng.uniform(1.5, 40)
    for _ in range(int(rng.integers(1, 4))):
        deep = 1 if rng.random() < 0.7 else 3
        made += rng.uniform(8, 42) * _field(rng, height, width, size, deep)
        size *= rng.uniform(2.0, 4.0)
    return made


def _stripes(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Walls of bricks, blinds, shelves, shirts: one wave or two."""
    angle = rng.choice((0.0, np.pi / 2, rng.uniform(0, np.pi)))
    one_way, other_way = 2 * np.pi / rng.uniform(4, 60), 2 * np.pi / rng.uniform(4, 80)
    wave = _wave(height, width, angle, one_way, rng.uniform(0, 6))
    if rng.random() < 0.4:
        wave = wave * _wave(height, width, angle + np.pi / 2, other_way, 0.0)
    if rng.random() < 0.6:
        wave = np.sign(wave - rng.uniform(-0.6, 0.6))
    one, other = _colour(rng).astype(np.float32), _colour(rng).astype(np.float32)
    share = (0.5 + 0.5 * wave)[..., None]
    return np.asarray(one + share * (other - one), np.float32)


def _wave(height: int, width: int, angle: float, pace: float, start: float) -> NDArray[np.float32]:
    """Sin over a plane, by the sum rule: two rows of sines instead of an image of them."""
    x = np.arange(width, dtype=np.float32) * np.float32(pace * np.cos(angle)) + np.float32(start)
    y = np.arange(height, dtype=np.float32) * np.float32(pace * np.sin(angle))
    return np.asarray(np.outer(np.cos(y), np.sin(x)) + np.outer(np.sin(y), np.cos(x)), np.float32)


def _shape(image: Image, rng: np.random.Generator, colour: NDArray[np.float64]) -> None:
    """Draw one thing: a box, an oval, a bar, a triangle, a limb."""
    height, width = image.shape[:2]
    middle = rng.uniform(-0.1, 1.1, 2) * (width, height)
    size = np.exp(rng.uniform(np.log(3.0), np.log(0.8 * max(width, height))))
    ink = tuple(int(value) for value in colour)
    kind = rng.random()
    at = fixed_point(middle).tolist()
    if kind < 0.28:
        axes = fixed_point(size * rng.uniform(0.2, 0.8, 2)).tolist()
        cv2.ellipse(image, at, axes, rng.uniform(0, 180), 0, 360, ink, -1, cv2.LINE_AA, SHIFT)
    elif kind < 0.62:
        corners = cv2.boxPoints(
            (
                (float(middle[0]), float(middle[1])),
                (size, size * rng.uniform(0.1, 1.5)),
                float(rng.choice((0, 0, rng.normal(0, 30)))),
            )
        )
        cv2.fillConvexPoly(image, fixed_point(corners), ink, cv2.LINE_AA, SHIFT)
    elif kind < 0.82:
        bend = middle + np.cumsum(rng.normal(0, size * 0.5, (int(rng.integers(2, 6)), 2)), axis=0)
        thick = int(np.clip(size * rng.uniform(0.02, 0.3), 1, 60))
        cv2.polylines(image, [fixed_point(bend)], False, ink, thick, cv2.LINE_AA, SHIFT)
    else:
        corners = middle + rng.normal(0, size * 0.5, (int(rng.integers(3, 7)), 2))
        cv2.fillPoly(image, [fixed_point(corners)], ink, cv2.LINE_AA, SHIFT)


def _lettering(image: Image, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    letters = "".join(chr(int(code)) for code in rng.integers(48, 91, int(rng.integers(2, 9))))
    at = (int(rng.uniform(-0.1, 0.8) * width), int(rng.uniform(0.05, 1) * height))
    ink = tuple(int(value) for value in _colour(rng, calm=False))
    font = int(rng.choice((cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_TRIPLEX)))
    cv2.putText(image, letters, at, font, rng.uniform(0.3, 2.5), ink, int(rng.integers(1, 6)), cv2.LINE_AA)


def _lights(image: Image, rng: np.random.Generator) -> None:
    """Lamps out of focus."""
    height, width = image.shape[:2]
    radius = rng.uniform(2, 0.08 * max(height, width) + 3)
    for _ in range(int(rng.integers(3, 14))):
        at = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        ink = tuple(int(value) for value in np.clip(_colour(rng, calm=False) + 80, 0, 255))
        cv2.circle(image, at, int(radius * rng.uniform(0.6, 1.3)), ink, -1, cv2.LINE_AA)


def _blur(image: Image, sigma: float) -> Image:
    """Blur; wide blurs are done on a smaller image."""
    height, width = image.shape[:2]
    if sigma > 3:
        small = cv2.resize(image, (max(width // 4, 1), max(height // 4, 1)), interpolation=cv2.INTER_AREA)
        soft = cv2.GaussianBlur(small, (0, 0), sigma / 4)
        return np.asarray(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def draw_background(rng: np.random.Generator, height: int, width: int) -> Image:
    """A background, uint8 (H, W, 3)."""
    kind = rng.random()
    if kind < 0.42:
        made = _gradient(rng, height, width)
    elif kind < 0.78:
        made = _noise(rng, height, width)
    else:
        made = _stripes(rng, height, width)
    image = np.clip(made, 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(0, 4) if rng.random() < 0.35 else rng.integers(2, 26))):
        _shape(image, rng, skin_tone(rng) if rng.random() < 0.15 else _colour(rng))
    if rng.random() < 0.15:
        for _ in range(int(rng.integers(1, 5))):
            _lettering(image, rng)
    if rng.random() < 0.08:
        _lights(image, rng)
    blur = rng.random()
    if blur < 0.7:
        sigma = float(np.exp(rng.uniform(np.log(0.5), np.log(0.04 * max(height, width) + 1))))
        image = _blur(image, sigma)
    if rng.random() < 0.7:
        grain = rng.uniform(0, 14) * _field(rng, height, width, rng.uniform(1, 3), 1)
        image = np.asarray(np.clip(image + grain, 0, 255), np.uint8)
    if rng.random() < 0.5:  # light falls off towards one side
        slope = np.linspace(rng.uniform(0.5, 1.0), rng.uniform(0.8, 1.25), width, dtype=np.float32)[None, :, None]
        image = np.clip(image * slope, 0, 255).astype(np.uint8)
    return image


def draw_body(image: Image, rng: np.random.Generator, neck: NDArray[np.float64], scale: float, roll: float) -> None:
    """Draw shoulders and clothes under a head into an image, uint8 (H, W, 3): below the middle of the front of the
    neck, (2,), pixels, with `scale` pixels per pupil distance, leaning by `roll` degrees.
    """
    height, width = image.shape[:2]
    slope, broad = rng.uniform(0.3, 1.0), rng.uniform(2.0, 2.9)
    dip, stand = rng.uniform(-0.1, 0.9), rng.uniform(0.0, 0.25)
    half = np.array(
        [
            *((0.0, dip), (0.30, 0.75 * dip), (0.62, 0.25 * dip - 0.1)),
            *((0.82, -0.15 - stand), (0.98, -0.08 - 0.5 * stand), (1.3, 0.12), (0.72 * broad, 0.55 * slope)),
            *((broad, slope), (broad * 1.1, 1.8 + slope), (broad * 1.2, 60.0)),
        ]
    )
    outline = np.concatenate([half, half[::-1] * (-1, 1)])
    angle = np.radians(roll)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    seen = outline @ turn.T * scale + neck
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [fixed_point(seen)], 255, cv2.LINE_AA, SHIFT)
    x, y, wide, tall = cv2.boundingRect(mask)
    if not wide or not tall:
        return
    cut = (slice(y, y + tall), slice(x, x + wide))
    kind = rng.random()
    if kind < 0.55:
        cloth = np.tile(_colour(rng, calm=False).astype(np.float32), (tall, wide, 1))
    elif kind < 0.8:
        cloth = _stripes(rng, tall, wide)
    else:
        cloth = _noise(rng, tall, wide)
    folds = _field(rng, tall, wide, max(3.0, scale * rng.uniform(0.2, 0.8)), 1)
    across = (np.arange(x, x + wide, dtype=np.float32) - neck[0]) / max(scale * broad, 1)
    shade = (1 - 0.35 * across**2 + rng.uniform(-0.3, 0.3) * across)[None, :, None]
    cloth = np.clip(cloth * shade * (1 + 0.10 * folds), 0, 255)
    share = mask[cut][..., None] * np.float32(1 / 255)
    image[cut] = np.clip(image[cut] + share * (cloth - image[cut]), 0, 255).astype(np.uint8)
