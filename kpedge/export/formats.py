"""The formats that a model comes in, and opening any of them. Imports PyTorch only for those that need it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import Card, Outputs
from kpedge.core.errors import CorruptModelError
from kpedge.core.extras import importable
from kpedge.core.files import read_bytes
from kpedge.runtime.sessions import Model, OnnxModel

CHECKPOINT, TORCHSCRIPT, ONNX = "checkpoint", "torchscript", "onnx"
SUFFIXES = {ONNX: ".onnx", TORCHSCRIPT: ".torchscript.pt"}
"""Format that can be exported -> ending of its file."""


def format_of(path: Path) -> str:
    """Which format a model file has, told by its content.

    Raises:
        CorruptModelError: there is no such file, or it is empty.
    """
    start = read_bytes(path, CorruptModelError, limit=2)
    if not start:
        raise CorruptModelError(f"{path}: the file is empty")
    if path.suffix == ".json":
        models = [other.name for suffix in SUFFIXES.values() if (other := path.with_suffix(suffix)).is_file()]
        raise CorruptModelError(
            f"{path} is a card, not a model", f"give {' or '.join(models) or 'the model beside it'}"
        )
    if start == b"PK":
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile:
            return CHECKPOINT
        return TORCHSCRIPT if any(name.endswith("/constants.pkl") for name in names) else CHECKPOINT
    if path.suffix in (".pt", ".pth") or start[:1] == b"\x80":  # the pickles of PyTorch before 1.6
        return CHECKPOINT
    return ONNX


class TorchModel:
    """A PyTorch module, eager or TorchScript, called with NumPy arrays.

    Attributes:
        card: the model's card.
        module: takes uint8 (N, H, W, C), gives the outputs in the order of the card.
        device: where it runs.
    """

    def __init__(self, module: Any, card: Card, device: str = "cpu") -> None:
        self._torch: Any = importable("torch", "train")
        self.module = module.eval().to(device)
        self.card = card
        self.device = device

    def __call__(self, inputs: NDArray[np.uint8]) -> Outputs:
        """Crops or frames, uint8 (N, H, W, C), to the outputs that the card names."""
        with self._torch.inference_mode():
            found = self.module(self._torch.from_numpy(inputs).to(self.device))
        values = found if isinstance(found, tuple | list) else (found,)
        return {
            name: np.asarray(value.cpu().numpy(), dtype=np.float32)
            for name, value in zip(self.card.outputs, values, strict=True)
        }


def open_model(path: Path, *, threads: int = 1, providers: tuple[str, ...] = ("CPUExecutionProvider",)) -> Model:
    """Open an ONNX file, a TorchScript file or a checkpoint.

    Args:
        path: the file.
        threads: CPU threads.
        providers: onnxruntime's execution providers; the other formats run on the CPU.

    Raises:
        CorruptModelError: missing, broken, or not from kpedge.
        MissingExtraError: the format needs PyTorch, which is not installed.
    """
    kind = format_of(path)
    if kind == ONNX:
        return OnnxModel(path, threads=threads, providers=providers)
    importable("torch", "train").set_num_threads(threads)
    if kind == TORCHSCRIPT:
        from kpedge.export.to_torchscript import load_torchscript

        return TorchModel(*load_torchscript(path))
    from kpedge.models.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    return TorchModel(checkpoint.model(str(path)), checkpoint.card)


def open_eager(path: Path) -> TorchModel:
    """The PyTorch model itself, from a checkpoint or from the weights inside a TorchScript file.

    Raises:
        CorruptModelError: as `open_model`.
        ModelError: an ONNX file, or weights that do not fit their card.
    """
    importable("torch", "train")
    from kpedge.models.build import model_from_state
    from kpedge.models.checkpoint import load_checkpoint

    if format_of(path) == TORCHSCRIPT:
        from kpedge.export.to_torchscript import load_torchscript

        module, card = load_torchscript(path)
        return TorchModel(model_from_state(card, dict(module.state_dict()), str(path)), card)
    checkpoint = load_checkpoint(path)
    return TorchModel(checkpoint.model(str(path)), checkpoint.card)
