"""What a run starts from: card, weights, parameter groups, and whether an earlier run can be gone on with."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kpedge.card import ModelCard
from kpedge.datasets.packed import PreparedSet
from kpedge.datasets.sampling import labelled_fractions
from kpedge.errors import TrainingError, UsageError
from kpedge.geometry import CropRule
from kpedge.models.checkpoint import Checkpoint
from kpedge.models.keypoint_model import ARCHITECTURES, KeypointModel, build_network
from kpedge.models.stage1 import initialise
from kpedge.training.config import TrainConfig


def new_card(recipe: str, source: PreparedSet, config: TrainConfig, start: ModelCard | None = None) -> ModelCard:
    """The card of a model that is about to be trained; `start` is that of the model whose weights it starts from.

    Raises:
        UsageError: there is no such recipe.
        DataError: the set has no face to train on.
    """
    if recipe not in ARCHITECTURES:
        raise UsageError(f"no recipe is called {recipe!r}", f"known: {', '.join(sorted(ARCHITECTURES))}")
    network = ARCHITECTURES[recipe]
    rule = CropRule()
    return ModelCard(
        name=recipe,
        task="keypoints",
        architecture={"name": recipe, "options": {}},
        size=network.size,
        colour=network.colour,
        crop=rule,
        scheme=source.scheme,
        mean_shape=labelled_fractions(source, source.indices("train"), rule).mean(axis=0),
        training={
            "sets": [
                {
                    "name": source.info["name"],
                    "terms": source.info["terms"],
                    "source_sha256": source.source_sha256,
                    "counts": source.info["counts"],
                }
            ],
            "recipe": config.to_dict(),
            "start": None if start is None else {"weights_sha256": start.weights_sha256, **start.training},
        },
    )


def new_model(card: ModelCard, source: PreparedSet, indices: NDArray[np.intp], config: TrainConfig) -> KeypointModel:
    """The model of a card, initialised; torch's seed is set by the caller."""
    network = build_network(card.architecture, len(card.scheme))
    initialise(network, config.init)
    spread = float((labelled_fractions(source, indices, card.crop) - card.mean_shape).std())
    return KeypointModel(network, torch.as_tensor(card.mean_shape), max(spread, 1e-4))


def load_matching(model: nn.Module, state: dict[str, Tensor], source: str, say: Callable[[str], None]) -> None:
    """Load the weights that fit by name and shape; name those that do not.

    Raises:
        TrainingError: none fits.
    """
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    if not fitting:
        raise TrainingError(f"{source}: not one weight fits this network", "give a checkpoint of the same family")
    model.load_state_dict(fitting, strict=False)
    say(f"{source}: {len(fitting)} of {len(own)} tensors loaded")
    for title, names in (
        ("left as initialised", own.keys() - fitting.keys()),
        ("not used", state.keys() - fitting.keys()),
    ):
        if names:
            say(f"{title}: {', '.join(sorted(names))}")


def parameter_groups(network: nn.Module, config: TrainConfig, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Parameters by learning rate and weight decay; those of frozen layers are taken out of training.

    A pattern is matched against a parameter's name (`conv1_1.weight`) and its layer's (`conv1_1`).

    Raises:
        UsageError: a pattern fits nothing, or nothing is left to train.
    """
    names = [name for name, _ in network.named_parameters()]

    def fits(name: str, pattern: str) -> bool:
        return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name.rpartition(".")[0], pattern)

    def known(flag: str, patterns: Iterable[str]) -> None:
        for pattern in patterns:
            if not any(fits(name, pattern) for name in names):
                layers = sorted({name.rpartition(".")[0] for name in names})
                raise UsageError(f"--{flag} {pattern}: no layer of that name", f"layers: {', '.join(layers)}")

    known("freeze", config.freeze)
    known("lr-group", [pattern for pattern, _ in config.lr_groups])
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
        say(f"frozen: {', '.join(frozen)}")
    for lr in sorted({lr for lr, _ in groups} - {config.lr}):
        count = sum(parameter.numel() for (rate, _), members in groups.items() if rate == lr for parameter in members)
        say(f"learning rate {lr:g} for {count:,} parameters, {config.lr:g} for the rest")
    return [
        {"params": members, "lr": lr, "initial_lr": lr, "weight_decay": decay}
        for (lr, decay), members in groups.items()
    ]


def check_resumable(last: Checkpoint, config: TrainConfig, card: ModelCard, path: Path) -> None:
    """Whether going on from a checkpoint gives what an uninterrupted run would have given.

    Raises:
        TrainingError: other recipe, flags or data.
    """
    advice = "give the same flags, or start afresh with another --out"
    if last.card.name != card.name:
        raise TrainingError(f"{path} is a run of {last.card.name}, not {card.name}", advice)
    changed = TrainConfig.from_dict(last.config).differences(config)
    if changed:
        raise TrainingError(f"{path} was made with {'; '.join(changed)}", advice)
    if last.card.training["sets"] != card.training["sets"]:
        raise TrainingError(f"{path} was trained on other data than the given set", advice)
    if not last.resume:
        raise TrainingError(
            f"{path} holds no optimiser state, so the run cannot go on", "start with --init-from instead"
        )
