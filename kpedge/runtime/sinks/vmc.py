"""The largest face as Virtual Motion Capture messages, for avatars (VSeeFace, VNyan, Warudo, Unity).

The protocol is https://protocol.vmc.info/english. Bones are in Unity's frame, left-handed and of the avatar: x to its
right, y up, z forwards. That is the camera's frame with all axes reversed, in which a rotation has the same matrix.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from kpedge.core.faces import Face, rotation_matrix
from kpedge.core.geometry import box_size
from kpedge.runtime.features import EYE_OPEN
from kpedge.runtime.sinks.osc import OscSink
from kpedge.runtime.sinks.sink import LiveFrame

MOUTH_WIDE_OPEN, BROW_RAISED = 0.4, 0.12  # features at which a blend shape is at its end


class VmcSink(OscSink):
    """Sends head rotation and blend shapes of the largest face, those of VRM and of ARKit ("perfect sync")."""

    def messages(self, live: LiveFrame) -> Iterator[tuple[str, list[Any]]]:
        """The addresses and values of a frame; without a face only that the program runs."""
        yield "/VMC/Ext/OK", [1]
        yield "/VMC/Ext/T", [float(live.frame.time_s)]
        faces = [face for face in live.faces if face.pose is not None]
        if not faces:
            return
        face = max(faces, key=lambda face: float(box_size(face.box)))
        assert face.pose is not None  # noqa: S101 -- for the type checker
        yield "/VMC/Ext/Bone/Pos", ["Head", 0.0, 0.0, 0.0, *quaternion(rotation_matrix(face.pose))]
        for name, value in blend_shapes(face).items():
            yield "/VMC/Ext/Blend/Val", [name, float(min(max(value, 0.0), 1.0))]
        yield "/VMC/Ext/Blend/Apply", []


def blend_shapes(face: Face) -> dict[str, float]:
    """Name of a blend shape -> its weight, not yet limited to 0 to 1. Left is the person's, so the image's right."""
    shapes: dict[str, float] = {}
    features = face.features
    if features is None:
        return shapes
    if features.mouth_open is not None:
        shapes["A"] = shapes["jawOpen"] = features.mouth_open / MOUTH_WIDE_OPEN
    if features.smile is not None:
        shapes["Joy"] = shapes["mouthSmileLeft"] = shapes["mouthSmileRight"] = features.smile
    for side, brow, eye in (
        ("Left", features.brow_raise_right, features.eye_open_right),
        ("Right", features.brow_raise_left, features.eye_open_left),
    ):
        if brow is not None:
            shapes[f"browOuterUp{side}"] = brow / BROW_RAISED
        if eye is not None:
            shapes[f"Blink_{side[0]}"] = shapes[f"eyeBlink{side}"] = 1 - eye / EYE_OPEN
    return shapes


def quaternion(rotation: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    """The unit quaternion x y z w of a rotation (3, 3) by less than 180 degrees."""
    w = math.sqrt(max(1e-12, 1 + float(np.trace(rotation)))) / 2
    skew = rotation - rotation.T
    return [float(skew[2, 1]) / (4 * w), float(skew[0, 2]) / (4 * w), float(skew[1, 0]) / (4 * w), w]
