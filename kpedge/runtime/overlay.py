"""Faces drawn over a frame, to be looked at while it runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.drawing import BLACK, Colour, draw_dots, draw_face, draw_labels, draw_lines, pens
from kpedge.core.faces import Face, Pose, rotation_matrix
from kpedge.core.geometry import Image, box_size
from kpedge.core.scheme import KeypointScheme

AXES: tuple[Colour, ...] = ((70, 70, 255), (90, 230, 90), (255, 150, 70))
"""Colours of a head's axes, blue-green-red: across to the image's right, up, and out of the face."""
AXIS = 0.45  # length of an axis, in sides of the face's box


@dataclass(frozen=True, slots=True)
class Layers:
    """What of the faces is drawn."""

    boxes: bool = True  # the box
    points: bool = True  # keypoints and the lines between them
    ids: bool = True  # number of the person, and the score
    pose: bool = False  # the head's axes
    mirror: bool = False  # the image as a mirror shows it


def draw_overlay(image: Image, faces: Sequence[Face], scheme: KeypointScheme, layers: Layers) -> Image:
    """A copy of a frame, uint8 (H, W, 3), with its faces drawn over it. In a mirrored image text can still be read."""
    if layers.mirror:
        drawn = np.asarray(cv2.flip(image, 1), dtype=np.uint8)
        faces = [mirrored(face, image.shape[1]) for face in faces]
    else:
        drawn = np.array(image)
    for face in faces:
        draw_face(drawn, face, scheme, box=layers.boxes, points=layers.points, label=False)
    if layers.pose:
        for face in faces:
            draw_pose(drawn, face, scheme)
    if layers.ids:
        draw_labels(drawn, faces)
    return drawn


def mirrored(face: Face, width: int) -> Face:
    """A face in a mirrored image of this width, as it is drawn: every point keeps its index, so each lies on the
    feature that it lay on, but is named for the other side.
    """
    x1, y1, x2, y2 = face.box.tolist()
    turned = None if face.pose is None else Pose(yaw=-face.pose.yaw, pitch=face.pose.pitch, roll=-face.pose.roll)
    return replace(
        face,
        box=np.array([width - 1 - x2, y1, width - 1 - x1, y2]),
        keypoints=face.keypoints * (-1, 1) + (width - 1, 0),
        pose=turned,
    )


def pose_axes(pose: Pose) -> NDArray[np.float64]:
    """Where a head's axes point: across to the image's right, up, and out of the face.

    Returns:
        float64 (3, 3), an axis a row: x to the image's right, y down, z into the image; each has length 1.
    """
    return np.asarray((rotation_matrix(pose) @ np.diag([1.0, -1.0, -1.0])).T)


def draw_pose(image: Image, face: Face, scheme: KeypointScheme) -> None:
    """Draw a head's axes from the tip of its nose, else from the mean of its keypoints, into an image: red to the
    image's right, green up, blue ahead; nothing without a pose.
    """
    if face.pose is None or not len(face.keypoints):
        return
    tip = scheme.points.index("nose_tip") if "nose_tip" in scheme.points else None
    start = face.keypoints.mean(axis=0) if tip is None else face.keypoints[tip]
    if not np.isfinite(start).all():
        return
    size = float(box_size(face.box))
    pen = pens(image, size)
    axes = pose_axes(face.pose)
    width = pen.line + max(1, round(pen.dot / 2))
    for axis in np.argsort(-axes[:, 2]):  # what points away from the camera lies under the rest
        end = start + AXIS * size * axes[axis, :2]
        draw_lines(image, [np.stack([start, end])], [AXES[axis]], width, pen.rim)
        draw_dots(image, end[None], pen.dot * 1.2 + pen.rim, [BLACK])
        draw_dots(image, end[None], pen.dot * 1.2, [AXES[axis]])
