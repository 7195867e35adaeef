"""What a model says of a picture: frozen result types, and their JSON form."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DECIMALS = 3
"""Digits behind the point in JSON: a thousandth of a pixel, below what any model resolves."""


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """A face that a detector found.

    Attributes:
        box: float64 (4,), x1 y1 x2 y2 in pixels of the input image; it may reach beyond its edges.
        score: from 0 to 1.
        points: float64 (5, 2), x y in pixels of the input image: both eyes, nose tip, both mouth corners.
    """

    box: NDArray[np.float64]
    score: float
    points: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pose:
    """How a head is turned, degrees, for a camera that looks straight at it (docs/coordinates.md).

    Attributes:
        yaw: positive when the face looks towards the picture's right.
        pitch: positive when it looks up.
        roll: positive when the picture's right eye hangs lower.
    """

    yaw: float
    pitch: float
    roll: float

    def to_dict(self) -> dict[str, float]:
        """The pose as plain JSON types."""
        return {name: round(value, 2) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face.

    Attributes:
        box: float64 (4,), x1 y1 x2 y2 in pixels of the input image.
        keypoints: float64 (K, 2), x y in pixels of the input image; they may lie beyond its edges. (0, 2) where the
            model finds that there is no face.
        score: the probability that this is a face, 0 to 1; None where the model does not say.
        errors: float64 (K,), how far each point is expected to be off, pixels of the input image; None where the model
            does not say.
        id: number of the person in a video, from 1, the same from frame to frame; None in a photo.
        pose: how the head is turned; None where it was not asked for, or the model has too few points for it.
    """

    box: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    score: float | None = None
    errors: NDArray[np.float64] | None = None
    id: int | None = None
    pose: Pose | None = None

    def to_dict(self) -> dict[str, Any]:
        """The face as plain JSON types."""
        return {
            **({} if self.id is None else {"id": self.id}),
            "box": np.round(self.box, DECIMALS).tolist(),
            "score": None if self.score is None else round(self.score, DECIMALS),
            "keypoints": np.round(self.keypoints, DECIMALS).tolist(),
            **({} if self.errors is None else {"errors": np.round(self.errors, DECIMALS).tolist()}),
            **({} if self.pose is None else {"pose": self.pose.to_dict()}),
        }


@dataclass(frozen=True, slots=True, eq=False)
class ImageFaces:
    """All faces of an image.

    Attributes:
        image: its path, as it was given.
        faces: in the order of the boxes.
        size: width and height, pixels.
        scheme: name of the keypoint scheme.
        names: of the keypoints, in their order; None to leave them out.
    """

    image: str
    faces: tuple[Face, ...]
    size: tuple[int, int]
    scheme: str
    names: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The document that `kpedge predict` prints, one per line."""
        return {
            "image": self.image,
            "size": list(self.size),
            "scheme": self.scheme,
            **({} if self.names is None else {"names": list(self.names)}),
            "faces": [face.to_dict() for face in self.faces],
        }
