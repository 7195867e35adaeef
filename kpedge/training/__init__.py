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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "kpedge.training.config": ("DetectorConfig", "TrainConfig"),
        "kpedge.training.loop": ("train",),
        "kpedge.training.recipes": ("DETECTOR", "RECIPES"),
        "kpedge.training.task": ("TrainResult",),
    },
)
__all__ = __dir__()
