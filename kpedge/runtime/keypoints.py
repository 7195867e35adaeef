"""From a picture and boxes to keypoints: preprocess, run, postprocess."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kpedge.card import ModelCard
from kpedge.errors import DataError
from kpedge.faces import Face
from kpedge.geometry import (
    Image,
    Transform,
    as_box,
    box_overlaps_image,
    crop,
    crop_transform,
    fractions_to_pixels,
    invert,
    transform_points,
)


class CropModel(Protocol):
    """A model in any format: a card, and a call that takes crops."""

    @property
    def card(self) -> ModelCard:
        """What the model expects and promises."""
        ...

    def __call__(self, crops: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Crops, uint8 (N, H, W, C), to keypoints, float32 (N, K, 2), fractions of the crop."""
        ...


class KeypointPredictor:
    """Finds the keypoints of faces whose boxes are known.

    Attributes:
        model: what computes; its card says how crops are cut.
    """

    def __init__(self, model: CropModel) -> None:
        self.model = model

    def __call__(self, image: Image, boxes: Sequence[ArrayLike]) -> tuple[Face, ...]:
        """Faces for boxes.

        Args:
            image: uint8 (H, W, 3), blue-green-red.
            boxes: each x1 y1 x2 y2, pixels of the image.

        Raises:
            DataError: a box is not one, or lies outside the image.
        """
        if not len(boxes):
            return ()
        checked = np.array([as_box(box) for box in boxes])
        height, width = image.shape[:2]
        for box in checked:
            if not box_overlaps_image(box, width, height):
                text = ",".join(f"{value:g}" for value in box)
                raise DataError(f"box {text} lies outside the image of {width}x{height}")
        crops, transforms = self.preprocess(image, checked)
        return self.postprocess(self.model(crops), checked, transforms)

    def preprocess(self, image: Image, boxes: NDArray[np.float64]) -> tuple[NDArray[np.uint8], list[Transform]]:
        """The crops of boxes (N, 4), uint8 (N, H, W, C), and the transforms that cut them."""
        card = self.model.card
        transforms = [crop_transform(box, card.size, card.crop) for box in boxes]
        crops = [crop(image, way, card.size, border=card.crop.border, colour=card.colour) for way in transforms]
        return np.stack(crops), transforms

    def postprocess(
        self, fractions: NDArray[np.floating[Any]], boxes: NDArray[np.float64], transforms: Sequence[Transform]
    ) -> tuple[Face, ...]:
        """Keypoints (N, K, 2), fractions of the crops, as faces in pixels of the image."""
        size = self.model.card.size
        faces = []
        for points, box, way in zip(fractions, boxes, transforms, strict=True):
            pixels = fractions_to_pixels(points.astype(np.float64), size)
            faces.append(Face(box=box, keypoints=transform_points(invert(way), pixels)))
        return tuple(faces)
