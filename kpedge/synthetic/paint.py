"""Painting a head: its skin, lips, brows, lashes and beard, texel by texel, under the light that falls on it.

What varies smoothly is worked out at the vertices and refined with the light; what is finer is multiplied or drawn.
"""

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.drawing import SHIFT, fixed_point
from kpedge.synthetic.apertures import lens_lower, lens_upper, mouth_half
from kpedge.synthetic.shape import (
    EYE_HALF,
    EYE_MIDDLE,
    MOUTH_HALF,
    MOUTH_LINE,
    STEP,
    Floats,
    Points,
    bump,
    eye_line,
    head,
    rise,
    texels,
    texture_places,
    upsample,
)
from kpedge.synthetic.skin import GRAIN, LIP_BOTTOM, LIP_TOP, Brow, Skin, fields


@functools.cache
def details(dense: int) -> Floats:
    """What is finer than the vertices, over the texture, (texels, details + noises): `skin.DETAILS`, then noise of unit
    variance from fine to coarse, always the same.
    """
    x, y, front = texels(dense)
    facing = rise(front, 0.0, 0.3)
    made = [
        bump(x, y, (0.105, 0.725), (0.060, 0.028)) * facing,
        bump(x, y, (0.325, 0.645), (0.033, 0.075)) * facing,
        bump(x, y, (0.43, MOUTH_LINE + 0.005), (0.045, 0.04)) * facing,
    ]
    rng = np.random.default_rng(21)
    rows, columns = head().front.shape
    for size in GRAIN:
        cells = (max(2, round(3 * rows / size)), max(2, round(3 * columns / size)))
        small = rng.standard_normal(cells).astype(np.float32)
        field = cv2.resize(small, x.shape[::-1], interpolation=cv2.INTER_CUBIC)
        made.append(field / field.std())
    return np.stack([field.ravel() for field in made], axis=1).astype(np.float32)


@functools.cache
def _lips(dense: int) -> tuple[NDArray[np.intp], Floats]:
    """Texels of the lips and how much of each is red."""
    x, y, front = texels(dense)
    wide = np.clip(np.abs(x) / MOUTH_HALF, 0, 1)
    bow = 0.016 * np.exp(-(((np.abs(x) - 0.10) / 0.06) ** 2)) - 0.006 * np.exp(-((x / 0.05) ** 2))
    top = MOUTH_LINE - (MOUTH_LINE - LIP_TOP) * (1 - wide**1.5) ** 1.0 - bow
    bottom = MOUTH_LINE + (LIP_BOTTOM - MOUTH_LINE) * (1 - wide**2.2) ** 0.8
    inside = np.minimum(y - top, bottom - y)
    red = rise(np.asarray(inside, np.float32), -0.016, 0.022) * (np.abs(x) < MOUTH_HALF) * (front > 0.3)
    chosen = np.flatnonzero(red > 0)
    return chosen, red.ravel()[chosen][:, None]


def _to_fixed_point(points: Points, dense: int) -> NDArray[np.int32]:
    """Points of the resting face (N, 2) in the texture, as OpenCV draws them."""
    return fixed_point(texture_places(points, dense))


@functools.cache
def _lines(dense: int) -> dict[str, list[NDArray[np.int32]]]:
    """The lines that all faces share, in the texture: lids, lashes, folds, a list of those of both sides each."""
    place = np.linspace(-0.99, 0.99, 15).astype(np.float32)
    line = eye_line(np.asarray(EYE_MIDDLE + EYE_HALF * place, np.float32))
    x = (EYE_MIDDLE + EYE_HALF * place).astype(np.float64)
    upper, lower = (
        np.stack([x, line - lens_upper(place)], axis=1),
        np.stack([x, line + lens_lower(place) + 0.008], axis=1),
    )
    nose = np.array([(0.34, 0.60), (0.42, 0.74), (0.49, 0.88), (0.54, 1.05)])
    bag = np.array([(0.29, 0.11), (0.38, 0.19), (0.50, 0.225), (0.62, 0.20)])
    made: dict[str, list[NDArray[np.int32]]] = {
        name: [] for name in ("upper", "lower", "lashes", "nose", "bag", "lips")
    }
    for side in (-1, 1):
        flip = np.array([side, 1])
        for name, points in (("upper", upper), ("lower", lower), ("nose", nose), ("bag", bag)):
            made[name].append(_to_fixed_point(points * flip, dense))
        tips = (upper[6:] + np.array([0.02, -0.03])) * flip
        made["lashes"] += list(
            np.stack([_to_fixed_point(upper[6:] * flip, dense), _to_fixed_point(tips, dense)], axis=1)
        )
    gap = np.linspace(-0.99, 0.99, 13)
    half = mouth_half(np.asarray(MOUTH_HALF * gap, np.float32))
    made["lips"] = [
        _to_fixed_point(np.stack([MOUTH_HALF * gap, MOUTH_LINE + edge], axis=1), dense)
        for edge in (-half - 0.004, half + 0.002)
    ]
    return made


def _raise_lines(lines: list[NDArray[np.int32]], height: float, dense: int) -> list[NDArray[np.int32]]:
    """Lines moved up by a height in pupil distances."""
    return [line - fixed_point((0, height * dense / STEP)) for line in lines]


def _draw(dark: NDArray[np.uint8], lines: list[NDArray[np.int32]], strength: float, width: int = 1) -> None:
    cv2.polylines(dark, lines, False, (int(np.clip(255 * strength, 0, 255)),), width, cv2.LINE_AA, SHIFT)


def _brow_hairs(rng: np.random.Generator, brow: Brow, side: int, dense: int) -> list[NDArray[np.int32]]:
    """The hairs of a brow as lines in the texture."""
    count = int(30 + 90 * brow.dense)
    along = rng.uniform(0, 1, count)
    place = np.linspace(0, 1, len(brow.line))
    x, y = np.interp(along, place, brow.line[:, 0]), np.interp(along, place, brow.line[:, 1])
    taper = np.interp(along, (0, 0.1, 0.5, 1.0), (0.75, 1.0, 0.95, 0.25))
    y = y + rng.uniform(-0.5, 0.5, count) * brow.thick * taper
    length = rng.uniform(0.04, 0.10, count)
    # Hairs stand up at the inner end, and lie along the brow further out.
    angle = np.interp(along, (0, 0.25, 0.6, 1.0), (-1.15, -0.6, -0.1, 0.35)) + rng.normal(0, 0.2, count)
    start = np.stack([x - 0.5 * length * np.cos(angle), y - 0.5 * length * np.sin(angle)], axis=1)
    stop = np.stack([x + 0.5 * length * np.cos(angle), y + 0.5 * length * np.sin(angle)], axis=1)
    both = np.concatenate([start, stop]) * (side, 1)
    ends = _to_fixed_point(both, dense)
    return list(np.stack([ends[:count], ends[count:]], axis=1))


def paint(skin: Skin, rng: np.random.Generator, diffuse: Floats, shine: Floats, dense: int) -> tuple[Floats, Floats]:
    """The lit colour of every texel but for those in the openings of eyes and mouth, float32 (dense R, dense C, 3), and
    the light on the texels, of the same shape; `dense` is texels from one vertex to the next. `diffuse` (R, C, 3) is
    the light on the vertices by which the colour is multiplied, `shine` (R, C, 1) what is added.
    """
    grid, shape = head().front.shape, texels(dense)[0].shape
    smooth = fields()[1] @ skin.weights
    if skin.lid.any():
        smooth += fields()[1][:, [fields()[0].index("lids")]] * skin.lid
    plain = np.exp(smooth + skin.base).reshape(*grid, 3)
    light = upsample(diffuse, dense)
    tone = 1 + details(dense) @ skin.detail_weights
    tone *= _folds(skin, rng, shape, dense).ravel()
    colour = upsample(np.asarray(plain * diffuse, np.float32), dense).reshape(-1, 3)
    colour *= tone[:, None]
    chosen, red = _lips(dense)
    colour[chosen] *= np.exp(red * skin.lips)
    dark = np.zeros(shape, np.uint8)
    for side in (-1, 1):
        _draw_brow_hairs(dark, rng, skin.brow, side, dense)
    _edges(dark, skin, dense)
    if max(skin.beard) > 0:
        names, table = fields()
        weights = np.zeros(len(names), np.float32)
        for name, amount in zip(("moustache", "chin", "jaw"), skin.beard, strict=True):
            weights[names.index(name)] = amount
        share = upsample((table @ weights).reshape(grid), dense).ravel()
        density = np.clip(share * (0.85 + 0.28 * details(dense)[:, 3] + 0.2 * details(dense)[:, 4]), 0, 0.93)
        density[chosen] *= 1 - red[:, 0]
        np.maximum(dark, (density.reshape(shape) * 255).astype(np.uint8), out=dark)
    covered = np.flatnonzero(dark)
    cover = (dark.ravel()[covered].astype(np.float32) * (1 / 255))[:, None]
    colour[covered] += cover * (skin.hair * light.reshape(-1, 3)[covered] - colour[covered])
    colour = colour.reshape(*shape, 3)
    colour += upsample(np.ascontiguousarray(shine[..., 0]), dense)[..., None]
    return np.asarray(colour, np.float32), light


def _draw_brow_hairs(dark: NDArray[np.uint8], rng: np.random.Generator, brow: Brow, side: int, dense: int) -> None:
    """Draw a brow: a soft shadow of its hairs, and the hairs."""
    line = _to_fixed_point(brow.line * (side, 1), dense)
    low = np.maximum((line.min(axis=0) >> SHIFT) - 16, 0)
    high = (line.max(axis=0) >> SHIFT) + 16
    cut = dark[low[1] : high[1], low[0] : high[0]]
    under = np.zeros_like(cut)
    moved = line - (low << SHIFT).astype(np.int32)
    width = max(1, round(0.6 * brow.thick * dense / STEP))
    cv2.polylines(under, [moved], False, (int(150 * brow.dense),), width, cv2.LINE_AA, SHIFT)
    np.maximum(cut, cv2.blur(under, (5, 3)), out=cut)
    strength = int(110 + 110 * brow.dense)
    cv2.polylines(dark, _brow_hairs(rng, brow, side, dense), False, (strength,), 1, cv2.LINE_AA, SHIFT)


def _edges(dark: NDArray[np.uint8], skin: Skin, dense: int) -> None:
    """Draw lashes along the edges of the upper lids, their folds, the lower lids, and where the lips meet."""
    lines = _lines(dense)
    upper = _raise_lines(lines["upper"], 0.4 * skin.liner, dense)
    _draw(dark, upper, skin.lash, max(1, round(skin.liner * dense / STEP)))
    _draw(dark, lines["lower"], 0.43 * skin.lash)
    _draw(dark, _raise_lines(lines["lashes"], 0.4 * skin.liner, dense), 0.6 * skin.lash)
    _draw(dark, lines["lips"], skin.mouth_line)
    if skin.crease > 0.08:
        _draw(dark, _raise_lines([line[1:] for line in upper], skin.crease_height, dense), 0.6 * skin.crease)


def _folds(skin: Skin, rng: np.random.Generator, shape: tuple[int, ...], dense: int) -> Floats:
    """How much light folds next to the nose and under the eyes, and moles, leave, over the texture."""
    lines = np.zeros(shape, np.uint8)
    _draw(lines, _lines(dense)["nose"], skin.fold, 3)
    _draw(lines, _lines(dense)["bag"], skin.bag, 2)
    if skin.spots:
        places = np.stack([rng.uniform(-0.9, 0.9, skin.spots), rng.uniform(-0.6, 1.6, skin.spots)], axis=1)
        strong = rng.uniform(30, 140, skin.spots)
        for place, value in zip(_to_fixed_point(places, dense), strong, strict=True):
            cv2.circle(lines, (int(place[0]), int(place[1])), 14, (int(value),), -1, cv2.LINE_AA, SHIFT)
    return np.asarray(1 - cv2.blur(lines, (3, 3)).astype(np.float32) * np.float32(0.7 / 255), np.float32)
