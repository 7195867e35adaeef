"""A run's folder: checkpoints, log, curves. Everything in it is written whole or not at all."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path
from typing import Any

from kpedge.core.errors import OutputError, TrainingError
from kpedge.core.extras import importable
from kpedge.core.files import make_folder, write_bytes, write_json, write_text
from kpedge.evaluation.compare import Record

FILES = ("last.pt", "best.pt", "metrics.csv", "curves.png", "config.json")
BOARD = "tensorboard"
"""What a run writes into its folder."""

AT_LEAST_FROM = 90.0
"""Where the axis of the shares told rightly starts at the latest, %: a hundredth of it is not to look like a fall."""


class Run:
    """The folder of one training run.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "last.pt"
        self.best = path / "best.pt"
        self.board = path / BOARD

    def refuse_other(self, *, resume: bool, force: bool) -> list[str]:
        """Stop before a run that is there would be overwritten.

        Returns:
            What of a run is there.

        Raises:
            OutputError: it holds a run already and neither `resume` nor `force` is set, or is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path} is a file, not a folder", "choose another --out")
        found = [name for name in (*FILES, BOARD) if (self.path / name).exists()]
        replaced, resumed = force and not resume, resume and self.last.exists()
        if found and not replaced and not resumed:
            what = "a run" if self.last.exists() else found[0]
            raise OutputError(
                f"{self.path} holds {what} already",
                "add --resume to go on with a run, --force to replace it, or choose another --out",
            )
        return found

    def start(self, config: dict[str, Any], *, resume: bool, force: bool) -> None:
        """Make the folder ready.

        Raises:
            OutputError: as `refuse_other`, or it cannot be written.
        """
        found = self.refuse_other(resume=resume, force=force)
        if force and not resume:
            for name in found:
                if (self.path / name).is_dir():
                    shutil.rmtree(self.path / name)
                else:
                    (self.path / name).unlink()
        make_folder(self.path)
        write_json(self.path / "config.json", config)

    def log(self, history: list[Record]) -> None:
        """Write the whole history to `metrics.csv`; a figure that an epoch does not have stays empty."""
        text = io.StringIO()
        names = list(dict.fromkeys(name for record in history for name in record))
        writer = csv.DictWriter(text, fieldnames=names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.7g}" for key, value in record.items()} for record in history)
        write_text(self.path / "metrics.csv", text.getvalue())

    def draw_curves(self, history: list[Record], mean_face_nme: float) -> None:
        """`curves.png`: the losses, the validation error beside that of the mean face, and how faces are told."""
        write_bytes(self.path / "curves.png", curves_png(history, mean_face_nme))

    def draw_detector_curves(self, history: list[Record]) -> None:
        """`curves.png` of a detector: the losses, and average precision on each set's validation split."""
        write_bytes(self.path / "curves.png", detector_curves_png(history))


def detector_curves_png(history: list[Record]) -> bytes:
    """The picture of a detector's curves, PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    plotting = importable("kpedge.core.plots", "train")
    figure, (left, right) = plotting.new_figure(2, (10, 4.8))
    for name in (name for name in history[-1] if name.startswith("train_")):
        label = name.removeprefix("train_").replace("_", " ")
        left.plot([record["epoch"] for record in history], [record[name] for record in history], label=label)
    left.set(xlabel="epoch", ylabel="loss", yscale="log", title="Training losses")
    measured = [record for record in history if "criterion" in record]
    for name in (name for name in measured[-1] if name.startswith("val_ap_")):
        epochs = [record["epoch"] for record in measured]
        right.plot(epochs, [record[name] for record in measured], label=name.removeprefix("val_ap_"))
    right.set(xlabel="epoch", ylabel="average precision", title="Validation", ylim=(0, 1.01))
    for axis in (left, right):
        plotting.count_along_x(axis)
        plotting.legend_below(axis)
    return bytes(plotting.to_png(figure))


def curves_png(history: list[Record], mean_face_nme: float) -> bytes:
    """The picture of a run's curves, PNG. Raises as `curves_figure`."""
    figure = curves_figure(history, mean_face_nme)
    return bytes(importable("kpedge.core.plots", "train").to_png(figure))


def curves_figure(history: list[Record], mean_face_nme: float) -> Any:
    """A run's curves as a matplotlib figure: losses, validation error and, where there is a score, how faces are told.

    Args:
        history: of the epochs, one at least.
        mean_face_nme: validation error of the mean face, fraction of the box.

    Raises:
        MissingExtraError: matplotlib is not installed.
        TrainingError: there is no epoch to draw.
    """
    if not history:
        raise TrainingError("no epoch was finished, so there is no curve to draw")
    plotting = importable("kpedge.core.plots", "train")
    epochs = [record["epoch"] for record in history]

    def curve(axis: Any, key: str, label: str, factor: float = 1.0, **style: Any) -> None:
        axis.plot(epochs, [factor * record[key] for record in history], label=label, **style)

    scored = "val_accuracy" in history[-1]
    figure, axes = plotting.new_figure(3 if scored else 2, (15 if scored else 10, 4.8))
    curve(axes[0], "train_loss", "training, in all")
    curve(axes[0], "train_keypoint_loss", "training, keypoints")
    curve(axes[0], "val_mse", "validation, MSE (mean face: 1)")
    if scored:
        curve(axes[0], "train_face_loss", "training, face or not")
    axes[0].set(xlabel="epoch", ylabel="loss", yscale="log", title="Losses")
    curve(axes[1], "val_nme", "validation", 100, color="C1")
    axes[1].axhline(100 * mean_face_nme, color="grey", linestyle="--", label="mean face")
    axes[1].set(xlabel="epoch", ylabel="mean error, % of the box", title="Normalised mean error")
    axes[1].set_ylim(bottom=0)
    if scored:
        curve(axes[2], "train_accuracy", "training", 100)
        curve(axes[2], "val_face_accuracy", "validation, faces", 100)
        curve(axes[2], "val_negative_accuracy", "validation, negatives", 100)
        axes[2].set(xlabel="epoch", ylabel="told rightly, %", title="Face or not")
        low = max(0.0, min(AT_LEAST_FROM, axes[2].get_ylim()[0]))
        axes[2].set_ylim(low, 100 + (100 - low) / 50)
    for axis in axes:
        plotting.count_along_x(axis)
        plotting.legend_below(axis)
    return figure
