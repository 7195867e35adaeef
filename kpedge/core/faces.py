"""Results: frozen types for what models find in an image, their JSON form, and what one does with them next."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import UsageError
from kpedge.core.geometry import Image, crop, similarity
from kpedge.core.keypoints import FACES5, conversion
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import check_whole

Floats = NDArray[np.float64]

NO_FACE = "this box shows no face, so it has no keypoints"
DECIMALS = 3  # digits behind the point in JSON: a thousandth of a pixel, below what any model resolves
ALIGNED = (
    np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]) + 0.5
) / 112
"""Where an aligned crop shows pupils, nose tip and mouth corners, fractions of its side: the template
of 112 pixels that ArcFace (Deng et al. 2019) and most face recognition networks after it were trained with.
"""
LARGEST_CROP = 8192  # side, pixels


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """A face that a detector found.

    Attributes:
        box: float64 (4,), x1 y1 x2 y2 in pixels of the input image; it may reach beyond its edges.
        score: from 0 to 1.
        points: float64 (5, 2), x y in pixels of the input image: both eyes, nose tip, both mouth corners.
        support: the scores of all boxes of the detector that show the same face, added up and divided by the number of
            sizes in which the image was searched: one box alone is more often a mistake.
    """

    box: Floats
    score: float
    points: Floats
    support: float


@dataclass(frozen=True, slots=True)
class Pose:
    """Head pose in degrees, for a camera that looks straight at the face (docs/coordinates.md).

    Attributes:
        yaw: positive when the face looks towards the image's right.
        pitch: positive when it looks up.
        roll: positive when the image's right eye is lower.
    """

    yaw: float
    pitch: float
    roll: float

    def to_dict(self) -> dict[str, float]:
        """The pose as plain JSON types."""
        return {name: round(value, 2) for name, value in asdict(self).items()}


def rotation_matrix(pose: Pose) -> Floats:
    """Rz(roll) Ry(-yaw) Rx(-pitch), (3, 3), which takes the head's axes to the camera's (docs/coordinates.md)."""
    a, b, c = (math.radians(angle) for angle in (-pose.pitch, -pose.yaw, pose.roll))
    about_x = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    about_y = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    about_z = np.array([[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


@dataclass(frozen=True, slots=True)
class Features:
    """Numbers that follow from a face's points (docs/coordinates.md). None where the scheme lacks the points for it.
    Left and right are the image's. Lengths are in distances between the eyes.

    Attributes:
        eye_open_left, eye_open_right: distance between the lids over the width of the eye: 0 closed, about 0.3 open.
        mouth_open: gap between the lips; 0 closed.
        mouth_width: distance between the corners of the mouth; about 0.8 at rest.
        smile: 0 neutral, 1 a broad smile, below 0 a frown.
        brow_raise_left, brow_raise_right: height of the brow over that of a usual face at rest.
        gaze_yaw, gaze_pitch: direction of the pupils relative to the head, degrees: positive to the image's right, up.
        x_mm, y_mm, z_mm: the middle between the eyes, mm from the camera: to the image's right, down, away.
    """

    eye_open_left: float | None = None
    eye_open_right: float | None = None
    mouth_open: float | None = None
    mouth_width: float | None = None
    smile: float | None = None
    brow_raise_left: float | None = None
    brow_raise_right: float | None = None
    gaze_yaw: float | None = None
    gaze_pitch: float | None = None
    x_mm: float | None = None
    y_mm: float | None = None
    z_mm: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """The features as plain JSON types."""
        return {name: None if value is None else round(value, DECIMALS) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Face:
    """One face. `face["nose_tip"]` is a keypoint by name.

    Attributes:
        box: float64 (4,), x1 y1 x2 y2 in pixels of the input image.
        keypoints: float64 (K, 2), x y in pixels of the input image; they may lie beyond its edges. (0, 2) if the model
            finds that this is not a face.
        score: the probability that this is a face, 0 to 1; None if neither the model nor the pair that found it has a
            face score.
        expected_errors: float64 (K,), expected distance of each point from its true place, pixels of the input image;
            None if the model does not estimate it.
        id: number of the person in a video, from 1, the same from frame to frame; None in a photo.
        pose: head pose; None if it was not requested or the model has too few points for it.
        scheme: names of the keypoints, mirror pairs and skeleton.
        features: numbers that follow from the points; None if they were not requested.
    """

    box: Floats
    keypoints: Floats
    score: float | None = None
    expected_errors: Floats | None = None
    id: int | None = None
    pose: Pose | None = None
    scheme: KeypointScheme | None = None
    features: Features | None = None

    def __getitem__(self, name: str) -> Floats:
        """A keypoint by its name in the scheme, or one that follows from several (docs/schemes.md): float64 (2,).

        Raises:
            UsageError: there is no such keypoint.
        """
        scheme = self._scheme()
        if name in scheme.points and len(self.keypoints):
            return np.asarray(self.keypoints[scheme.points.index(name)])
        if name in scheme.derived and len(self.keypoints):
            return np.asarray(self.keypoints[list(scheme.derived[name])].mean(axis=0))
        if not len(self.keypoints):
            raise UsageError(NO_FACE, "check len(face.keypoints) first")
        raise UsageError(f"{scheme.name} has no keypoint {name!r}", f"its names: {', '.join(scheme.points)}")

    def __contains__(self, name: object) -> bool:
        """Whether there is a keypoint of that name."""
        scheme = self._scheme()
        return len(self.keypoints) > 0 and (name in scheme.points or name in scheme.derived)

    def __repr__(self) -> str:
        x1, y1, x2, y2 = (round(value) for value in np.asarray(self.box).tolist())
        parts = [f"box=({x1}, {y1}, {x2}, {y2})", f"{len(self.keypoints)} keypoints"]
        parts += [] if self.score is None else [f"score={self.score:.2f}"]
        parts += [] if self.id is None else [f"id={self.id}"]
        if self.pose is not None:
            parts.append(f"yaw={round(self.pose.yaw)} pitch={round(self.pose.pitch)} roll={round(self.pose.roll)}")
        return f"<Face {', '.join(parts)}>"

    def draw(self, image: NDArray[Any], *, box: bool = True, points: bool = True, label: bool = True) -> Image:
        """Draw the face into an image, uint8 (H, W, 3), which is changed and returned.

        Raises:
            UsageError: it is no such image, or it is read-only.
        """
        from kpedge.core.drawing import draw_face

        _check_image(image)
        if not image.flags.writeable:
            raise UsageError("the image is read-only", "draw into a copy: face.draw(image.copy())")
        canvas = np.ascontiguousarray(image)  # OpenCV draws into no other, as a flipped view is
        draw_face(canvas, self, self._scheme(), box=box, points=points, label=label)
        if canvas is not image:
            image[...] = canvas
        return image

    def aligned_crop(self, image: NDArray[Any], size: int = 112) -> Image:
        """The face as face recognition networks expect it: rotated, scaled and moved so that pupils, nose tip and mouth
        corners come as near as possible to the template `ALIGNED` (least squares).

        Args:
            image: in which the face was found, uint8 (H, W, 3).
            size: side of the crop, pixels.

        Returns:
            uint8 (size, size, 3), in the colour order of the image.

        Raises:
            UsageError: the five points do not follow from the scheme, this box shows no face, it is no such image, or
                the size is not a whole number of pixels.
        """
        _check_image(image)
        check_whole("size", size, 1, LARGEST_CROP)
        scheme = self._scheme()
        to_five = conversion(scheme, FACES5)
        if not len(self.keypoints):
            raise UsageError(NO_FACE, "check len(face.keypoints) first")
        if not to_five.is_whole:
            raise UsageError(f"no aligned crop: pupils, nose tip and mouth corners do not follow from {scheme.name}")
        return crop(image, similarity(to_five(self.keypoints), ALIGNED * size - 0.5), size, border="black")

    def to_dict(self) -> dict[str, Any]:
        """The face as plain JSON types."""
        return {
            **({} if self.id is None else {"id": self.id}),
            "box": np.round(self.box, DECIMALS).tolist(),
            "score": None if self.score is None else round(self.score, DECIMALS),
            "keypoints": np.round(self.keypoints, DECIMALS).tolist(),
            **({} if self.expected_errors is None else {"errors": np.round(self.expected_errors, DECIMALS).tolist()}),
            **({} if self.pose is None else {"pose": self.pose.to_dict()}),
            **({} if self.features is None else {"features": self.features.to_dict()}),
        }

    def _scheme(self) -> KeypointScheme:
        if self.scheme is None:
            raise UsageError("this face does not know the names of its keypoints", "create it with scheme=…")
        return self.scheme


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ImageFaces(Sequence[Face]):
    """All faces of an image: a sequence of `Face`. A notebook shows it as the annotated image.

    Attributes:
        image: its path, as it was given; empty if it was given as pixels.
        faces: by falling score of the detector.
        size: width and height, pixels.
        scheme: name of the keypoint scheme.
        names: of the keypoints, in their order, if they are part of `to_dict`.
        pixels: the image, uint8 (H, W, 3), blue-green-red; None if it was not kept.
    """

    image: str
    faces: tuple[Face, ...]
    size: tuple[int, int]
    scheme: str
    names: tuple[str, ...] | None = None
    pixels: Image | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"<ImageFaces {self.image or 'of an array'}, {self.size[0]}x{self.size[1]}: {list(self.faces)}>"

    def __len__(self) -> int:
        return len(self.faces)

    def __iter__(self) -> Iterator[Face]:
        return iter(self.faces)

    @overload
    def __getitem__(self, index: int) -> Face: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Face]: ...
    def __getitem__(self, index: int | slice) -> Face | Sequence[Face]:
        return self.faces[index]

    def draw(self, image: NDArray[Any] | None = None) -> Image:
        """A copy of an image with all faces drawn, uint8 (H, W, 3); by default of the image that they were found in.

        Raises:
            UsageError: the image was not kept, and none is given; or what is given is no such image.
        """
        from kpedge.core.drawing import draw_labels

        pixels = self.pixels if image is None else image
        if pixels is None:
            image_of = f"kpedge.read_image({self.image!r})" if self.image else "image"
            raise UsageError("the image was not kept", f"draw with faces.draw({image_of})")
        _check_image(pixels)
        annotated = pixels.copy()
        for face in self.faces:
            face.draw(annotated, label=False)
        draw_labels(annotated, self.faces)
        return annotated

    def _repr_png_(self) -> bytes | None:
        if self.pixels is None:
            return None
        import cv2

        return bytes(cv2.imencode(".png", self.draw())[1])

    def to_dict(self) -> dict[str, Any]:
        """The document that `kpedge predict` prints, one per line."""
        return {
            "image": self.image,
            "size": list(self.size),
            "scheme": self.scheme,
            **({} if self.names is None else {"names": list(self.names)}),
            "faces": [face.to_dict() for face in self.faces],
        }


def _check_image(image: object) -> None:
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim in (2, 3) and image.size) or (
        image.shape[2:] not in ((), (1,), (3,), (4,))
    ):
        what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UsageError(
            f"not an image of uint8: {what}",
            "give the array that the face was found in, and then options",
        )
