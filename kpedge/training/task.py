"""What the training loop needs to know of a task, and what a run ends with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from kpedge.core.card import Card
from kpedge.core.geometry import Image
from kpedge.evaluation.compare import Record
from kpedge.evaluation.keypoint_metrics import NO_BETTER
from kpedge.training.distributed import World


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a run ended with.

    Attributes:
        best: path of the best checkpoint.
        epochs: epochs done.
        best_epoch: epoch of the best checkpoint, from 1.
        record: the figures of that epoch.
        error: its validation error: of keypoints a fraction of the box, of a detector 1 - average precision.
        baseline: the same of the mean shape, or of a detector that finds nothing.
        is_main_process: whether this process is the one that writes files and messages.
    """

    best: Path
    epochs: int
    best_epoch: int
    record: Record
    error: float
    baseline: float
    is_main_process: bool = True

    @property
    def learned(self) -> bool:
        """Whether the best checkpoint is better than the baseline."""
        return self.error <= NO_BETTER * self.baseline


class Task(Protocol):
    """A task that `kpedge.training.loop.train` trains: `KeypointTask`, `DetectorTask`."""

    config: Any  # of the run, as far as the data allow it
    card: Any  # of the model
    settings: dict[str, Any]  # recipe and data, for `config.json`
    model: nn.Module  # on its device
    loss: Any  # the model with its loss
    groups: list[dict[str, Any]]  # parameters with learning rate and weight decay, for an optimizer
    baseline: float  # validation error of a model that has learned nothing

    def steps_per_epoch(self, world: World) -> int:
        """Steps of every epoch."""

    def batches(self, epoch: int, world: World, workers: int) -> Iterator[tuple[Any, ...]]:
        """The part of an epoch's batches that falls to this process, as arguments of the loss."""

    def training_record(self, losses: Tensor, counts: Tensor) -> Record:
        """The figures of an epoch's training, from sums over it."""

    def validate(self, model: Any, world: World) -> Any:
        """Measure a model on the validation splits."""

    def describe(self, card: Any, model: Any, result: Any) -> Card:
        """The card with what was measured."""

    def warning(self, epoch: int, history: Sequence[Record]) -> str | None:
        """A warning about the run so far."""

    def result(self, record: Record, **rest: Any) -> TrainResult:
        """What the run ended with."""

    def preview(self, result: Any) -> Image | None:
        """An image of the validation."""

    def example(self) -> Image | None:
        """An input to trace the network's graph with."""

    def curves(self, history: list[Record]) -> Any:
        """The run's curves, a matplotlib figure."""
