"""Optimisers by name."""

from __future__ import annotations

import math
from typing import Any

import torch

from kpedge.training.config import RunConfig


def phase_of(config: RunConfig, epoch: int) -> str:
    """The optimiser that is at work in an epoch, counted from 1: of "adam-sgd" first Adam, then SGD."""
    if config.optimiser != "adam-sgd":
        return config.optimiser
    return "adam" if epoch <= math.floor(config.switch * config.epochs + 1e-9) else "sgd"


def new_optimiser(name: str, groups: list[dict[str, Any]], config: RunConfig) -> torch.optim.Optimizer:
    """A fresh optimiser over parameter groups, which name their learning rate and weight decay.

    Weight decay is coupled to the gradient everywhere but in AdamW (Loshchilov & Hutter 2019).
    """
    groups = [dict(group) for group in groups]
    if config.optimiser == "adam-sgd" and name == "sgd":
        for group in groups:
            group["lr"] = group["initial_lr"] = group["lr"] * config.lr_sgd / config.lr if config.lr else config.lr_sgd
    momentum = config.momentum
    betas = (momentum, 0.999)
    match name:
        case "adagrad":
            return torch.optim.Adagrad(groups, lr=config.lr)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=config.lr, momentum=momentum)
        case "adam":
            return torch.optim.Adam(groups, lr=config.lr, betas=betas)
        case "adamw":
            return torch.optim.AdamW(groups, lr=config.lr, betas=betas)
    return torch.optim.SGD(groups, lr=config.lr, momentum=momentum, nesterov=name == "nesterov" and momentum > 0)
