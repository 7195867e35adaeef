"""Training: set-up, step, validation, save. Plain PyTorch, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kpedge.card import ModelCard
from kpedge.datasets.packed import PreparedSet
from kpedge.datasets.sampling import CropSampler, Jitter
from kpedge.errors import TrainingError
from kpedge.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kpedge.models.keypoint_model import KeypointModel, weights_hash
from kpedge.training.config import TrainConfig, learning_rate
from kpedge.training.evaluate import Evaluation, TestFaces, evaluate, faces_of_split
from kpedge.training.metrics import MSE_SIZE, KeypointAccuracy
from kpedge.training.run import Record, Run
from kpedge.training.setup import check_resumable, load_matching, new_card, new_model, parameter_groups

Say = Callable[[str], None]
"""Takes one line for people."""
OnEpoch = Callable[[Record, int], None]
"""Called after each epoch with its record and the number of epochs in all."""


def ignore(*_told: object) -> None:
    """Tell nobody."""


NO_BETTER = 0.98
"""A validation error above this fraction of the mean face's means that nothing was learnt."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run ended with.

    Attributes:
        best: path of the best checkpoint.
        epochs: epochs done.
        best_epoch: epoch of the best checkpoint, from 1.
        best_nme: its error on the validation split, fraction of the box.
        mean_face_nme: the mean face's.
    """

    best: Path
    epochs: int
    best_epoch: int
    best_nme: float
    mean_face_nme: float

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
    resume: bool = False,
    force: bool = False,
    init_from: Path | None = None,
    device: str = "cpu",
    say: Say = ignore,
    on_epoch: OnEpoch = ignore,
) -> TrainResult:
    """Train a keypoint model on a prepared set.

    The weights after every epoch are a function of the configuration, the data and the weights it starts from, on one
    CPU and one version of PyTorch: a run that was stopped, at whatever moment, and resumed ends with the same bits.

    Args:
        recipe: name of the network, a key of `ARCHITECTURES`.
        source: the prepared set; its train split is trained on, its validation split chooses the best checkpoint.
        out: folder of the run.
        config: everything that determines the result.
        resume: go on from `out/last.pt`.
        force: replace a run that is there.
        init_from: start from the weights of this checkpoint, as far as they fit; `config` need not name it.
        device: "cpu" or "cuda".
        say: told what happens.
        on_epoch: told the figures of each epoch.

    Raises:
        TrainingError: the loss is no longer finite, or `resume` does not fit the run that is there.
        UsageError: a pattern of `freeze` or `lr_groups` fits no layer.
        OutputError: the run cannot be written.
    """
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(device == "cpu")
    torch.manual_seed(config.seed)

    run = Run(out)
    last = load_checkpoint(run.last) if resume and run.last.exists() else None
    start = load_checkpoint(init_from) if init_from is not None else None
    if start is not None:
        config = replace(config, init_from=start.card.weights_sha256)
    elif last is not None:
        config = replace(config, init_from=str(last.config.get("init_from", "")))
    card = new_card(recipe, source, config, start.card if start else None)
    jitter = Jitter(config.mirror, config.roll, config.scale, config.shift)
    sampler = CropSampler(source, card.size, card.colour, card.crop, jitter, config.seed)
    indices = source.indices("train")
    validation = faces_of_split(source, "validation", card.size, card.colour, card.crop)

    model = new_model(card, source, indices, config)
    if start is not None and last is None:
        load_matching(model, start.state, str(init_from), say)
    model.to(device)
    optimiser = torch.optim.SGD(parameter_groups(model.network, config, say), lr=config.lr, momentum=config.momentum)

    history: list[Record] = []
    best_nme, best_epoch = math.inf, 0
    if last is not None:
        check_resumable(last, config, card, run.last)
        card = replace(card, training=last.card.training)
        model.load_state_dict(last.state)
        optimiser.load_state_dict(last.resume["optimiser"])
        torch.set_rng_state(last.resume["torch_rng"])
        history, best_nme = last.progress["history"], last.progress["best_nme"]
        best_epoch = last.progress["best_epoch"]
        say(f"resuming after epoch {len(history)} of {config.epochs}")
    elif resume:
        say(f"{out} holds no run yet: starting from the beginning")
    run.start({"recipe": recipe, **config.to_dict()}, resume=resume, force=force, purge_step=len(history) + 1)

    def save(path: Path, accuracy: KeypointAccuracy | None, *, resumable: bool) -> None:
        progress = {"history": history, "best_nme": best_nme, "best_epoch": best_epoch}
        state = {"optimiser": optimiser.state_dict(), "torch_rng": torch.get_rng_state()} if resumable else {}
        save_checkpoint(path, snapshot(model, card, config, progress, accuracy, state))

    if last is None:
        save(run.last, None, resumable=True)  # from here on the run can be gone on with, whatever it started from

    steps_per_epoch = math.ceil(len(indices) / config.batch_size)
    steps = config.epochs * steps_per_epoch
    mean_face_nme = validate(model, validation, card).mean_face.nme_box
    warned = False
    try:
        for epoch in range(len(history) + 1, config.epochs + 1):
            began, losses, norms = time.perf_counter(), 0.0, 0.0
            model.train()
            for step, (crops, keypoints) in enumerate(
                sampler.batches(indices, config.batch_size, epoch), (epoch - 1) * steps_per_epoch
            ):
                factor = learning_rate(config, step, steps)
                for group in optimiser.param_groups:
                    group["lr"] = group["initial_lr"] * factor
                target = model.standardise(torch.from_numpy(keypoints).to(device))
                loss = nn.functional.mse_loss(model.raw(torch.from_numpy(crops).to(device)), target)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip or math.inf)
                if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
                    raise TrainingError(
                        f"epoch {epoch}, step {step}: the loss is {loss.item()}, the gradient's norm {norm.item()}",
                        "use a lower --lr, or a --clip",
                    )
                optimiser.step()
                losses += loss.item() * len(crops)
                norms = max(norms, norm.item())

            accuracy = validate(model, validation, card).accuracy
            if not math.isfinite(accuracy.nme_box):
                raise TrainingError(f"epoch {epoch}: the validation error is {accuracy.nme_box}", "use a lower --lr")
            val_loss = accuracy.mse_112 / 2 / (MSE_SIZE * float(model.spread)) ** 2  # of a coordinate, as the loss
            record: Record = {
                "epoch": epoch,
                "lr": config.lr * factor,
                "train_loss": losses / len(indices),
                "grad_norm": norms,
                "val_loss": val_loss,
                "val_nme": accuracy.nme_box,
                "val_mse_112": accuracy.mse_112,
                "val_failure": accuracy.failure_rate,
                "seconds": time.perf_counter() - began,
            }
            history.append(record)
            if accuracy.nme_box < best_nme:
                best_nme, best_epoch = accuracy.nme_box, epoch
                save(run.best, accuracy, resumable=False)
            save(run.last, accuracy, resumable=True)
            run.log(history)
            on_epoch(record, config.epochs)
            if not warned and epoch >= max(5, config.epochs // 10) and best_nme > NO_BETTER * mean_face_nme:
                warned = True
                say(
                    f"warning: after {epoch} epochs validation ({best_nme:.2%}) is no better than the mean face "
                    f"({mean_face_nme:.2%}): the network learns nothing from the picture; see --init and --lr"
                )
    finally:
        run.close()
        if history:
            run.draw_curves(history, mean_face_nme)
    return TrainResult(run.best, len(history), best_epoch, best_nme, mean_face_nme)


def validate(model: KeypointModel, faces: TestFaces, card: ModelCard) -> Evaluation:
    """The model as it is now, measured on some faces."""
    model.eval()
    device = model.mean_shape.device

    @torch.inference_mode()
    def predict(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(model(torch.from_numpy(crops).to(device)).cpu().numpy())

    return evaluate(predict, faces, card.mean_shape)


def snapshot(
    model: KeypointModel,
    card: ModelCard,
    config: TrainConfig,
    progress: dict[str, Any],
    accuracy: KeypointAccuracy | None,
    resume: dict[str, Any],
) -> Checkpoint:
    """The model as it is now, with the card that describes it."""
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    described = replace(
        card,
        weights_sha256=weights_hash(model),
        accuracy={} if accuracy is None else {"validation": accuracy.headline()},
    )
    return Checkpoint(described, weights, config.to_dict(), progress, resume)
