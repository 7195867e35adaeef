"""From a picture and boxes to keypoints: preprocess, run, postprocess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kpedge.core.card import ERROR_NAME, KEYPOINTS_NAME, SCORE_NAME, ModelCard, Outputs
from kpedge.core.errors import DataError, UsageError
from kpedge.core.faces import Face
from kpedge.core.geometry import (
    Image,
    Transform,
    as_box,
    box_overlaps_image,
    crop,
    crop_transform,
    from_complex,
    invert,
    to_complex,
)
from kpedge.runtime.sessions import Model


class CropModel(Protocol):
    """A model in any format: a card, and a call that takes crops."""

    @property
    def card(self) -> ModelCard:
        """What the model expects and promises."""
        ...

    def __call__(self, crops: NDArray[np.uint8], /) -> Outputs:
        """Crops, uint8 (N, H, W, C), to the outputs that the card names."""
        ...


def keypoint_model(model: Model) -> CropModel:
    """A model as one that finds keypoints.

    Raises:
        UsageError: it is a detector.
    """
    if not isinstance(model.card, ModelCard):
        raise UsageError(f"{model.card.name} is a {model.card.task}: it finds no keypoints", "give a stage 1, 2 or 3")
    return cast(CropModel, model)


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """What a keypoint model says of N crops.

    Attributes:
        keypoints: float64 (N, K, 2), pixels of the image.
        scores: float32 (N,), of a face, 0 to 1; None where the model does not say.
        errors: float64 (N, K), how far each point is expected to be off, pixels of the image; None likewise.
    """

    keypoints: NDArray[np.float64]
    scores: NDArray[np.float32] | None
    errors: NDArray[np.float64] | None


class KeypointPredictor:
    """Finds the keypoints of faces whose boxes are known, and tells boxes that show no face.

    Attributes:
        model: what computes; its card says how crops are cut.
        threshold: score from which on a box shows a face; 0 takes every box for one.
    """

    def __init__(self, model: CropModel, *, threshold: float | None = None) -> None:
        """Take a model.

        Args:
            model: in any format.
            threshold: instead of the one that the model's card states.

        Raises:
            UsageError: a threshold is given, but the model has no score, or it lies outside 0 to 1.
        """
        if threshold is not None and not model.card.has_score:
            raise UsageError(f"{model.card.name} has no face score, so no threshold", "use a stage 3")
        if threshold is not None and not 0 <= threshold <= 1:
            raise UsageError(f"the threshold must be from 0 to 1, not {threshold:g}")
        self.model = model
        self.threshold = (model.card.threshold or 0.0) if threshold is None else threshold

    def __call__(
        self, image: Image, boxes: Sequence[ArrayLike], *, rolls: Sequence[float] | None = None
    ) -> tuple[Face, ...]:
        """Faces for boxes.

        Args:
            image: uint8 (H, W, 3), blue-green-red.
            boxes: each x1 y1 x2 y2, pixels of the image.
            rolls: in-plane rotation of each face, radians, which is taken out of its crop; 0 when None.

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
        crops, transforms = self.preprocess(image, checked, rolls)
        return self.postprocess(self.model(crops), checked, transforms)

    def preprocess(
        self, image: Image, boxes: NDArray[np.float64], rolls: Sequence[float] | None = None
    ) -> tuple[NDArray[np.uint8], list[Transform]]:
        """The crops of boxes (N, 4), turned upright, uint8 (N, H, W, C), and the transforms that cut them."""
        card = self.model.card
        turns = [0.0] * len(boxes) if rolls is None else rolls
        transforms = [
            crop_transform(box, card.size, card.crop, roll=roll) for box, roll in zip(boxes, turns, strict=True)
        ]
        crops = [crop(image, way, card.size, border=card.crop.border, colour=card.colour) for way in transforms]
        return np.array(crops), transforms

    def postprocess(
        self, outputs: Outputs, boxes: NDArray[np.float64], transforms: Sequence[Transform]
    ) -> tuple[Face, ...]:
        """A model's outputs for the crops of boxes (N, 4) as faces in pixels of the image."""
        found = self.locate(outputs, transforms)
        faces = []
        for number, box in enumerate(boxes):
            score = None if found.scores is None else float(found.scores[number])
            if score is not None and score < self.threshold:
                faces.append(Face(box=box, keypoints=np.empty((0, 2)), score=score))
                continue
            errors = None if found.errors is None else found.errors[number]
            faces.append(Face(box, found.keypoints[number], score, errors))
        return tuple(faces)

    def locate(self, outputs: Outputs, transforms: Sequence[Transform]) -> Located:
        """A model's outputs for crops in pixels of the image, for all crops at once."""
        size, turns, starts = self.model.card.size, [], []
        for way in transforms:  # they move, turn and zoom: in complex numbers a product and a sum
            (along, _, x), (across, _, y) = invert(way).tolist()
            turns.append(complex(along, across))
            starts.append(complex(x, y))
        turn = np.array(turns)[:, None]
        found = to_complex(outputs[KEYPOINTS_NAME])
        whole = found * size - (0.5 + 0.5j)  # `fractions_to_pixels` of x and y
        keypoints = from_complex(whole * turn + np.array(starts)[:, None])
        errors = None
        if ERROR_NAME in outputs:
            errors = outputs[ERROR_NAME].astype(np.float64) * (size * np.abs(turn))
        return Located(keypoints, outputs.get(SCORE_NAME), errors)
