"""A run's folder: checkpoints, log, TensorBoard, curves. Everything in it is written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

from kpedge.errors import OutputError, TrainingError
from kpedge.extras import importable
from kpedge.files import make_folder, write_bytes, write_text

FILES = ("last.pt", "best.pt", "metrics.csv", "curves.png", "config.json")
BOARD = "tensorboard"
"""What a run writes into its folder."""

Record = dict[str, float]
"""One epoch: epoch, lr, train_loss, grad_norm, val_loss, val_nme, val_mse_112, val_failure, seconds."""


class Run:
    """The folder of one training run.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "last.pt"
        self.best = path / "best.pt"
        self._board: Any = None

    def start(self, config: dict[str, Any], *, resume: bool, force: bool, purge_step: int = 0) -> None:
        """Make the folder ready.

        Raises:
            OutputError: it holds a run already and neither `resume` nor `force` is set, or cannot be written.
        """
        found = [name for name in (*FILES, BOARD) if (self.path / name).exists()]
        if force and not resume:
            for name in found:
                if (self.path / name).is_dir():
                    shutil.rmtree(self.path / name)
                else:
                    (self.path / name).unlink()
        elif found and not (resume and self.last.exists()):
            what = "a run" if self.last.exists() else found[0]
            raise OutputError(
                f"{self.path} holds {what} already",
                "add --resume to go on with a run, --force to replace it, or choose another --out",
            )
        make_folder(self.path / BOARD)
        write_text(self.path / "config.json", json.dumps(config, indent=1) + "\n")
        board = importable("torch.utils.tensorboard", "train")
        self._board = board.SummaryWriter(str(self.path / BOARD), purge_step=purge_step)

    def log(self, history: list[Record]) -> None:
        """Write the whole history to `metrics.csv`, and its last record to TensorBoard."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(history[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.7g}" for key, value in record.items()} for record in history)
        write_text(self.path / "metrics.csv", text.getvalue())
        record = history[-1]
        for key, value in record.items():
            if key != "epoch":
                self._board.add_scalar(key.replace("_", "/", 1), value, int(record["epoch"]))

    def close(self) -> None:
        """Flush and close TensorBoard's file."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def draw_curves(self, history: list[Record], mean_face_nme: float) -> None:
        """`curves.png`: both losses, and the validation error beside that of the mean face."""
        write_bytes(self.path / "curves.png", curves_png(history, mean_face_nme))


def curves_png(history: list[Record], mean_face_nme: float) -> bytes:
    """The picture of a run's curves, PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        TrainingError: there is no epoch to draw.
    """
    if not history:
        raise TrainingError("no epoch was finished, so there is no curve to draw")
    plotting = importable("kpedge.plots", "train")
    epochs = [record["epoch"] for record in history]
    figure, (left, right) = plotting.new_figure(2, (10, 4))
    left.plot(epochs, [record["train_loss"] for record in history], label="training")
    left.plot(epochs, [record["val_loss"] for record in history], label="validation")
    left.set(xlabel="epoch", ylabel="loss (1 = mean face)", yscale="log", title="Mean squared error")
    left.legend()
    right.plot(epochs, [100 * record["val_nme"] for record in history], color="C1", label="validation")
    right.axhline(100 * mean_face_nme, color="grey", linestyle="--", label="mean face")
    right.set(xlabel="epoch", ylabel="mean error, % of the box", title="Normalised mean error")
    right.set_ylim(bottom=0)
    right.legend(loc="lower left")
    return bytes(plotting.to_png(figure))
