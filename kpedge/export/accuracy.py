"""Whether a file of reduced precision is as accurate as PyTorch, on labelled samples."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from kpedge.core.card import SCORE_NAME, Card, DetectorCard, ModelCard
from kpedge.core.errors import ParityError
from kpedge.evaluation.detection_metrics import average_precision, match
from kpedge.evaluation.detection_report import LabelledFrame, find_in
from kpedge.evaluation.detections import LOWEST
from kpedge.evaluation.evaluate import TestFaces, evaluate, predict_all
from kpedge.export.export_format import AccuracyLimits
from kpedge.runtime.detector import FaceDetector, FrameModel
from kpedge.runtime.sessions import Model

FAILED = 0.1  # a face whose mean error is beyond this fraction of its box counts as failed
DECISIONS = 0.001  # fraction of samples on which the decision between face and no face may change
ADVICE = "give more data like yours with --calibration, or export another format"


def check_accuracy(
    name: str, model: Model, reference: Model, samples: TestFaces | Sequence[LabelledFrame], limits: AccuracyLimits
) -> dict[str, Any]:
    """Measure a file and PyTorch on the same samples.

    Args:
        name: of the file's format, for messages.
        model: the file.
        reference: PyTorch's model.
        samples: labelled faces, or for a detector frames.
        limits: what may be lost.

    Returns:
        Figures of both, as a card states them.

    Raises:
        ParityError: the file loses more.
    """
    card: Card = reference.card
    if isinstance(card, DetectorCard):
        return _check_frames(name, model, reference, cast("list[LabelledFrame]", samples), limits)
    faces, model_card = cast("TestFaces", samples), cast("ModelCard", card)
    expected, got = (evaluate(one, faces, model_card) for one in (reference, model))
    before, after = expected.accuracy.nme_box, got.accuracy.nme_box
    if after > before * (1 + limits.error):
        raise ParityError(
            f"{name}: the mean error is {after:.3%} of the box on {len(faces)} faces, in float32 {before:.3%}; "
            f"{limits.error:.1%} more is allowed",
            ADVICE,
        )
    newly = int(((got.accuracy.face_errors > FAILED) & (expected.accuracy.face_errors <= FAILED)).sum())
    if newly:
        raise ParityError(f"{name}: {newly} of {len(faces)} faces are newly off by more than {FAILED:.0%}", ADVICE)
    changed = 0
    if model_card.has_score:
        crops = faces.crops if faces.negatives is None else np.concatenate([faces.crops, faces.negatives])
        before_scores, after_scores = (predict_all(one, crops)[SCORE_NAME] for one in (reference, model))
        threshold = model_card.threshold or 0.0
        changed = int(((before_scores >= threshold) != (after_scores >= threshold)).sum())
        if changed > DECISIONS * len(crops):
            raise ParityError(f"{name}: {changed} of {len(crops)} face decisions change", ADVICE)
    return {
        "faces": len(faces),
        "nme_box": round(after, 6),
        "nme_box_float32": round(before, 6),
        "decisions_changed": changed,
    }


def _check_frames(
    name: str, model: Model, reference: Model, frames: list[LabelledFrame], limits: AccuracyLimits
) -> dict[str, Any]:
    before, after = (
        float(average_precision(match(find_in(FaceDetector(cast("FrameModel", one), threshold=LOWEST), frames)[1])))
        for one in (reference, model)
    )
    if after < before - limits.average_precision:
        raise ParityError(
            f"{name}: the average precision is {after:.3f} on {len(frames)} frames, in float32 {before:.3f}", ADVICE
        )
    return {
        "frames": len(frames),
        "average_precision": round(after, 6),
        "average_precision_float32": round(before, 6),
    }
