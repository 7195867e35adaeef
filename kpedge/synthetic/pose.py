"""How a head is turned, and what a camera sees of it.

The angles are those of docs/coordinates.md: yaw is positive when the face looks towards the image's right, pitch when
it looks up, roll when the image's right eye hangs lower.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np

from kpedge.core.faces import Pose, rotation_matrix
from kpedge.synthetic.shape import Floats, Points

PIVOT = np.array([0.0, 0.45, 0.9])  # what a head turns about: between the ears, a little above the neck


@dataclass(frozen=True, slots=True)
class View:
    """A head before a camera."""

    # yaw, pitch, roll: of the head, degrees
    yaw: float
    pitch: float
    roll: float
    body: tuple[float, float, float]  # yaw, pitch and roll of the body, to which the neck leads, degrees
    distance: float  # of the camera from the head, pupil distances


@functools.lru_cache(maxsize=64)
def rotation(yaw: float, pitch: float, roll: float) -> Points:
    """The `rotation_matrix` of these angles, degrees; not to be written to."""
    return rotation_matrix(Pose(yaw, pitch, roll))


def draw_view(rng: np.random.Generator) -> View:
    """A view as photos of people have it: most look at the camera, some turn far away."""
    kind = rng.random()
    spread = 6.5 if kind < 0.55 else (17.0 if kind < 0.87 else 36.0)
    yaw = float(np.clip(rng.normal(0, spread), -78, 78))
    pitch = float(np.clip(rng.normal(0, 6.0 if rng.random() < 0.7 else 12.0) - 4.0, -40, 32))
    leaning = rng.random()
    roll = float(rng.normal(0, 5.5 if leaning < 0.6 else (14.0 if leaning < 0.94 else 34.0)))
    follow = rng.uniform(0.2, 0.9)
    body = (yaw * rng.uniform(0.0, 0.6), 0.3 * pitch, roll * follow + rng.normal(0, 4))
    distance = float(np.exp(rng.uniform(math.log(7.0), math.log(50.0))))
    return View(yaw, pitch, roll, (float(body[0]), float(body[1]), float(body[2])), distance)


def rotate(points: Floats, view: View, share: Floats | float = 0.0) -> Floats:
    """Points (..., 3) of a head at rest in the camera's frame, about `PIVOT`; each follows the body by its `share`
    instead.
    """
    own = np.asarray(points - PIVOT.astype(np.float32), np.float32)
    with_head = own @ rotation(view.yaw, view.pitch, view.roll).T.astype(np.float32)
    if isinstance(share, float) and not share:
        return np.asarray(with_head, np.float32)
    with_body = own @ rotation(*view.body).T.astype(np.float32)
    return np.asarray(with_head + share * (with_body - with_head), np.float32)


def project(points: Floats, view: View, scale: float, middle: tuple[float, float]) -> Floats:
    """What the camera sees: column, row (pixels) and distance of points (..., 3) in its frame, about `PIVOT`, which
    appears at `middle`, pixels, with `scale` pixels per pupil distance there.
    """
    zoom = scale / np.maximum(1 + points[..., 2:] / view.distance, 0.05)
    flat = points[..., :2] * zoom + np.array(middle, np.float32)
    return np.asarray(np.concatenate([flat, points[..., 2:]], axis=-1), np.float32)
