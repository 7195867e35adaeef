"""Opening a model file of any format. Imports PyTorch only for those that need it."""

from pathlib import Path

from kpedge.core.errors import CorruptModelError, ModelError
from kpedge.core.extras import importable
from kpedge.core.files import read_bytes
from kpedge.core.model_zoo import resolve_model
from kpedge.export.registry import FORMATS
from kpedge.models.torch_model import TorchModel
from kpedge.runtime.models import open_runtime_model
from kpedge.runtime.registry import AUTO, PYTORCH_SUFFIXES
from kpedge.runtime.sessions import Model

CHECKPOINT, TORCHSCRIPT, ONNX = "checkpoint", "torchscript", "onnx"


def format_of(path: Path) -> str:
    """Which format a model has, by its content: a key of `FORMATS`, or `CHECKPOINT`.

    Raises:
        CorruptModelError: there is no such file, or it is empty.
    """
    if path.is_dir():
        start = b""
    else:
        start = read_bytes(path, CorruptModelError, limit=64)
        if not start:
            raise CorruptModelError(f"{path}: the file is empty")
    if path.suffix == ".json":
        models = [other.name for one in FORMATS.values() if (other := path.with_suffix(one.suffix)).exists()]
        raise CorruptModelError(f"{path} is a card, not a model", f"give {' or '.join(models) or 'the model'}")
    for name in reversed(list(FORMATS)):  # the special ones before the plain ones that they are made from
        if FORMATS[name].matches(path, start):
            return name
    if path.is_dir():
        read_bytes(path, CorruptModelError)  # which names a file in it
    if start[:2] == b"PK" or start[:1] == b"\x80" or path.suffix in PYTORCH_SUFFIXES:
        return CHECKPOINT
    return ONNX


def open_model(path: str | Path, *, threads: int = 1, provider: str = "cpu", backend: str = AUTO) -> Model:
    """Open a model of any format.

    Args:
        path: the file, the folder of a format that has several, a run folder, or a released model's name.
        threads: CPU threads.
        provider: what onnxruntime computes with.
        backend: a key of `kpedge.runtime.registry.BACKENDS`; by the file when `AUTO`.

    Raises:
        ModelError: there is no such model.
        CorruptModelError: it is broken, or not from kpedge.
        MissingExtraError: the format needs a module that is not installed.
        UsageError: what runs the format knows no such provider.
    """
    path = resolve_model(path)
    kind = format_of(path)
    if backend == AUTO and kind in (CHECKPOINT, TORCHSCRIPT):
        importable("torch", "train").set_num_threads(threads)
        return open_eager(path) if kind == CHECKPOINT else _open_torchscript(path)
    chosen = FORMATS[kind].backend if backend == AUTO else backend
    return open_runtime_model(path, threads=threads, provider=provider, backend=chosen)


def _open_torchscript(path: Path) -> TorchModel:
    from kpedge.export.formats.torchscript import load_torchscript

    return TorchModel(*load_torchscript(path))


def open_eager(path: Path) -> TorchModel:
    """The PyTorch model itself, from a checkpoint or from the weights inside a TorchScript file.

    Raises:
        CorruptModelError: as `open_model`.
        ModelError: the format holds no weights for PyTorch, or they do not fit their card.
    """
    importable("torch", "train")
    from kpedge.models.build import model_from_state
    from kpedge.models.checkpoint import load_checkpoint

    kind = format_of(path)
    if kind == TORCHSCRIPT:
        traced = _open_torchscript(path)
        return TorchModel(model_from_state(traced.card, dict(traced.module.state_dict()), str(path)), traced.card)
    if kind != CHECKPOINT:
        raise ModelError(f"{path}: {kind} files hold no weights for PyTorch", "give its checkpoint")
    checkpoint = load_checkpoint(path)
    return TorchModel(checkpoint.model(str(path)), checkpoint.card)
