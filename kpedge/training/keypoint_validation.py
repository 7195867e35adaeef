"""Validation of a keypoint model: keypoints on the main set's faces, scores and losses on those of all sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kpedge.core.card import ModelCard
from kpedge.core.errors import TrainingError
from kpedge.data.sampling import CropSampler
from kpedge.evaluation.compare import Record
from kpedge.evaluation.evaluate import TestFaces, faces_of_split
from kpedge.evaluation.keypoint_metrics import KeypointAccuracy, measure
from kpedge.evaluation.score_metrics import FaceAccuracy, best_threshold, calibrate, measure_faces
from kpedge.models.keypoint_model import KeypointModel
from kpedge.training.distributed import World
from kpedge.training.keypoint_loss import KeypointLoss

BATCH = 64
SCORE_SHARE = 0.1  # what a misclassified crop costs in the choice of the best epoch: fraction of the box


@dataclass(frozen=True, slots=True, eq=False)
class ValidationData:
    """Validation crops: the main set's faces, the other sets' faces, all sets' negatives, in this order."""

    faces: TestFaces  # the main set's
    crops: NDArray[np.uint8]  # uint8 (N, H, W, C)
    # float32 (N, K, 2), fractions of the crop; NaN for all but the main set, whose annotation counts
    keypoints: NDArray[np.float32]
    face: NDArray[np.float32]  # float32 (N,), 1 or 0


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """What was measured."""

    predicted: NDArray[np.float32]  # keypoints of the main set's faces, float32 (N, K, 2), fractions of the crop
    accuracy: KeypointAccuracy  # of the keypoints
    face: FaceAccuracy | None  # of the scores, at the best threshold; None without a score
    calibration: tuple[float, float]  # slope and offset of the logit; (1, 0) without a score
    losses: dict[str, float]  # name -> loss, in the unit of the training losses

    @property
    def criterion(self) -> float:
        """What the best epoch has least of: the keypoint error, and a tenth of the share of misclassified crops."""
        mistakes = 0.0 if self.face is None else 2 - self.face.face_accuracy - self.face.negative_accuracy
        return self.accuracy.nme_box + SCORE_SHARE * mistakes / 2

    def record(self) -> Record:
        """The figures for the log."""
        record: Record = {f"val_{name}": value for name, value in self.losses.items()}
        record |= {
            "val_nme": self.accuracy.nme_box,
            "val_mse_112": self.accuracy.mse_112,
            "val_failure": self.accuracy.failure_rate,
        }
        if self.face is not None:
            record |= {
                "val_accuracy": self.face.accuracy,
                "val_face_accuracy": self.face.face_accuracy,
                "val_negative_accuracy": self.face.negative_accuracy,
            }
        return record


def validation_data(samplers: Sequence[CropSampler], card: ModelCard) -> ValidationData:
    """The validation splits of sets, the main one first, cropped as the card says."""
    main = samplers[0].source
    faces = faces_of_split(main, "validation", card.size, card.colour, card.crop)
    more, negatives = [faces.crops[:0]], [faces.crops[:0]]
    if card.has_score:
        for sampler in samplers:
            plain = CropSampler(sampler.source, card.size, card.colour, card.crop)
            negatives.append(plain.batch(sampler.source.negatives("validation"))[0])
            if sampler.source is not main:
                more.append(plain.batch(sampler.source.indices("validation"))[0])
    crops = np.concatenate([faces.crops, *more, *negatives])
    keypoints = np.full((len(crops), *faces.truth.keypoints.shape[1:]), np.nan, np.float32)
    keypoints[: len(faces)] = faces.truth.keypoints
    face = np.ones(len(crops), np.float32)
    face[len(crops) - sum(map(len, negatives)) :] = 0
    return ValidationData(faces, crops, keypoints, face)


def validate(model: KeypointModel, loss: KeypointLoss, data: ValidationData, world: World | None = None) -> Validation:
    """Measure a model as it is now. With several processes each measures its share; all get the whole.

    Raises:
        TrainingError: the error is not finite.
    """
    world = world or World()
    device = model.mean_shape.device
    was_training = model.training
    model.eval()
    sums: list[torch.Tensor] = []

    def predict(rows: Sequence[int]) -> list[tuple[NDArray[np.float32], float]]:
        found: list[tuple[NDArray[np.float32], float]] = []
        for start in range(0, len(rows), BATCH):
            chosen = np.asarray(rows[start : start + BATCH])
            crops, keypoints, face = (
                torch.from_numpy(values[chosen]).to(device) for values in (data.crops, data.keypoints, data.face)
            )
            output = model.raw(crops)
            output = {name: value.float() for name, value in output.items()}  # type: ignore[assignment, attr-defined]
            sums.append(torch.cat(loss.sums(output, keypoints, face)).double())
            points = (model.mean_shape + model.spread * output["points"]).cpu().numpy()
            logits = output["logit"].cpu().tolist() if "logit" in output else [0.0] * len(chosen)
            found += zip(points, logits, strict=True)
        return found

    with torch.inference_mode():
        found = world.map(predict, range(len(data.crops)))
        total = world.sum(torch.stack(sums).sum(dim=0) if sums else torch.zeros(8, dtype=torch.float64, device=device))
    model.train(was_training)
    predicted = np.stack([points for points, _ in found[: len(data.faces)]])
    accuracy = measure(predicted, data.faces.truth)
    if not np.isfinite(accuracy.nme_box):
        raise TrainingError(f"the validation error is {accuracy.nme_box}", "use a lower --lr")
    losses = loss_record(loss, total.cpu(), score=model.face)
    negatives = int((data.face == 0).sum())
    if not negatives or not model.face:
        return Validation(predicted, accuracy, None, (1.0, 0.0), losses)
    logits = np.array([logit for _, logit in found])
    slope, offset = calibrate(logits[:-negatives], logits[-negatives:])
    scores = 1 / (1 + np.exp(-np.clip(slope * logits + offset, -80, 80)))
    threshold = best_threshold(scores[:-negatives], scores[-negatives:])
    face = measure_faces(scores[:-negatives], scores[-negatives:], threshold)
    return Validation(predicted, accuracy, face, (slope, offset), losses)


def loss_record(loss: KeypointLoss, sums: torch.Tensor, *, score: bool) -> Record:
    """Loss, and its parts in its own unit, from sums of losses and counts; training and validation alike."""
    losses, counts = sums[:3], sums[3:]
    points, samples = counts[:2].clamp(min=1).tolist()
    record = {"loss": float(loss.total(losses, counts)), "keypoint_loss": float(losses[0]) / points}
    return record | {"face_loss": float(losses[1]) / samples} if score else record
