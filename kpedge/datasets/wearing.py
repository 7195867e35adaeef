"""Masks and dark glasses drawn onto crops in training, where the points say that a face has its nose and mouth."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.geometry import Image
from kpedge.scheme import KeypointScheme

GLASSES = 0.25
"""Share of the faces that are given something which get dark glasses; the others get a mask."""
_NAMES = ("left_pupil", "right_pupil", "mouth_left_corner", "mouth_right_corner")
_HALF = [(0.35, 0.5), (0.95, 0.55), (0.88, 1.15), (0.55, 1.62)]
_MASK = np.array([(0.0, 0.42), *_HALF, (0.0, 1.78), *((-x, y) for x, y in reversed(_HALF))])
"""Outline of a mask from the eyes' middle: across in halves of a face, down in distances from eyes to mouth."""


def wear(image: Image, points: NDArray[np.float64], scheme: KeypointScheme, rng: np.random.Generator) -> Image:
    """A crop, uint8 (S, S, 3), with a mask or dark glasses on the face whose points (K, 2), pixels of the crop, are
    given; as it is where eyes or mouth are not labelled.
    """
    if any(name not in scheme.points for name in _NAMES):
        return image
    left, right, one, other = points[[scheme.points.index(name) for name in _NAMES]]
    if not np.isfinite([left, right, one, other]).all():
        return image
    eyes, mouth = (left + right) / 2, (one + other) / 2
    down = mouth - eyes
    across = (right - left + other - one) / 2 * 1.02
    draw = rng.random(16)
    image = image.copy()
    if draw[0] < GLASSES:
        _glasses(image, left, right, across, down, draw)
    else:
        _mask(image, eyes, across, down, draw, rng)
    return image


def _mask(
    image: Image,
    eyes: NDArray[np.float64],
    across: NDArray[np.float64],
    down: NDArray[np.float64],
    draw: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    shape = _MASK.copy()
    shape[:, 0] *= 0.85 + 0.4 * draw[1]
    shape[:, 1] *= 0.95 + 0.15 * draw[2]
    if draw[3] < 0.15:  # worn below the nose
        shape[:, 1] = np.maximum(shape[:, 1], 0.8)
    else:
        shape[[0, 1, -1], 1] -= 0.2 * draw[3]
    shape += rng.normal(0, 0.03, shape.shape)
    outline = eyes + shape[:, :1] * across + shape[:, 1:] * down
    size = image.shape[0]
    if draw[4] < 0.4:
        colour = np.full(3, 170 + 85 * draw[5])
    elif draw[4] < 0.6:
        colour = np.full(3, 50 * draw[5])
    elif draw[4] < 0.8:
        colour = np.array([200, 170, 110]) * (0.7 + 0.5 * draw[5])
    else:
        colour = 255 * draw[6:9]
    light = rng.uniform(-50, 50, (2, 2, 1)) * draw[9]
    shade = cv2.resize(light.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)[..., None]
    if draw[10] < 0.25:  # printed
        cells = 4 + int(draw[11] * size / 4)
        print_ = rng.uniform(-70, 70, (cells, cells, 3)).astype(np.float32)
        shade = shade + cv2.resize(print_, (size, size), interpolation=cv2.INTER_LINEAR)
    texture = np.clip(colour + shade, 0, 255).astype(np.uint8)
    texture = np.broadcast_to(texture, image.shape).copy()
    for fold in range(int(draw[12] * 4)):
        at = 0.8 + 0.25 * fold
        ends = [eyes + way * 0.7 * across + at * down for way in (-1, 1)]
        darker = (colour * 0.8).tolist()
        cv2.line(texture, *(tuple(np.round(end).astype(int).tolist()) for end in ends), darker, 1, cv2.LINE_AA)
    area = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(area, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    if draw[13] < 0.7:  # straps
        for corner, way in ((2, 1), (8, -1)):
            start, end = outline[corner], outline[corner] + way * 0.5 * across - 0.15 * down
            places = (tuple(np.round(place).astype(int).tolist()) for place in (start, end))
            cv2.line(area, *places, 255, 1, cv2.LINE_AA)
    weight = area[..., None].astype(np.float32) / 255
    image[:] = np.round(image * (1 - weight) + texture * weight).astype(np.uint8)


def _glasses(
    image: Image,
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    across: NDArray[np.float64],
    down: NDArray[np.float64],
    draw: NDArray[np.float64],
) -> None:
    angle = float(np.degrees(np.arctan2(across[1], across[0])))
    wide, high = (
        0.3 * np.linalg.norm(across) * (0.8 + 0.6 * draw[1]),
        0.28 * np.linalg.norm(down) * (0.8 + 0.6 * draw[2]),
    )
    colour = (70 * draw[3] * np.array([0.8 + 0.4 * draw[4], 1.0, 0.8 + 0.4 * draw[5]])).tolist()
    glass = image.copy()
    for eye in (left, right):
        middle = tuple((eye + 0.05 * down).tolist())
        if draw[6] < 0.5:
            cv2.ellipse(glass, (middle, (2 * wide, 2 * high), angle), colour, -1, cv2.LINE_AA)
        else:
            corners = cv2.boxPoints((middle, (1.9 * wide, 1.8 * high), angle))
            cv2.fillPoly(glass, [np.round(corners * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
    ends = [tuple(np.round(eye).astype(int).tolist()) for eye in (left, right)]
    cv2.line(glass, *ends, colour, 1 + int(draw[7] * 2), cv2.LINE_AA)
    strength = 0.75 + 0.25 * draw[8]
    cv2.addWeighted(glass, strength, image, 1 - strength, 0, dst=image)
