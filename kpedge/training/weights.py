"""Weights of a run: initial ones from a file, parameter groups, frozen layers, their moving average."""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kpedge.core.errors import TrainingError, UsageError
from kpedge.core.model_zoo import resolve_weights
from kpedge.models.checkpoint import load_weights
from kpedge.models.keypoint_model import state_hash
from kpedge.training.config import RunConfig

Notify = Callable[[str], None]  # takes one line for the user


@dataclass(frozen=True, slots=True, eq=False)
class InitWeights:
    """Weights that training starts from."""

    source: str  # the file, for messages
    state: dict[str, Tensor]  # name -> tensor
    sha256: str  # hash of the weights
    training: dict[str, Any]  # how they were trained, where the file says so
    bias: Tensor | None = None  # annotation bias of the run's sets but the first (`DatasetBias`), where the file has it
    foreign: bool = False  # whether another program wrote them

    def to_dict(self) -> dict[str, Any]:
        """The record for a model card."""
        return {"weights_sha256": self.sha256, **self.training}


def read_init_weights(path: str | Path) -> InitWeights:
    """The weights of a checkpoint, a run folder, a released model by name, or any PyTorch file with a state dict."""
    state, checkpoint = load_weights(resolve_weights(path))
    if checkpoint is None:
        return InitWeights(str(path), state, state_hash(state), {}, foreign=True)
    card, resume = checkpoint.card, checkpoint.resume
    bias = resume.get("loss", resume.get("objective", {})).get("offsets.values")  # "objective" before version 0.2
    return InitWeights(str(path), state, card.weights_sha256, card.training, bias)


def load_init_weights(model: nn.Module, init: InitWeights, notify: Notify) -> None:
    """Load the weights that fit by name and shape, and report those that do not.

    Names may be those of the network alone, or of a network of torchvision whose features are the backbone. Its weights
    for red, green and blue are turned to blue, green and red, or summed for grey crops. Weights of a narrower network
    become the first channels of this one (`widened`).

    Raises:
        TrainingError: none fits.
    """
    own = model.state_dict()
    state = max(_candidates(init.state), key=lambda named: len(own.keys() & named.keys()))
    for name, tensor in state.items():
        if name.startswith("network.backbone.") and name in own and init.foreign and tensor.shape[1:2] == (3,):
            state[name] = tensor.flip(1) if own[name].shape[1] == 3 else tensor.sum(1, keepdim=True)
            break
    fitting = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    wider = {
        name: widened(own[name], tensor)
        for name, tensor in state.items()
        if name not in fitting and not init.foreign and _has_more_channels(model, name, own.get(name), tensor)
    }
    fitting |= wider
    if not any(name.startswith("network.") for name in fitting):
        raise TrainingError(f"{init.source}: not one weight fits this network", "give a checkpoint of the same family")
    model.load_state_dict(fitting, strict=False)
    more = f", {len(wider)} of them widened by new channels" if wider else ""
    notify(f"{init.source}: {len(fitting)} of {len(own)} tensors loaded{more}")
    for title, names in (
        ("left as initialised", own.keys() - fitting.keys()),
        ("not used", state.keys() - fitting.keys()),
    ):
        if names:
            notify(f"{title}: {', '.join(sorted(names))}")


def _has_more_channels(model: nn.Module, name: str, own: Tensor | None, tensor: Tensor) -> bool:
    """Whether a tensor is one of a convolution or a normalisation behind it, of fewer channels than the model's own."""
    layer = name.rpartition(".")[0]
    inside = layer.startswith("network.") and not layer.startswith("network.head.")
    if own is None or not inside or isinstance(model.get_submodule(layer), nn.Linear):
        return False
    if tensor.ndim != own.ndim or tensor.ndim == 0 or tensor.shape[2:] != own.shape[2:]:
        return False
    return all(narrow <= wide for narrow, wide in zip(tensor.shape[:2], own.shape[:2], strict=True))


def widened(own: Tensor, tensor: Tensor) -> Tensor:
    """A narrower network's weights as the first channels of `own`, whose other channels stay as initialised; where the
    narrower network's channels read them, with weights of 0. In a chain of layers the wider network so computes what
    the narrower one did, and has new channels to learn with (after Net2Net, Chen, Goodfellow & Shlens 2016).
    """
    wide = own.clone()
    wide[: len(tensor)] = 0
    wide[tuple(slice(side) for side in tensor.shape)] = tensor
    return wide


def _candidates(state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The same weights under each of the names that they may have here."""

    def resnet(name: str) -> str:
        return re.sub(r"^layer(\d)", lambda match: f"layers.{int(match[1]) - 1}", name)

    prefixes = ("", "network.", "network.backbone.body.")
    renamed = [{prefix + name: tensor for name, tensor in state.items()} for prefix in prefixes]
    return [*renamed, {f"network.backbone.{resnet(name)}": tensor for name, tensor in state.items()}]


def parameter_groups(network: nn.Module, config: RunConfig, notify: Notify) -> list[dict[str, Any]]:
    """Parameters by learning rate and weight decay, those with the run's own rate first; frozen ones are left out and
    need no gradient from here on.

    A pattern is matched against a parameter's name (`conv1_1.weight`) and its layer's (`conv1_1`).

    Raises:
        UsageError: a pattern fits nothing, or nothing is left to train.
    """
    names = [name for name, _ in network.named_parameters()]

    def fits(name: str, pattern: str) -> bool:
        return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name.rpartition(".")[0], pattern)

    def check(flag: str, patterns: Iterable[str]) -> None:
        for pattern in patterns:
            if not any(fits(name, pattern) for name in names):
                layers = sorted({name.rpartition(".")[0] for name in names})
                raise UsageError(f"--{flag} {pattern}: no layer of that name", f"layers: {', '.join(layers)}")

    check("freeze", config.freeze)
    check("lr-group", [pattern for pattern, _ in config.lr_groups])
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    frozen: list[str] = []
    for name, parameter in network.named_parameters():
        if any(fits(name, pattern) for pattern in config.freeze):
            parameter.requires_grad_(False)
            frozen.append(name)
            continue
        lr = next((lr for pattern, lr in config.lr_groups if fits(name, pattern)), config.lr)
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((lr, decay), []).append(parameter)
    if not groups:
        raise UsageError("--freeze leaves nothing to train", "freeze fewer layers")
    if frozen:
        notify(f"frozen: {', '.join(frozen)}")
    for lr in sorted({lr for lr, _ in groups} - {config.lr}):
        count = sum(parameter.numel() for (rate, _), members in groups.items() if rate == lr for parameter in members)
        notify(f"learning rate {lr:g} for {count:,} parameters, {config.lr:g} for the rest")
    ordered = sorted(groups.items(), key=lambda item: item[0][0] != config.lr)
    return [{"params": members, "lr": lr, "weight_decay": decay} for (lr, decay), members in ordered]


def train_mode(module: nn.Module) -> None:
    """Training mode, but for normalisation layers whose weights are frozen: they keep their running statistics too."""
    module.train()
    for layer in module.modules():
        weights = list(layer.parameters(recurse=False))
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and not any(weight.requires_grad for weight in weights):
            layer.eval()


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a model's weights and buffers (Polyak & Juditsky 1992), in evaluation mode.

    It is smoother than the last step's weights, and nearly as good as a learning rate that falls to 0, at any time.
    Its first steps have a smaller decay, so that the start is forgotten.
    """

    def update(averaged: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
        count = int(steps)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averaged, current, count)  # type: ignore[no-untyped-call]

    averaged = AveragedModel(model, multi_avg_fn=update, use_buffers=True)  # type: ignore[arg-type]
    averaged.requires_grad_(False)
    return averaged.eval()


def resume_average(averaged: AveragedModel, state: dict[str, Tensor], steps: int) -> None:
    """Go on from an earlier average."""
    averaged.module.load_state_dict(state)
    averaged.n_averaged.copy_(torch.tensor(steps))
