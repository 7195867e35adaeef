"""How well a score separates faces from non-faces: curves, threshold, calibration. NumPy only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class FaceAccuracy:
    """Scores of faces and of negatives, held against a threshold."""

    faces: int  # number of faces
    negatives: int  # number of negatives
    threshold: float  # score from which on a crop counts as a face
    face_accuracy: float  # fraction of the faces that do
    negative_accuracy: float  # fraction of the negatives that do not
    accuracy: float  # fraction of all that are classified correctly
    auc: float  # area under the ROC curve
    average_precision: float  # area under the precision-recall curve, with as many negatives a face as measured
    # mean distance of score and share of faces over ten equally filled bins, faces and negatives counting alike as
    # groups, as `calibrate` has it
    calibration_error: float
    # face_scores, negative_scores: the scores themselves
    face_scores: FloatArray
    negative_scores: FloatArray

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON types."""
        counts = {"faces": self.faces, "negatives": self.negatives}
        names = ("face_accuracy", "negative_accuracy", "accuracy", "auc", "average_precision", "calibration_error")
        return {**counts, "threshold": self.threshold, **{name: round(getattr(self, name), 6) for name in names}}


def _sorted(face_scores: FloatArray, negative_scores: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Thresholds, falling, each with the number of faces and negatives that reach it."""
    scores = np.concatenate([face_scores, negative_scores]).astype(np.float64)
    is_face = np.arange(len(scores)) < len(face_scores)
    order = np.argsort(-scores, kind="stable")
    last_of_value = np.append(np.diff(scores[order]) != 0, True)
    hits, alarms = np.cumsum(is_face[order])[last_of_value], np.cumsum(~is_face[order])[last_of_value]
    return scores[order][last_of_value], hits.astype(np.float64), alarms.astype(np.float64)


def roc_curve(face_scores: FloatArray, negative_scores: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Thresholds, the share of negatives taken for faces at each, and that of faces found; from (0, 0) to (1, 1)."""
    thresholds, hits, alarms = _sorted(face_scores, negative_scores)
    return (
        np.concatenate([[np.inf], thresholds]),
        np.concatenate([[0.0], alarms / max(1, len(negative_scores))]),
        np.concatenate([[0.0], hits / max(1, len(face_scores))]),
    )


def precision_recall_curve(
    face_scores: FloatArray, negative_scores: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Thresholds, precision and recall at each; recall rises."""
    thresholds, hits, alarms = _sorted(face_scores, negative_scores)
    return thresholds, hits / (hits + alarms), hits / max(1, len(face_scores))


def measure_faces(face_scores: FloatArray, negative_scores: FloatArray, threshold: float) -> FaceAccuracy:
    """Hold scores against a threshold. There is at least one face and one negative."""
    _, false_alarms, found = roc_curve(face_scores, negative_scores)
    _, precision, recall = precision_recall_curve(face_scores, negative_scores)
    right = (face_scores >= threshold).sum(), (negative_scores < threshold).sum()
    return FaceAccuracy(
        faces=len(face_scores),
        negatives=len(negative_scores),
        threshold=threshold,
        face_accuracy=float(right[0] / len(face_scores)),
        negative_accuracy=float(right[1] / len(negative_scores)),
        accuracy=float(sum(right) / (len(face_scores) + len(negative_scores))),
        auc=float(np.sum(np.diff(false_alarms) * (found[1:] + found[:-1]) / 2)),
        average_precision=float(np.sum(np.diff(np.concatenate([[0.0], recall])) * precision)),
        calibration_error=calibration_error(face_scores, negative_scores),
        face_scores=face_scores,
        negative_scores=negative_scores,
    )


def calibration_error(face_scores: FloatArray, negative_scores: FloatArray, bins: int = 10) -> float:
    """Mean over equally filled bins of the distance between mean score and share of faces (Naeini et al. 2015).

    Faces and negatives count alike as groups, whatever their numbers: a calibrated score is the probability of a face
    where both are equally likely.
    """
    scores = np.concatenate([face_scores, negative_scores]).astype(np.float64)
    is_face = np.arange(len(scores)) < len(face_scores)
    weight = 0.5 / np.where(is_face, len(face_scores), len(negative_scores))
    order = np.argsort(scores, kind="stable")
    return float(sum(abs((weight * (scores - is_face))[part].sum()) for part in np.array_split(order, bins)))


def calibrate(face_logits: FloatArray, negative_logits: FloatArray) -> tuple[float, float]:
    """Slope and offset with which the sigmoid of a logit is the probability of a face, faces and negatives being
    equally likely (Platt 1999: logistic regression, with his targets, which keep it finite where the two are apart).

    Newton's method. The slope is never below 0.05: a score that ranks wrongly is not turned round in secret; the score
    of the mean logit stays what it would be.
    """
    logits = np.concatenate([face_logits, negative_logits]).astype(np.float64)
    is_face = np.arange(len(logits)) < len(face_logits)
    counts = np.where(is_face, len(face_logits), len(negative_logits))
    target = np.where(is_face, (len(face_logits) + 1) / (len(face_logits) + 2), 1 / (len(negative_logits) + 2))
    weight = 1 / counts
    middle = float(np.average(logits, weights=weight))
    scale = float(np.abs(logits - middle).mean()) or 1.0
    inputs = np.stack([(logits - middle) / scale, np.ones_like(logits)], axis=1)
    found = np.array([1.0, 0.0])
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ found, -500, 500)))
        gradient = inputs.T @ (weight * (chance - target))
        curvature = (inputs * (weight * chance * (1 - chance))[:, None]).T @ inputs + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        found -= step * min(1.0, 2.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-9:
            break
    slope = max(float(found[0]) / scale, 0.05)
    return slope, float(found[1]) - slope * middle


def best_threshold(face_scores: FloatArray, negative_scores: FloatArray) -> float:
    """The threshold with the fewest mistakes, faces and negatives counting alike as groups (Youden 1950).

    Where several do equally well, the middle of the widest gap between two scores that separates as well is taken.
    """
    thresholds, false_alarms, found = roc_curve(face_scores, negative_scores)
    gain = found - false_alarms
    lower = np.append(thresholds[1:], 0.0)
    upper = np.minimum(thresholds, 1.0)
    good = np.flatnonzero(gain >= gain.max() - 1e-12)
    widest = good[np.argmax((upper - lower)[good])]
    middle = float((upper[widest] + lower[widest]) / 2)
    short = round(middle, 4)
    return short if lower[widest] < short <= upper[widest] else middle
