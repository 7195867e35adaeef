"""Glasses on a nose, and what is held before a face: hands, microphones, phones."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.drawing import SHIFT, fixed_point
from kpedge.synthetic.background import skin_tone
from kpedge.synthetic.pose import View, project, rotate
from kpedge.synthetic.raster import Drawn
from kpedge.synthetic.shape import Floats, Points

_BEFORE = 0.10  # how much nearer than the glasses a surface has to be to hide them, pupil distances


@dataclass(frozen=True, slots=True, eq=False)
class Glasses:
    """Glasses."""

    half: tuple[float, float]  # half-width and half-height of a lens, pupil distances
    square: float  # power of its outline: 2 is an ellipse, more is squarer
    drop: float  # how far its middle lies below the pupil
    rim: float  # thickness of the frame, pupil distances; a rimless lens has a faint one
    colour: Floats  # float32 (3,), of the frame, linear
    tint: float  # how much light the lenses take away, 0 to 1
    tint_colour: Floats  # float32 (3,), of dark lenses
    glare: float  # strength of the reflections on them, linear
    lower: bool  # whether the frame runs along the lower edge too


def draw_glasses(rng: np.random.Generator) -> Glasses:
    """Random glasses; one in six are sunglasses."""
    dark = rng.random() < 0.17
    high = rng.uniform(0.20, 0.34) + 0.05 * dark
    grey = np.exp(rng.uniform(np.log(0.006), np.log(0.35)))
    return Glasses(
        half=(float(rng.uniform(0.36, 0.44)), float(high)),
        square=float(rng.uniform(2.0, 4.5)),
        drop=float(rng.uniform(0.02, 0.14)),
        rim=float(np.exp(rng.uniform(np.log(0.012), np.log(0.085)))),
        colour=np.asarray(grey * np.exp(rng.normal(0, 0.25, 3)), np.float32),
        tint=float(rng.uniform(0.75, 0.99) if dark else rng.uniform(0, 0.18)),
        tint_colour=np.asarray(rng.uniform(0.002, 0.05, 3), np.float32),
        glare=float(rng.uniform(0.02, 0.5) if rng.random() < 0.45 else 0.0),
        lower=bool(rng.random() < 0.85),
    )


def render_glasses(
    drawn: Drawn, glasses: Glasses, view: View, scale: float, middle: tuple[float, float], rng: np.random.Generator
) -> None:
    """Draw glasses on a head with its pivot at `middle` and `scale` pixels per pupil distance, into `drawn`."""
    shape = drawn.alpha.shape
    frame, lens = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    thick = max(1, round(glasses.rim * scale))
    turn = np.linspace(0, 2 * np.pi, 33)
    power = 2 / glasses.square
    wide, high = glasses.half
    u = wide * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power
    v = high * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power
    depth = -0.24
    for side in (-1, 1):
        x = side * (0.54 + u)
        y = glasses.drop + v - 0.03 * u * (glasses.square > 3)
        ring = _project(np.stack([x, y, depth + 0.16 * np.abs(x) ** 2], axis=1), view, scale, middle)
        one = np.zeros(shape, np.uint8)
        cv2.fillPoly(one, [fixed_point(ring[:, :2])], 255, cv2.LINE_AA, SHIFT)
        level = 255 if glasses.rim > 0.02 else 130
        part = ring if glasses.lower else ring[16:]
        edge = np.zeros(shape, np.uint8)
        cv2.polylines(edge, [fixed_point(part[:, :2])], bool(glasses.lower), level, thick, cv2.LINE_AA, SHIFT)
        hidden = drawn.distance < float(ring[:, 2].mean()) - _BEFORE
        one[hidden] = 0
        edge[hidden] = 0
        np.maximum(lens, one, out=lens)
        np.maximum(frame, edge, out=frame)
        # The arm runs from the outer edge of the lens to the ear; of the far side's the head hides all.
        arm = _project(
            np.array([(side * 0.95, -0.04, -0.06), (side * 1.16, 0.0, 0.5), (side * 1.2, 0.08, 1.25)]),
            view,
            scale,
            middle,
        )
        if side * (arm[2, 0] - arm[0, 0]) > -0.1 * scale:
            cv2.polylines(
                frame, [fixed_point(arm[:, :2])], False, level, max(1, round(0.7 * thick)), cv2.LINE_AA, SHIFT
            )
    gap = 0.54 - wide
    bridge = np.array([(-gap, -0.05, depth), (0.0, -0.09, depth - 0.03), (gap, -0.05, depth)])
    bridge[:, 1] += glasses.drop
    bridge = _project(bridge, view, scale, middle)
    cv2.polylines(frame, [fixed_point(bridge[:, :2])], False, 255, thick, cv2.LINE_AA, SHIFT)
    over = (drawn.alpha > 0)[..., None]
    fall = cv2.GaussianBlur(np.roll(frame, (max(1, round(0.05 * scale)), 0), (0, 1)), (0, 0), 0.03 * scale + 0.5)
    drawn.colour[...] *= 1 - (0.35 / 255) * fall[..., None].astype(np.float32) * over
    share = lens[..., None].astype(np.float32) / 255
    drawn.colour[...] += share * glasses.tint * (glasses.tint_colour - drawn.colour)
    if glasses.glare:
        drawn.colour[...] += share * glasses.glare * _glare(rng, lens)[..., None]
    share = frame[..., None].astype(np.float32) / 255
    light = float(np.clip(drawn.colour[drawn.alpha > 0].mean() * 4, 0.2, 1.5)) if over.any() else 1.0
    drawn.colour[...] += share * (glasses.colour * light - drawn.colour)
    np.maximum(drawn.alpha, frame.astype(np.float32) / 255, out=drawn.alpha)


def _project(points: Points, view: View, scale: float, middle: tuple[float, float]) -> Floats:
    return project(rotate(np.asarray(points, np.float32), view), view, scale, middle)


def _glare(rng: np.random.Generator, lens: NDArray[np.uint8]) -> Floats:
    """Windows and lamps mirrored in the lenses, 0 to 1."""
    made = np.zeros(lens.shape, np.uint8)
    rows, columns = np.nonzero(lens)
    if not len(rows):
        return made.astype(np.float32)
    size = max(int(columns.max() - columns.min()) // 4, 2)
    for _ in range(int(rng.integers(1, 4))):
        at = (float(rng.uniform(columns.min(), columns.max())), float(rng.uniform(rows.min(), rows.max())))
        corners = cv2.boxPoints(
            (at, (size * rng.uniform(0.2, 1.5), size * rng.uniform(0.2, 1.0)), rng.uniform(-40, 40))
        )
        cv2.fillConvexPoly(made, np.round(corners).astype(np.int32), int(rng.integers(60, 256)), cv2.LINE_AA)
    soft = cv2.GaussianBlur(made, (0, 0), 0.6 + 0.1 * size * float(rng.random()))
    return np.asarray(soft * np.float32(1 / 255), np.float32)


def occlude(image: NDArray[np.uint8], rng: np.random.Generator, points: Points, scale: float) -> None:
    """Draw a thing that is held before a part of a face of 21 points, pixels, mostly next to it, into an image, uint8
    (H, W, 3), with `scale` pixels per pupil distance.
    """
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    middle = points.mean(axis=0)
    side = rng.choice((-1, 1))
    kind = rng.random()
    if kind < 0.55:  # a hand at cheek, chin or mouth, with its arm
        at = middle + scale * np.array([side * rng.uniform(0.3, 1.4), rng.uniform(0.3, 1.6)])
        colour = skin_tone(rng)
        down = at + scale * np.array([side * rng.uniform(0.0, 1.5), 3.0])
        thick = max(2, round(scale * rng.uniform(0.5, 0.8)))
        cv2.line(mask, _at(at), _at(down), 255, thick, cv2.LINE_AA)
        way = rng.uniform(-2.6, -0.5)
        for finger in range(4):
            angle = way + 0.16 * finger
            start = at + scale * 0.28 * np.array([np.cos(angle + 1.2 - 0.5 * finger), 0.5 * np.sin(angle)])
            tip = start + scale * rng.uniform(0.4, 0.95) * np.array([np.cos(angle), np.sin(angle)])
            cv2.line(mask, _at(start), _at(tip), 255, max(2, round(scale * 0.21)), cv2.LINE_AA)
    elif kind < 0.75:  # a microphone
        at = middle + scale * np.array([side * rng.uniform(0.0, 0.7), rng.uniform(0.9, 1.6)])
        colour = np.full(3, rng.uniform(5, 90))
        cv2.line(
            mask, _at(at), _at(at + scale * np.array([side * 0.6, 2.5])), 255, max(2, round(scale * 0.22)), cv2.LINE_AA
        )
        cv2.circle(mask, _at(at), max(2, round(scale * rng.uniform(0.2, 0.38))), 255, -1, cv2.LINE_AA)
    else:  # a box: a phone, a book, a sign, somebody's shoulder
        at = middle + scale * np.array([side * rng.uniform(0.9, 2.0), rng.uniform(-0.8, 1.6)])
        colour = rng.uniform(0, 255) + rng.normal(0, 20, 3)
        size = (scale * rng.uniform(0.5, 1.6), scale * rng.uniform(0.8, 2.2))
        corners = cv2.boxPoints(((float(at[0]), float(at[1])), size, rng.uniform(-40, 40)))
        cv2.fillConvexPoly(mask, np.round(corners).astype(np.int32), 255, cv2.LINE_AA)
    x, y, wide, tall = cv2.boundingRect(mask)
    if not wide or not tall:
        return
    cut = (slice(y, y + tall), slice(x, x + wide))
    inner = cv2.distanceTransform((mask[cut] > 127).astype(np.uint8), cv2.DIST_L2, 3)
    round_ = np.clip(inner / (0.12 * scale), 0, 1) ** 0.5
    shade = (0.6 + 0.4 * round_ + rng.uniform(-0.2, 0.2) * np.linspace(-1, 1, wide)[None])[..., None]
    fall = cv2.GaussianBlur(mask, (0, 0), 0.06 * scale + 0.5)[cut][..., None].astype(np.float32) / 255
    share = mask[cut][..., None].astype(np.float32) / 255
    under = image[cut] * (1 - 0.4 * fall)
    image[cut] = np.clip(under + share * (colour * shade - under), 0, 255).astype(np.uint8)


def _at(point: Points) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
