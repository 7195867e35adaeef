"""Training: set-up, step, validation, save. Plain PyTorch, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kpedge.card import ModelCard
from kpedge.datasets.packed import PreparedSet
from kpedge.errors import TrainingError
from kpedge.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kpedge.models.keypoint_model import KeypointModel, weights_hash
from kpedge.training.average import WeightAverage
from kpedge.training.board import Board
from kpedge.training.config import TrainConfig
from kpedge.training.distributed import World, joined
from kpedge.training.metrics import MSE_SIZE, measure
from kpedge.training.objective import LOSS_NAMES
from kpedge.training.optimisers import new_optimiser, phase_of
from kpedge.training.run import Record, Run
from kpedge.training.schedules import epochs_since_best, learning_rate
from kpedge.training.setup import (
    check_resumable,
    fitting,
    go_on_with_offsets,
    load_matching,
    set_up,
    start_from,
    stop_frozen_statistics,
)
from kpedge.training.step import Stepper
from kpedge.training.validation import Validation, validate, validation_data

Say = Callable[[str], None]
"""Takes one line for people."""
OnEpoch = Callable[[Record, int], None]
"""Called after each epoch with its record and the number of epochs in all."""


def ignore(*_told: object) -> None:
    """Tell nobody."""


NO_BETTER = 0.98
"""A validation error above this fraction of the mean face's means that nothing was learnt."""
GPU_WORKERS = 8
"""Threads that prepare batches ahead of a GPU."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run ended with.

    Attributes:
        best: path of the best checkpoint.
        epochs: epochs done.
        best_epoch: epoch of the best checkpoint, from 1.
        best_nme: its error on the validation split, fraction of the box.
        mean_face_nme: the mean face's.
        speaks: whether this process is the one that writes and speaks.
    """

    best: Path
    epochs: int
    best_epoch: int
    best_nme: float
    mean_face_nme: float
    speaks: bool = True

    @property
    def nothing_learnt(self) -> bool:
        """Whether the best checkpoint is no better than the mean face."""
        return self.best_nme > NO_BETTER * self.mean_face_nme


def train(
    recipe: str,
    source: PreparedSet,
    out: Path,
    config: TrainConfig,
    *,
    also: Sequence[PreparedSet] = (),
    resume: bool = False,
    force: bool = False,
    init_from: Path | None = None,
    device: str = "cpu",
    say: Say = ignore,
    on_epoch: OnEpoch = ignore,
) -> TrainResult:
    """Train a keypoint model on prepared sets.

    The weights after every epoch are a function of the configuration, the data and the weights it starts from, on one
    CPU and one version of PyTorch: a run that was stopped, at whatever moment, and resumed ends with the same bits.

    Started by torchrun, the processes train one model together; the first of them writes and speaks.

    Args:
        recipe: name of the network, a key of `ARCHITECTURES`.
        source: the main set; its train split is trained on, its validation split chooses the best checkpoint.
        out: folder of the run.
        config: everything that determines the result.
        also: more sets, for their faces, their negatives or both; points of another scheme are used as far as those of
            the main set follow from them.
        resume: go on from `out/last.pt`.
        force: replace a run that is there.
        init_from: start from the weights of this checkpoint, as far as they fit; `config` need not name it.
        device: "cpu" or "cuda".
        say: told what happens.
        on_epoch: told the figures of each epoch.

    Raises:
        TrainingError: the loss is no longer finite, `resume` does not fit the run that is there, or another process
            ended.
        UsageError: a pattern of `freeze` or `lr_groups` fits no layer.
        OutputError: the run cannot be written.
    """
    with joined(device) as world:
        if not world.first:
            say, on_epoch = ignore, ignore
        config = replace(config, processes=world.size)
        place = f"cuda:{world.local}" if device == "cuda" else device
        return _train(recipe, (source, *also), out, config, resume, force, init_from, place, world, say, on_epoch)


def _train(
    recipe: str,
    sets: Sequence[PreparedSet],
    out: Path,
    config: TrainConfig,
    resume: bool,
    force: bool,
    init_from: Path | None,
    device: str,
    world: World,
    say: Say,
    on_epoch: OnEpoch,
) -> TrainResult:
    run = Run(out)
    last = load_checkpoint(run.last) if resume and run.last.exists() else None
    start = start_from(init_from) if init_from is not None else None
    if start is not None:
        config = replace(config, init_from=start.sha256)
    elif last is not None:
        config = replace(config, init_from=str(last.config.get("init_from", "")))
    config = fitting(config, sets[0].scheme, say)
    made = set_up(recipe, sets, config, device, start, say)
    card, mixture, model, objective, groups = made.card, made.mixture, made.model, made.objective, made.groups
    validation = validation_data(made.samplers, card)
    if start is not None and last is None:
        load_matching(model, start.state, str(init_from), say)
        go_on_with_offsets(objective, card, start)
    average = WeightAverage(model, config.ema) if config.ema else None
    phase = phase_of(config, 1)
    optimiser = new_optimiser(phase, groups, config)

    history: list[Record] = []
    best, best_epoch, best_nme = math.inf, 0, math.inf
    if last is not None:
        check_resumable(last, config, card, run.last)
        card = replace(card, training=last.card.training)
        history = last.progress["history"]
        best, best_epoch, best_nme = (last.progress[name] for name in ("best", "best_epoch", "best_nme"))
        phase = phase_of(config, max(1, len(history)))
        optimiser = new_optimiser(phase, groups, config)
        objective.load_state_dict(last.resume["objective"])
        optimiser.load_state_dict(last.resume["optimiser"])
        torch.set_rng_state(last.resume["torch_rng"][world.rank])
        if average is not None:
            average.load(last.state, last.resume["averaged"])
        say(f"resuming after epoch {len(history)} of {config.epochs}")
    elif resume:
        say(f"{out} holds no run yet: starting from the beginning")
    data = [f"{source.info['name']} {source.source_sha256[:8]}" for source in sets]
    settings = {"recipe": recipe, "sets": data, "scheme": card.scheme.name, **config.to_dict()}
    if world.first:
        run.start(settings, resume=resume, force=force)
    board = Board(run.board, settings, purge_step=len(history) + 1) if world.first else None
    kept = average.model if average is not None else model
    stepper = Stepper(objective, optimiser, config, world, device)
    if last is not None and "scaler" in last.resume:
        stepper.scaler.load_state_dict(last.resume["scaler"])

    def save(path: Path, result: Validation | None, *, resumable: bool) -> None:
        progress = {"history": history, "best": best, "best_epoch": best_epoch, "best_nme": best_nme}
        state: dict[str, Any] = {}
        if resumable:
            generators = world.gather(torch.get_rng_state())
            state = {
                "objective": {name: tensor.detach().cpu().clone() for name, tensor in objective.state_dict().items()},
                "optimiser": stepper.optimiser.state_dict(),
                "scaler": stepper.scaler.state_dict(),
                "averaged": 0 if average is None else average.steps,
                "torch_rng": generators,
            }
        if world.first:
            save_checkpoint(path, snapshot(kept, card, config, progress, result, state))

    if last is None:
        save(run.last, None, resumable=True)  # from here on the run can be gone on with, whatever it started from

    steps_per_epoch = mixture.steps(config.batch_size, world.size)
    steps = config.epochs * steps_per_epoch
    mean_face_nme = measure(
        np.broadcast_to(card.mean_shape, validation.faces.truth.keypoints.shape), validation.faces.truth
    ).nme_box
    workers = GPU_WORKERS if device.startswith("cuda") else 0
    warned = False
    try:
        for epoch in range(len(history) + 1, config.epochs + 1):
            errors = [record["criterion"] for record in history]
            if config.patience and epochs_since_best(errors) >= config.patience:
                say(f"stopped after epoch {epoch - 1}: no better validation for {config.patience} epochs")
                break
            if phase_of(config, epoch) != phase:
                phase = phase_of(config, epoch)
                stepper.optimiser = new_optimiser(phase, groups, config)
                say(f"epoch {epoch}: going on with {phase}")
            began = time.perf_counter()
            objective.train()
            stop_frozen_statistics(model.network)
            sums = torch.zeros(len(LOSS_NAMES) + 4, dtype=torch.float64)
            batches = mixture.batches(epoch, config.batch_size, rank=world.rank, world=world.size, workers=workers)
            for step, batch in enumerate(batches, (epoch - 1) * steps_per_epoch):
                factor = learning_rate(config, step, steps, errors)
                try:
                    sums += stepper(batch, factor)
                except FloatingPointError as error:
                    raise TrainingError(
                        f"epoch {epoch}, step {step}: {error}", "use a lower --lr, or a --clip"
                    ) from None
                if average is not None:
                    average.update(model)

            result = validate(kept, validation, world)
            if not math.isfinite(result.accuracy.nme_box):
                raise TrainingError(
                    f"epoch {epoch}: the validation error is {result.accuracy.nme_box}", "use a lower --lr"
                )
            record = new_record(epoch, stepper, sums, result, model, config)
            record["seconds"] = time.perf_counter() - began
            history.append(record)
            if result.criterion < best:
                best, best_epoch, best_nme = result.criterion, epoch, result.accuracy.nme_box
                save(run.best, result, resumable=False)
            save(run.last, result, resumable=True)
            if board is not None:
                run.log(history)
                board.log(record, model, kept, validation, result, of=config.epochs)
            on_epoch(record, config.epochs)
            if not warned and epoch >= max(5, config.epochs // 10) and best_nme > NO_BETTER * mean_face_nme:
                warned = True
                say(
                    f"warning: after {epoch} epochs validation ({best_nme:.2%}) is no better than the mean face "
                    f"({mean_face_nme:.2%}): the network learns nothing from the picture; see --init and --lr"
                )
    finally:
        if board is not None:
            board.close(history)
            if history:
                run.draw_curves(history, mean_face_nme)
    return TrainResult(run.best, len(history), best_epoch, best_nme, mean_face_nme, world.first)


def new_record(
    epoch: int, stepper: Stepper, sums: torch.Tensor, result: Validation, model: KeypointModel, config: TrainConfig
) -> Record:
    """The figures of an epoch.

    Args:
        epoch: from 1.
        stepper: took its steps.
        sums: over the epoch, as `Stepper` gives them, added up.
        result: the validation.
        model: knows the unit of the loss.
        config: of the run.
    """
    losses, points, samples, right, total = sums[:3].tolist(), *sums[3:].tolist()
    points, samples = max(points, 1.0), max(samples, 1.0)
    record: Record = {
        "epoch": epoch,
        "lr": config.lr * stepper.factor,
        "train_loss": total / samples,
        "train_keypoint_loss": losses[0] / points,
        "grad_norm": stepper.largest_norm(),
        # Of a coordinate, in the units of the loss: the mean face scores 1.
        "val_mse": result.accuracy.mse_112 / 2 / (MSE_SIZE * float(model.spread)) ** 2,
        "val_nme": result.accuracy.nme_box,
        "val_mse_112": result.accuracy.mse_112,
        "val_failure": result.accuracy.failure_rate,
        "criterion": result.criterion,
    }
    if result.face is not None:
        record |= {
            "train_face_loss": losses[1] / samples,
            "train_accuracy": right / samples,
            "val_accuracy": result.face.accuracy,
            "val_face_accuracy": result.face.face_accuracy,
            "val_negative_accuracy": result.face.negative_accuracy,
        }
    return record


def snapshot(
    model: KeypointModel,
    card: ModelCard,
    config: TrainConfig,
    progress: dict[str, Any],
    result: Validation | None,
    resume: dict[str, Any],
) -> Checkpoint:
    """The model as it is now, calibrated, with the card that describes it."""
    if model.face and result is not None:
        model.calibration.copy_(torch.tensor(result.calibration))
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    figures: dict[str, Any] = {}
    if result is not None:
        figures = {"validation": {**result.accuracy.headline(), **(result.face.to_dict() if result.face else {})}}
        if result.face:
            figures["validation"]["faces"] = result.accuracy.faces
            figures["validation"]["scored_faces"] = result.face.faces
    described = replace(
        card,
        weights_sha256=weights_hash(model),
        accuracy=figures,
        threshold=result.face.threshold if result is not None and result.face else None,
    )
    return Checkpoint(described, weights, config.to_dict(), progress, resume)
