"""TensorBoard: scalars, histograms of weights and gradients, validation images, the graph, hyperparameters."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kpedge.core.extras import importable
from kpedge.core.files import make_folder
from kpedge.evaluation.compare import Record
from kpedge.training.task import Task

SNAPSHOTS = 12  # times that histograms and images are written over a run, in addition to the first and the last epoch
BEST = ("val_nme", "val_failure", "val_accuracy", "val_ap")  # figures that are shown with the hyperparameters


class Board:
    """Writes one run's events."""

    def __init__(self, path: Path, settings: dict[str, Any], *, purge_step: int) -> None:
        """Open the folder; events from `purge_step` on are discarded."""
        make_folder(path)
        writer = importable("torch.utils.tensorboard", "train")
        self._writer: Any = writer.SummaryWriter(str(path), purge_step=purge_step)
        self._settings = settings

    def log(self, record: Record, model: Any, kept: nn.Module, task: Task, result: Any, *, of: int) -> None:
        """Write an epoch: its figures always, histograms and images now and then, the graph once. The model has the
        gradients of the last step; `kept` is what was validated, with this result or none; there are `of` epochs.
        """
        epoch = int(record["epoch"])
        for key, value in record.items():
            if key != "epoch":
                self._writer.add_scalar(key.replace("_", "/", 1), value, epoch)
        example = task.example() if epoch == 1 else None
        if example is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch marks its own tracing as deprecated
                device = next(kept.parameters()).device
                self._writer.add_graph(kept, torch.from_numpy(example).to(device))
        if epoch not in (1, of) and epoch % max(1, of // SNAPSHOTS):
            return
        for name, parameter in model.network.named_parameters():
            for kind, values in (("weights", parameter.detach()), ("gradients", parameter.grad)):
                if values is not None and values.isfinite().all():  # those of float16 may not be
                    self._writer.add_histogram(f"{kind}/{name}", values.float().cpu(), epoch)
        preview = None if result is None else task.preview(result)
        if preview is not None:
            self._writer.add_image("validation", preview[:, :, ::-1].copy(), epoch, dataformats="HWC")

    def close(self, history: list[Record]) -> None:
        """Write the hyperparameters with the best figures, and close the file."""
        measured = [record for record in history if "criterion" in record]
        if measured:
            plain = {
                name: value if isinstance(value, bool | int | float | str) else str(value)
                for name, value in self._settings.items()
            }
            best = min(measured, key=lambda record: record["criterion"])
            figures = {f"best/{name}": value for name, value in best.items() if name in BEST or "val_ap_" in name}
            self._writer.add_hparams(plain, figures, run_name=".")
        self._writer.close()
