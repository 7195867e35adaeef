"""What a run starts from: card, weights, parameter groups, and whether an earlier run can be gone on with."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kpedge.card import Card, ModelCard
from kpedge.datasets.mixture import Mixture, in_scheme
from kpedge.datasets.packed import PreparedSet
from kpedge.datasets.sampling import CropSampler, labelled_fractions
from kpedge.errors import DataError, TrainingError, UsageError
from kpedge.geometry import CropRule
from kpedge.keypoints import conversion
from kpedge.models.checkpoint import Checkpoint, load_checkpoint, load_weights
from kpedge.models.initialise import initialise
from kpedge.models.keypoint_model import ARCHITECTURES, KeypointModel, empty_model, state_hash
from kpedge.models.stage3 import Stage3
from kpedge.scheme import KeypointScheme
from kpedge.training.config import RunConfig, TrainConfig, network_options
from kpedge.training.objective import Objective


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Weights that training starts from.

    Attributes:
        state: name -> tensor.
        sha256: hash of the weights.
        training: how they came about, where the file says so.
        offsets: where other sets put their points, as the run learnt that the file is the last state of; else None.
    """

    state: dict[str, Tensor]
    sha256: str
    training: dict[str, Any]
    offsets: Tensor | None = None


def start_from(path: Path) -> Start:
    """The weights of a checkpoint of kpedge, or of any PyTorch file that holds a state dict.

    Raises:
        CorruptModelError: the file is missing or broken, or holds no weights.
    """
    state, card = load_weights(path)
    if card is None:
        return Start(state, state_hash(state), {})
    offsets = load_checkpoint(path).resume.get("objective", {}).get("offsets.values")
    return Start(state, card.weights_sha256, card.training, offsets)


@dataclass(frozen=True, slots=True, eq=False)
class SetUp:
    """What a run has in hand before its first step.

    Attributes:
        card: of the model.
        samplers: of the sets, disturbed as in training, the main one first.
        mixture: gives the batches.
        model: initialised, on the device.
        objective: the model with its loss, on the device.
        groups: of parameters, for an optimiser.
    """

    card: ModelCard
    samplers: Sequence[CropSampler]
    mixture: Mixture
    model: KeypointModel
    objective: Objective
    groups: list[dict[str, Any]]


def set_up(
    recipe: str,
    sets: Sequence[PreparedSet],
    config: TrainConfig,
    device: str,
    start: Start | None,
    say: Callable[[str], None],
) -> SetUp:
    """Seed PyTorch, and make model, objective and batches of a run.

    Args:
        recipe: a key of `ARCHITECTURES`.
        sets: what it is trained on, the main one first; the others may have points of other schemes.
        config: of the training.
        device: where PyTorch computes.
        start: the weights that training starts from, which the caller will load.
        say: told what is frozen, which layers have a rate of their own, and which points follow from other schemes.

    Raises:
        UsageError: there is no such recipe, or a pattern of `freeze` or `lr_groups` fits no layer.
        DataError: there is nothing to train on, or no point of the main set follows from those of another.
    """
    main = sets[0].scheme
    for one in sets[1:]:
        if one.scheme != main and one.face.any():
            count = len(conversion(one.scheme, main).known)
            say(f"{one.info['name']}: of {main.name}'s {len(main)} points {count} follow from {one.scheme.name}")
    sets = [in_scheme(one, main) for one in sets]
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(device == "cpu")
    torch.manual_seed(config.seed)
    card = new_card(recipe, sets, config, start)
    samplers = [
        CropSampler(one, card.size, card.colour, card.crop, config.jitter(), config.seed, config.photometric())
        for one in sets
    ]
    mixture = Mixture(samplers, config.negatives if card.has_score else 0.0, config.others, config.seed)
    model = new_model(card, sets[0], config)
    groups = parameter_groups(model.network, config, say)
    objective = Objective(model, config, len(sets), card.scheme).to(device)
    if objective.offsets is not None:
        groups.append(
            {"params": [objective.offsets.values], "lr": config.lr, "initial_lr": config.lr, "weight_decay": 0.0}
        )
    if config.channels_last:
        objective.to(memory_format=torch.channels_last)
    return SetUp(card, samplers, mixture, model, objective, groups)


def fitting(config: TrainConfig, scheme: KeypointScheme, say: Callable[[str], None]) -> TrainConfig:
    """The configuration as far as a scheme allows it: pictures are mirrored only where it says which points swap."""
    if not config.mirror or scheme.can_mirror:
        return config
    say(f"no picture is mirrored: {scheme.name} does not say which points swap (its mirror pairs, docs/schemes.md)")
    return replace(config, mirror=False)


def describe_set(source: PreparedSet) -> dict[str, Any]:
    """What a card says of a set that a model was trained on."""
    names = ("name", "terms", "counts")
    return {**{name: source.info[name] for name in names}, "source_sha256": source.source_sha256}


def new_card(recipe: str, sets: Sequence[PreparedSet], config: TrainConfig, start: Start | None = None) -> ModelCard:
    """The card of a model that is about to be trained.

    Args:
        recipe: a key of `ARCHITECTURES`.
        sets: what it is trained on, the main one first.
        config: of the training.
        start: the weights that training starts from.

    Raises:
        UsageError: there is no such recipe.
        DataError: the main set has no face to train on.
    """
    if recipe not in ARCHITECTURES:
        raise UsageError(f"no recipe is called {recipe!r}", f"known: {', '.join(sorted(ARCHITECTURES))}")
    network, rule, main = ARCHITECTURES[recipe], CropRule(), sets[0]
    faces = main.indices("train")
    if not len(faces):
        raise DataError(f"{main.path}: no face to train on", "give the set with faces first")
    shapes = labelled_fractions(main, faces, rule)
    never = np.flatnonzero(np.isnan(shapes).all(axis=(0, 2)))
    if len(never):
        raise DataError(
            f"{main.path}: of {main.scheme.name}'s points {_listed([main.scheme.points[index] for index in never])} "
            f"{'is' if len(never) == 1 else 'are'} labelled on no face to train on",
            "give a set with all points as --data, and this one as --also; or a scheme with fewer points",
        )
    options = network_options(recipe, config)
    if recipe == "stage1" and config.colour == "grey":
        options = {}  # as stage 1 was before it had options
    return ModelCard(
        name=recipe,
        task="face keypoints" if issubclass(network, Stage3) else "keypoints",
        architecture={
            "name": recipe,
            "options": options,
            **({} if config.normalise == "crop" else {"normalise": config.normalise}),
        },
        size=network.size,
        colour=config.colour,
        crop=rule,
        scheme=main.scheme,
        mean_shape=np.nanmean(shapes, axis=0),
        training={
            "sets": [describe_set(source) for source in sets],
            "recipe": config.to_dict(),
            "start": None if start is None else {"weights_sha256": start.sha256, **start.training},
        },
    )


def _listed(names: Sequence[str], most: int = 3) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def new_model(card: ModelCard, main: PreparedSet, config: TrainConfig) -> KeypointModel:
    """The model of a card, initialised; torch's seed is set by the caller."""
    model = empty_model(card)
    initialise(model.network, config.init)
    shapes = labelled_fractions(main, main.indices("train"), card.crop)
    model.spread.fill_(max(float(np.nanstd(shapes - card.mean_shape)), 1e-4))
    return model


def load_matching(model: nn.Module, state: dict[str, Tensor], source: str, say: Callable[[str], None]) -> None:
    """Load the weights that fit by name and shape; name those that do not.

    Names may begin with `module.`, as those of a model saved from within DistributedDataParallel do, and may be those
    of the network alone.

    Raises:
        TrainingError: none fits.
    """
    own = model.state_dict()
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if not any(name in own for name in state):
        state = {f"network.{name}": tensor for name, tensor in state.items()}
    fitting = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    if not any(name.startswith("network.") for name in fitting):
        raise TrainingError(f"{source}: not one weight fits this network", "give a checkpoint of the same family")
    model.load_state_dict(fitting, strict=False)
    say(f"{source}: {len(fitting)} of {len(own)} tensors loaded")
    for title, names in (
        ("left as initialised", own.keys() - fitting.keys()),
        ("not used", state.keys() - fitting.keys()),
    ):
        if names:
            say(f"{title}: {', '.join(sorted(names))}")


def go_on_with_offsets(objective: Objective, card: Card, start: Start) -> None:
    """Where training goes on with a run's main set and others of its sets, their offsets are known."""
    known, wanted = (
        [one["source_sha256"] for one in sets] for sets in (start.training.get("sets", []), card.training["sets"])
    )
    if objective.offsets is None or start.offsets is None or known[:1] != wanted[:1]:
        return
    if start.offsets.shape[1:] != objective.offsets.values.shape[1:]:
        return
    with torch.no_grad():
        for number, one in enumerate(wanted[1:]):
            if one in known[1:]:
                objective.offsets.values[number] = start.offsets[known[1:].index(one)]


def parameter_groups(network: nn.Module, config: RunConfig, say: Callable[[str], None]) -> list[dict[str, Any]]:
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


def check_resumable(last: Checkpoint, config: RunConfig, card: Card, path: Path) -> None:
    """Whether going on from a checkpoint gives what an uninterrupted run would have given.

    Raises:
        TrainingError: other recipe, flags or data.
    """
    advice = "give the same flags, or start afresh with another --out"
    if last.card.name != card.name:
        raise TrainingError(f"{path} is a run of {last.card.name}, not {card.name}", advice)
    changed = type(config).from_dict(last.config).differences(config)
    if changed:
        raise TrainingError(f"{path} was made with {'; '.join(changed)}", advice)
    if last.card.training["sets"] != card.training["sets"]:
        raise TrainingError(f"{path} was trained on other data than the given set", advice)
    if not last.resume:
        raise TrainingError(
            f"{path} holds no optimiser state, so the run cannot go on", "start with --init-from instead"
        )


def stop_frozen_statistics(network: nn.Module) -> None:
    """Normalisation layers whose weights are frozen keep their running statistics too."""
    for layer in network.modules():
        weights = list(layer.parameters(recurse=False))
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and not any(weight.requires_grad for weight in weights):
            layer.eval()
