"""What a training run is made of: one dataclass, stored in every checkpoint."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from kpedge.errors import TrainingError, UsageError

INITIALISATIONS = ("kaiming", "torch")
SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Stage 1: mean squared error of the coordinates, SGD with momentum, per-crop normalisation.

    The defaults are the released recipe. Each field is a flag of `kpedge train stage1`.

    Attributes:
        epochs: passes over the training split.
        batch_size: faces a step.
        lr: highest learning rate; the loss is in units of the training shapes' variance, so a loss of 1 is the mean
            face.
        momentum: of SGD.
        weight_decay: on weights of convolutions and linear layers, not on biases and slopes.
        schedule: "cosine" falls to 0 at the last step (Loshchilov & Hutter 2017), "constant" stays.
        warmup: steps over which the learning rate rises from 0.
        clip: largest norm of the gradient; longer ones are shortened to it. 0 turns it off.
        init: "kaiming", or "torch" for PyTorch's default, with which this network collapses to the mean face.
        mirror: show half of the faces mirrored.
        roll: turn crops by up to this many degrees either way.
        scale: change the side of the crop by up to this fraction either way.
        shift: move the crop by up to this fraction of its side either way.
        seed: of initialisation, order and jitter.
        threads: CPU threads; part of the configuration because another number sums in another order.
        freeze: patterns of layers that are not trained (`conv1_*`).
        lr_groups: (pattern, learning rate) pairs; the first that fits a layer counts, `lr` for the rest.
        init_from: hash of the weights that training starts from; empty where it starts from `init`.
    """

    epochs: int = 600
    batch_size: int = 64
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    warmup: int = 100
    clip: float = 1.0
    init: str = "kaiming"
    mirror: bool = True
    roll: float = 10.0
    scale: float = 0.05
    shift: float = 0.05
    seed: int = 0
    threads: int = 2
    freeze: tuple[str, ...] = ()
    lr_groups: tuple[tuple[str, float], ...] = ()
    init_from: str = ""

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("batch_size", 1), ("threads", 1), ("warmup", 0), ("seed", 0)):
            if getattr(self, name) < low:
                raise UsageError(f"--{flag(name)} must be at least {low}, not {getattr(self, name)}")
        for name in ("lr", "momentum", "weight_decay", "clip"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"--{flag(name)} must be a number from 0 up, not {value}")
        for pattern, rate in self.lr_groups:
            if not (math.isfinite(rate) and rate >= 0):
                raise UsageError(f"--lr-group {pattern}={rate}: a learning rate is a number from 0 up")
        if self.seed >= 2**63:
            raise UsageError(f"--seed must be below 2^63, not {self.seed}")
        if self.momentum >= 1:
            raise UsageError(f"--momentum must be below 1, not {self.momentum}")
        if self.init not in INITIALISATIONS:
            raise UsageError(f"--init must be one of {', '.join(INITIALISATIONS)}, not {self.init!r}")
        if self.schedule not in SCHEDULES:
            raise UsageError(f"--schedule must be one of {', '.join(SCHEDULES)}, not {self.schedule!r}")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainConfig:
        """The inverse of `to_dict`.

        Raises:
            TrainingError: a field is unknown or of the wrong type: the checkpoint is of another version.
        """
        try:
            groups = tuple((str(pattern), float(lr)) for pattern, lr in data.get("lr_groups", ()))
            return cls(**{**data, "freeze": tuple(data.get("freeze", ())), "lr_groups": groups})
        except (TypeError, ValueError) as error:
            raise TrainingError(f"the checkpoint's configuration does not fit this kpedge: {error}") from error

    def differences(self, other: TrainConfig) -> list[str]:
        """The flags in which another configuration differs, each as `--flag ours, not theirs`."""
        return [
            f"--{flag(item.name)} {getattr(self, item.name)}, not {getattr(other, item.name)}"
            for item in fields(self)
            if getattr(self, item.name) != getattr(other, item.name)
        ]


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return name.replace("_", "-").replace("lr-groups", "lr-group")


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The factor by which learning rates are multiplied at a step, counted from 0: warm-up, then the schedule."""
    factor = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    if config.schedule == "cosine":
        factor *= 0.5 * (1 + math.cos(math.pi * step / steps))
    return factor
