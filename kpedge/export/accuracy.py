"""Whether a file of reduced precision is as accurate as PyTorch, on labelled samples.

Samples are few, so a loss is known to its standard error only: a limit counts as exceeded where the loss is beyond it
by more than that. More samples make the check sharper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import SCORE_NAME, ModelCard
from kpedge.core.errors import ParityError
from kpedge.evaluation.detection_metrics import LOWEST, FrameDetections, average_precision, match
from kpedge.evaluation.detection_report import LabelledFrame, find_in
from kpedge.evaluation.evaluate import TestFaces, evaluate, predict_all
from kpedge.export.export_format import AccuracyLimits
from kpedge.runtime.detector import FaceDetector, FrameModel
from kpedge.runtime.sessions import Model

FAILED = 0.1  # a face whose mean error is beyond this fraction of its box counts as failed
WORSE = 0.01  # how much its error must have grown, fraction of the box, for a reduced file to be the reason
CHANGED = 0.001  # fraction of faces that may newly fail, and of samples on which the face decision may change
GROUPS = 20  # parts of the frames that the standard error of an average precision is estimated with
ADVICE = "give more data like yours with --calibration, or export another format"

Samples = TestFaces | Sequence[LabelledFrame]


@dataclass(frozen=True, slots=True, eq=False)
class FaceAnswers:
    """What a keypoint model made of labelled faces."""

    errors: NDArray[np.float64]  # (N,), each face's mean distance as a fraction of its box
    accepted: NDArray[np.bool_]  # (M,), which faces and crops without one were taken for a face; empty without a score

    @property
    def accuracy(self) -> float:
        """The mean error."""
        return float(self.errors.mean())

    def check(self, name: str, exact: "FaceAnswers", limits: AccuracyLimits) -> dict[str, Any]:
        """Compare what a file of a format made of labelled faces with what PyTorch (`exact`) made of them, and give
        figures of both, as a card states them.

        Raises:
            ParityError: the file loses more than the limits allow.
        """
        faces, grown = len(self.errors), self.errors - exact.errors
        margin = float(grown.std() / np.sqrt(faces))
        if grown.mean() > limits.error * exact.accuracy + margin:
            raise ParityError(
                f"{name}: the mean error is {self.accuracy:.3%} of the box on {faces} faces, in float32 "
                f"{exact.accuracy:.3%} (the difference is exact to {margin:.3%}); {limits.error:.1%} more is allowed",
                ADVICE,
            )
        newly = int(((self.errors > FAILED) & (exact.errors <= FAILED) & (grown > WORSE)).sum())
        if newly > CHANGED * faces:
            raise ParityError(f"{name}: {newly} of {faces} faces are newly off by more than {FAILED:.0%}", ADVICE)
        changed = int((self.accepted != exact.accepted).sum())
        if changed - np.sqrt(changed) > CHANGED * len(self.accepted):
            raise ParityError(f"{name}: {changed} of {len(self.accepted)} face decisions change", ADVICE)
        return {
            "faces": faces,
            "nme_box": round(self.accuracy, 6),
            "nme_box_float32": round(exact.accuracy, 6),
            "standard_error": round(margin, 6),
            "decisions_changed": changed,
        }


@dataclass(frozen=True, slots=True, eq=False)
class FrameAnswers:
    """What a detector found in labelled frames."""

    found: list[FrameDetections]

    @property
    def accuracy(self) -> float:
        """The average precision."""
        return average_precision(match(self.found))

    def check(self, name: str, exact: "FrameAnswers", limits: AccuracyLimits) -> dict[str, Any]:
        """The same for frames. The standard error is that of the jackknife over groups of frames."""
        groups = min(GROUPS, len(self.found))
        without = [
            FrameAnswers([frame for index, frame in enumerate(self.found) if index % groups != group]).accuracy
            - FrameAnswers([frame for index, frame in enumerate(exact.found) if index % groups != group]).accuracy
            for group in range(groups)
        ]
        margin = float(np.sqrt(groups - 1) * np.std(without))
        if exact.accuracy - self.accuracy > limits.average_precision + margin:
            raise ParityError(
                f"{name}: the average precision is {self.accuracy:.3f} on {len(self.found)} frames, in float32 "
                f"{exact.accuracy:.3f} (the difference is exact to {margin:.3f}); "
                f"{limits.average_precision:.3f} less is allowed",
                ADVICE,
            )
        return {
            "frames": len(self.found),
            "average_precision": round(self.accuracy, 6),
            "average_precision_float32": round(exact.accuracy, 6),
            "standard_error": round(margin, 6),
        }


def run_samples(model: Model, samples: Samples) -> FaceAnswers | FrameAnswers:
    """Run a keypoint model on labelled faces, or a detector on labelled frames."""
    if not isinstance(samples, TestFaces):
        return FrameAnswers(find_in(FaceDetector(cast("FrameModel", model), threshold=LOWEST), list(samples))[1])
    card = cast("ModelCard", model.card)
    measured = evaluate(model, samples, card)
    scores = [] if measured.scores is None else [measured.scores]
    if card.has_score and samples.negatives is not None:
        scores.append(predict_all(model, samples.negatives)[SCORE_NAME])
    accepted = np.concatenate([*scores, np.zeros(0)]) >= (card.threshold or 0.0)
    return FaceAnswers(measured.accuracy.face_errors, accepted)
