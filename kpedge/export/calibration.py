"""Inputs for formats of reduced precision: to calibrate ranges on, and to measure the accuracy on.

Without data of the user's they are synthetic, so an export needs nothing but the model.
"""

import functools
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import Card, DetectorCard, ModelCard
from kpedge.core.geometry import (
    crop,
    crop_square,
    crop_transform,
    fit_frame,
    pixels_to_fractions,
    transform_points,
)
from kpedge.core.keypoints import FACES21
from kpedge.data.frames import open_frames
from kpedge.data.packed import open_set
from kpedge.evaluation.detection_report import LabelledFrame
from kpedge.evaluation.evaluate import TestFaces, faces_of_split, in_common
from kpedge.evaluation.keypoint_metrics import KeypointTruth
from kpedge.export.test_inputs import random_crops
from kpedge.synthetic import SyntheticPhoto, render_photo

CALIBRATION_FACES, CALIBRATION_FRAMES, NOISE = 96, 24, 8
# Synthetic samples that an accuracy is measured on. On 40 frames the average precision of an int8 detector was 0.023
# below float32's, give or take 0.024; on 200 it was 0.006, give or take 0.005.
CHECKED_FACES, CHECKED_FRAMES = 200, 200
CALIBRATION_SEED, CHECK_SEED = 1001, 1002


def calibration_inputs(card: Card, data: Path | None = None) -> NDArray[np.uint8]:
    """Inputs like those in use, uint8 (N, H, W, C): of a prepared set's or frame set's training split, or synthetic
    ones and noise.
    """
    if isinstance(card, DetectorCard):
        if data is not None:
            source = open_frames(data)
            images = [source.image(int(frame)) for frame in source.frames("train")[:CALIBRATION_FRAMES]]
        else:
            images = [photo.image for photo in synthetic_frames(CALIBRATION_FRAMES, CALIBRATION_SEED)]
        return np.array([fit_frame(image, card.nominal_input_shape) for image in images])
    model = cast(ModelCard, card)
    if data is not None:
        return faces_of_split(open_set(data), "train", model.size, model.colour, model.crop).crops[:CALIBRATION_FACES]
    noise = random_crops(NOISE, model.dummy_input_shape, seed=2)
    return np.concatenate([synthetic_faces(model, CALIBRATION_FACES, CALIBRATION_SEED)[0], noise])


def samples_to_check(card: Card) -> TestFaces | list[LabelledFrame]:
    """What an accuracy is measured on without labelled samples: synthetic faces with those points of the model's scheme
    that follow from theirs; for a detector frames.
    """
    if not isinstance(card, ModelCard):
        return [
            LabelledFrame(
                f"synthetic {number}",
                lambda photo=photo: photo.image,  # type: ignore[misc]
                np.array([face.box for face in photo.faces]).reshape(-1, 4),
                np.zeros(len(photo.faces), bool),
            )
            for number, photo in enumerate(synthetic_frames(CHECKED_FRAMES, CHECK_SEED))
        ]
    crops, truth = synthetic_faces(card, CHECKED_FACES, CHECK_SEED)
    negatives = random_crops(CHECKED_FACES, card.dummy_input_shape, seed=3)
    faces = TestFaces(crops, truth, ("synthetic",) * len(crops), negatives=negatives)
    return in_common(faces, card.scheme, "synthetic faces")


def synthetic_faces(card: ModelCard, count: int, seed: int) -> tuple[NDArray[np.uint8], KeypointTruth]:
    """Crops of synthetic faces, uint8 (count, H, W, C), and their points."""
    crops, keypoints, boxes = [], [], []
    for number in range(2 * count):
        photo = render_photo(seed, number)
        for face in photo.faces:
            way = crop_transform(face.box, card.size, card.crop)
            crops.append(crop(photo.image, way, card.size, border=card.crop.border, colour=card.colour))
            keypoints.append(pixels_to_fractions(transform_points(way, face.points), card.size))
            boxes.append(face.box)
        if len(crops) >= count:
            break
    sides = np.array([crop_square(box, card.crop)[2] for box in boxes[:count]])
    truth = KeypointTruth(np.array(keypoints[:count]), sides, np.array(boxes[:count]), FACES21)
    return np.array(crops[:count]), truth


@functools.lru_cache(maxsize=2)
def synthetic_frames(count: int, seed: int) -> list[SyntheticPhoto]:
    """Whole frames with synthetic faces."""
    return [render_photo(seed, number, frame=True) for number in range(count)]
