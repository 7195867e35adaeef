"""The accuracy of a model in any file format, next to its speed."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from kpedge.bench.worker import Worker
from kpedge.core.card import ModelCard
from kpedge.evaluation.detection_metrics import average_precision, match
from kpedge.evaluation.detection_report import LabelledFrame, find_in, load_frames
from kpedge.evaluation.detections import LOWEST
from kpedge.evaluation.evaluate import TestFaces, evaluate
from kpedge.evaluation.keypoint_report import load_faces
from kpedge.export.calibration import samples_to_check
from kpedge.runtime.detector import FaceDetector, FrameModel
from kpedge.runtime.keypoints import keypoint_model

Samples = TestFaces | Sequence[LabelledFrame]


def load_samples(model: Worker, data: Path | None, frames: Path | None) -> Samples:
    """Labelled faces for a keypoint model, or frames for a detector; synthetic ones where there is no data."""
    if isinstance(model.card, ModelCard):
        return load_faces(data, keypoint_model(model))[0] if data else samples_to_check(model.card)
    return load_frames(frames)[0] if frames else samples_to_check(model.card)


def measure_accuracy(model: Worker, samples: Samples) -> float:
    """Mean error on labelled faces, or a detector's average precision on labelled frames."""
    if isinstance(samples, TestFaces):
        return evaluate(model, samples, cast("ModelCard", model.card)).accuracy.nme_box
    found = find_in(FaceDetector(cast("FrameModel", model), threshold=LOWEST), list(samples))[1]
    return float(average_precision(match(found)))
