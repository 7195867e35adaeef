"""Curves of a run: training next to validation, in one unit."""

from collections.abc import Sequence
from typing import Any

from kpedge.core.errors import TrainingError
from kpedge.core.extras import importable
from kpedge.evaluation.compare import Record

ACCURACY_FROM = 90.0  # largest lower end of the axis of accuracies, %: 0.1 points must not look like a fall
TITLES = {"loss": "Loss", "keypoint_loss": "Keypoint loss", "face_loss": "Face loss"}


def _plot(axis: Any, history: Sequence[Record], key: str, label: str, factor: float = 1.0, **style: Any) -> None:
    """A figure over the epochs that have it; single ones are marked."""
    shown = [record for record in history if key in record]
    axis.plot(
        [record["epoch"] for record in shown],
        [factor * record[key] for record in shown],
        label=label,
        **{"marker": "o" if len(shown) < 3 else None, **style},
    )


def keypoint_curves(history: list[Record], baseline: float) -> Any:
    """A keypoint model's curves over at least one epoch, as a matplotlib figure: loss and its parts, error next to that
    of the mean shape (`baseline`, fraction of the box) and, with a score, accuracy.

    Raises:
        MissingExtraError: matplotlib is not installed.
        TrainingError: there is no epoch to draw.
    """
    if not history:
        raise TrainingError("no epoch was finished, so there is no curve to draw")
    plots = importable("kpedge.core.plots", "train")
    scored = any("val_accuracy" in record for record in history)
    parts = ["loss", "keypoint_loss", "face_loss"] if scored else ["loss"]
    figure, axes = plots.new_figure(5, (15, 9.6), columns=3) if scored else plots.new_figure(2, (10, 4.8))
    for axis, part in zip(axes, parts, strict=False):
        _plot(axis, history, f"train_{part}", "training", color="C0")
        _plot(axis, history, f"val_{part}", "validation", color="C1")
        axis.set(xlabel="epoch", ylabel="loss", yscale="log", title=TITLES[part])
    error = axes[len(parts)]
    _plot(error, history, "val_nme", "validation", 100, color="C1")
    error.axhline(100 * baseline, color="grey", linestyle="--", label="mean-shape baseline")
    error.set(xlabel="epoch", ylabel="mean error, % of the box", title="Normalised mean error")
    error.set_ylim(bottom=0)
    if scored:
        for what, plural, colour in (("face", "faces", "C2"), ("negative", "negatives", "C3")):
            _plot(axes[-1], history, f"train_{what}_accuracy", f"training, {plural}", 100, color=colour, linestyle=":")
            _plot(axes[-1], history, f"val_{what}_accuracy", f"validation, {plural}", 100, color=colour)
        axes[-1].set(xlabel="epoch", ylabel="correctly classified, %", title="Accuracy of faces and negatives")
        low = max(0.0, min(ACCURACY_FROM, axes[-1].get_ylim()[0]))
        axes[-1].set_ylim(low, 100 + (100 - low) / 50)
    return _finish(plots, figure, axes)


def detector_curves(history: list[Record]) -> Any:
    """A detector's curves, as a matplotlib figure: losses, and average precision on each set's validation split."""
    plots = importable("kpedge.core.plots", "train")
    figure, axes = plots.new_figure(2, (10, 4.8))
    for name in (name for name in history[-1] if name.startswith("train_")):
        _plot(axes[0], history, name, name.removeprefix("train_").replace("_", " "))
    axes[0].set(xlabel="epoch", ylabel="loss", yscale="log", title="Training losses")
    for name in dict.fromkeys(name for record in history for name in record if name.startswith("val_ap")):
        _plot(axes[1], history, name, name.removeprefix("val_ap").removeprefix("_") or "all sets")
    axes[1].set(xlabel="epoch", ylabel="average precision", title="Validation", ylim=(0, 1.01))
    return _finish(plots, figure, axes)


def _finish(plots: Any, figure: Any, axes: Sequence[Any]) -> Any:
    for axis in axes:
        plots.count_along_x(axis)
        plots.legend_below(axis)
    return figure
