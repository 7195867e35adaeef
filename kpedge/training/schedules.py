"""Learning rates over a run: pure functions of the step and, for plateaus, of the history."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kpedge.training.config import RunConfig


def learning_rate(config: RunConfig, step: int, steps: int, errors: Sequence[float] = ()) -> float:
    """The factor by which learning rates are multiplied at a step: warm-up, then the schedule.

    Args:
        config: names the schedule and its parameters.
        step: counted from 0.
        steps: of the whole run.
        errors: validation error of each finished epoch.

    Raises:
        KeyError: the configuration names no schedule that is known here.
    """
    done = step / steps
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    if config.schedule == "cosine":  # Loshchilov & Hutter 2017
        return rise * 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == "one-cycle":  # Smith & Topin 2019: up over the first 30 %, then down, both along a cosine
        peak = 0.3
        if done < peak:
            return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * done / peak))
        return 0.5 * (1 + math.cos(math.pi * (done - peak) / (1 - peak)))
    falls = {
        "constant": 0.0,
        "step": float(step * config.steps // steps),
        "multi-step": float(sum(done >= milestone for milestone in config.milestones)),
        "exponential": done,
        "plateau": float(falls_on_plateau(errors, config.plateau)),
    }[config.schedule]
    return float(rise * config.gamma**falls)


def falls_on_plateau(errors: Sequence[float], patience: int) -> int:
    """How often a series went `patience` epochs without a new lowest value, counting anew after each time."""
    best, waited, falls = math.inf, 0, 0
    for error in errors:
        if error < best:
            best, waited = error, 0
        else:
            waited += 1
        if waited == patience:
            falls, waited = falls + 1, 0
    return falls


def epochs_since_best(errors: Sequence[float]) -> int:
    """Epochs since the lowest value of a series; what is not a number is never the lowest."""
    finite = [math.inf if math.isnan(error) else error for error in errors]
    return len(finite) - 1 - min(range(len(finite)), key=finite.__getitem__) if finite else 0
