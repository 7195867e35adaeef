"""Where the 21 points of a head are: on its surface, on its eyeballs, and at its outline where they are hidden.

The order is that of `kpedge.core.keypoints.FACES21`; left and right are the image's.
"""

import numpy as np
from numpy.typing import NDArray

from kpedge.synthetic.raster import Drawn
from kpedge.synthetic.shape import (
    EYE_HALF,
    EYE_MIDDLE,
    MOUTH_HALF,
    MOUTH_LINE,
    MOUTH_OPEN,
    Floats,
    Points,
    grid_places,
    head,
    sample_grid,
)
from kpedge.synthetic.skin import LIP_BOTTOM, LIP_TOP, Brow

_BEHIND = 0.10  # how much nearer than a point the surface before it has to be to hide it, pupil distances
_STEPS = 24  # places between a hidden point and the middle of the face that are tried
PUPILS = (16, 17)
MOUTH_CENTRE = 14
_TIP = 18
_SPREAD = 0.10
"""How far beyond the outline a hidden point is put, in what lies on the resting face between it and the outline: people
label the far brow and the far eye as a narrow row of points there, not as one.
"""


def resting_points(brow: Brow) -> Points:
    """The points on the resting face, (22, 2): the mouth's centre is the upper lip's edge there, and the last row the
    lower lip's; pupils are the middles of the eyes.
    """
    inner, middle, outer = brow.line[[0, 2, 4]]
    corner_in, corner_out = EYE_MIDDLE - EYE_HALF, EYE_MIDDLE + EYE_HALF
    flip = np.array([-1.0, 1.0])
    return np.array(
        [
            *(outer * flip, middle * flip, inner * flip, inner, middle, outer),
            *((-corner_out, 0.0), (-corner_in, 0.04), (corner_in, 0.04), (corner_out, 0.0)),
            *((-0.30, 0.635), (0.0, 0.755), (0.30, 0.635)),
            *((0.0, LIP_TOP), (0.0, MOUTH_LINE - MOUTH_OPEN), (0.0, LIP_BOTTOM)),
            *((-EYE_MIDDLE, 0.0), (EYE_MIDDLE, 0.0), (0.0, 0.565)),
            *((-MOUTH_HALF + 0.005, MOUTH_LINE), (MOUTH_HALF - 0.005, MOUTH_LINE)),
            (0.0, MOUTH_LINE + MOUTH_OPEN),
        ]
    )


def project_points(
    screen: Floats,
    facing: Floats,
    drawn: Drawn,
    brow: Brow,
    pupils: Points,
    open_eyes: NDArray[np.bool_],
    across: Points,
) -> Points:
    """The 21 points, (21, 2), in pixels of the drawing.

    A point on the far side of the face is put where the outline is: from its own place the surface is followed towards
    the middle of the face until it is seen. There, and a little beyond, people label points that they cannot see.

    Args:
        screen: (R, C, 3), the head's vertices: column, row, distance.
        facing: (R, C), above 0 where a vertex shows its outside.
        drawn: the image of the head alone or with hair; surfaces other than the head hide nothing.
        brow: where the brows lie at rest.
        pupils: (2, 2), the middles of the pupils, pixels.
        open_eyes: (2,), whether the lids leave the pupil to be seen; else the eye's middle counts.
        across: (2,), the way from eye to eye in the image, pixels per pupil distance.
    """
    resting = resting_points(brow)
    places = grid_places(resting)
    grid = np.concatenate([screen, facing[..., None]], axis=-1)
    found = sample_grid(grid, places)
    points = found[:, :2].copy()
    hidden = ~_is_visible(found, drawn, 0.0)
    hidden[_TIP] = False
    rest_x = np.ascontiguousarray(head().rest[..., :1])
    for index in np.flatnonzero(hidden):
        # The row of the grid is kept: contours of a face run along its columns.
        columns = places[index, 0] + np.linspace(0, 1, _STEPS) * (grid.shape[1] / 2 - 0.5 - places[index, 0])
        track = sample_grid(grid, np.stack([columns, np.full(_STEPS, places[index, 1])], axis=1))
        in_sight = np.flatnonzero(_is_visible(track, drawn, 0.05))
        best = in_sight[0] if len(in_sight) else np.argmax(track[:, 3])
        behind = resting[index, 0] - sample_grid(rest_x, np.array([[columns[best], places[index, 1]]]))[0, 0]
        points[index] = track[best, :2] + _SPREAD * behind * across
    for eye, (pupil, corners) in enumerate(zip(PUPILS, ((6, 7), (8, 9)), strict=True)):
        if hidden[pupil]:
            points[pupil] = points[list(corners)].mean(axis=0)
        elif open_eyes[eye]:
            points[pupil] = pupils[eye]
    points[MOUTH_CENTRE] = (points[MOUTH_CENTRE] + points[21]) / 2
    return np.asarray(points[:21], np.float64)


def _is_visible(places: Points, drawn: Drawn, edge: float) -> NDArray[np.bool_]:
    """Whether the camera sees places of the head (N, 4): column, row, distance and how far they face the camera."""
    height, width = drawn.distance.shape
    column = np.clip(np.round(places[:, 0]).astype(np.intp), 0, width - 1)
    row = np.clip(np.round(places[:, 1]).astype(np.intp), 0, height - 1)
    free = (drawn.order[row, column] != 0) | (drawn.distance[row, column] > places[:, 2] - _BEHIND)
    return np.asarray((places[:, 3] > edge) & free)
