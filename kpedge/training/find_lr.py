"""A learning-rate range test: a throw-away training whose rate rises until the loss does."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR

from kpedge.core.errors import TrainingError, UsageError
from kpedge.core.extras import importable
from kpedge.core.files import record_output, refuse_existing, write_bytes, write_text
from kpedge.core.images import figure_png
from kpedge.training.config import RunConfig
from kpedge.training.distributed import World, join
from kpedge.training.loop import Stepper, build
from kpedge.training.optimizers import new_optimizer, phases
from kpedge.training.task import Task
from kpedge.training.weights import read_init_weights, train_mode

LOWEST, HIGHEST = 1e-6, 10.0  # range of rates
STEPS = 150  # steps from one to the other: 21 for each factor of ten
DECAY = 0.9  # decay of the running average: it looks back over about ten steps
TOO_HIGH = 4.0  # the search ends when the smoothed loss is this many times its lowest value
WINDOW = 11  # steps over which a slope is measured: half a decade
FALLEN = 0.98  # a smoothed loss that stays above this does not fall; 1 is that of the initial weights
MARGIN = 10.0  # factor by which the suggestion stays below the rate of the lowest loss
CHART, TABLE = "find_lr.png", "find_lr.csv"


@dataclass(frozen=True, slots=True)
class FoundLearningRate:
    """What a search found."""

    chart: Path  # the curve, a PNG
    table: Path  # its numbers, a CSV: step, lr, loss, loss of the initial weights, smoothed
    steepest: float  # the rate at which the smoothed loss falls fastest, against the rate's logarithm
    highest: float  # the rate at which it is lowest: from there on it rises; the end of the search where it never does
    suggested: float  # the rate to train with


@dataclass(frozen=True, slots=True, eq=False)
class LossCurve:
    """The losses of a search, one a step.

    Batches differ more than a step changes: a single one of stage 1 may have twice the loss of the next. So each loss
    is divided by that of the initial weights on the same batch.
    """

    rates: NDArray[np.float64]  # learning rates, float64 (N,)
    losses: NDArray[np.float64]  # float64 (N,), each computed before the step that was taken with its rate
    start: NDArray[np.float64]  # the initial weights' losses on the same batches, float64 (N,)

    @property
    def relative(self) -> NDArray[np.float64]:
        """The losses, that of the initial weights being 1, float64 (N,)."""
        return np.asarray(self.losses / np.maximum(self.start, 1e-12))

    @property
    def smoothed(self) -> NDArray[np.float64]:
        """Exponential running average of `relative`, corrected for its start at 0 (Kingma & Ba 2015), float64 (N,)."""
        average, found = 0.0, []
        for number, loss in enumerate(self.relative, 1):
            average = DECAY * average + (1 - DECAY) * loss
            found.append(average / (1 - DECAY**number))
        return np.array(found)

    @property
    def highest(self) -> float:
        """The rate at which the smoothed loss is lowest."""
        return float(self.rates[self.smoothed.argmin()])

    @property
    def steepest(self) -> float | None:
        """The rate, below `highest`, at which the smoothed loss falls fastest; None where the loss does not fall."""
        smoothed = self.smoothed
        falling = smoothed[: int(smoothed.argmin()) + 1]
        if len(falling) < WINDOW or falling[-1] > FALLEN:
            return None
        offsets = np.arange(WINDOW) - WINDOW // 2
        slopes = np.lib.stride_tricks.sliding_window_view(falling, WINDOW) @ offsets  # least squares, up to a factor
        return float(self.rates[int(slopes.argmin()) + WINDOW // 2])

    @property
    def suggested(self) -> float | None:
        """A rate to train with: that of the steepest fall, or a tenth of that of the lowest loss if this is less.

        Smith (2017) takes the rate at which the loss begins to fall for the lower end of what works, and that at which
        it stops falling for the upper end; the last is too high to be trained with for long. fastai's `lr_find` offers
        two points in between: the steepest fall, and a tenth of the rate of the lowest loss. The smaller of them is the
        safer: a rate somewhat too low costs epochs, one too high costs the run. Both come out high by up to a factor
        of 2.6, as the running average lags nine steps behind. None where the loss does not fall.
        """
        return None if self.steepest is None else min(self.steepest, self.highest / MARGIN)


def find_learning_rate(
    recipe: str,
    data: Any,
    out: Path,
    config: RunConfig,
    *,
    init_from: Path | None = None,
    device: str = "cpu",
    force: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> FoundLearningRate:
    """Train a throw-away model with a rising learning rate, and see where its loss falls and rises (Smith 2017). The
    arguments are those of `kpedge.training.loop.train`.

    Network, batches, loss, optimizer and clipping are those of a training. The rate rises by the same factor at every
    step; layers with a rate of their own keep its ratio to the rest. It leaves a chart and a table in the folder, and
    no run.

    Raises:
        OutputError: one of the files exists and `force` is off, or cannot be written.
        UsageError: the rate of the configuration is 0, or several processes were started.
        TrainingError: the loss is not finite from the first steps, or falls at no rate.
    """
    for name in (CHART, TABLE):
        refuse_existing(out / name, force=force)
    importable("kpedge.core.plots", "train")
    if not config.lr:
        raise UsageError("--find-lr needs an --lr above 0, to which the rates of --lr-group are in ratio")
    with join(device) as world:
        if world.world_size > 1:
            raise UsageError("--find-lr runs in one process", "start it without torchrun, with the whole batch size")
        init = read_init_weights(init_from) if init_from is not None else None
        sets = list(data) if isinstance(data, Sequence) else [data]
        curve = _search(build(recipe, sets, config, world, init, lambda _line: None), world, progress)
    steepest, suggested = curve.steepest, curve.suggested
    write_text(out / TABLE, _table(curve))
    write_bytes(out / CHART, curve_png(curve, f"{recipe}, {config.optimizer}"))
    for name in (CHART, TABLE):
        record_output(out / name)
    if steepest is None or suggested is None:
        raise TrainingError(
            f"the loss falls at no learning rate from {LOWEST:g} to {HIGHEST:g}: see {out / CHART}",
            "try another --init; with --init-from a trained model, choose a rate well below where the curve rises",
        )
    return FoundLearningRate(out / CHART, out / TABLE, steepest, curve.highest, suggested)


def _search(task: Task, world: World, progress: Callable[[int, int], None]) -> LossCurve:
    for group in task.groups:
        group["lr"] *= LOWEST / task.config.lr
    phase = replace(phases(task.config)[0], lr=task.config.lr)
    stepper = Stepper(task, new_optimizer(phase, task.groups, task.config), world)
    schedule = ExponentialLR(stepper.optimizer, (HIGHEST / LOWEST) ** (1 / (STEPS - 1)))
    train_mode(task.loss)
    reference = copy.deepcopy(task.loss)
    for layer in reference.modules():
        if isinstance(layer, nn.Dropout):
            layer.eval()  # it would draw random numbers that a training does not draw
    batches = chain.from_iterable(task.batches(epoch, world, 0) for epoch in count(1))
    rows: list[tuple[float, float, float]] = []
    curve = LossCurve(np.empty(0), np.empty(0), np.empty(0))
    for number, batch in enumerate(islice(batches, STEPS)):
        rate = LOWEST * (HIGHEST / LOWEST) ** (number / (STEPS - 1))
        with torch.no_grad():
            start = float(reference.total(*reference(*batch)))
        try:
            _, _, loss, _ = stepper(batch)
        except FloatingPointError as error:
            if number < WINDOW:
                raise TrainingError(f"step {number + 1}, rate {rate:.2g}: {error}", "see --init and --loss") from None
            break
        schedule.step()
        rows.append((rate, loss, start))
        progress(number + 1, STEPS)
        curve = LossCurve(*np.array(rows).T)
        if curve.smoothed[-1] > TOO_HIGH * curve.smoothed.min():
            break
    return curve


def _table(curve: LossCurve) -> str:
    rows = zip(curve.rates, curve.losses, curve.start, curve.smoothed, strict=True)
    lines = (",".join([str(step), *(f"{value:.7g}" for value in row)]) for step, row in enumerate(rows, 1))
    return "\n".join(["step,lr,loss,start_loss,smoothed", *lines, ""])


def curve_png(curve: LossCurve, title: str) -> bytes:
    """The chart of a search, PNG: loss against learning rate, with what was found."""
    plots = importable("kpedge.core.plots", "train")
    smoothed = curve.smoothed
    figure, (axis,) = plots.new_figure(1, (9, 4.5))
    axis.plot(curve.rates, curve.relative, color="C0", alpha=0.3, label="each batch")
    axis.plot(curve.rates, smoothed, color="C0", label="running average")
    for at, label, colour, style in (
        (curve.steepest, "falls fastest", "C2", ":"),
        (curve.highest, "lowest, rises from here", "C3", ":"),
        (curve.suggested, "suggested", "C1", "--"),
    ):
        if at is not None:
            axis.axvline(at, color=colour, linestyle=style, label=f"{label}: {at:.2g}")
    low = float(smoothed.min())
    room = max(1 - low, 0.05)
    axis.set_ylim(max(0.0, low - 0.5 * room), 1 + 0.7 * room)
    axis.set(
        xscale="log",
        xlabel="learning rate",
        ylabel="loss, that of the initial weights = 1",
        title=f"Learning-rate search: {title}",
    )
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure_png(figure)
