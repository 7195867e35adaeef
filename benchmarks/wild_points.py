"""The keypoints' part of `wild.py`: errors of points, and which crops are accepted as faces.

Keypoints: mean distance, % of the root of the box's area. "Offset removed": each point's mean error over the set is
taken off first, since sets place their points differently. A rotated face has the box that follows from its points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kpedge.core.boxes import rotated_box
from kpedge.core.card import KEYPOINTS_NAME, SCORE_NAME, ModelCard
from kpedge.core.geometry import box_size, compose, crop, crop_transform, invert, pixels_to_fractions, transform_points
from kpedge.core.keypoints import FACES5
from kpedge.data.accessories import GLASSES, MASK, draw_accessory
from kpedge.data.packed import PreparedSet, open_set
from kpedge.runtime.pose import head_poses

POINT_SETS = ("youtube68", "helen_afw68", "utk_pseudo21", "mask_ilc-points")
FACE_SETS = ("facemask", "portraits", "mask_ilc", "afw_boxes", "people_pseudo", "flickr_pseudo")
BACKGROUND, MAIN = "noface", "faces21"
Image = np.ndarray
Change = Callable[[int, Image, np.ndarray], Image]


def cut(
    source: PreparedSet, row: int, card: ModelCard, *, roll: float = 0.0, scale: float = 1.0, shift: Any = (0, 0)
) -> tuple[Image, np.ndarray]:
    """A crop, blue-green-red, and its points, fractions; `roll` rotates the photo, radians."""
    box = rotated_box(source.boxes[row], -roll)
    way = crop_transform(box, card.size, card.crop, roll=-roll, scale=scale, shift=tuple(shift))
    _, to_region = source.photo_from_region(row)
    image = crop(source.region(row), compose(way, invert(to_region)), card.size, border=card.crop.border)
    return image, pixels_to_fractions(transform_points(way, source.keypoints[row]), card.size)


def errors_in(
    model: Any, cuts: Sequence[tuple[Image, np.ndarray]], change: Change | None = None, scales: Any = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Errors (N, K, 2), fractions of the box, and scores (N,)."""
    crops = [one if change is None else change(number, one, points) for number, (one, points) in enumerate(cuts)]
    if model.card.colour == "grey":
        crops = [cv2.cvtColor(one, cv2.COLOR_BGR2GRAY)[..., None] for one in crops]
    parts = [model(np.array(crops[start : start + 64])) for start in range(0, len(crops), 64)]
    points, scores = (np.concatenate([part[name] for part in parts]) for name in (KEYPOINTS_NAME, SCORE_NAME))
    factor = (1 + 2 * model.card.crop.widen) * np.asarray(scales)
    return (points - np.array([truth for _, truth in cuts])) * np.reshape(factor, (-1, 1, 1)), scores


def face_errors(errors: np.ndarray) -> np.ndarray:
    """Mean distance of each face's labelled points, %."""
    return 100 * np.nanmean(np.linalg.norm(errors, axis=2), axis=1)


def without_offset(errors: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Errors less each point's mean, which is that of its mirror image, of the points that are labelled."""
    errors = errors[:, np.isfinite(errors).any(axis=(0, 2))] if np.isnan(errors).all(axis=(0, 2)).any() else errors
    mean = np.nanmean(errors, axis=0)
    if len(mean) == len(mirror):
        mean = (mean + mean[mirror] * (-1, 1)) / 2
    return errors - mean


def keypoint_rows(model: Any, crops: Path, split: str) -> dict[str, dict[str, float]]:
    """The rows of the points, and of the face score."""
    card, out = model.card, {}

    def add(name: str, values: np.ndarray) -> None:
        if len(values):
            out[name] = {"mean": round(float(np.mean(values)), 3), "n": len(values)}
            print(f"{name:55s} {out[name]['mean']:7.2f}  of {out[name]['n']}", flush=True)

    source = open_set(crops / MAIN)
    rows = source.indices(split)
    plain = [cut(source, row, card) for row in rows]
    errors, size = face_errors(errors_in(model, plain)[0]), box_size(source.boxes[rows])
    poses = head_poses(source.keypoints[rows], source.scheme, (640, 640), focal=2000.0)
    yaw = np.array([abs(pose.yaw) if pose else 0 for pose in poses])
    roll = np.abs(np.degrees(source.scheme.roll(source.keypoints[rows])))
    chosen = {
        "60 px and more": size >= 60,
        "under 30 px": size < 30,
        "yaw over 35": yaw > 35,
        "roll over 15": roll > 15,
    }
    add(f"{MAIN}, true boxes", errors)
    for name, some in chosen.items():
        add(f"{MAIN}, {name}", errors[some])
    for noise in (0.05, 0.1):
        rng = np.random.default_rng(0)
        scales = np.exp(rng.uniform(-noise, noise, len(rows)))
        shifts = rng.uniform(-noise, noise, (len(rows), 2)) / (1 + 2 * card.crop.widen)
        cuts = [cut(source, row, card, scale=s, shift=t) for row, s, t in zip(rows, scales, shifts, strict=True)]
        add(f"{MAIN}, box noise {noise:.0%}", face_errors(errors_in(model, cuts, scales=scales)[0]))
    for degrees in (30, 45, 60):
        cuts = [cut(source, row, card, roll=math.radians(side * degrees)) for side in (-1, 1) for row in rows]
        add(f"{MAIN}, rotated by {degrees}", face_errors(errors_in(model, cuts)[0]))
    large = [one for one, side in zip(plain, size, strict=True) if side >= 40]

    def dress(kind: str) -> Change:
        return lambda number, image, points: draw_accessory(
            image, points * card.size - 0.5, card.scheme, np.random.default_rng(number), kind
        )

    changes: dict[str, Change] = {"drawn masks": dress(MASK), "drawn dark glasses": dress(GLASSES)}
    for light in (0.1, 0.04):
        changes[f"brightness {light:g}"] = lambda _n, image, _p, light=light: cv2.convertScaleAbs(image, alpha=light)
    changes["shrunk to 16 px"] = lambda _n, image, _p: cv2.resize(
        cv2.resize(image, (24, 24), interpolation=cv2.INTER_AREA), image.shape[:2]
    )
    for name, change in changes.items():
        add(f"{MAIN}, {name}", face_errors(errors_in(model, large, change)[0]))
    for name in POINT_SETS:
        source = open_set(crops / name)
        if len(rows := source.indices(split)):
            errors, _ = errors_in(model, [cut(source, row, card) for row in rows])
            add(f"{name}, offset removed", face_errors(without_offset(errors, card.scheme.mirror_order)))
    source = open_set(crops / "aflw5")
    if len(rows := source.indices(split)):
        errors, _ = errors_in(model, [cut(source, row, card) for row in rows])
        aside = nose_aside(source.keypoints[rows][:, [card.scheme.points.index(name) for name in FACES5.points]])
        errors = face_errors(without_offset(errors, card.scheme.mirror_order))
        for low, high in ((0, 0.1), (0.1, 0.25), (0.25, 9)):
            add(f"aflw5, nose aside {low:g} to {high:g} of the height", errors[(aside >= low) & (aside < high)])
    for name in FACE_SETS:
        source = open_set(crops / name)
        if len(rows := source.indices(split)):
            scores = errors_in(model, [cut(source, row, card) for row in rows])[1]
            add(f"accepted, {name}", 100.0 * (scores >= card.threshold))
    for name in (MAIN, BACKGROUND, "hard"):
        source = open_set(crops / name)
        scores = errors_in(model, [cut(source, row, card) for row in source.negatives(split)])[1]
        add(f"negatives accepted, {name}", 100.0 * (scores >= card.threshold))
    return out


def nose_aside(points: np.ndarray) -> np.ndarray:
    """How far the nose tip lies beside the line from eyes to mouth, in its length, of five points (N, 5, 2)."""
    eyes, mouth = points[:, :2].mean(axis=1), points[:, 3:].mean(axis=1)
    down = mouth - eyes
    across = np.stack([down[:, 1], -down[:, 0]], axis=1)
    return np.abs(((points[:, 2] - (eyes + mouth) / 2) * across).sum(axis=1)) / (down**2).sum(axis=1)
