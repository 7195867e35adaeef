"""`kpedge.load`: detector and keypoint model as one object, for images as people have them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike

from kpedge.core.errors import UsageError
from kpedge.core.faces import Face, ImageFaces
from kpedge.core.model_zoo import ANY, DEFAULT_DETECTOR, DEFAULT_MODEL, licensed
from kpedge.core.scheme import KeypointScheme
from kpedge.runtime.features import add_features, add_poses
from kpedge.runtime.inputs import to_image
from kpedge.runtime.pipeline import FacePipeline
from kpedge.runtime.registry import AUTO

if TYPE_CHECKING:
    from kpedge.runtime.sources.source import Frame, Source


class FaceModel:
    """Finds faces, their keypoints and head poses in images. Made by `kpedge.load`.

    Attributes:
        pipeline: detector and keypoint model.
        scheme: names of the keypoints, mirror pairs and skeleton.
        pose: whether head poses are estimated.
        features: whether features are, too.
        focal: the camera's focal length, pixels; None for a usual one.
    """

    def __init__(
        self, pipeline: FacePipeline, *, pose: bool = True, features: bool = False, focal: float | None = None
    ) -> None:
        self.pipeline = pipeline
        self.pose, self.features, self.focal = pose, features, focal
        self.scheme: KeypointScheme = pipeline.predictor.model.card.scheme

    def __repr__(self) -> str:
        keypoints, detector = self.pipeline.predictor.model.card, self.pipeline.detector.model.card
        return f"<FaceModel {keypoints.name} ({len(self.scheme)} keypoints, {self.scheme.name}) with {detector.name}>"

    @overload
    def __call__(self, image: list[Any] | tuple[Any, ...], *, colour: str = "bgr") -> list[ImageFaces]: ...
    @overload
    def __call__(self, image: Any, *, colour: str = "bgr", boxes: Iterable[ArrayLike] | None = None) -> ImageFaces: ...
    def __call__(
        self, image: Any, *, colour: str = "bgr", boxes: Iterable[ArrayLike] | None = None
    ) -> ImageFaces | list[ImageFaces]:
        """The faces of an image, or of each of a list of images, of which only arrays are kept as `ImageFaces.pixels`.

        Args:
            image: a path, the content of an image file as bytes, a PIL image, an array (H, W), (H, W, 3) or (H, W, 4)
                of uint8, or a list of these.
            colour: order of an array's channels: "bgr", as OpenCV reads images, or "rgb".
            boxes: boxes of one image's faces, each x1 y1 x2 y2 in its pixels, as any detector gives them; None to
                detect faces. Each gives a face in their order, without keypoints if it shows none.

        Raises:
            DataError: a box is not one, or lies outside the image.
            ImageError: a file cannot be read.
            UsageError: something that is no image; the message says how to convert it.
        """
        if not isinstance(image, list | tuple):
            return self._find(image, colour, boxes)
        if boxes is not None:
            raise UsageError("boxes are those of one image, but a list of images is given", "pass one image at a time")
        return [self._find(one, colour, keep_files=False) for one in image]

    def _find(
        self, given: Any, colour: str, boxes: Iterable[ArrayLike] | None = None, *, keep_files: bool = True
    ) -> ImageFaces:
        image = to_image(given, colour)
        boxes = None if boxes is None else list(boxes)
        if boxes and (np.isscalar(boxes[0]) or getattr(boxes[0], "ndim", 1) == 0):
            raise UsageError("boxes is a single box, not a list of boxes", "put it into a list: boxes=[box]")
        faces: Sequence[Face] = self.pipeline(image) if boxes is None else self.pipeline.in_boxes(image, boxes)
        size = (image.shape[1], image.shape[0])
        if self.pose:
            faces = add_poses(faces, self.scheme, size, focal=self.focal)
        if self.features:
            faces = add_features(faces, self.scheme, size, focal=self.focal)
        name = os.fsdecode(given) if isinstance(given, str | os.PathLike) else ""
        pixels = image if keep_files or isinstance(given, np.ndarray) else None
        return ImageFaces(name, tuple(faces), size, self.scheme.name, pixels=pixels)

    def track(
        self, source: int | str | Path | Source, *, realtime: bool = False
    ) -> Iterator[tuple[Frame, tuple[Face, ...]]]:
        """Track the faces of a video, camera or stream with these models: see `kpedge.track`."""
        from kpedge.runtime.tracker import SIDE, FaceTracker
        from kpedge.runtime.video import track

        keypoints, detector = self.pipeline.predictor.model, self.pipeline.detector.model
        side, threshold = self.pipeline.max_side or SIDE, self.pipeline.threshold
        tracker = FaceTracker(keypoints, detector, max_side=side, threshold=threshold, pose=self.pose)
        return track(source, tracker, realtime=realtime, features=self.features, focal=self.focal)


def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    detector: str | Path = DEFAULT_DETECTOR,
    max_side: int | None = None,
    threshold: float | None = None,
    threads: int = 1,
    provider: str = "cpu",
    backend: str = AUTO,
    pose: bool = True,
    features: bool = False,
    focal: float | None = None,
    rotations: bool = True,
    flip_test: bool = False,
    licence: str = ANY,
) -> FaceModel:
    """Load a keypoint model and a detector. The arguments are those of `kpedge predict`.

    Args:
        model: a released name ("stage3", "stage3-68", "stage3-synthetic", "stage2", "stage1"), or a file of
            `kpedge export`.
        detector: the same for the detector.
        max_side: longer side, pixels, at which images are searched for faces; None for the detector's own.
        threshold: lowest score at which a box counts as a face; None for the model's own.
        threads: CPU threads of each model.
        provider: onnxruntime's execution provider, as "cpu" or "cuda".
        backend: what runs the models; "auto" decides by their files.
        pose: estimate head poses.
        features: compute `Face.features`, and poses for them.
        focal: the camera's focal length, pixels; None for that of an image whose longer side spans 60 degrees.
        rotations: search images without a face again, rotated by 90, 180 and 270 degrees.
        flip_test: average each crop with its mirror image: more exact keypoints, twice the time of a face.
        licence: "free" takes the released models that were trained on rendered photos alone, which anybody may use.

    Raises:
        ModelError: there is no such model, or it cannot be used.
        UsageError: an argument makes no sense.

    Example:
        >>> import kpedge
        >>> from kpedge.core.model_zoo import sample_photo
        >>> faces = kpedge.load("stage3")(sample_photo())
        >>> len(faces), faces[0]["nose_tip"].round().tolist()
        (1, [225.0, 125.0])
    """
    return FaceModel(
        FacePipeline(
            licensed(model, licence),
            licensed(detector, licence),
            max_side=max_side,
            threshold=threshold,
            threads=threads,
            provider=provider,
            backend=backend,
            rotations=rotations,
            flip_test=flip_test,
        ),
        pose=pose,
        features=features,
        focal=focal,
    )
