"""Learning-rate schedules: PyTorch's, in fractions of the run, and any of `torch.optim.lr_scheduler`."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from kpedge.core.errors import UsageError
from kpedge.core.registry import parse_arguments
from kpedge.training.config import RunConfig
from kpedge.training.optimizers import ADAM_SGD
from kpedge.training.registry import SCHEDULES


def cosine(optimizer: Optimizer, steps: int, _config: RunConfig) -> LRScheduler:
    """Half a cosine down to 0 (Loshchilov & Hutter 2017)."""
    return lr_scheduler.CosineAnnealingLR(optimizer, steps)


def constant(optimizer: Optimizer, _steps: int, _config: RunConfig) -> LRScheduler:
    """The same rate throughout."""
    return lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)


def step(optimizer: Optimizer, steps: int, config: RunConfig) -> LRScheduler:
    """Times `gamma` after each of `steps` equal parts."""
    return lr_scheduler.StepLR(optimizer, math.ceil(steps / config.steps), config.gamma)


def multi_step(optimizer: Optimizer, steps: int, config: RunConfig) -> LRScheduler:
    """Times `gamma` at each of `milestones`."""
    return lr_scheduler.MultiStepLR(optimizer, [round(part * steps) for part in config.milestones], config.gamma)


def exponential(optimizer: Optimizer, steps: int, config: RunConfig) -> LRScheduler:
    """By the same factor at each step, `gamma` over the run."""
    return lr_scheduler.ExponentialLR(optimizer, config.gamma ** (1 / steps))


def one_cycle(optimizer: Optimizer, steps: int, _config: RunConfig) -> LRScheduler:
    """Up over the first 30 %, then down, both along a cosine (Smith & Topin 2019)."""
    rates = [group["lr"] for group in optimizer.param_groups]
    return lr_scheduler.OneCycleLR(optimizer, rates, total_steps=max(2, steps), cycle_momentum=False)


def plateau(optimizer: Optimizer, _steps: int, config: RunConfig) -> LRScheduler:
    """Times `gamma` when validation was no better for `plateau` epochs."""
    return lr_scheduler.ReduceLROnPlateau(optimizer, factor=config.gamma, patience=config.plateau - 1, threshold=0.0)


ENDLESS = ("constant", "plateau")  # schedules that do not depend on the length of the run


def lasts_longer(config: RunConfig) -> bool:
    """Whether a run may get more epochs afterwards and go on as if it had had them from the start."""
    return config.optimizer != ADAM_SGD and (config.schedule in ENDLESS or config.schedule not in SCHEDULES)


class Schedule:
    """A run's schedule over so many steps of the optimizer: one of PyTorch's, with a linear warm-up in front of it.

    PyTorch's own schedulers, by class name, advance once an epoch, as their documentation has it, and have the rate for
    themselves: no warm-up.

    Raises:
        UsageError: there is no such schedule, or it does not take these arguments.
    """

    def __init__(self, optimizer: Optimizer, steps: int, config: RunConfig) -> None:
        chosen = parse_arguments(config.schedule_args, "--schedule-args")
        own, warmup = config.schedule in SCHEDULES, round(config.warmup * steps)
        if own and chosen:
            raise UsageError(f"--schedule {config.schedule} has flags of its own", "leave --schedule-args out")
        self._by_step: list[Any] = []
        self._by_epoch: list[Any] = []
        if own and config.schedule != "one-cycle":
            self._by_step.append(lr_scheduler.LinearLR(optimizer, 1 / max(1, warmup), total_iters=max(1, warmup - 1)))
        try:
            make: Any = SCHEDULES[config.schedule]
            made = make(optimizer, steps, config) if own else make(optimizer, **chosen)
        except (TypeError, ValueError) as error:
            raise UsageError(f"--schedule {config.schedule}: {error}", "see --schedule-args") from error
        self._on_validation = isinstance(made, lr_scheduler.ReduceLROnPlateau)
        (self._by_step if own and not self._on_validation else self._by_epoch).append(made)

    def step(self) -> None:
        """After a step of the optimizer."""
        with warnings.catch_warnings():
            # float16's scaler may skip a step, the first one too, which PyTorch takes for a wrong order of calls.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step", category=UserWarning)
            for one in self._by_step:
                one.step()

    def end_epoch(self, criterion: float | None) -> None:
        """After an epoch, with its validation, if there was one."""
        for one in self._by_epoch:
            if not self._on_validation:
                one.step()
            elif criterion is not None:
                one.step(criterion)

    def state_dict(self) -> list[dict[str, Any]]:
        """All that `load_state_dict` needs to go on."""
        return [_plain(one.state_dict()) for one in (*self._by_step, *self._by_epoch)]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Go on as the schedule did that the state is of."""
        for one, saved in zip((*self._by_step, *self._by_epoch), state, strict=True):
            one.load_state_dict(saved)


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's state as a checkpoint can hold it: plain values, and no functions."""
    return {
        name: dict(value) if isinstance(value, dict) else value for name, value in state.items() if not callable(value)
    }


def epochs_since_best(criteria: Sequence[float]) -> int:
    """Epochs since the lowest value of a series; NaN is never the lowest."""
    finite = [math.inf if math.isnan(value) else value for value in criteria]
    return len(finite) - 1 - min(range(len(finite)), key=finite.__getitem__) if finite else 0
