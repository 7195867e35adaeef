"""Optimizers: the tuned few, and any of `torch.optim` or of the user's own."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from kpedge.core.errors import UsageError
from kpedge.core.registry import parse_arguments
from kpedge.training.config import RunConfig
from kpedge.training.registry import OPTIMIZERS

Groups = list[dict[str, Any]]  # parameters with their learning rate and weight decay
ADAM_SGD = "adam-sgd"


def sgd(groups: Groups, momentum: float, **arguments: Any) -> torch.optim.Optimizer:
    """Gradient descent with momentum."""
    return torch.optim.SGD(groups, **{"momentum": momentum, **arguments})


def nesterov(groups: Groups, momentum: float, **arguments: Any) -> torch.optim.Optimizer:
    """The same with Nesterov's momentum."""
    return torch.optim.SGD(groups, **{"momentum": momentum, "nesterov": momentum > 0, **arguments})


def adagrad(groups: Groups, momentum: float, **arguments: Any) -> torch.optim.Optimizer:
    """Duchi et al. 2011; it has no momentum."""
    del momentum
    return torch.optim.Adagrad(groups, **arguments)


def rmsprop(groups: Groups, momentum: float, **arguments: Any) -> torch.optim.Optimizer:
    """Tieleman & Hinton 2012."""
    return torch.optim.RMSprop(groups, **{"momentum": momentum, **arguments})


def adam(groups: Groups, momentum: float, **arguments: Any) -> torch.optim.Optimizer:
    """Kingma & Ba 2015; weight decay is coupled to the gradient."""
    return torch.optim.Adam(groups, **{"betas": (momentum, 0.999), **arguments})


def adamw(groups: Groups, momentum: float, **arguments: Any) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return torch.optim.AdamW(groups, **{"betas": (momentum, 0.999), **arguments})


@dataclass(frozen=True, slots=True)
class Phase:
    """Epochs that one optimizer trains, with a schedule of their own."""

    optimizer: str  # its name
    lr: float  # highest learning rate
    first: int  # first epoch, from 1
    epochs: int  # how many


def phases(config: RunConfig) -> list[Phase]:
    """The phases of a run: one; with adam-sgd two."""
    if config.optimizer != ADAM_SGD:
        return [Phase(config.optimizer, config.lr, 1, config.epochs)]
    count = math.floor(config.switch_at * config.epochs + 1e-9)
    both = Phase("adam", config.lr, 1, count), Phase("sgd", config.sgd_lr, count + 1, config.epochs - count)
    return [phase for phase in both if phase.epochs]


def new_optimizer(phase: Phase, groups: Groups, config: RunConfig) -> torch.optim.Optimizer:
    """A fresh optimizer of a phase, whose rate scales those of all groups where it is not `config.lr`; groups are not
    changed.

    Raises:
        UsageError: there is no such optimizer, or it does not take these arguments.
    """
    groups = [{**group, "lr": group["lr"] * phase.lr / config.lr if config.lr else phase.lr} for group in groups]
    arguments = parse_arguments(config.optimizer_args, "--optimizer-args")
    for name in {"lr", "weight_decay"} & arguments.keys():
        raise UsageError(f"--optimizer-args {name}: there is a flag for it", f"use --{name.replace('_', '-')}")
    make = OPTIMIZERS[phase.optimizer]
    if make is torch.optim.LBFGS:
        raise UsageError("--optimizer LBFGS computes the loss several times per step", "choose another optimizer")
    if phase.optimizer in OPTIMIZERS:
        arguments["momentum"] = arguments.get("momentum", config.momentum)
    try:
        return make(groups, **arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--optimizer {phase.optimizer}: {error}", "see --optimizer-args") from error
