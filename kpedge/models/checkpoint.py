"""Checkpoints: a model with its card and, to go on training, the state of its run."""

import io
import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kpedge.core.card import METADATA_KEY, Card, card_from_json
from kpedge.core.errors import CorruptModelError
from kpedge.core.extras import importable
from kpedge.core.files import read_bytes, write_bytes
from kpedge.models.build import KpedgeModel, model_from_state
from kpedge.models.course import read_course
from kpedge.models.keypoint_model import weights_hash

FORMAT = 1
OWN = "use a checkpoint that kpedge wrote"
EXPORTED = (".onnx", ".ort", ".tflite", ".pte", ".torchscript.pt")


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a `.pt` file of a run holds."""

    card: Card  # what the model expects and promises
    state: dict[str, Tensor]  # name -> tensor, of the model that the card describes
    config: dict[str, Any]  # the configuration that made it
    progress: dict[str, Any]  # epochs done, history, best figure so far
    # optimiser and random state; empty in a checkpoint that is only for use
    resume: dict[str, Any] = field(default_factory=dict)

    def model(self, source: str = "checkpoint") -> KpedgeModel:
        """The model, in evaluation mode.

        Raises:
            ModelError: weights and card do not fit together.
            CorruptModelError: the weights were changed.
        """
        model = model_from_state(self.card, plain_names(self.state), source)
        if weights_hash(model) != self.card.weights_sha256:
            raise CorruptModelError(
                f"{source}: the weights are not those that its card names", "use another checkpoint"
            )
        return model


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically."""
    buffer = io.BytesIO()
    content = {
        "kpedge": FORMAT,
        "card": checkpoint.card.to_json(),
        "state": checkpoint.state,
        "config": checkpoint.config,
        "progress": checkpoint.progress,
        "resume": checkpoint.resume,
    }
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


class ForeignFileError(CorruptModelError):
    """A PyTorch file that kpedge did not write; `state` is the state dict that it holds, empty if it holds none."""

    def __init__(self, message: str, state: dict[str, Tensor]) -> None:
        super().__init__(message, "start from its weights with kpedge train --init-from" if state else OWN)
        self.state = state


def _foreign(content: object, message: str) -> Checkpoint:
    """A checkpoint of the course."""
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ForeignFileError(message, {})
    state = plain_names({str(name): tensor for name, tensor in content.items()})
    if (course := read_course(state)) is None:
        raise ForeignFileError(message, state)
    return Checkpoint(*course, {}, {})


def plain_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights without the prefixes that `DistributedDataParallel` and `torch.compile` put before their names."""

    def plain(name: str) -> str:
        while (shorter := name.removeprefix("module.").removeprefix("_orig_mod.")) != name:
            name = shorter
        return name

    return {plain(name): tensor for name, tensor in state.items()}


def save_weights(path: Path, card: Card, state: dict[str, Tensor]) -> None:
    """Write weights with their card as a safetensors file, which holds nothing that can run code."""
    safetensors = importable("safetensors.torch", "train")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_bytes(path, safetensors.save(contiguous, {METADATA_KEY: card.to_json()}))


def _load_safetensors(data: bytes, path: Path) -> Checkpoint:
    """A checkpoint from a safetensors file."""
    safetensors = importable("safetensors.torch", "train")
    try:
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size]).get("__metadata__", {})
        state = safetensors.load(data)
    except Exception as error:
        raise CorruptModelError(f"{path}: not a safetensors file, or cut off") from error
    if METADATA_KEY not in metadata:
        return _foreign(state, f"{path}: a safetensors file, but not of kpedge")
    card = card_from_json(metadata[METADATA_KEY], str(path))
    return Checkpoint(card, state, dict(card.training.get("recipe", {})), {})


def load_weights(path: Path) -> tuple[dict[str, Tensor], Checkpoint | None]:
    """The weights of a checkpoint of kpedge, with the checkpoint, or of any PyTorch file that holds a state dict, as it
    is or under `state_dict` or `model`, under `plain_names`.

    Raises:
        CorruptModelError: as `load_checkpoint`, or the file holds no weights.
    """
    try:
        checkpoint = load_checkpoint(path)
    except ForeignFileError as error:
        if not error.state:
            raise
        return error.state, None
    return plain_names(checkpoint.state), checkpoint


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, of kpedge or of the course. Only tensors and plain values are unpickled: no file can run code.

    Raises:
        CorruptModelError: the file is missing, broken, not a kpedge checkpoint, or holds more than plain values.
    """
    data = read_bytes(path, CorruptModelError)
    if path.suffix == ".safetensors":
        return _load_safetensors(data, path)
    if path.name.endswith(EXPORTED):
        raise CorruptModelError(f"{path}: an exported file, not a checkpoint", OWN)
    if not data.startswith((b"PK", b"\x80")):  # neither an archive nor, before PyTorch 1.6, a pickle
        raise CorruptModelError(f"{path}: not a checkpoint", OWN)
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CorruptModelError(
            f"{path}: refused: the file is broken, or holds objects that could run code",
            "save the state_dict of the model, not the model",
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError, AttributeError, IndexError, TypeError) as error:
        raise CorruptModelError(f"{path}: not a checkpoint, or cut off", OWN) from error
    if not isinstance(content, dict) or "kpedge" not in content:
        return _foreign(content, f"{path}: a PyTorch file, but not a checkpoint of kpedge")
    if content["kpedge"] != FORMAT:
        raise CorruptModelError(
            f"{path}: checkpoint format {content['kpedge']}, this kpedge reads {FORMAT}", "update kpedge"
        )
    try:
        return Checkpoint(
            card=card_from_json(content["card"], str(path)),
            state=dict(content["state"]),
            config=dict(content["config"]),
            progress=dict(content["progress"]),
            resume=dict(content["resume"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptModelError(f"{path}: the checkpoint is damaged: {error}") from error
