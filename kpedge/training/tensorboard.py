"""TensorBoard: scalars, histograms of weights and gradients, pictures with points, the graph, hyper-parameters."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kpedge.core.drawing import face_pictures
from kpedge.core.extras import importable
from kpedge.core.files import make_folder
from kpedge.evaluation.compare import Record
from kpedge.models.keypoint_model import KeypointModel
from kpedge.training.validation import Validation, ValidationData

PICTURES = 12
"""Times that histograms and pictures are written over a run, besides the first and the last epoch."""
BEST = ("val_nme", "val_failure", "val_accuracy")
"""Figures that hyper-parameters are held against; of a detector the average precisions."""
FACES = 16
"""Faces on a picture."""
SIDE = 168
"""Side of each, pixels."""


class Board:
    """Writes one run's events."""

    def __init__(self, path: Path, settings: dict[str, Any], *, purge_step: int) -> None:
        """Open the folder; events from `purge_step` on are taken for lost.

        Raises:
            MissingExtraError: tensorboard is not installed.
            OutputError: the folder cannot be made.
        """
        make_folder(path)
        writer = importable("torch.utils.tensorboard", "train")
        self._writer: Any = writer.SummaryWriter(str(path), purge_step=purge_step)
        self._settings = settings
        self._first = purge_step <= 1

    def log(
        self,
        record: Record,
        model: KeypointModel,
        kept: KeypointModel,
        data: ValidationData,
        result: Validation,
        *,
        of: int,
    ) -> None:
        """Write an epoch: its figures always, histograms and pictures now and then.

        Args:
            record: the figures.
            model: what is trained, with the gradients of the last step.
            kept: what was validated.
            data: what it was validated on.
            result: what came out.
            of: epochs in all.
        """
        epoch = int(record["epoch"])
        if epoch == 1 and self._first:
            self._graph(kept, data.faces.crops[:2])
        if not self.figures(record, model.network, of=of):
            return
        errors = result.accuracy.face_errors
        shown = np.linspace(0, len(errors) - 1, min(FACES, len(errors))).astype(int)
        preview = face_pictures(
            data.faces.crops[shown],
            data.faces.truth.keypoints[shown],
            result.predicted[shown],
            data.faces.truth.scheme,
            [f"{errors[index]:.1%}" for index in shown],
            columns=4,
            side=SIDE,
        )
        self._writer.add_image("validation", preview[:, :, ::-1].copy(), epoch, dataformats="HWC")

    def figures(self, record: Record, network: nn.Module, *, of: int) -> bool:
        """Write an epoch's figures and, now and then, histograms of weights and of the last step's gradients.

        Args:
            record: the figures.
            network: what is trained.
            of: epochs in all.

        Returns:
            Whether this is an epoch with histograms.
        """
        epoch = int(record["epoch"])
        for key, value in record.items():
            if key != "epoch":
                self._writer.add_scalar(key.replace("_", "/", 1), value, epoch)
        if epoch not in (1, of) and epoch % max(1, of // PICTURES):
            return False
        for name, parameter in network.named_parameters():
            self._writer.add_histogram(f"weights/{name}", parameter.detach().cpu(), epoch)
            if parameter.grad is not None:
                self._writer.add_histogram(f"gradients/{name}", parameter.grad.detach().float().cpu(), epoch)
        return True

    def _graph(self, model: KeypointModel, crops: NDArray[np.uint8]) -> None:
        """The network's graph. It is traced, and PyTorch marks its tracing as deprecated."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._writer.add_graph(model, torch.from_numpy(crops).to(model.mean_shape.device))

    def close(self, history: list[Record]) -> None:
        """Write the hyper-parameters with the best figures, and close the file."""
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
