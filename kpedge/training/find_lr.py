"""A learning-rate range test: a throw-away training whose rate rises until the loss does."""

from __future__ import annotations

import copy
import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kpedge.core.errors import TrainingError, UsageError
from kpedge.core.extras import importable
from kpedge.core.files import refuse_existing, write_bytes, write_text
from kpedge.data.packed import PreparedSet
from kpedge.training.config import TrainConfig
from kpedge.training.distributed import World, joined
from kpedge.training.objective import batch_tensors, total_loss
from kpedge.training.optimisers import new_optimiser, phase_of
from kpedge.training.setup import fitting, load_matching, set_up, start_from, stop_frozen_statistics
from kpedge.training.step import Stepper

LOWEST, HIGHEST = 1e-6, 10.0
"""The rates between which it is searched."""
STEPS = 150
"""Steps from one to the other: 21 for each factor of ten."""
KEPT = 0.9
"""Share that the running average keeps of itself at each step: it looks back over about ten."""
TOO_HIGH = 4.0
"""The search ends when the smoothed loss is this many times its lowest value."""
WINDOW = 11
"""Steps over which a slope is measured, half a factor of ten."""
FALLEN = 0.98
"""A smoothed loss that never gets below this, where 1 is that of the starting weights, does not fall."""
MARGIN = 10.0
"""How far the suggestion stays below the rate of the lowest loss."""
PICTURE, TABLE = "find_lr.png", "find_lr.csv"


@dataclass(frozen=True, slots=True)
class FoundLearningRate:
    """What a search found.

    Attributes:
        picture: the curve, a PNG.
        table: its numbers, a CSV: step, lr, loss, loss of the starting weights, smoothed.
        steepest: the rate at which the smoothed loss falls fastest, against the rate's logarithm.
        highest: the rate at which it is lowest: from there on it rises; the end of the search where it never does.
        suggested: the rate to train with.
    """

    picture: Path
    table: Path
    steepest: float
    highest: float
    suggested: float


@dataclass(frozen=True, slots=True, eq=False)
class LossCurve:
    """The losses of a search, one a step.

    Batches differ more than a step changes: a single one of stage 1 may have twice the loss of the next. So each loss
    is divided by that of the starting weights on the same batch.

    Attributes:
        rates: learning rates, float64 (N,).
        losses: float64 (N,), each computed before the step that was taken with its rate.
        start: the starting weights' losses on the same batches, float64 (N,).
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    start: NDArray[np.float64]

    @property
    def relative(self) -> NDArray[np.float64]:
        """The losses, that of the starting weights being 1, float64 (N,)."""
        return np.asarray(self.losses / np.maximum(self.start, 1e-12))

    @property
    def smoothed(self) -> NDArray[np.float64]:
        """Exponential running average of `relative`, corrected for its start at 0 (Kingma & Ba 2015), float64 (N,)."""
        average, found = 0.0, []
        for number, loss in enumerate(self.relative, 1):
            average = KEPT * average + (1 - KEPT) * loss
            found.append(average / (1 - KEPT**number))
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
    sets: Sequence[PreparedSet],
    out: Path,
    config: TrainConfig,
    *,
    init_from: Path | None = None,
    device: str = "cpu",
    force: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> FoundLearningRate:
    """Train a throw-away model with a rising learning rate, and see where its loss falls and rises (Smith 2017).

    Network, batches, loss, optimiser and clipping are those of a training; only the schedule is not. The rate rises by
    the same factor at every step; layers with a rate of their own keep its ratio to the rest. It leaves a picture and
    a table in the folder, and nothing of a run.

    Args:
        recipe: a key of `ARCHITECTURES`.
        sets: what would be trained on, the main one first.
        out: folder for `find_lr.png` and `find_lr.csv`.
        config: of the training.
        init_from: start from the weights of this checkpoint.
        device: "cpu" or "cuda".
        force: replace the two files.
        progress: told the steps done, and how many there are.

    Raises:
        OutputError: one of the files exists and `force` is off, or cannot be written.
        UsageError: as `set_up`; the rate of the configuration is 0; or several processes were started.
        TrainingError: the loss is not finite from the first steps, or falls at no rate.
    """
    for name in (PICTURE, TABLE):
        refuse_existing(out / name, force=force)
    importable("kpedge.core.plots", "train")
    if not config.lr:
        raise UsageError("--find-lr needs an --lr above 0, to which the rates of --lr-group are in ratio")
    with joined(device) as world:
        if world.size > 1:
            raise UsageError(
                "--find-lr searches in one process", "start it without torchrun, with the whole batch size"
            )
        curve = _search(recipe, sets, config, init_from, device, world, progress)
    steepest, suggested = curve.steepest, curve.suggested
    write_text(out / TABLE, _table(curve))
    write_bytes(out / PICTURE, curve_png(curve, f"{recipe}, {config.optimiser}"))
    if steepest is None or suggested is None:
        raise TrainingError(
            f"the loss falls at no learning rate from {LOWEST:g} to {HIGHEST:g}: see {out / PICTURE}",
            "try another --init; with --init-from a trained model, choose a rate well below where the curve rises",
        )
    return FoundLearningRate(out / PICTURE, out / TABLE, steepest, curve.highest, suggested)


def _search(
    recipe: str,
    sets: Sequence[PreparedSet],
    config: TrainConfig,
    init_from: Path | None,
    device: str,
    world: World,
    progress: Callable[[int, int], None],
) -> LossCurve:
    start = start_from(init_from) if init_from is not None else None
    config = fitting(config, sets[0].scheme, _tell_nobody)
    made = set_up(recipe, sets, config, device, start, _tell_nobody)
    if start is not None:
        load_matching(made.model, start.state, str(init_from), _tell_nobody)
    stepper = Stepper(made.objective, new_optimiser(phase_of(config, 1), made.groups, config), config, world, device)
    made.objective.train()
    stop_frozen_statistics(made.model.network)
    reference = copy.deepcopy(made.objective)
    for layer in reference.modules():
        if isinstance(layer, nn.Dropout):
            layer.eval()  # it would take random numbers that a training does not take
    batches = chain.from_iterable(made.mixture.batches(epoch, config.batch_size) for epoch in count(1))
    rates: list[float] = []
    losses: list[float] = []
    start_losses: list[float] = []
    curve = LossCurve(np.empty(0), np.empty(0), np.empty(0))
    for number, batch in enumerate(islice(batches, STEPS)):
        rate = LOWEST * (HIGHEST / LOWEST) ** (number / (STEPS - 1))
        with torch.no_grad():
            found = reference(*batch_tensors(batch, device))
            before = float(total_loss(config, found[:3], found[3], found.new_tensor(len(batch))))
        try:
            sums = stepper(batch, rate / config.lr)
        except FloatingPointError as error:
            if number < WINDOW:
                raise TrainingError(f"step {number + 1}, rate {rate:.2g}: {error}", "see --init and --loss") from None
            break
        rates.append(rate)
        losses.append(float(sums[-1] / sums[-3]))
        start_losses.append(before)
        progress(number + 1, STEPS)
        curve = LossCurve(np.array(rates), np.array(losses), np.array(start_losses))
        if curve.smoothed[-1] > TOO_HIGH * curve.smoothed.min():
            break
    return curve


def _tell_nobody(_line: str) -> None:
    pass


def _table(curve: LossCurve) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("step", "lr", "loss", "start_loss", "smoothed"))
    rows = zip(curve.rates, curve.losses, curve.start, curve.smoothed, strict=True)
    writer.writerows([step, *(f"{value:.7g}" for value in row)] for step, row in enumerate(rows, 1))
    return text.getvalue()


def curve_png(curve: LossCurve, title: str) -> bytes:
    """The picture of a search: loss against learning rate, with what was found, PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
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
        ylabel="loss, that of the starting weights = 1",
        title=f"Learning-rate search: {title}",
    )
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return bytes(plots.to_png(figure))
