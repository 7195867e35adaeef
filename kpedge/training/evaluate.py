"""Faces to measure a model on, and the measurement, whatever the model's file format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

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


def disturb_boxes(boxes: NDArray[np.float64], noise: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Boxes (N, 4), each moved along x and y and scaled by up to `noise` of its size, as no two detectors agree."""
    if not noise:
        return boxes
    draws = noise * rng.uniform(-1, 1, (len(boxes), 3))
    extent = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + draws[:, :2] * extent
    half = extent / 2 * (1 + draws[:, 2:])
    return np.concatenate([centre - half, centre + half], axis=1)


def faces_of_split(
    source: PreparedSet, split: str, size: int, colour: str, rule: CropRule, *, box_noise: float = 0.0
) -> TestFaces:
    """The faces of a split of a prepared set, cropped as a model expects them; from disturbed boxes with `box_noise`.

    Raises:
        DataError: there is no such split, or it has no face.
    """
    indices = source.indices(split)
    if not len(indices):
        raise DataError(f"{source.path}: the {split} split has no face")
    shown = replace(source, boxes=disturb_boxes(source.boxes, box_noise, np.random.default_rng(0)))
    crops, keypoints = CropSampler(shown, size, colour, rule).batch(indices)
    sides = np.array([crop_square(box, rule)[2] for box in shown.boxes[indices]])
    where = tuple(source.photos[photo] for photo in source.photo[indices])
    return TestFaces(crops, KeypointTruth(keypoints, sides, source.boxes[indices], source.scheme), where)


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
