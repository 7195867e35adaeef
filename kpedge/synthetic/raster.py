"""From surfaces in three dimensions to pixels: dense samples of every surface, drawn from far to near.

Surfaces are grids of vertices. A grid is refined like an enlarged image until its samples lie less than about a pixel
apart; every sample colours the pixel that it falls into, and the nearest one wins (the micropolygons of Cook, Carpenter
and Catmull, The Reyes image rendering architecture, SIGGRAPH 1987, reduced to points). With NumPy and OpenCV this takes
no loop over triangles. Pixels between the samples are filled from their neighbours.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.synthetic.shape import Floats, upsample

_LEVELS = 65535
_FAR = 1e6
_STEP = 0.06  # how much farther than its surroundings a spot is that counts as a hole, in the unit of the grids
_OPEN = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A grid to draw."""

    screen: Floats  # float32 (R, C, 3): column and row in pixels, and distance, of the vertices
    colour: Floats  # float32 (dense R, dense C, 3), linear light, of the samples
    keep: NDArray[np.bool_] | None = None  # bool (dense R, dense C), which samples are there at all; all when None
    # float32 (R, C), above 0 where the vertex is visible; both sides of the surface are drawn when None
    facing: Floats | None = None
    kind: NDArray[np.int8] | None = None  # int8 (dense R, dense C), a mark of the sample; 0 when None


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """What the camera sees of some surfaces."""

    colour: Floats  # float32 (H, W, 3), linear light; 0 where nothing is
    alpha: Floats  # float32 (H, W), 1 where a surface is
    kind: NDArray[np.int8]  # int8 (H, W), the marks of the samples; -1 where nothing is
    distance: Floats  # float32 (H, W), of the nearest surface, in the unit of the grids; infinite where nothing is
    order: NDArray[np.int8]  # int8 (H, W), which surface it is; -1 where none


def normals(grid: Floats) -> Floats:
    """Unit normals of a grid (R, C, 3), pointing outwards for grids whose columns run left to right and rows down."""
    along = cv2.filter2D(grid, -1, np.array([[-1, 0, 1]], np.float32), borderType=cv2.BORDER_REPLICATE)
    down = cv2.filter2D(grid, -1, np.array([[-1], [0], [1]], np.float32), borderType=cv2.BORDER_REPLICATE)
    ax, ay, az = along[..., 0], along[..., 1], along[..., 2]
    bx, by, bz = down[..., 0], down[..., 1], down[..., 2]
    # z points away from the camera, so the outside of a grid seen from the front is down x along.
    made = np.stack([by * az - bz * ay, bz * ax - bx * az, bx * ay - by * ax], axis=-1)
    length = np.sqrt(np.einsum("rck,rck->rc", made, made))
    return np.asarray(made / np.maximum(length, 1e-9)[..., None], np.float32)


def draw(surfaces: list[Surface], height: int, width: int) -> Drawn:
    """Draw surfaces into an image of the given size."""
    pixels, distances, colours, kinds, orders = [], [], [], [], []
    for number, surface in enumerate(surfaces):
        dense = surface.colour.shape[0] // surface.screen.shape[0]
        grid, cut = surface.screen, (slice(None), slice(None))
        if surface.facing is not None:
            # Most of a head's back is not worth refining.
            outside = surface.facing > 0
            rows, columns = np.flatnonzero(outside.any(axis=1)), np.flatnonzero(outside.any(axis=0))
            if not len(rows):
                continue
            top, bottom = max(rows[0] - 1, 0), rows[-1] + 2
            left, right = max(columns[0] - 1, 0), columns[-1] + 2
            grid = np.concatenate([grid, surface.facing[..., None]], axis=-1)[top:bottom, left:right]
            cut = (slice(top * dense, bottom * dense), slice(left * dense, right * dense))
        screen = upsample(grid, dense)
        seen = None if surface.keep is None else surface.keep[cut]
        if surface.facing is not None:
            outside = screen[..., 3] > 0
            seen = outside if seen is None else outside & seen
        flat = screen.reshape(-1, screen.shape[-1])
        chosen = np.arange(len(flat)) if seen is None else np.flatnonzero(seen)
        flat = flat[chosen]
        places = (flat[:, :2] + 0.5).astype(np.int32)
        column, row = places[:, 0], places[:, 1]
        within = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        if not within.all():
            chosen, flat, column, row = chosen[within], flat[within], column[within], row[within]
        pixels.append(row * np.int32(width) + column)
        distances.append(flat[:, 2])
        colours.append(np.ascontiguousarray(surface.colour[cut]).reshape(-1, 3)[chosen])
        kinds.append(np.zeros(len(chosen), np.int8) if surface.kind is None else surface.kind[cut].ravel()[chosen])
        orders.append(np.full(len(chosen), number, np.int8))
    pixel, distance = np.concatenate(pixels), np.concatenate(distances)
    buffer = np.full(height * width, -1, np.int32)
    if len(pixel):
        near, far = float(distance.min()), float(distance.max())
        level = ((far - distance) * (_LEVELS / max(far - near, 1e-6))).astype(np.uint16)
        nearest_last = np.argsort(level, kind="stable")
        buffer[pixel[nearest_last]] = nearest_last
    found = np.flatnonzero(buffer >= 0)
    sample = buffer[found]
    shape = (height, width)
    colour = np.zeros((height * width, 3), np.float32)
    kind = np.full(height * width, -1, np.int8)
    order = np.full(height * width, -1, np.int8)
    depth = np.full(height * width, np.inf, np.float32)
    colour[found] = np.concatenate(colours)[sample]
    kind[found] = np.concatenate(kinds)[sample]
    order[found] = np.concatenate(orders)[sample]
    depth[found] = distance[sample]
    return _fill(colour.reshape(*shape, 3), kind.reshape(shape), depth.reshape(shape), order.reshape(shape))


def _fill(colour: Floats, kind: NDArray[np.int8], depth: Floats, order: NDArray[np.int8]) -> Drawn:
    """Close the holes between samples, through which what lies behind shows, and soften the outline by half a pixel."""
    far = np.where(kind >= 0, depth, _FAR).astype(np.float32)
    # The nearer surface's samples lie around a hole: a spot that is farther than all around it is no thing.
    near = cv2.morphologyEx(far, cv2.MORPH_OPEN, _OPEN)
    hole = far - near > _STEP
    there = near < _FAR
    weight = (~hole & (kind >= 0)).astype(np.float32)
    weighted = cv2.blur(colour * weight[..., None], (3, 3))
    share = cv2.blur(weight, (3, 3))
    mend = (hole | ~there) & (share > 0)
    colour[mend] = weighted[mend] / share[mend][:, None]
    inner = hole & there
    if inner.any():
        depth[inner] = near[inner]
        kind[inner] = cv2.dilate((kind + 1).astype(np.uint8), _OPEN)[inner].astype(np.int8) - 1
        order[inner] = cv2.dilate((order + 1).astype(np.uint8), _OPEN)[inner].astype(np.int8) - 1
    alpha = cv2.blur(there.astype(np.float32), (3, 3))
    return Drawn(colour, np.asarray(alpha, np.float32), kind, depth, order)
