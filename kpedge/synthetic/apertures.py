"""Eyes and mouth as openings in the head's surface: their edges are moved, what lies between is stretched.

At rest both are parted (`shape.LID_UPPER`, `shape.MOUTH_OPEN`). Along the height of every column an opening is a
piecewise map: its two edges go where they should be, what lies between follows in proportion, and skin above and below
gives way less and less with distance.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kpedge.synthetic.shape import (
    EYE_HALF,
    EYE_MIDDLE,
    LID_LOWER,
    LID_UPPER,
    MOUTH_HALF,
    MOUTH_LINE,
    MOUTH_OPEN,
    Floats,
    eye_line,
    eye_place,
    head,
    texels,
)

LEAST = 0.004  # gap of closed lids: the edge that is drawn there must not vanish


@dataclass(frozen=True, slots=True)
class Lids:
    """How the lids of one eye lie."""

    # height of the upper lid's edge over the line between the corners, at its highest; negative when closed
    upper: float
    lower: float  # depth of the lower lid's edge below it
    skew: float  # where the upper edge is highest: below 0 towards the nose
    round: float  # power of the edge's curve: low is round and full, high is pointed


@dataclass(frozen=True, slots=True)
class _Window:
    rows: slice
    columns: slice
    above: Floats
    below: Floats
    height: Floats
    place: Floats


def lens_upper(place: Floats) -> Floats:
    """Height of the resting upper lid's edge, over places along the eye from -1 to 1."""
    return np.asarray(LID_UPPER * np.clip(1 - place * place, 0, 1) ** 0.7, np.float32)


def lens_lower(place: Floats) -> Floats:
    """Depth of the resting lower lid's edge."""
    return np.asarray(LID_LOWER * np.clip(1 - place * place, 0, 1) ** 0.7, np.float32)


def mouth_half(x: Floats) -> Floats:
    """Half-opening of the resting mouth."""
    return np.asarray(MOUTH_OPEN * np.clip(1 - (x / MOUTH_HALF) ** 2, 0, 1) ** 0.8, np.float32)


def _cut(x: float, y: float, half_width: float, half_height: float) -> tuple[tuple[slice, slice], Floats, Floats]:
    """Rows and columns of the head's front around a place, and where their vertices are at rest."""
    base = head()
    across, down = base.rest[..., 0], base.rest[..., 1]
    near = (np.abs(across - x) < half_width) & (np.abs(down - y) < half_height) & (base.front > 0.3)
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    cut = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return cut, across[cut], down[cut]


@functools.cache
def _eye_window(side: int) -> _Window:
    cut, x, y = _cut(side * EYE_MIDDLE, 0.0, EYE_HALF * 1.02, 0.62)
    place = eye_place(x)
    return _Window(*cut, lens_upper(place), lens_lower(place), y - eye_line(x), place)


@functools.cache
def _mouth_window() -> _Window:
    cut, x, y = _cut(0.0, MOUTH_LINE, MOUTH_HALF * 1.02, 0.5)
    half = mouth_half(x)
    return _Window(*cut, half, half, y - MOUTH_LINE, x / MOUTH_HALF)


def _pull(window: _Window, above: Floats, below: Floats, reach: float, power: float) -> Floats:
    """How far down vertices of a window move when its edges go to `above` over and `below` under the line."""
    t = window.height
    over, under = -t - window.above, t - window.below
    up = (window.above - above) * np.clip(1 - over / reach, 0, 1) ** power
    down = -(window.below - below) * np.clip(1 - under / reach, 0, 1) ** power
    span = window.above + window.below
    share = np.where(span > 1e-4, (t + window.above) / np.maximum(span, 1e-4), 0.5)
    inside = -above + share * (above + below) - t
    moved = np.where(over > 0, up, np.where(under > 0, down, inside))
    return np.asarray(moved, np.float32)


def set_lids(vertices: Floats, lids: Lids, side: int) -> None:
    """Move the lids of the eye at the left (-1) or right (1) of the image; `vertices` is changed."""
    window = _eye_window(side)
    curve = np.clip(1 - window.place * window.place, 0, 1)
    leaning = 1 + lids.skew * window.place
    above = np.asarray(lids.upper * curve**lids.round * leaning, np.float32)
    below = np.asarray(lids.lower * curve ** (lids.round + 0.1) * (1 + 0.25 * window.place), np.float32)
    above = np.maximum(above, -below + LEAST * curve)
    vertices[window.rows, window.columns, 1] += _pull(window, above, below, 0.22, 1.6)


def set_lips(vertices: Floats, upper: float, lower: float, curve: float) -> None:
    """Part the lips; `vertices` is changed. `upper` is how far the upper lip's edge is over the line, `lower` how far
    the lower one's under it, at their middle; `curve` is the power of the opening's outline.
    """
    window = _mouth_window()
    outline = np.clip(1 - window.place * window.place, 0, 1) ** curve
    above = np.asarray(upper * outline, np.float32)
    below = np.asarray(lower * outline, np.float32)
    vertices[window.rows, window.columns, 1] += _pull(window, above, below, 0.34, 1.5)


@functools.cache
def openings(dense: int) -> tuple[NDArray[np.int8], Floats]:
    """For every texel: 1, 2, 3 in the left eye's, right eye's, mouth's opening, else 0; and how far down, 0 to 1."""
    x, y, front = texels(dense)
    facing = front > 0.3
    kind = np.zeros(x.shape, np.int8)
    depth = np.zeros(x.shape, np.float32)
    place = eye_place(x)
    height = y - eye_line(x)
    upper, lower = lens_upper(place), lens_lower(place)
    eye = facing & (np.abs(place) < 0.995) & (height > -upper) & (height < lower)
    kind[eye & (x < 0)], kind[eye & (x > 0)] = 1, 2
    depth[eye] = ((height + upper) / np.maximum(upper + lower, 1e-4))[eye]
    half = mouth_half(x)
    mouth = facing & (np.abs(x) < MOUTH_HALF * 0.995) & (np.abs(y - MOUTH_LINE) < half)
    kind[mouth] = 3
    depth[mouth] = ((y - MOUTH_LINE + half) / np.maximum(2 * half, 1e-4))[mouth]
    return kind, depth
