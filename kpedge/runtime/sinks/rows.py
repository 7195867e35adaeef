"""Faces as rows of a table, one per face: for CSV, Parquet and LSL."""

from dataclasses import fields
from typing import Any

from kpedge.core.faces import DECIMALS, Face, Features
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import escape_bytes
from kpedge.runtime.sinks.sink import LiveFrame

FRAME: dict[str, type] = {"image": str, "frame": int, "time_s": float, "width": int, "height": int}
"""Columns of the frame, with their types."""
ANGLES = ("yaw", "pitch", "roll")
FEATURES = tuple(field.name for field in fields(Features))


def face_columns(scheme: KeypointScheme, *, features: bool) -> dict[str, type]:
    """Columns of a face: id, box, score, points by name, pose in degrees, and features."""
    names = ["x1", "y1", "x2", "y2", "score"]
    names += [f"{point}_{axis}" for point in scheme.points for axis in "xy"]
    names += [*ANGLES, *(FEATURES if features else ())]
    return {"id": int, **dict.fromkeys(names, float)}


def face_row(face: Face, count: int, *, features: bool) -> list[Any]:
    """The values of `face_columns` for a face of a scheme of `count` points; None where there is none."""
    points: list[Any] = face.keypoints.reshape(-1).tolist() or [None] * (2 * count)
    angles: list[float | None] = [None] * 3 if face.pose is None else [getattr(face.pose, name) for name in ANGLES]
    found = face.features or Features()
    values = [*face.box.tolist(), face.score, *points, *angles]
    values += [getattr(found, name) for name in FEATURES] if features else []
    return [face.id, *(None if value is None else round(value, DECIMALS) for value in values)]


def frame_rows(live: LiveFrame, *, features: bool) -> list[list[Any]]:
    """The rows of a frame; one with nothing of a face if it shows none, so that no frame is missing."""
    frame, count = live.frame, len(live.scheme)
    height, width = frame.image.shape[:2]
    head: list[Any] = [escape_bytes(frame.name or live.source)]
    head += [None, None] if live.still else [frame.number, round(frame.time_s, 4)]
    head += [width, height]
    empty = [None] * len(face_columns(live.scheme, features=features))
    return [[*head, *face_row(face, count, features=features)] for face in live.faces] or [[*head, *empty]]
