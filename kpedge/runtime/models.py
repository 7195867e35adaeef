"""The two models that find faces in pictures, from names or files: the released ones unless others are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.card import DetectorCard, ModelCard
from kpedge.runtime.detector import FaceDetector, detector_model
from kpedge.runtime.keypoints import KeypointPredictor, keypoint_model
from kpedge.runtime.sessions import OnnxModel, providers_named
from kpedge.shelf import find_model

VERIFIED = 0.9
"""Of the detector's threshold, where a keypoint model with a face score looks at what it finds: on validation photos at
640 px recall was 91 % of faces21's faces instead of 84 %, without a false alarm in 134 photos without a face.
"""
FOLLOWED = 0.7
"""Likewise in a video, whose frames are searched at 320 px, where less looks like a face: recall was 92 % instead of
77 %, without a false alarm in 134.
"""


LOWEST = 0.1
"""The detector's score from which on a box is worth a look where one score of both models decides."""


@dataclass(frozen=True, slots=True)
class JointScore:
    """One score of detector and keypoint model for a face: a logistic regression on both logits, moved so that 0.5 is
    the operating point. Two thresholds in a row throw away what one model is sure of and the other all but accepts.

    Attributes:
        detector, keypoints: weights of the logits.
        constant: added to their sum.
    """

    detector: float
    keypoints: float
    constant: float

    def __call__(self, found: NDArray[np.float64], looked: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores from 0 to 1 for the detector's and the keypoint model's."""
        whole = self.detector * _logit(found) + self.keypoints * _logit(looked) + self.constant
        return np.asarray(1 / (1 + np.exp(-whole)), dtype=np.float64)


JOINT = JointScore(1.5929, 0.4277, -2.898)
"""Of detector and stage 3 v2, by `benchmarks/wild.py --fit`: one alarm in a hundred faceless validation photos."""


def _logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of scores, within 12 to either side."""
    inside = np.clip(scores, 1e-9, 1 - 1e-9)
    return np.asarray(np.clip(np.log(inside / (1 - inside)), -12, 12), dtype=np.float64)


def search_threshold(detector: DetectorCard, keypoints: ModelCard, verified: float = VERIFIED) -> float:
    """The detector's score from which on a box is worth the look of a keypoint model: a part of the detector's own
    threshold, `verified`, where that model has a face score.
    """
    return (detector.threshold or 0.0) * (verified if keypoints.has_score else 1.0)


def open_finders(
    detector: str | Path | FaceDetector,
    keypoints: str | Path | KeypointPredictor,
    *,
    side: int | None = None,
    threshold: float | None = None,
    verified: float = VERIFIED,
    threads: int = 1,
    provider: str = "cpu",
) -> tuple[FaceDetector, KeypointPredictor]:
    """What finds faces, and what finds their keypoints.

    Args:
        detector: an ONNX file, the name of a released model, or a detector as it is.
        keypoints: likewise; what is given as it is keeps its own settings.
        side: longer side, pixels, at which pictures are searched; None for the detector's own.
        threshold: the keypoint model's score from which on there is a face; None for its own.
        verified: part of the detector's threshold from which on the keypoint model looks.
        threads: for each run of a model.
        provider: what onnxruntime computes with.

    Raises:
        ModelError: a model is missing, broken, or not of its kind.
        UsageError: a setting makes no sense, or this onnxruntime has no such provider.
    """
    if not isinstance(keypoints, KeypointPredictor):
        opened = OnnxModel(find_model(str(keypoints)), threads=threads, providers=providers_named(provider))
        keypoints = KeypointPredictor(keypoint_model(opened), threshold=threshold)
    if not isinstance(detector, FaceDetector):
        opened = OnnxModel(find_model(str(detector)), threads=threads, providers=providers_named(provider))
        finding = detector_model(opened)
        lowest = search_threshold(finding.card, keypoints.model.card, verified)
        detector = FaceDetector(finding, threshold=lowest, side=side)
    return detector, keypoints
