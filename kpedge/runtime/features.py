"""Numbers that programs derive from keypoints: openness of eyes and mouth, smile, brows, gaze, position in space.

Lengths are measured on the head, not in the image: the points are rotated back by the head pose, each at the depth that
a generic head has there, and divided by the distance between the eyes. So a face gives the same values at another size,
distance and roll and, as far as the pose is right, at another yaw and pitch. docs/coordinates.md has the formulas,
their sources, and the errors measured on synthetic heads.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from kpedge.core.faces import Face, Features, Pose, rotation_matrix
from kpedge.core.keypoints import scheme_named
from kpedge.core.model_zoo import released_keypoint_models, released_scheme
from kpedge.core.scheme import KeypointScheme
from kpedge.runtime.pose import HEAD, focal_length, head_poses, point_shares

Floats = NDArray[np.float64]

SIDES = ("left", "right")
BROW = ("outer", "outer_middle", "middle", "inner_middle", "inner")
LIDS = ("upper_outer", "upper", "upper_inner", "lower_outer", "lower", "lower_inner")
POINTS: dict[str, tuple[float, float, float]] = {
    **{f"{side}_eye_{lid}": (x, -0.3, 0.06) for side, x in (("left", -0.5), ("right", 0.5)) for lid in LIDS},
    **{f"{side}_brow_{part}": (x, -0.63, 0.05) for side, x in (("left", -0.5), ("right", 0.5)) for part in BROW},
    "upper_lip_inner": (0.0, 0.73, -0.16),
    "mouth_centre": (0.0, 0.75, -0.16),
    "lower_lip_inner": (0.0, 0.77, -0.15),
    "lower_lip_bottom": (0.0, 0.88, -0.13),
    **HEAD,
}
"""Points that features are made of, on the generic head of `kpedge.runtime.pose.HEAD`."""
PUPILS_MM = 63.0
"""Distance between the pupils of adults, mean; its standard deviation is 3.7 (Dodgson, Variation and extrema of human
interpupillary distance, SPIE 5291, 2004), so that distances in space have an error of 6 % on that account alone.
"""
REST = {"brow": 0.315, "lips": 0.25, "pupil": -0.022}
"""At rest, in distances between the eyes: brows over the line of an eye's corners, height of closed lips, and pupils
below that line.
"""
EYE_OPEN = 0.3  # usual openness of an eye
EYE_RADIUS = 0.22  # from the middle of an eyeball to its pupil, in distances between the eyes
SMILE = (5.0, 1.5, -0.95)
"""Of the corners over the mouth's centre, of the mouth's width, and of 1: least squares to the strength of the smile of
synthetic heads, from points that stage 3 predicts, and rounded. 0 is a neutral face, 1 a broad smile.
"""
EYES = np.array([0.0, -0.29, 0.1])  # the middle between the eyes on the generic head: its place is the face's position
FARTHEST = math.cos(math.radians(70))  # cosine of the angle beyond which half of the face is hidden: only position


def face_features(
    keypoints: Floats, scheme: KeypointScheme, pose: Pose | None, size: tuple[int, int], *, focal: float | None = None
) -> Features:
    """The features of a face with keypoints (K, 2), pixels of an image of this width and height. A feature is None if
    the scheme lacks a point of it; all are without the head's pose. The focal length, pixels, is by default that of
    `kpedge.runtime.pose.FIELD` degrees.
    """
    focal = focal_length(size, focal)
    if pose is None or not len(keypoints) or not np.isfinite(keypoints).all():
        return Features()
    names, shares = point_shares(scheme, frozenset(POINTS))
    model, rotation = np.array([POINTS[name] for name in names]), rotation_matrix(pose)
    seen, turned = shares @ keypoints, model @ rotation.T
    rigid = [index for index, name in enumerate(names) if name in HEAD]
    middle, turned_middle = seen[rigid].mean(axis=0), turned[rigid, :2].mean(axis=0)
    there = turned[rigid, :2] - turned_middle
    scale = float((there * (seen[rigid] - middle)).sum() / (there**2).sum())
    if not scale > 0:
        return Features()
    distance = focal / scale
    # From pixels to the head's own x and y: perspective, then rotation, are undone at each point's depth.
    flat = ((seen - middle) / scale + turned_middle) * (1 + turned[:, 2:] / distance)
    x, y = (middle - scale * turned_middle - (np.array(size) - 1) / 2) / focal
    place = [PUPILS_MM * (distance * value + shift) for value, shift in zip((x, y, 1.0), rotation @ EYES, strict=True)]
    position = dict(zip(("x_mm", "y_mm", "z_mm"), map(float, place), strict=True))
    if rotation[2, 2] < FARTHEST:
        return Features(**position)
    head = (flat - model[:, 2:] * rotation[:2, 2]) @ np.linalg.inv(rotation[:2, :2]).T
    return Features(**position, **_measure(dict(zip(names, head, strict=True)), gaze="left_pupil" in scheme.points))


def add_poses(
    faces: Sequence[Face], scheme: KeypointScheme, size: tuple[int, int], *, focal: float | None = None
) -> tuple[Face, ...]:
    """Faces with their head poses; rejected ones, without keypoints, as they are."""
    real = [face.keypoints for face in faces if len(face.keypoints)]
    poses = iter(head_poses(np.array(real), scheme, size, focal=focal) if real else ())
    return tuple(replace(face, pose=next(poses)) if len(face.keypoints) else face for face in faces)


def add_features(
    faces: Sequence[Face], scheme: KeypointScheme, size: tuple[int, int], *, focal: float | None = None
) -> tuple[Face, ...]:
    """Faces with their features; poses are estimated where these are missing or the focal length is given."""
    if focal is not None or any(face.pose is None for face in faces):
        faces = add_poses(faces, scheme, size, focal=focal)
    return tuple(
        replace(face, features=face_features(face.keypoints, scheme, face.pose, size, focal=focal)) for face in faces
    )


def lacking_features(scheme: KeypointScheme) -> list[str]:
    """Names of the features for which a scheme has no points: they are always None."""
    at = {name: np.array(POINTS[name][:2]) for name in point_shares(scheme, frozenset(POINTS))[0]}
    measured = _measure(at, gaze="left_pupil" in scheme.points)
    return [one.name for one in fields(Features) if one.name not in measured and not one.name.endswith("_mm")]


def lacking_line(scheme: KeypointScheme) -> str:
    """A line that names the features that a scheme lacks, and released models with the openness of eyes; or "".
    None is named for the gaze: the pupils of the released models do not show it (docs/coordinates.md).
    """
    if not (lacking := lacking_features(scheme)):
        return ""
    line = f"always null, since {scheme.name} has no points for them: {', '.join(lacking)}"
    names = released_keypoint_models() if "eye_open_left" in lacking else []
    able = [name for name in names if "eye_open_left" not in lacking_features(scheme_named(released_scheme(name)))]
    return line + (f"; eye_open is given by --model {' or '.join(able)}" if able else "")


def _measure(at: Mapping[str, Floats], *, gaze: bool) -> dict[str, float]:
    """The features of a face that follow from its points on the head, name -> x and y; of the gaze if there are pupils
    that do not follow from the lids.
    """
    corners = [[at.get(f"{side}_eye_{corner}") for corner in ("outer", "inner")] for side in SIDES]
    if any(corner is None for eye in corners for corner in eye):
        corners = [[at.get(f"{side}_pupil")] for side in SIDES]
    ends = [[corner for corner in eye if corner is not None] for eye in corners]
    if not all(ends):
        return {}
    eyes = [np.mean(eye, axis=0) for eye in ends]
    (cos, sin), middle = eyes[1] - eyes[0], (eyes[0] + eyes[1]) / 2
    unit = math.hypot(cos, sin)
    if not unit > 0:
        return {}
    level = np.array([[cos, sin], [-sin, cos]]) / unit**2
    at = {name: level @ (point - middle) for name, point in at.items()}
    eyes = [level @ (eye - middle) for eye in eyes]
    values: dict[str, float] = {}
    looks = []
    for side, eye in zip(SIDES, eyes, strict=True):
        brow = _mean(at, f"{side}_brow", BROW)
        if brow is not None:
            values[f"brow_raise_{side}"] = float(eye[1] - brow[1]) - REST["brow"]
        outer, inner, pupil = (at.get(f"{side}_{name}") for name in ("eye_outer", "eye_inner", "pupil"))
        if outer is None or inner is None:
            continue
        upper, lower = _mean(at, f"{side}_eye", LIDS[:3]), _mean(at, f"{side}_eye", LIDS[3:])
        if upper is not None and lower is not None:
            values[f"eye_open_{side}"] = float(lower[1] - upper[1]) / math.dist(outer, inner)
        if gaze and pupil is not None:
            looks.append(pupil - eye)
    if looks:
        x, y = np.mean(looks, axis=0) / EYE_RADIUS
        values["gaze_yaw"], values["gaze_pitch"] = _degrees(x), _degrees(REST["pupil"] / EYE_RADIUS - y)
    return values | _mouth(at)


def _mouth(at: Mapping[str, Floats]) -> dict[str, float]:
    """Openness, width and smile, from points in distances between the eyes."""
    values: dict[str, float] = {}
    if "upper_lip_inner" in at and "lower_lip_inner" in at:
        values["mouth_open"] = max(0.0, float(at["lower_lip_inner"][1] - at["upper_lip_inner"][1]))
    elif "upper_lip_top" in at and "lower_lip_bottom" in at:
        height = float(at["lower_lip_bottom"][1] - at["upper_lip_top"][1])
        values["mouth_open"] = max(0.0, height - REST["lips"])
    if "mouth_left_corner" in at and "mouth_right_corner" in at:
        left, right = at["mouth_left_corner"], at["mouth_right_corner"]
        values["mouth_width"] = width = math.dist(left, right)
        if "mouth_centre" in at:
            lift = float(at["mouth_centre"][1] - (left[1] + right[1]) / 2)
            values["smile"] = SMILE[0] * lift + SMILE[1] * width + SMILE[2]
    return values


def _mean(at: Mapping[str, Floats], stem: str, parts: tuple[str, ...]) -> Floats | None:
    """The mean of those points `stem_part` that there are."""
    there = [at[name] for part in parts if (name := f"{stem}_{part}") in at]
    return np.mean(there, axis=0) if there else None


def _degrees(sine: float) -> float:
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))
