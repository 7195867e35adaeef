"""Faces to measure a model on, and the measurement, whatever the model's file format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kpedge.datasets.packed import PreparedSet
from kpedge.datasets.sampling import CropSampler
from kpedge.errors import DataError
from kpedge.geometry import CropRule, crop_square
from kpedge.training.metrics import KeypointAccuracy, KeypointTruth, measure

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Crops, uint8 (N, H, W, C), to keypoints, float32 (N, K, 2), fractions of the crop."""


@dataclass(frozen=True, slots=True, eq=False)
class TestFaces:
    """Undisturbed crops of labelled faces.

    Attributes:
        crops: uint8 (N, H, W, C).
        truth: their labels.
        where: for each face the photo it comes from.
    """

    __test__ = False  # not a test case, whatever pytest makes of the name

    crops: NDArray[np.uint8]
    truth: KeypointTruth
    where: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.crops)


def faces_of_split(source: PreparedSet, split: str, size: int, colour: str, rule: CropRule) -> TestFaces:
    """The faces of a split of a prepared set, cropped as a model expects them.

    Raises:
        DataError: there is no such split, or it has no face.
    """
    indices = source.indices(split)
    if not len(indices):
        raise DataError(f"{source.path}: the {split} split has no face")
    crops, keypoints = CropSampler(source, size, colour, rule).batch(indices)
    boxes = source.boxes[indices]
    sides = np.array([crop_square(box, rule)[2] for box in boxes])
    where = tuple(source.photos[photo] for photo in source.photo[indices])
    return TestFaces(crops, KeypointTruth(keypoints, sides, boxes, source.scheme), where)


def predict_all(predict: Predict, crops: NDArray[np.uint8], batch_size: int = 64) -> NDArray[np.float32]:
    """Run a model over many crops, some at a time."""
    parts = [predict(crops[start : start + batch_size]) for start in range(0, len(crops), batch_size)]
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A model measured on some faces.

    Attributes:
        predicted: keypoints, float32 (N, K, 2), fractions of the crop.
        accuracy: how far they are from the labels.
        mean_face: the same for the mean face, which any model has to beat.
    """

    predicted: NDArray[np.float32]
    accuracy: KeypointAccuracy
    mean_face: KeypointAccuracy


def evaluate(predict: Predict, faces: TestFaces, mean_shape: NDArray[np.float64]) -> Evaluation:
    """Measure a model, and the mean face (K, 2) beside it, on some faces."""
    predicted = predict_all(predict, faces.crops)
    mean_face = np.broadcast_to(mean_shape, faces.truth.keypoints.shape)
    return Evaluation(predicted, measure(predicted, faces.truth), measure(mean_face, faces.truth))
