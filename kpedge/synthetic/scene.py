"""A photo: heads put before a background, seen through a camera."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import box_of_points
from kpedge.core.faces import Pose
from kpedge.core.geometry import Image, Points
from kpedge.core.keypoints import FACES21
from kpedge.core.text import check_whole
from kpedge.data.accessories import draw_accessory
from kpedge.synthetic.accessories import occlude
from kpedge.synthetic.background import draw_background, draw_body
from kpedge.synthetic.lens import develop, expose
from kpedge.synthetic.light import draw_light
from kpedge.synthetic.person import draw_person
from kpedge.synthetic.portrait import Portrait, draw_portrait
from kpedge.synthetic.pose import View, draw_view

BOX_SIDE = 2.24  # side of a face's box in distances between the pupils, of the mean face
SMALLEST, LARGEST = 22.0, 46.0
"""Pixels per pupil distance at which heads are drawn: smaller ones are shrunk, larger ones enlarged. A crop for the
networks shows 33.
"""


TURNED, COVERED = 0.3, 0.3  # share of heads in the wild that are turned by any angle, and with mask or dark glasses
LEVEL = 2.0  # pitch, degrees, that `kpedge.runtime.pose` gives for this head when it is not turned: 0 is a definition


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticFace:
    """A face in a synthetic photo."""

    box: Points  # float64 (4,), x1 y1 x2 y2, pixels: that of `kpedge.core.boxes.box_of_points`
    points: Points  # float64 (21, 2), pixels, in the order of `FACES21`; those that are hidden lie at the outline
    pose: Pose  # how the head is turned, degrees, as docs/coordinates.md counts


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticPhoto:
    """A synthetic photo."""

    image: Image  # uint8 (H, W, 3), blue-green-red
    faces: tuple[SyntheticFace, ...]  # its faces, from far to near


def render_photo(
    seed: int, number: int, *, frame: bool = False, background: bool = False, wild: bool = False
) -> SyntheticPhoto:
    """Photo `number` of the set of a seed, both from 0: a function of its arguments alone, whatever else is drawn
    before or after.

    A photo shows a face or two that fill much of it, or none (`background`); a `frame`, 320x240 to 640x480, up to six.
    `wild` ones have heads turned by up to 90 degrees, masks and dark glasses, and faces as high as the frame.

    Raises:
        UsageError: a seed or number that is none.
    """
    check_whole("seed", seed, 0)
    check_whole("number", number, 0)
    rng = np.random.default_rng((seed, number))
    if frame:
        return _frame(rng, background, wild)
    return _close(rng, background, wild)


def _close(rng: np.random.Generator, background: bool, wild: bool) -> SyntheticPhoto:
    """A photo of one face, now and then of two."""
    size = float(np.exp(np.clip(rng.normal(math.log(80), 0.46), math.log(13), math.log(150))))
    width, height = (int(np.clip(size * rng.uniform(1.7, 3.2), 48, 420)) for _ in range(2))
    image = draw_background(rng, height, width)
    faces: list[SyntheticFace] = []
    if not background:
        reach = 0.30 if rng.random() < 0.06 else -0.02
        x = _between(rng, size * (0.5 - reach), width - size * (0.5 - reach))
        y = _between(rng, size * (0.55 - reach), height - size * (0.5 - reach))
        if rng.random() < 0.10:
            aside = x + rng.choice((-1, 1)) * size * rng.uniform(1.05, 1.5)
            other = size * rng.uniform(0.55, 0.95)
            if 0.3 * other < aside < width - 0.3 * other:
                faces.append(_place(image, rng, (aside, y + (rng.normal(0, 0.12) - 0.1) * size), other, wild))
        faces.append(_place(image, rng, (x, y), size, wild))
    image = develop(image, rng, size, coarse=0.12)
    return SyntheticPhoto(image, tuple(faces))


def _frame(rng: np.random.Generator, background: bool, wild: bool) -> SyntheticPhoto:
    """A whole frame, with up to six faces."""
    width, height = ((320, 240), (400, 300), (480, 360), (640, 480), (640, 360), (360, 480))[int(rng.integers(6))]
    image = draw_background(rng, height, width)
    count = 0 if background else int(rng.choice((0, 1, 2, 3, 4, 6), p=(0.08, 0.42, 0.22, 0.13, 0.10, 0.05)))
    faces: list[SyntheticFace] = []
    taken: list[tuple[float, float, float]] = []
    usual, most = (0.8, 0.95) if wild else (0.42, 0.5)
    usual = math.exp(rng.uniform(math.log(18), math.log(usual * height)))
    sizes = sorted(min(usual * math.exp(rng.normal(0, 0.3)), most * height) for _ in range(count))
    for size in sizes:
        for _ in range(12):
            x = _between(rng, 0.3 * size, width - 0.3 * size)
            y = _between(rng, 0.5 * size, height - 0.4 * size)
            if all(_apart((x, y, size), other) for other in taken):
                taken.append((x, y, size))
                faces.append(_place(image, rng, (x, y), max(size, 12.0), wild))
                break
    image = develop(image, rng, sizes[-1] if sizes else 60.0)
    return SyntheticPhoto(image, tuple(faces))


def _apart(nearer: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    """Whether a face (middle and side of its box) drawn over another leaves it free, with its body too."""
    x, y, size = nearer
    a, b, side = other
    under_body = abs(a - x) < 1.25 * size + 0.4 * side and b + 0.35 * side > y + 0.4 * size
    return math.hypot(x - a, y - b) > 0.62 * (size + side) and not under_body


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high)) if high > low else (low + high) / 2


def _place(
    image: Image, rng: np.random.Generator, middle: tuple[float, float], size: float, wild: bool
) -> SyntheticFace:
    """Draw a person into a photo, whose face's box has about the given side and middle; `image` is drawn into."""
    person, view, lamps = draw_person(rng), draw_view(rng), draw_light(rng)
    if wild and rng.random() < TURNED:
        view = replace(view, yaw=float(rng.uniform(-90, 90)))
    wanted = size / BOX_SIDE
    scale = min(max(wanted, SMALLEST), LARGEST)
    portrait = draw_portrait(person, view, lamps, scale, rng)
    gain = _gain(rng, portrait)
    colour = expose(portrait.colour, gain)
    drawn = box_of_points(portrait.points)
    zoom = size / float(drawn[2] - drawn[0])
    shift = np.array(middle) - zoom * (drawn[:2] + drawn[2:]) / 2
    neck = portrait.neck * zoom + shift
    covered = person.hair is not None and ("long" in person.hair.style or person.hair.style == "scarf")
    over = not covered and rng.random() < 0.8
    if not over:
        draw_body(image, rng, neck, zoom * scale, view.body[2])
    _paste(image, colour, portrait.alpha, zoom, shift)
    if over:
        draw_body(image, rng, neck, zoom * scale, view.body[2])
    points = portrait.points * zoom + shift
    if rng.random() < 0.10:
        occlude(image, rng, points, zoom * scale)
    if wild and rng.random() < COVERED:
        _cover(image, rng, points)
    return SyntheticFace(box_of_points(points), points, _pose(view))


def _cover(image: Image, rng: np.random.Generator, points: Points) -> None:
    """Draw a mask or dark glasses onto a face; `image` is drawn into."""
    box = box_of_points(points)
    half = (box[2] - box[0]) / 2
    left, top = np.floor((box[:2] + box[2:]) / 2 - 1.5 * half).astype(int).tolist()
    side = math.ceil(3 * half)
    x, y, right, bottom = max(left, 0), max(top, 0), min(left + side, image.shape[1]), min(top + side, image.shape[0])
    if x >= right or y >= bottom:
        return
    inside = slice(y - top, bottom - top), slice(x - left, right - left)
    region = np.zeros((side, side, 3), np.uint8)
    region[inside] = image[y:bottom, x:right]
    image[y:bottom, x:right] = draw_accessory(region, points - (left, top), FACES21, rng)[inside]


def _pose(view: View) -> Pose:
    return Pose(view.yaw, view.pitch + LEVEL, view.roll)


def _gain(rng: np.random.Generator, portrait: Portrait) -> float:
    """Exposure: cameras make faces about equally bright, dark skin a little darker."""
    level = float(portrait.skin_level @ np.array([0.114, 0.587, 0.299]))
    wanted = rng.normal(0.56, 0.14) + 0.05 * math.log(max(level, 1e-3) / 0.15)
    return min(max(float(wanted), 0.2), 0.95) ** 2 / max(level, 0.004)


def _paste(image: Image, colour: NDArray[np.float32], alpha: NDArray[np.float32], zoom: float, shift: Points) -> None:
    """Lay a drawn head over a photo; `image` is drawn into."""
    height, width = image.shape[:2]
    tall, wide = alpha.shape
    left, top = (max(0, math.floor(v)) for v in shift)
    right = min(width, math.ceil(shift[0] + zoom * wide))
    bottom = min(height, math.ceil(shift[1] + zoom * tall))
    if right <= left or bottom <= top:
        return
    layer = np.concatenate([colour * alpha[..., None], alpha[..., None]], axis=-1)
    if zoom < 0.85:
        layer = cv2.GaussianBlur(layer, (0, 0), 0.42 / zoom)
    matrix = np.array([[zoom, 0, shift[0] - left], [0, zoom, shift[1] - top]])
    seen = cv2.warpAffine(layer, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    under = image[top:bottom, left:right]
    mixed = under * (1 - seen[..., 3:]) + seen[..., :3]
    image[top:bottom, left:right] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
