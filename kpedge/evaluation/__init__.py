"""Accuracy of keypoints, face scores and detections, reports, and comparison of runs. No PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpedge.core.lazy import lazy_names

if TYPE_CHECKING:
    from kpedge.evaluation.evaluate import Evaluation as Evaluation
    from kpedge.evaluation.evaluate import evaluate_split as evaluate_split

__getattr__, __dir__ = lazy_names(__name__, {"kpedge.evaluation.evaluate": ("Evaluation", "evaluate_split")})
__all__ = __dir__()
