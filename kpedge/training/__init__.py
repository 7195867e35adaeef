"""Configuration, the training loop and its tasks, losses, optimizers, logging, distributed training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpedge.core.lazy import lazy_names

if TYPE_CHECKING:
    from kpedge.training.config import DetectorConfig as DetectorConfig
    from kpedge.training.config import TrainConfig as TrainConfig
    from kpedge.training.loop import train as train
    from kpedge.training.recipes import DETECTOR as DETECTOR
    from kpedge.training.recipes import RECIPES as RECIPES
    from kpedge.training.task import TrainResult as TrainResult

_HOMES = {
    "train": "kpedge.training.loop",
    "TrainResult": "kpedge.training.task",
    "TrainConfig": "kpedge.training.config",
    "DetectorConfig": "kpedge.training.config",
    "RECIPES": "kpedge.training.recipes",
    "DETECTOR": "kpedge.training.recipes",
}
__all__ = ["DETECTOR", "RECIPES", "DetectorConfig", "TrainConfig", "TrainResult", "train"]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
