"""How heads are turned, from their keypoints: perspective-n-point with a generic head, for all faces at once.

A solver that knows the generic head alone takes all in which a person differs from it for a turn. A smile widens a
face: it is then as flat as one that nods, up or down, and jumps by ten degrees and more. So errors are weighed by how
faces differ: each point by itself, and points together (`MODES`). What differs in a usual way costs little; the rest
decides.

The camera is turned, in thought, to look straight at the face: a head that looks into the camera has no yaw and no
pitch, wherever in the picture it is. What is left is nearly a scaled orthographic projection, and the rest of the
perspective is put right in the measured points, by the depth that the pose so far gives them (POSIT; DeMenthon and
Davis, Model-based object pose in 25 lines of code, IJCV 1995). Turn and scale together are a quaternion of free length.
The projection is linear in its squares, so least squares take a few Gauss-Newton steps for four numbers a face.
"""

from __future__ import annotations

import cmath
import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import UsageError
from kpedge.core.faces import Pose
from kpedge.core.geometry import to_complex
from kpedge.core.keypoints import Conversion
from kpedge.core.scheme import KeypointScheme

Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]

FIELD = 60.0
"""Degrees that the longer side of a picture is taken to span: usual for webcams and phones."""
FEWEST = 5
"""Points from which on a pose is told."""
FLAT = 0.05
"""Least spread of the known points in depth, distances between the pupils (root mean square): with less, which is to
say without a point of the nose, a turn to one side looks like one to the other.
"""
NARROW = 0.03
"""Least ratio of the spread of a face's points across to that along them: with less they lie on a line."""
STEPS = 4
"""Gauss-Newton steps, each with the perspective of the one before: more change no angle by more than 0.01 degrees,
up to 70 degrees of yaw and 45 of pitch.
"""

HEAD: dict[str, tuple[float, float, float]] = {
    "left_brow_outer": (-0.848, -0.578, 0.238),
    "left_brow_middle": (-0.561, -0.636, 0.054),
    "left_brow_inner": (-0.257, -0.573, -0.075),
    "right_brow_inner": (0.257, -0.573, -0.075),
    "right_brow_middle": (0.561, -0.636, 0.054),
    "right_brow_outer": (0.848, -0.578, 0.238),
    "left_eye_outer": (-0.711, -0.299, 0.178),
    "left_eye_inner": (-0.292, -0.259, 0.041),
    "right_eye_inner": (0.292, -0.259, 0.041),
    "right_eye_outer": (0.711, -0.299, 0.178),
    "nose_left_wing": (-0.311, 0.329, -0.125),
    "nose_base": (0.0, 0.449, -0.243),
    "nose_right_wing": (0.311, 0.329, -0.125),
    "upper_lip_top": (0.0, 0.658, -0.19),
    "left_pupil": (-0.5, -0.297, 0.087),
    "right_pupil": (0.5, -0.297, 0.087),
    "nose_tip": (0.0, 0.269, -0.431),
    "mouth_left_corner": (-0.395, 0.745, 0.147),
    "mouth_right_corner": (0.395, 0.745, 0.147),
}
"""Where the points of a generic head lie that looks straight at the camera, from the middle of the face: x to the
picture's right, y down, z away from the camera, in distances between the pupils. docs/coordinates.md says where the
numbers are from. Mouth centre and lower lip are left out: they tell whether the mouth is open.
"""

SPREAD = 0.03
"""How much a point of a face lies elsewhere than on the generic head, by itself (standard deviation, same unit)."""
MODES: tuple[tuple[float, dict[str, float]], ...] = (
    (0.06, {name: y for name, (_, y, _) in HEAD.items()}),
    (0.05, {name: 1.0 for name in HEAD if "brow" in name}),
    (0.05, {name: 1.0 for name in HEAD if "brow_inner" in name}),
    (0.04, {name: 1.0 for name in HEAD if "nose" in name}),
    (0.05, {name: 1.0 for name in HEAD if "mouth" in name or "lip" in name}),
    (0.05, {name: 1.0 for name in HEAD if "corner" in name}),
)
"""How points of a face lie higher or lower together: standard deviation, same unit, and each point's share. Length of
the face; brows; their inner ends; nose; mouth; its corners.
"""


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """What the fit needs to know of the M points that are known.

    Attributes:
        mean: complex (M,), the weights of a mean.
        rest: complex (M,), x + iy of the head that looks straight at the camera, from their mean.
        size: sum of their squares.
        project: (2, M, 3), takes measured x (and y) to three targets.
        square: (4, 24): a quaternion times it is, as (6, 4), the slope of the targets, which are half the slope times
            the quaternion.
        depth: (16, M): the products of a quaternion's numbers times it are the depths of the points, over the distance.
    """

    mean: Complex
    rest: Complex
    size: float
    project: Floats
    square: Floats
    depth: Floats


def _rotation_forms() -> Floats:
    """(3, 3, 4, 4): entry i, j of the rotation of a quaternion q = w x y z, times its squared length: q . form . q."""
    forms = np.zeros((3, 3, 4, 4))
    for row, signs in enumerate(((1, 1, -1, -1), (1, -1, 1, -1), (1, -1, -1, 1))):
        forms[row, row] = np.diag(signs)
    w, x, y, z = range(4)
    for row, column, first, second, sign in (
        *((0, 1, (x, y), (w, z), -1), (0, 2, (x, z), (w, y), 1), (1, 0, (x, y), (w, z), 1)),
        *((1, 2, (y, z), (w, x), -1), (2, 0, (x, z), (w, y), -1), (2, 1, (y, z), (w, x), 1)),
    ):
        forms[row, column][first] = forms[row, column][first[::-1]] = 1
        forms[row, column][second] = forms[row, column][second[::-1]] = sign
    return forms


_FORMS = _rotation_forms()
_DEPTH = _FORMS[2].transpose(1, 2, 0).reshape(16, 3)
"""The products of a quaternion's numbers to the last row of its rotation."""


_RIDGE = 1e-9 * np.eye(4)
"""Far below what a face adds up to; it keeps the steps of one hopeless face from ending those of the others."""


@functools.lru_cache(maxsize=256)
def _fit(names: tuple[str, ...]) -> _Fit | None:
    """The fit for points by name; None if they do not tell a pose."""
    head = np.array([HEAD[name] for name in names], dtype=np.float64).reshape(-1, 3)
    if len(head) < FEWEST:
        return None
    if np.linalg.svd(head - head.mean(axis=0), compute_uv=False)[2] < FLAT * math.sqrt(len(head)):
        return None
    project, square = [], []
    for axis in range(2):
        spread = SPREAD**2 * np.eye(len(names))
        if axis == 1:
            modes = np.array([[size * shares.get(name, 0.0) for name in names] for size, shares in MODES])
            spread += modes.T @ modes
        weights = np.linalg.inv(spread)
        weights -= np.outer(weights.sum(axis=1), weights.sum(axis=0)) / weights.sum()  # wherever the face is
        root = np.linalg.cholesky(head.T @ weights @ head)
        project.append(weights @ head @ np.linalg.inv(root).T)
        square.append(2 * np.einsum("kab,kj->jab", _FORMS[axis], root))
    mean = np.full(len(names), 1 / len(names), np.complex128)
    rest = (head[:, :2] - head[:, :2].mean(axis=0)) @ np.array([1, 1j])
    size = float(np.vdot(rest, rest).real)
    return _Fit(mean, rest, size, np.array(project), np.concatenate(square).reshape(24, 4).T, _DEPTH @ head.T)


def head_poses(
    points: Floats, scheme: KeypointScheme, size: tuple[int, int], *, focal: float | None = None
) -> list[Pose | None]:
    """How heads are turned.

    Args:
        points: (F, K, 2), pixels of the picture; NaN where a point is not known.
        scheme: of the points; those that `HEAD` has by name are used, and those that follow from them as means.
        size: the picture's width and height, pixels.
        focal: the camera's focal length, pixels; that of a picture of `FIELD` degrees when None.

    Returns:
        A pose for each face; None where its points do not tell it: too few, none of the nose, or all on a line.

    Raises:
        UsageError: points that do not fit the scheme, a size or a focal length that is none.
    """
    if points.ndim != 3 or points.shape[1:] != (len(scheme), 2):
        raise UsageError(
            f"head poses: points of {scheme.name} have the shape (faces, {len(scheme)}, 2), not {points.shape}"
        )
    if min(size) < 1:
        raise UsageError(f"head poses: a picture has a width and a height, not {size}")
    if focal is None:
        focal = max(size) / 2 / math.tan(math.radians(FIELD / 2))
    if not (math.isfinite(focal) and focal > 0):
        raise UsageError(f"the focal length must be above 0 pixels, not {focal:g}")
    source = _source(scheme)
    names, used = source.names, source.points(points)
    middle = complex((size[0] - 1) / 2, (size[1] - 1) / 2)
    if cmath.isfinite(complex(used.sum())):
        return _poses((used - middle) / focal, _fit(names))
    poses: list[Pose | None] = []
    for one in used:
        known = np.flatnonzero(np.isfinite(one)).tolist()
        poses += _poses((one[known][None] - middle) / focal, _fit(tuple(names[place] for place in known)))
    return poses


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """Where the head's points come from in a scheme.

    Attributes:
        names: of the M points of the head that follow from it.
        groups: for each the points whose mean it is.
        places: (M,), the points themselves where none is a mean of several.
        shares: complex (K, M), each point's share in each of the head's.
    """

    names: tuple[str, ...]
    groups: Conversion
    places: NDArray[np.intp] | None
    shares: Complex

    def points(self, keypoints: Floats) -> Complex:
        """The head's points, x + iy, (F, M), from all points, (F, K, 2)."""
        if self.places is not None:
            return to_complex(keypoints[:, self.places])
        found = to_complex(keypoints).dot(self.shares)
        if cmath.isfinite(complex(found.sum())):
            return np.asarray(found)
        return to_complex(self.groups(keypoints))  # one that is not known would spoil all in a product


@functools.lru_cache(maxsize=16)
def _source(scheme: KeypointScheme) -> _Source:
    groups = {point: (index,) for index, point in enumerate(scheme.points)} | scheme.derived
    known = {point: group for point, group in groups.items() if point in HEAD}
    shares = np.zeros((len(scheme), len(known)), np.complex128)
    for place, group in enumerate(known.values()):
        shares[list(group), place] = 1 / len(group)
    plain = all(len(group) == 1 for group in known.values())
    places = np.array([group[0] for group in known.values()], dtype=np.intp) if plain else None
    return _Source(tuple(known), Conversion(tuple(known.values())), places, shares)


def _poses(rays: Complex, fit: _Fit | None) -> list[Pose | None]:
    """Poses from what a camera of focal length 1 sees of faces, x + iy, (F, M)."""
    poses: list[Pose | None] = [None] * len(rays)
    if fit is None or not len(rays):
        return poses
    seen = _seen_straight(rays, fit.mean)
    seen = seen - seen.dot(fit.mean)[:, None]
    along = np.add.reduce(np.abs(seen) ** 2, axis=1)
    line = along - np.abs(np.add.reduce(seen * seen, axis=1)) <= 2 * NARROW**2 * along
    upright = seen.dot(fit.rest.conj())
    good = ~line & (upright != 0)
    if not good.all():
        seen, upright = seen[good], upright[good]
    size = np.abs(upright)
    turn = upright / size
    found = _solve(seen * turn.conj()[:, None], np.sqrt(size / fit.size), fit)
    for place, way, quaternion in zip(np.flatnonzero(good).tolist(), turn.tolist(), found.tolist(), strict=True):
        poses[place] = _pose(quaternion, cmath.phase(way))
    return poses


def _seen_straight(rays: Complex, mean: Complex) -> Complex:
    """What the camera sees when it turns the shortest way, which adds no roll, to look at the middle of each face."""
    middle = rays.dot(mean)[:, None]
    away = np.abs(middle) + 1e-12
    towards = middle / away
    polar = rays * towards.conj()  # real: away from the picture's middle, imaginary: around it
    out, around = polar.real, polar.imag * np.sqrt(1 + away * away)
    there = (out - away + 1j * around) / (1 + out * away)
    return np.asarray(np.where(away > 1e-9, there * towards, rays))


def _solve(seen: Complex, start: Floats, fit: _Fit) -> Floats:
    """Quaternions (F, 4), w x y z, whose squared length is the scale, of upright faces (F, M); `start` (F,) is its root
    for a face that looks straight ahead.
    """
    measured = np.array([seen.real, seen.imag])
    found = np.zeros((len(seen), 4))
    found[:, 0] = start
    grown = measured
    for step in range(STEPS):
        if step:
            products = (found[:, :, None] * found[:, None, :]).reshape(-1, 16)
            grown = measured * (1 + products.dot(fit.depth))
        targets = (grown @ fit.project).transpose(1, 0, 2).reshape(-1, 6, 1)
        slope = found.dot(fit.square).reshape(-1, 6, 4)
        across = slope.transpose(0, 2, 1)
        # The targets are quadratic in the quaternion: half of it is what a full step leaves.
        found = found / 2 + np.linalg.solve(across @ slope + _RIDGE, across @ targets)[..., 0]
    return found


def _pose(quaternion: list[float], roll: float) -> Pose | None:
    """The pose of a face that was turned back by `roll` radians."""
    w, x, y, z = quaternion
    length = w * w + x * x + y * y + z * z
    if not (math.isfinite(length) and length > 0):
        return None
    yaw = math.asin(max(-1.0, min(1.0, 2 * (x * z - w * y) / length)))
    pitch = math.atan2(-2 * (y * z + w * x), w * w - x * x - y * y + z * z)
    roll += math.atan2(2 * (x * y + w * z), w * w + x * x - y * y - z * z)
    return Pose(math.degrees(yaw), math.degrees(pitch), math.degrees(math.remainder(roll, 2 * math.pi)))
