"""Writes what the JavaScript package takes from Python: constants, and cases that both languages must agree on.

    python tests/web_cases.py

Run it after a change of a released model or of a formula that `js/src` has too; `tests/test_web.py` fails until then.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kpedge.core.boxes import box_of_points
from kpedge.core.faces import Features, Pose, rotation_matrix
from kpedge.core.files import write_text
from kpedge.core.geometry import CropRule, crop, crop_transform, resize_to
from kpedge.core.images import read_image
from kpedge.core.joint_score import JointScore, logit
from kpedge.core.keypoints import BUILT_IN, FACES21, FACES21_MEAN, scheme_named
from kpedge.core.model_zoo import resolve_model, sample_photo
from kpedge.core.scheme import KeypointScheme
from kpedge.runtime.detector import suppress
from kpedge.runtime.face_model import load
from kpedge.runtime.features import EYES, face_features
from kpedge.runtime.features import POINTS as FEATURE_POINTS
from kpedge.runtime.keypoints import PointBoxes
from kpedge.runtime.pose import head_poses
from kpedge.runtime.sessions import OnnxModel
from kpedge.runtime.smoothing import Smoothing, SmoothState, smooth
from kpedge.runtime.tracker import FaceTracker
from kpedge.runtime.tracks import appearance

FOLDER = Path(__file__).parents[1] / "js"
MODULES = {
    "boxes": "kpedge.core.boxes",
    "drawing": "kpedge.core.drawing",
    "geometry": "kpedge.core.geometry",
    "detector": "kpedge.runtime.detector",
    "features": "kpedge.runtime.features",
    "joint": "kpedge.core.joint_score",
    "keypoints": "kpedge.runtime.keypoints",
    "looks": "kpedge.runtime.looks",
    "models": "kpedge.runtime.models",
    "pipeline": "kpedge.runtime.pipeline",
    "pose": "kpedge.runtime.pose",
    "smoothing": "kpedge.runtime.smoothing",
    "tracker": "kpedge.runtime.tracker",
    "tracks": "kpedge.runtime.tracks",
}
FRAMES, RATE = 45, 30.0
"""The clip: `clip_frame`, so many frames at so many a second."""


def constants() -> dict[str, Any]:
    """The constants of Python's modules that the TypeScript files name, and the points that code knows by name."""
    sources = "".join(path.read_text("utf-8") for path in sorted((FOLDER / "src").glob("*.ts")))
    named = set(re.findall(r"\.([A-Z][A-Z_]+)\b", sources))
    found: dict[str, Any] = {
        name: _of_module(importlib.import_module(module), named) for name, module in MODULES.items()
    }
    found["smoothing"]["DEFAULT_SMOOTHING"] = {one: getattr(Smoothing(), one) for one in Smoothing.__slots__}
    found["joint"]["LARGEST_LOGIT"] = logit(1.0)
    found["features"] |= {"NAMES": list(Features.__slots__), "EYES": EYES.tolist()}
    found["schemes"] = {
        "FACES21": list(FACES21.points),
        "FACES21_MEAN": FACES21_MEAN.tolist(),
        "FACES21_MIRROR": [list(pair) for pair in FACES21.mirror],
    }
    return found


def _of_module(module: Any, named: set[str]) -> dict[str, Any]:
    plain = {}
    for name in sorted(named & vars(module).keys()):
        with contextlib.suppress(TypeError):  # arrays
            plain[name] = json.loads(json.dumps(vars(module)[name], allow_nan=False))
    return plain


def clip_frame(photo: np.ndarray, number: int) -> np.ndarray:
    """A frame of 640 x 360: the photo at half size and its mirror image, which move by whole pixels and enter late."""
    small = photo[::2, ::2]
    height, width = small.shape[:2]
    frame = np.full((360, 640, 3), 96, np.uint8)
    frame[40 : 40 + height, 20 + 2 * number : 20 + 2 * number + width] = small
    if number >= 8:
        left, top = 360 - number, 20 + number
        frame[top : top + height, left : left + width] = small[:, ::-1]
    return frame


def cases() -> dict[str, Any]:
    """Inputs and Python's answers."""
    photo, rng = read_image(sample_photo()), np.random.default_rng(5)
    return {
        "photo": {"size": list(photo.shape[1::-1]), "sum": int(photo.sum())},
        "crops": [_crop_case(photo, *one) for one in CROPS],
        "resizes": [_resize_case(photo, side) for side in (512, 256, 320, 173, 700)],
        "boxes": [_box_case(scheme_named(name), rng) for name in BUILT_IN],
        "point_boxes": [_point_box_case(name, rng) for name in ("stage1", "stage3")],
        "suppress": _suppress_case(rng),
        "smooth": _smooth_case(rng),
        "poses": [_pose_case(rng) for _ in range(12)],
        "features": [_feature_case(scheme_named(name), rng) for name in BUILT_IN],
        "looks": [_look_case(photo, roll) for roll in (0.0, 0.3)],
        "joint": [_joint_case(*scores) for scores in ((0.2, 0.9), (0.9, 0.001), (0.0, 0.5), (1.0, 1.0))],
        "detect": [_detect_case(photo, quarters) for quarters in range(4)],
        "track": _track_case(photo),
    }


CROPS = (
    ((170.0, 70.0, 280.0, 180.0), 112, 0.25, 0.0, "replicate", "grey"),
    ((170.5, 70.2, 281.3, 181.0), 112, 0.25, 0.4, "replicate", "bgr"),
    ((-40.0, -60.0, 90.0, 80.0), 64, 0.25, -0.7, "black", "bgr"),
    ((0.0, 0.0, 511.0, 511.0), 64, 0.25, 0.1, "replicate", "grey"),
    ((10.0, 20.0, 490.0, 500.0), 80, 0.0, 0.0, "black", "bgr"),
)


def _crop_case(photo: Any, box: Any, size: int, widen: float, roll: float, border: str, colour: str) -> dict[str, Any]:
    from kpedge.core.boxes import rotated_box

    transform = crop_transform(rotated_box(np.array(box), roll), size, CropRule(widen, border), roll=roll)
    pixels = crop(photo, transform, size, border=border, colour=colour)
    case = {"box": box, "size": size, "widen": widen, "roll": roll, "border": border, "colour": colour}
    return case | {"transform": np.ravel(transform).tolist(), "pixels": _sample(pixels)}


def _resize_case(photo: Any, side: int) -> dict[str, Any]:
    pixels, zoom = resize_to(photo, side)
    return {"side": side, "size": list(pixels.shape[1::-1]), "zoom": zoom.tolist(), "pixels": _sample(pixels)}


def _sample(pixels: np.ndarray) -> list[int]:
    """Every 97th value."""
    return np.ravel(pixels)[::97].tolist()


def _face(rng: np.random.Generator, side: float = 100.0) -> np.ndarray:
    """Points of faces21 as a face may have them, pixels."""
    roll = rng.uniform(-0.6, 0.6)
    turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    points = (FACES21_MEAN + rng.normal(0, 0.02, FACES21_MEAN.shape)) * (rng.uniform(0.6, 1), 1)
    return np.asarray(points @ turn * side + rng.uniform(100, 500, 2))


def _box_case(scheme: KeypointScheme, rng: np.random.Generator) -> dict[str, Any]:
    points = rng.uniform(50, 150, (len(scheme), 2))
    data = {key: value for key, value in scheme.to_dict().items() if key != "skeleton"}
    return {"scheme": data, "points": points.tolist(), "box": box_of_points(points, scheme).tolist()}


def _point_box_case(name: str, rng: np.random.Generator) -> dict[str, Any]:
    card: Any = OnnxModel(resolve_model(name)).card
    boxes, points = PointBoxes(card), np.stack([_face(rng) for _ in range(3)])
    found, rolls = boxes(points)
    return {"model": name, "points": points.tolist(), "boxes": found.tolist(), "rolls": rolls}


def _suppress_case(rng: np.random.Generator) -> dict[str, Any]:
    low = rng.uniform(0, 60, (40, 2))
    boxes, scores = np.concatenate([low, low + rng.uniform(20, 60, (40, 2))], axis=1), rng.uniform(0.1, 1, 40)
    kept = suppress(boxes, scores, 0.45)
    return {"boxes": boxes.tolist(), "scores": scores.tolist(), "most": 0.45, "kept": scores[kept].tolist()}


def _smooth_case(rng: np.random.Generator) -> dict[str, Any]:
    points, times, shown = _face(rng), [0.033, 0.04, 0.0, 0.2, 0.9, 0.033, 0.033], []
    state = SmoothState.start(points[None])
    for step in times:
        moved = points + rng.normal(0, 2, points.shape) + rng.uniform(-10, 10, 2)
        smoothed, state = smooth(state, moved[None], np.array([100.0]), step, Smoothing())
        ahead = state.predict(0.033)[0]
        shown.append({"dt": step, "points": moved.tolist(), "smoothed": smoothed[0].tolist(), "ahead": ahead.tolist()})
    return {"start": points.tolist(), "steps": shown}


def _pose_case(rng: np.random.Generator) -> dict[str, Any]:
    points = _face(rng)
    (pose,) = head_poses(points[None], FACES21, (640, 480))
    assert pose is not None
    return {"points": points.tolist(), "size": [640, 480], "pose": [pose.yaw, pose.pitch, pose.roll]}


def _feature_case(scheme: KeypointScheme, rng: np.random.Generator) -> dict[str, Any]:
    places = {**FEATURE_POINTS, **{name: (0.5, 0.5, 0.5) for name in scheme.points if name not in FEATURE_POINTS}}
    head = np.array([places[name] for name in scheme.points]) + rng.normal(0, 0.02, (len(scheme), 3))
    pose = Pose(*rng.uniform(-30, 30, 3))
    points = (head @ rotation_matrix(pose).T)[:, :2] * 60 + rng.uniform(200, 400, 2)
    features = face_features(points, scheme, pose, (640, 480)).to_dict()
    data = {key: value for key, value in scheme.to_dict().items() if key != "skeleton"}
    return {"scheme": data, "points": points.tolist(), "pose": asdict(pose), "features": features}


def _look_case(photo: Any, roll: float) -> dict[str, Any]:
    box = [178.0, 80.0, 272.0, 174.0]
    return {"box": box, "roll": roll, "look": appearance(photo, np.array(box), roll).tolist()}


def _joint_case(detector: float, keypoints: float) -> dict[str, Any]:
    joint = JointScore(
        detector_sha256="", detector=0.7, keypoints=0.9, error=-1.5, size=-0.3, support=0.6, constant=-5.4
    )
    found = {"score": keypoints, "points": [0.0, 0.0, 20.0, 0.0, 20.0, 20.0, 0.0, 20.0], "errors": [1.0, 2.0, 1.0, 0.5]}
    relative = float(np.mean(found["errors"])) / math.hypot(10, 10)
    score = joint(detector=detector, keypoints=keypoints, error=relative, size=0.25, support=0.4)
    detection = {"box": [40.0, 40.0, 120.0, 120.0], "score": detector, "support": 0.4}
    return {"joint": joint.to_dict(), "detection": detection, "found": found, "longer": 320, "score": score}


def _detect_case(photo: Any, quarters: int) -> dict[str, Any]:
    faces = load()(np.ascontiguousarray(np.rot90(photo, -quarters)))
    return {"quarters": quarters, "faces": [face.to_dict() for face in faces]}


def _track_case(photo: Any) -> dict[str, Any]:
    tracker, shown = FaceTracker(), []
    for number in range(FRAMES):
        faces = tracker(clip_frame(photo, number), number / RATE)
        shown.append([face.to_dict() | {"errors": None} for face in faces])
    return {"rate": RATE, "frames": shown}


def _rounded(value: Any) -> Any:
    """Floats with twelve digits: beyond, processors differ."""
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


FILES = {FOLDER / "src" / "constants.json": constants, FOLDER / "tests" / "cases.json": cases}
"""The files, and what makes their content."""

if __name__ == "__main__":
    for path, make in FILES.items():
        write_text(path, json.dumps(_rounded(make()), separators=(",", ":")) + "\n")
