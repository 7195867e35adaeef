"""What training chooses by name. Adding one: a function in its file, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kpedge.core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from kpedge.training.config import RunConfig

LOSSES: Registry[Callable[[Tensor], Tensor]] = Registry(
    "--loss",
    {
        "mse": "torch:square",
        "l1": "torch:abs",
        "smooth-l1": "kpedge.training.losses:smooth_l1",
        "wing": "kpedge.training.losses:wing",
        "rectified-wing": "kpedge.training.losses:rectified_wing",
        "euclidean": "kpedge.training.losses:euclidean",
    },
)
"""Errors (N, K, 2), in units of the training shapes' standard deviation, to a loss for each coordinate."""
OPTIMIZERS: Registry[Callable[..., Optimizer]] = Registry(
    "--optimizer",
    {
        "sgd": "kpedge.training.optimizers:sgd",
        "nesterov": "kpedge.training.optimizers:nesterov",
        "adagrad": "kpedge.training.optimizers:adagrad",
        "rmsprop": "kpedge.training.optimizers:rmsprop",
        "adam": "kpedge.training.optimizers:adam",
        "adamw": "kpedge.training.optimizers:adamw",
        "adam-sgd": "kpedge.training.optimizers:adam",
    },
    library="torch.optim",
)
"""Parameter groups, momentum and keyword arguments to an optimizer; those of the library take no momentum."""
SCHEDULES: Registry[Callable[[Optimizer, int, RunConfig], Any]] = Registry(
    "--schedule",
    {
        "cosine": "kpedge.training.schedules:cosine",
        "constant": "kpedge.training.schedules:constant",
        "step": "kpedge.training.schedules:step",
        "multi-step": "kpedge.training.schedules:multi_step",
        "exponential": "kpedge.training.schedules:exponential",
        "one-cycle": "kpedge.training.schedules:one_cycle",
        "plateau": "kpedge.training.schedules:plateau",
    },
    library="torch.optim.lr_scheduler",
)
"""Optimizer, steps and configuration to a scheduler; those of the library take an optimizer and arguments in epochs."""
