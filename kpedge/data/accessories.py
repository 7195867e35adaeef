"""Masks and dark glasses drawn onto crops in training, for faces whose eyes and mouth are labelled."""

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.drawing import SHIFT, fixed_point
from kpedge.core.geometry import Image
from kpedge.core.scheme import KeypointScheme

MASK, GLASSES = "mask", "glasses"
GLASSES_SHARE = 0.25  # share of glasses among the accessories
_NAMES = ("left_pupil", "right_pupil", "mouth_left_corner", "mouth_right_corner")
_HALF = [(0.35, 0.5), (0.95, 0.55), (0.88, 1.15), (0.55, 1.62)]
_MASK = np.array([(0.0, 0.42), *_HALF, (0.0, 1.78), *((-x, y) for x, y in reversed(_HALF))])
"""Outline of a mask, (0, 0) between the eyes: x in half widths of the face, y in distances from eyes to mouth."""
_BELOW_NOSE = 0.8  # smallest y of a mask that leaves the nose free
Floats = NDArray[np.float64]


def draw_accessory(
    image: Image, points: Floats, scheme: KeypointScheme, rng: np.random.Generator, kind: str | None = None
) -> Image:
    """A crop, uint8 (S, S, 3), with a mask or dark glasses on its face; itself where eyes or mouth are not labelled."""
    if any(name not in scheme.points for name in _NAMES):
        return image
    corners = points[[scheme.points.index(name) for name in _NAMES]]
    if not np.isfinite(corners).all():
        return image
    left, right, mouth_left, mouth_right = corners
    eyes = (left + right) / 2
    down = (mouth_left + mouth_right) / 2 - eyes
    across = (right - left + mouth_right - mouth_left) / 2 * 1.02
    draw, image = rng.random(16), image.copy()
    if kind == GLASSES or (kind is None and draw[0] < GLASSES_SHARE):
        _draw_glasses(image, (left, right), across, down, draw)
    else:
        _draw_mask(image, eyes, across, down, draw, rng)
    return image


def _draw_mask(
    image: Image, eyes: Floats, across: Floats, down: Floats, draw: Floats, rng: np.random.Generator
) -> None:
    """Draw a plain or printed mask with folds and, mostly, straps."""
    shape = _MASK * (0.85 + 0.4 * draw[1], 0.95 + 0.15 * draw[2])
    if draw[3] < 0.15:
        shape[:, 1] = np.maximum(shape[:, 1], _BELOW_NOSE)
    else:
        shape[[0, 1, -1], 1] -= 0.2 * draw[3]
    shape += rng.normal(0, 0.03, shape.shape)
    outline = eyes + shape[:, :1] * across + shape[:, 1:] * down
    texture = _cloth(image.shape[0], draw, rng)
    for fold in range(int(draw[12] * 4)):
        middle, half = eyes + (0.8 + 0.25 * fold) * down, 0.7 * across
        darker = [0.8 * value for value in cv2.mean(texture)[:3]]
        start, stop = fixed_point([middle - half, middle + half]).tolist()
        cv2.line(texture, start, stop, darker, 1, cv2.LINE_AA, SHIFT)
    area = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(area, [fixed_point(outline)], 255, cv2.LINE_AA, SHIFT)
    if draw[13] < 0.7:
        for corner, side in ((2, 0.5), (8, -0.5)):
            start, stop = fixed_point([outline[corner], outline[corner] + side * across - 0.15 * down]).tolist()
            cv2.line(area, start, stop, 255, 1, cv2.LINE_AA, SHIFT)
    weight = area[..., None].astype(np.float32) / 255
    image[:] = np.round(image * (1 - weight) + texture * weight).astype(np.uint8)


def _cloth(size: int, draw: Floats, rng: np.random.Generator) -> Image:
    """White, black, light blue or coloured cloth under uneven light, a quarter of it printed."""
    if draw[4] < 0.4:
        colour = np.full(3, 170 + 85 * draw[5])
    elif draw[4] < 0.6:
        colour = np.full(3, 50 * draw[5])
    elif draw[4] < 0.8:
        colour = np.array([200, 170, 110]) * (0.7 + 0.5 * draw[5])
    else:
        colour = 255 * draw[6:9]
    patterns = [np.repeat(rng.uniform(-50, 50, (2, 2, 1)) * draw[9], 3, axis=2)]
    if draw[10] < 0.25:
        cells = 4 + int(draw[11] * size / 4)
        patterns.append(rng.uniform(-70, 70, (cells, cells, 3)))
    shades = [cv2.resize(one.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR) for one in patterns]
    return np.clip(colour + sum(shades), 0, 255).astype(np.uint8)


def _draw_glasses(image: Image, eyes: tuple[Floats, Floats], across: Floats, down: Floats, draw: Floats) -> None:
    """Draw two round or square dark lenses and the bridge, not quite opaque."""
    angle = float(np.degrees(np.arctan2(across[1], across[0])))
    wide = 0.3 * float(np.linalg.norm(across)) * (0.8 + 0.6 * draw[1])
    high = 0.28 * float(np.linalg.norm(down)) * (0.8 + 0.6 * draw[2])
    colour = (70 * draw[3] * np.array([0.8 + 0.4 * draw[4], 1.0, 0.8 + 0.4 * draw[5]])).tolist()
    glass = image.copy()
    for eye in eyes:
        middle = tuple((eye + 0.05 * down).tolist())
        if draw[6] < 0.5:
            cv2.ellipse(glass, (middle, (2 * wide, 2 * high), angle), colour, -1, cv2.LINE_AA)
        else:
            corners = cv2.boxPoints((middle, (1.9 * wide, 1.8 * high), angle))
            cv2.fillPoly(glass, [fixed_point(corners)], colour, cv2.LINE_AA, SHIFT)
    start, stop = fixed_point(eyes).tolist()
    cv2.line(glass, start, stop, colour, 1 + int(draw[7] * 2), cv2.LINE_AA, SHIFT)
    opacity = 0.75 + 0.25 * draw[8]
    cv2.addWeighted(glass, opacity, image, 1 - opacity, 0, dst=image)
