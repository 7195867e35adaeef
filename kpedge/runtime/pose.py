"""Head pose from keypoints: perspective-n-point with a generic head.

A solver that knows the generic head alone takes every way in which a person differs from it for a rotation. A smile
widens a face: it then looks as flat as one that nods, and the pitch jumps by ten degrees and more. So errors are
weighted by how faces differ: each point by itself, and points together (`MODES`). A usual difference costs little; the
rest decides.

The camera is rotated in thought to look straight at the face: a head that looks into the camera has no yaw and no
pitch, wherever in the image it is. What is left is nearly a scaled orthographic projection, and the rest of the
perspective is corrected in the measured points, by the depth that the current pose gives them (POSIT; DeMenthon and
Davis, Model-based object pose in 25 lines of code, IJCV 1995). Rotation and scale together are a quaternion of free
length. The projection is linear in its squares, so least squares take a few Gauss-Newton steps for four numbers.
"""

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import UsageError
from kpedge.core.faces import Pose
from kpedge.core.scheme import KeypointScheme

Floats = NDArray[np.float64]

FIELD = 60.0  # degrees that the longer side of an image is assumed to span: usual for webcams and phones
FEWEST = 5  # fewest points that give a pose
FLAT = 0.05
"""Least spread of the known points in depth, distances between the pupils (root mean square): with less, that is
without a point of the nose, a rotation to one side looks like one to the other.
"""
NARROW = 0.03  # least ratio of the spread of a face's points across to that along them: with less they are collinear
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
"""Points of a generic head that looks straight at the camera, from the middle of the face: x to the image's right, y
down, z away from the camera, in distances between the pupils. docs/coordinates.md gives the source of the numbers.
Mouth centre and lower lip are left out: they depend on whether the mouth is open.
"""

SPREAD = 0.03  # standard deviation of a point's own difference from the generic head, same unit
MODES: tuple[tuple[float, dict[str, float]], ...] = (
    (0.06, {name: y for name, (_, y, _) in HEAD.items()}),
    (0.05, {name: 1.0 for name in HEAD if "brow" in name}),
    (0.05, {name: 1.0 for name in HEAD if "brow_inner" in name}),
    (0.04, {name: 1.0 for name in HEAD if "nose" in name}),
    (0.05, {name: 1.0 for name in HEAD if "mouth" in name or "lip" in name}),
    (0.05, {name: 1.0 for name in HEAD if "corner" in name}),
)
"""How points of a face differ in height together: standard deviation, same unit, and each point's share. Length of the
face; brows; their inner ends; nose; mouth; its corners.
"""


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """What the fit needs for the M points that are known."""

    size: float  # sum of the squares of x and y of the head that looks straight at the camera, from their mean
    mean: Floats  # (M,), weights of a mean
    # (M, 26), takes measured x and y to three targets of y and three of x, each with how it grows with the three
    # numbers of the depth row of the rotation; the last two columns are x and y of the head, from their mean
    targets: Floats
    # (24, 4): times a quaternion it is, as (6, 4), the slope of the targets, x first, which are half the slope times
    # the quaternion
    slope: Floats


def _rotation_forms() -> Floats:
    """(2, 3, 4, 4): entry i, j of the rotation of a quaternion q = w x y z, times its squared length: q . form . q."""
    forms = np.zeros((2, 3, 4, 4))
    w, x, y, z = range(4)
    for row, signs in enumerate(((1, 1, -1, -1), (1, -1, 1, -1))):
        forms[row, row] = np.diag(signs)
    for row, column, first, second, sign in (
        *((0, 1, (x, y), (w, z), -1), (0, 2, (x, z), (w, y), 1)),
        *((1, 0, (x, y), (w, z), 1), (1, 2, (y, z), (w, x), -1)),
    ):
        forms[row, column][first] = forms[row, column][first[::-1]] = 1
        forms[row, column][second] = forms[row, column][second[::-1]] = sign
    return forms


@functools.lru_cache(maxsize=256)
def _fit(names: tuple[str, ...]) -> _Fit | None:
    """The fit for points by name; None if they give no pose."""
    head = np.array([HEAD[name] for name in names], dtype=np.float64).reshape(-1, 3)
    if len(head) < FEWEST:
        return None
    if np.linalg.svd(head - head.mean(axis=0), compute_uv=False)[2] < FLAT * math.sqrt(len(head)):
        return None
    targets, slope = [], []
    for axis, forms in enumerate(_rotation_forms()):
        spread = SPREAD**2 * np.eye(len(names))
        if axis == 1:
            modes = np.array([[size * shares.get(name, 0.0) for name in names] for size, shares in MODES])
            spread += modes.T @ modes
        weights = np.linalg.inv(spread)
        weights -= np.outer(weights.sum(axis=1), weights.sum(axis=0)) / weights.sum()  # wherever the face is
        root = np.linalg.cholesky(head.T @ weights @ head)
        project = weights @ head @ np.linalg.inv(root).T
        targets.append(np.stack([project, *(project * depth[:, None] for depth in head.T)], axis=2).reshape(-1, 12))
        slope.append(2 * np.einsum("kab,kj->jab", forms, root))
    flat = head[:, :2] - head[:, :2].mean(axis=0)
    count = len(names)
    return _Fit(
        float((flat**2).sum()),
        np.full(count, 1 / count),
        np.concatenate([*targets[::-1], flat], axis=1),
        np.concatenate(slope).reshape(24, 4),
    )


@functools.lru_cache(maxsize=32)
def point_shares(scheme: KeypointScheme, wanted: frozenset[str] = frozenset(HEAD)) -> tuple[tuple[str, ...], Floats]:
    """Names of the M points among `wanted` that a scheme of K points has or derives, and each point's share, (M, K)."""
    groups = {point: (index,) for index, point in enumerate(scheme.points)} | scheme.derived
    known = {point: group for point, group in groups.items() if point in wanted}
    shares = np.zeros((len(known), len(scheme)))
    for row, group in zip(shares, known.values(), strict=True):
        row[list(group)] = 1 / len(group)
    return tuple(known), shares


@functools.lru_cache(maxsize=32)
def focal_length(size: tuple[int, int], focal: float | None = None) -> float:
    """The focal length in pixels; when None, that of an image of this width and height whose longer side spans `FIELD`.

    Raises:
        UsageError: it is impossible.
    """
    if focal is None:
        return max(size) / 2 / math.tan(math.radians(FIELD / 2))
    if not (math.isfinite(focal) and focal > 0):
        raise UsageError(f"the focal length must be above 0 pixels, not {focal:g}")
    return focal


class PoseEstimator:
    """Estimates head poses from the points of a scheme that `HEAD` has by name, and those that follow from them as
    means.
    """

    def __init__(self, scheme: KeypointScheme) -> None:
        self.scheme = scheme
        self._names, self._shares = point_shares(scheme)
        self._fit = _fit(self._names)

    def __call__(self, points: Floats, size: tuple[int, int], *, focal: float | None = None) -> list[Pose | None]:
        """The head pose of each face; the arguments are those of `head_poses`."""
        if points.ndim != 3 or points.shape[1:] != (len(self.scheme.points), 2):
            raise UsageError(
                f"head poses: points of {self.scheme.name} have the shape (faces, {len(self.scheme.points)}, 2), "
                f"not {points.shape}"
            )
        if min(size) < 1:
            raise UsageError(f"head poses: an image has a width and a height, not {size}")
        focal = focal_length(size, focal)
        middle_x, middle_y = (size[0] - 1) / 2, (size[1] - 1) / 2
        poses = []
        for face in points:
            flat = face.reshape(-1)
            if math.isfinite(flat.dot(flat)):
                used, fit = self._shares.dot(face), self._fit
            else:
                groups = {name: share > 0 for name, share in zip(self._names, self._shares, strict=True)}
                known = {name: face[group] for name, group in groups.items() if np.isfinite(face[group]).all()}
                used = np.array([some.mean(axis=0) for some in known.values()]).reshape(-1, 2)
                fit = _fit(tuple(known))
            poses.append(None if fit is None else _pose(used, fit, middle_x, middle_y, focal))
        return poses


_estimator = functools.lru_cache(maxsize=16)(PoseEstimator)


def head_poses(
    points: Floats, scheme: KeypointScheme, size: tuple[int, int], *, focal: float | None = None
) -> list[Pose | None]:
    """The head pose of each face with points (F, K, 2), pixels of an image of this width and height, NaN where one is
    not known; None where they are too few, have none of the nose, or are collinear. The focal length, pixels, is by
    default that of an image of `FIELD` degrees.
    """
    return _estimator(scheme)(points, size, focal=focal)


def _pose(points: Floats, fit: _Fit, middle_x: float, middle_y: float, focal: float) -> Pose | None:
    """The pose of one face from the M points that are known, (M, 2), pixels, for a camera that looks at the middle."""
    x, y = fit.mean.dot(points).tolist()
    x, y = (x - middle_x) / focal, (y - middle_y) / focal
    away = math.hypot(x, y)
    if not away < math.inf:
        return None
    # The camera rotates the shortest way, which adds no roll, to look at the middle of the face: a homography.
    far = math.sqrt(1 + away * away)
    a, b = (x / away, y / away) if away > 1e-9 else (1.0, 0.0)
    to_xx, to_xy, to_yy = (a * a + b * b * far) / focal, a * b * (1 - far) / focal, (b * b + a * a * far) / focal
    start_x, start_y = to_xx * middle_x + to_xy * middle_y + x, to_xy * middle_x + to_yy * middle_y + y
    start_z = (x * middle_x + y * middle_y) / focal - 1
    seen = points.dot(np.array([[to_xx, to_xy, x / focal], [to_xy, to_yy, y / focal]]))
    seen -= np.array([start_x, start_y, start_z])
    rays = seen[:, :2] / seen[:, 2:]
    rays -= fit.mean.dot(rays)
    across = rays.T
    (xx, xy), (_, yy) = across.dot(rays).tolist()
    if not xx + yy - math.hypot(xx - yy, 2 * xy) > 2 * NARROW**2 * (xx + yy):
        return None
    targets = across.dot(fit.targets)
    (a, b), (c, d) = targets[:, 24:].tolist()
    cos, sin = a + d, c - b
    size = math.hypot(cos, sin)
    if not 0 < size < math.inf:
        return None
    cos, sin = cos / size, sin / size
    # In one row of 48: x's targets of the upright x end the first half, y's of the upright y begin the second.
    targets = np.array([[cos, sin], [-sin, cos]]).dot(targets[:, :24]).reshape(48)[12:36].reshape(6, 4)
    # A quaternion w x y z whose squared length is the scale; it starts with a face that looks straight ahead.
    w, x, y, z = math.sqrt(size / fit.size), 0.0, 0.0, 0.0
    for _ in range(STEPS):
        slope = fit.slope.dot(np.array([w, x, y, z])).reshape(6, 4)
        wanted = targets.dot(np.array([1, 2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z]))
        solved, change = cv2.solve(slope, wanted.reshape(6, 1), flags=cv2.DECOMP_NORMAL | cv2.DECOMP_CHOLESKY)
        if not solved:
            return None
        # The targets are quadratic in the quaternion: half of it is what a full step leaves.
        (dw,), (dx,), (dy,), (dz,) = change.tolist()
        w, x, y, z = w / 2 + dw, x / 2 + dx, y / 2 + dy, z / 2 + dz
    length = w * w + x * x + y * y + z * z
    if not 0 < length < math.inf:
        return None
    yaw = math.asin(max(-1.0, min(1.0, 2 * (x * z - w * y) / length)))
    pitch = math.atan2(-2 * (y * z + w * x), w * w - x * x - y * y + z * z)
    roll = math.atan2(sin, cos) + math.atan2(2 * (x * y + w * z), w * w + x * x - y * y - z * z)
    return Pose(math.degrees(yaw), math.degrees(pitch), math.degrees(math.remainder(roll, 2 * math.pi)))
