"""Measuring the model while it trains: keypoints on the main set's validation faces, scores on those of all sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kpedge.core.card import ModelCard
from kpedge.data.sampling import CropSampler
from kpedge.evaluation.evaluate import TestFaces, faces_of_split
from kpedge.evaluation.keypoint_metrics import KeypointAccuracy, measure
from kpedge.evaluation.score_metrics import FaceAccuracy, best_threshold, calibrate, measure_faces
from kpedge.models.keypoint_model import KeypointModel
from kpedge.training.distributed import World

BATCH = 64
SCORE_SHARE = 0.1
"""What a wrongly told face costs, in the choice of the best epoch, as a keypoint error: fraction of the box."""


@dataclass(frozen=True, slots=True, eq=False)
class ValidationData:
    """What is measured on.

    Attributes:
        faces: validation faces of the main set.
        more: crops of the validation faces of the other sets, uint8 (N, H, W, C).
        negatives: crops of all sets' negatives; empty where the model has no score.
    """

    faces: TestFaces
    more: NDArray[np.uint8]
    negatives: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """What was measured.

    Attributes:
        predicted: keypoints of the main set's faces, float32 (N, K, 2), fractions of the crop.
        accuracy: of the keypoints.
        face: of the scores, at the best threshold; None without a score.
        calibration: slope and offset of the logit; (1, 0) without a score.
    """

    predicted: NDArray[np.float32]
    accuracy: KeypointAccuracy
    face: FaceAccuracy | None
    calibration: tuple[float, float]

    @property
    def criterion(self) -> float:
        """What the best epoch has least of."""
        mistakes = 0.0 if self.face is None else 2 - self.face.face_accuracy - self.face.negative_accuracy
        return self.accuracy.nme_box + SCORE_SHARE * mistakes / 2


def validation_data(samplers: Sequence[CropSampler], card: ModelCard) -> ValidationData:
    """The validation splits of sets, the main one first, cropped as the card says.

    Raises:
        DataError: the main set has no face in its validation split.
    """
    main = samplers[0].source
    faces = faces_of_split(main, "validation", card.size, card.colour, card.crop)
    more, negatives = [faces.crops[:0]], [faces.crops[:0]]
    if card.has_score:
        for sampler in samplers:
            plain = CropSampler(sampler.source, card.size, card.colour, card.crop)
            negatives.append(plain.batch(sampler.source.negatives("validation"))[0])
            if sampler.source is not main:
                more.append(plain.batch(sampler.source.indices("validation"))[0])
    return ValidationData(faces, np.concatenate(more), np.concatenate(negatives))


def validate(model: KeypointModel, data: ValidationData, world: World | None = None) -> Validation:
    """The model as it is now. With several processes each measures its share; all get the whole."""
    world = world or World()
    crops = np.concatenate([data.faces.crops, data.more, data.negatives])
    mine = np.arange(world.rank, len(crops), world.size)
    was_training = model.training
    model.eval()
    device = model.mean_shape.device
    points, logits = [], []
    with torch.inference_mode():
        for start in range(0, len(mine), BATCH):
            output = model.raw(torch.from_numpy(crops[mine[start : start + BATCH]]).to(device))
            points.append((model.mean_shape + model.spread * output["points"]).float().cpu().numpy())
            logits.append(output["logit"].float().cpu().numpy() if "logit" in output else np.zeros(len(points[-1])))
    model.train(was_training)
    all_points = np.empty((len(crops), *data.faces.truth.keypoints.shape[1:]), np.float32)
    all_logits = np.empty(len(crops))
    shape = all_points.shape[1:]
    for which, some_points, some_logits in world.gather(
        (mine, np.concatenate(points or [np.empty((0, *shape))]), np.concatenate(logits or [np.empty(0)]))
    ):
        all_points[which], all_logits[which] = some_points, some_logits
    count = len(data.faces)
    predicted = all_points[:count]
    accuracy = measure(predicted, data.faces.truth)
    if not len(data.negatives) or not model.face:
        return Validation(predicted, accuracy, None, (1.0, 0.0))
    negatives = len(data.negatives)
    slope, offset = calibrate(all_logits[:-negatives], all_logits[-negatives:])
    scores = 1 / (1 + np.exp(-np.clip(slope * all_logits + offset, -80, 80)))
    face_scores, negative_scores = scores[:-negatives], scores[-negatives:]
    threshold = best_threshold(face_scores, negative_scores)
    return Validation(predicted, accuracy, measure_faces(face_scores, negative_scores, threshold), (slope, offset))
