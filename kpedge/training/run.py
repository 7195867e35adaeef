"""A run's folder: checkpoints, log, curves. Everything in it is written whole or not at all."""

import csv
import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from kpedge.core.card import Card
from kpedge.core.errors import OutputError, TrainingError
from kpedge.core.files import check_writable, make_folder, write_json, write_text
from kpedge.core.leftovers import lock_folder
from kpedge.evaluation.compare import Record
from kpedge.models.checkpoint import Checkpoint
from kpedge.training.config import RunConfig
from kpedge.training.schedules import lasts_longer

FILES = ("last.pt", "best.pt", "metrics.csv", "curves.png", "config.json")
BOARD = "tensorboard"  # what a run writes into its folder


class Run:
    """The folder of one training run: checkpoints of the last epoch, from which it can be resumed, and of the best, and
    TensorBoard's events.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "last.pt"
        self.best = path / "best.pt"
        self.board = path / BOARD

    def check_free(self, *, resume: bool, force: bool) -> list[str]:
        """The files of a run that exist; stop before one would be overwritten.

        Raises:
            OutputError: it holds a run already and neither `resume` nor `force` is set, or it cannot be written.
        """
        check_writable(self.path)
        existing = [name for name in (*FILES, BOARD) if (self.path / name).exists()]
        existing += sorted(path.name for path in self.path.glob("epoch-*.pt"))
        replaced, resumed = force and not resume, resume and self.last.exists()
        if existing and not replaced and not resumed:
            what = "a run" if self.last.exists() else existing[0]
            advice = "leave --resume out and add" if resume else "add --resume to continue a run,"
            raise OutputError(
                f"{self.path} holds {what} already" + (", but no last.pt to resume" if resume else ""),
                f"{advice} --force to replace it, or choose another --out",
            )
        return existing

    def start(self, *, resume: bool, force: bool) -> None:
        """Make the folder ready. `last.pt` comes first: with any other file alone a run could not be resumed."""
        existing = self.check_free(resume=resume, force=force)
        self._lock = lock_folder(make_folder(self.path))
        if force and not resume:
            for name in existing:
                if (self.path / name).is_dir():
                    shutil.rmtree(self.path / name)
                else:
                    (self.path / name).unlink()

    def describe(self, config: dict[str, Any]) -> None:
        """Write `config.json`."""
        write_json(self.path / "config.json", config)

    def log(self, history: list[Record]) -> None:
        """Write the whole history to `metrics.csv`; a figure that an epoch does not have stays empty."""
        text = io.StringIO()
        names = list(dict.fromkeys(name for record in history for name in record))
        writer = csv.DictWriter(text, fieldnames=names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.7g}" for key, value in record.items()} for record in history)
        write_text(self.path / "metrics.csv", text.getvalue())


def resumed_config(config: RunConfig, last: Checkpoint) -> RunConfig:
    """The configuration of a run to resume: the weights it started from need not be named again."""
    return replace(config, init_from=str(last.config.get("init_from", "")))


def check_resumable(last: Checkpoint, config: RunConfig, card: Card, path: Path) -> None:
    """Whether resuming from a checkpoint gives what an uninterrupted run would have given.

    Raises:
        TrainingError: other recipe, flags or data.
    """
    advice = "give the same flags, or start a new run with another --out"
    if last.card.name != card.name:
        raise TrainingError(f"{path} is a run of {last.card.name}, not {card.name}", advice)
    if not last.resume:
        raise TrainingError(f"{path} holds no optimizer state", f"start a new run with --init-from {path}")
    before = type(config).from_dict(last.config)
    if config.epochs > before.epochs:
        if not lasts_longer(config):
            raise TrainingError(
                f"{path} was made with --epochs {before.epochs}, and its schedule ends there ({config.schedule})",
                f"repeat --epochs {before.epochs}, or start a new run from its weights: --init-from {path}",
            )
        before = replace(before, epochs=config.epochs)
    changed = before.differences(config)
    if changed:
        raise TrainingError(f"{path} was made with {'; '.join(changed)}", advice)
    if last.card.training["sets"] != card.training["sets"]:
        raise TrainingError(f"{path} was trained on other data than the given set", advice)
