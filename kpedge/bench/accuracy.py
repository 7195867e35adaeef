"""The accuracy of a model in any file format, next to its speed."""

from pathlib import Path

from kpedge.bench.worker import Worker
from kpedge.core.card import ModelCard
from kpedge.evaluation.detection_report import load_frames
from kpedge.evaluation.keypoint_report import load_faces
from kpedge.export.accuracy import Samples
from kpedge.export.calibration import samples_to_check
from kpedge.runtime.keypoints import keypoint_model


def load_samples(model: Worker, data: Path | None, frames: Path | None) -> Samples:
    """Labelled faces for a keypoint model, or frames for a detector; synthetic ones where there is no data."""
    if isinstance(model.card, ModelCard):
        return load_faces(data, keypoint_model(model))[0] if data else samples_to_check(model.card)
    return load_frames(frames)[0] if frames else samples_to_check(model.card)
