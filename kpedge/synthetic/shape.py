"""The surface of a head at rest: a grid of vertices around it, and where on that grid the parts of a face lie.

Frame of reference of everything in this package, before a head is turned: the origin is midway between the pupils,
x to the image's right, y down, z away from the camera; the unit is the distance between the pupils (some 63 mm).

The grid is laid around the head like a map around a globe: columns are directions, rows run from the crown over
forehead and face to the chin, under it and down the neck. Horizontal sections are ellipses, whose half-widths and
depths were laid down by hand after common anthropometric proportions; what stands out or lies in, nose, lips, sockets,
is added as bumps. Rows are dense where a face has detail.

A texture of the head is the same grid, two or three times as fine: `dense` is how many texels lie from one vertex to
the next.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Points = NDArray[np.float64]

STEP = 0.042  # from one vertex to the next where a face has detail, pupil distances
EYE_MIDDLE, EYE_HALF = 0.5, 0.212  # middle and half-width of an eye's opening, along x
LID_UPPER, LID_LOWER = 0.125, 0.085  # openness at rest, from the line between the corners: for the texture
MOUTH_LINE, MOUTH_HALF, MOUTH_OPEN = 1.085, 0.38, 0.05
"""Height, half-width and half-opening of the mouth at rest, which is parted a little for the texture."""
UNDER_CHIN = 1.80  # where the front of the chin ends

# Sections of the head below the cranium: y in front, depth in front (towards the camera) without nose and lips,
# half-width, y at the side, depth of the middle of the section, and how pointed it is (0.5 is an ellipse).
_SECTIONS = np.array(
    [
        (-0.60, 0.22, 1.20, -0.60, -1.25, 0.50),
        (-0.30, 0.24, 1.19, -0.30, -1.25, 0.50),
        (0.00, 0.20, 1.17, -0.02, -1.24, 0.50),
        (0.30, 0.17, 1.16, 0.24, -1.23, 0.50),
        (0.60, 0.18, 1.12, 0.46, -1.22, 0.50),
        (0.80, 0.21, 1.08, 0.59, -1.21, 0.52),
        (1.00, 0.23, 1.02, 0.72, -1.20, 0.55),
        (1.20, 0.20, 0.96, 0.84, -1.19, 0.60),
        (1.40, 0.15, 0.91, 0.95, -1.18, 0.66),
        (1.60, 0.16, 0.88, 1.05, -1.17, 0.70),
        (1.72, 0.12, 0.86, 1.11, -1.16, 0.72),
        (1.80, -0.02, 0.85, 1.15, -1.16, 0.72),
    ]
)
# The same under the chin and down the neck.
_NECK = np.array(
    [
        (1.845, -0.20, 0.83, 1.20, -1.17, 0.66),
        (1.885, -0.40, 0.81, 1.27, -1.18, 0.60),
        (1.930, -0.56, 0.79, 1.36, -1.19, 0.55),
        (1.990, -0.66, 0.77, 1.48, -1.20, 0.50),
        (2.080, -0.71, 0.76, 1.65, -1.21, 0.50),
        (2.180, -0.73, 0.755, 1.85, -1.22, 0.50),
        (2.290, -0.74, 0.76, 2.05, -1.23, 0.50),
        (2.410, -0.74, 0.78, 2.25, -1.24, 0.50),
        (2.540, -0.73, 0.82, 2.45, -1.25, 0.50),
        (2.680, -0.72, 0.86, 2.64, -1.26, 0.50),
        (2.830, -0.70, 0.93, 2.82, -1.27, 0.50),
        (2.990, -0.66, 1.05, 3.00, -1.28, 0.50),
    ]
)
_CRANIUM = 26  # rows of the cranium, at even angles
_CRANIUM_HEIGHT = 1.16
_TILT = 2.1  # how a row leaves its front's height for its side's: power of the part of the half-width


_TABLE_STEP = 0.02
_TABLE_X, _TABLE_Y = 1.0, (-1.1, 2.0)  # step and extent of the table that leads from places on the face to the grid


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The grid of R rows and C columns."""

    rest: Floats  # float32 (R, C, 3), x, y, z of the vertices, with all bumps
    smooth: Floats  # float32 (R, C, 3), the same without bumps: a bald skull with a mask over it
    front: Floats  # float32 (R, C), 1 where the head faces the front, 0 behind the ears
    sections: Points  # float64 (R, 6), as the tables above, of every row
    angles: Points  # float64 (C,), direction of every column, radians; 0 is the front
    neck: Floats  # float32 (R, 1), from 0 at the chin to 1 at the bottom of the neck


def bump(x: Floats, y: Floats, middle: tuple[float, float], size: tuple[float, float]) -> Floats:
    """A Gaussian hill of height 1 at `middle` and, unless it lies on the middle line, at its mirror image."""
    across = np.abs(x) if middle[0] else x
    return np.asarray(np.exp(-(((across - middle[0]) / size[0]) ** 2) - ((y - middle[1]) / size[1]) ** 2), np.float32)


def rise(values: Floats, start: float, stop: float) -> Floats:
    """A smooth step from 0 at `start` to 1 at `stop`."""
    t = np.clip((values - start) / (stop - start), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def upsample(grid: Floats, dense: int) -> Floats:
    """Values of vertices (R, C, ...) at the texels, (dense R, dense C, ...)."""
    size = (grid.shape[1] * dense, grid.shape[0] * dense)
    return np.asarray(cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR), np.float32)


def eye_line(x: Floats) -> Floats:
    """Height of the line between the corners of an eye at rest: the inner corner lies lower."""
    return np.asarray(0.02 - 0.02 * (np.abs(x) - EYE_MIDDLE) / EYE_HALF, np.float32)


def eye_place(x: Floats) -> Floats:
    """Place along an eye's opening: -1 at the inner corner, 1 at the outer."""
    return np.asarray((np.abs(x) - EYE_MIDDLE) / EYE_HALF, np.float32)


def _rows() -> Points:
    """The sections of all rows."""
    heights = np.concatenate(
        [
            np.arange(-0.60, 0.98, STEP),
            np.arange(0.98, 1.16, 0.024),
            np.arange(1.16, UNDER_CHIN, 0.044),
        ]
    )
    fine = np.arange(-1.2, 2.4, 0.005)
    kernel = np.exp(-((np.arange(-40, 41) * 0.005 / 0.055) ** 2))
    columns = [heights]
    for column in range(1, _SECTIONS.shape[1]):
        # Straight pieces would show as facets under a light from the side.
        known, values = _SECTIONS[:, 0], _SECTIONS[:, column]
        slope = (values[-1] - values[-2]) / (known[-1] - known[-2]) * (fine > known[-1]) * (fine - known[-1])
        if column == 3:
            slope = slope + (fine - known[0]) * (fine < known[0])
        table = np.convolve(np.interp(fine, known, values) + slope, kernel / kernel.sum(), mode="same")
        columns.append(np.interp(heights, fine, table))
    face = np.stack(columns, axis=1)
    angles = np.linspace(np.pi / 2 - 0.03, 0.05, _CRANIUM)
    cranium = np.tile(face[0], (_CRANIUM, 1))
    high, round_ = np.sin(angles), np.cos(angles)
    cranium[:, 0] = cranium[:, 3] = face[0, 0] - _CRANIUM_HEIGHT * high
    cranium[:, 1] = face[0, 4] + (face[0, 1] - face[0, 4]) * round_**0.9
    cranium[:, 2] = face[0, 2] * round_**0.9
    return np.concatenate([cranium, face, _NECK])


def _angles() -> Points:
    """The directions of all columns: even steps across the face, then around the sides."""
    across = np.arcsin(np.linspace(0, 0.80, 24))
    aside = np.linspace(across[-1], np.radians(122), 19)[1:]
    half = np.concatenate([across, aside])
    return np.concatenate([-half[:0:-1], half])


def _bumps(x: Floats, y: Floats) -> Floats:
    """How far the parts of a face stand out of the smooth head, towards the camera."""
    out = -0.11 * bump(x, y, (0.52, -0.02), (0.28, 0.16))
    out += 0.075 * bump(x, y, (0.5, 0.01), (0.22, 0.12))
    out += 0.05 * bump(x, y, (0.42, -0.27), (0.34, 0.10))
    # Across eyes and brows faces are flatter than an ellipse.
    out -= 0.075 * bump(x, y, (0.28, -0.12), (0.16, 0.26))
    out -= 0.04 * bump(x, y, (0.56, -0.34), (0.20, 0.14))
    out += 0.07 * bump(x, y, (0.84, -0.12), (0.20, 0.30))
    out -= 0.06 * bump(x, y, (0.42, 1.07), (0.17, 0.14))
    out -= 0.02 * bump(x, y, (0.5, -0.15), (0.24, 0.035))
    out += 0.05 * bump(x, y, (0.72, 0.40), (0.26, 0.22))
    height = np.interp(
        y,
        (-0.22, -0.02, 0.2, 0.4, 0.50, 0.57, 0.63, 0.69, 0.74, 0.80),
        (0.0, 0.02, 0.13, 0.25, 0.33, 0.37, 0.34, 0.23, 0.09, 0.0),
    )
    width = np.interp(y, (-0.2, 0.1, 0.4, 0.58, 0.75), (0.10, 0.125, 0.16, 0.19, 0.20))
    out += height * np.exp(-((np.abs(x) / width) ** 2.3))
    out += 0.17 * bump(x, y, (0.225, 0.625), (0.075, 0.085))
    out -= 0.05 * bump(x, y, (0.34, 0.63), (0.05, 0.10))
    out -= 0.07 * bump(x, y, (0.10, 0.715), (0.05, 0.03))
    out += 0.06 * bump(x, y, (0.0, 1.03), (0.40, 0.26))
    out -= 0.025 * bump(x, y, (0.0, 0.85), (0.035, 0.06))
    out += 0.012 * bump(x, y, (0.085, 0.86), (0.035, 0.07))
    along = 1 - np.clip(np.abs(x) / (MOUTH_HALF + 0.02), 0, 1) ** 2
    out += 0.085 * along * np.exp(-(((y - 0.995) / 0.055) ** 2))
    out += 0.11 * along**1.2 * np.exp(-(((y - 1.185) / 0.07) ** 2))
    out -= 0.05 * along**0.5 * np.exp(-(((y - MOUTH_LINE) / 0.05) ** 2))
    out -= 0.03 * bump(x, y, (MOUTH_HALF + 0.02, MOUTH_LINE), (0.05, 0.05))
    out -= 0.06 * bump(x, y, (0.0, 1.37), (0.28, 0.07))
    out += 0.075 * bump(x, y, (0.0, 1.60), (0.22, 0.13))
    out -= 0.04 * bump(x, y, (1.02, -0.35), (0.2, 0.25))
    out -= 0.02 * bump(x, y, (0.75, 0.95), (0.2, 0.2))
    return np.asarray(out, np.float32)


@functools.cache
def head() -> Head:
    """The one grid, computed once."""
    rows, angles = _rows(), _angles()
    front_y, depth, width, side_y, middle, power = rows.T[:, :, None]
    across, along = np.sin(angles)[None], np.cos(angles)[None]
    x = width * across
    tilt = np.where(along > 0, np.abs(across) ** _TILT, 1.0)
    y = front_y + (side_y - front_y) * tilt
    ahead = middle + (depth - middle) * np.clip(along, 0, 1) ** (2 * power)
    behind = middle + 1.55 * width / 1.2 * np.clip(along, -1, 0)
    forward = np.where(along > 0, ahead, behind)
    x32, y32 = np.asarray(x, np.float32), np.asarray(y, np.float32)
    front = np.asarray(np.broadcast_to(np.clip(along, 0, 1), x.shape), np.float32)
    face = front * (front_y < UNDER_CHIN + 0.02)
    smooth = np.stack([x32, y32, -np.asarray(forward, np.float32)], axis=-1)
    rest = smooth.copy()
    rest[..., 2] -= _bumps(x32, y32) * rise(face, 0.0, 0.35)
    neck = rise(np.asarray(front_y, np.float32), UNDER_CHIN, 2.9)
    return Head(rest, smooth, front, rows, angles, neck)


@functools.cache
def _place_table() -> Floats:
    """Column and row of the grid over x and y at rest, in steps of `_TABLE_STEP`, (Y, X, 2)."""
    base = head()
    front_y, _, width, side_y, _, _ = base.sections.T
    rows_of, across_of = np.arange(len(front_y)), np.arange(len(base.angles))
    heights = np.arange(_TABLE_Y[0], _TABLE_Y[1], _TABLE_STEP)
    columns = []
    for x in np.arange(0.0, _TABLE_X + _TABLE_STEP, _TABLE_STEP):
        line = front_y + (side_y - front_y) * np.clip(x / width, 0, 1) ** _TILT
        row = np.interp(heights, line, rows_of)
        across = np.clip(x / np.interp(row, rows_of, width), 0, 1)
        columns.append(np.stack([np.interp(np.arcsin(across), base.angles, across_of), row], axis=1))
    return np.asarray(np.stack(columns, axis=1), np.float32)


def grid_places(points: Points) -> Points:
    """Where points (N, 2) of the resting face lie on the grid: column and row, in vertices, (N, 2). They are x and y at
    rest, on the front: x from -1 to 1, y from -1.1 to 2.
    """
    steps = np.stack([np.abs(points[:, 0]), points[:, 1] - _TABLE_Y[0]], axis=1) / _TABLE_STEP
    found = sample_grid(_place_table(), steps)
    middle = (len(head().angles) - 1) / 2
    found[:, 0] = middle + np.sign(points[:, 0]) * (found[:, 0] - middle)
    return found


@functools.cache
def texels(dense: int) -> tuple[Floats, Floats, Floats]:
    """Of every texel x and y at rest, and whether it faces the front (1 to 0), each (dense R, dense C)."""
    base = head()
    x, y = (upsample(np.ascontiguousarray(base.rest[..., axis]), dense) for axis in (0, 1))
    return x, y, upsample(base.front, dense)


def texture_places(points: Points, dense: int) -> Points:
    """Where points of the resting face (N, 2) lie in the texture: column and row, in texels, (N, 2)."""
    return np.asarray((grid_places(points) + 0.5) * dense - 0.5, np.float64)


def sample_grid(grid: Floats, places: Points) -> Points:
    """Values of vertices (R, C, K) at places (N, 2) between them, float64 (N, K), bilinear."""
    last = np.array(grid.shape[1::-1]) - 2
    low = np.clip(np.floor(places).astype(np.intp), 0, last)
    right, down = np.clip(places - low, 0, 1).T[:, :, None]
    column, row = low.T
    upper = grid[row, column] * (1 - right) + grid[row, column + 1] * right
    lower = grid[row + 1, column] * (1 - right) + grid[row + 1, column + 1] * right
    return np.asarray(upper * (1 - down) + lower * down, np.float64)
