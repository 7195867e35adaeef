"""Training the face detector: set-up, step, validation, save. Plain PyTorch, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kpedge.card import DETECTOR as TASK
from kpedge.card import DetectorCard
from kpedge.datasets.frame_sampling import FrameSampler, View
from kpedge.datasets.frames import FrameSet
from kpedge.errors import DataError, TrainingError
from kpedge.keypoints import FACES5
from kpedge.models.build import new_detector
from kpedge.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kpedge.models.detector import STRIDES
from kpedge.models.keypoint_model import weights_hash
from kpedge.training.average import WeightAverage
from kpedge.training.board import Board
from kpedge.training.config import DetectorConfig
from kpedge.training.detector_loss import LOSSES, Targets, detector_losses
from kpedge.training.detector_validation import SIDE, DetectorValidation, faces_to_find, validate_detector
from kpedge.training.loop import GPU_WORKERS, OnEpoch, Say, TrainResult, ignore
from kpedge.training.optimisers import new_optimiser, phase_of
from kpedge.training.run import Record, Run
from kpedge.training.schedules import epochs_since_best, learning_rate
from kpedge.training.setup import (
    Start,
    check_resumable,
    load_matching,
    parameter_groups,
    start_from,
    stop_frozen_statistics,
)

SUPPRESSION = 0.45
"""Overlap above which the lower of two boxes goes; people in crowds overlap by less."""


def train_detector(
    sets: Sequence[FrameSet],
    out: Path,
    config: DetectorConfig,
    *,
    resume: bool = False,
    force: bool = False,
    init_from: Path | None = None,
    device: str = "cpu",
    say: Say = ignore,
    on_epoch: OnEpoch = ignore,
) -> TrainResult:
    """Train a face detector on frame sets.

    The weights after every epoch are a function of the configuration, the data and the weights it starts from, on one
    CPU and one version of PyTorch: a run that was stopped and resumed ends with the same bits.

    Args:
        sets: their train splits are trained on, their validation splits choose the best checkpoint and its threshold.
        out: folder of the run.
        config: everything that determines the result.
        resume: go on from `out/last.pt`.
        force: replace a run that is there.
        init_from: start from the weights of this checkpoint, as far as they fit.
        device: "cpu" or "cuda".
        say: told what happens.
        on_epoch: told the figures of each epoch.

    Raises:
        TrainingError: the loss or the network's answers are no longer finite, or `resume` does not fit the run that is
            there.
        DataError: no set has a face to validate on, or two have the same name.
        OutputError: the run cannot be written.
    """
    run = Run(out)
    last = load_checkpoint(run.last) if resume and run.last.exists() else None
    start = start_from(init_from) if init_from is not None else None
    if start is not None:
        config = replace(config, init_from=start.sha256)
    elif last is not None:
        config = replace(config, init_from=str(last.config.get("init_from", "")))
    names = [source.info["name"] for source in sets]
    if len(set(names)) < len(names):
        raise DataError(f"two of the sets have the same name: {', '.join(names)}", "prepare one with another --name")
    if not any(faces_to_find(source) for source in sets):
        raise DataError("no face is there to validate on", "prepare a set with a larger --validation")
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(device == "cpu")
    torch.manual_seed(config.seed)
    card = new_detector_card(sets, config, start)
    model = new_detector(card)
    groups = parameter_groups(model.network, config, say)
    model.to(device)
    if config.channels_last:
        model.to(memory_format=torch.channels_last)
    if start is not None and last is None:
        load_matching(model, start.state, str(init_from), say)
    average = WeightAverage(model, config.ema) if config.ema else None
    kept = average.model if average is not None else model
    phase = phase_of(config, 1)
    optimiser = new_optimiser(phase, groups, config)

    history: list[Record] = []
    best, best_epoch = math.inf, 0
    if last is not None:
        check_resumable(last, config, card, run.last)
        card = replace(card, training=last.card.training)
        history = last.progress["history"]
        best, best_epoch = last.progress["best"], last.progress["best_epoch"]
        phase = phase_of(config, max(1, len(history)))
        optimiser = new_optimiser(phase, groups, config)
        model.load_state_dict(last.resume["model"])
        optimiser.load_state_dict(last.resume["optimiser"])
        if average is not None:
            average.load(last.state, last.resume["averaged"])
        say(f"resuming after epoch {len(history)} of {config.epochs}")
    elif resume:
        say(f"{out} holds no run yet: starting from the beginning")
    data = [f"{source.info['name']} {source.info['source_sha256'][:8]}" for source in sets]
    settings = {"recipe": "detector", "sets": data, **config.to_dict()}
    run.start(settings, resume=resume, force=force)
    board = Board(run.board, settings, purge_step=len(history) + 1)

    def save(path: Path, result: DetectorValidation | None, *, resumable: bool) -> None:
        progress = {"history": history, "best": best, "best_epoch": best_epoch}
        state: dict[str, Any] = {}
        if resumable:
            state = {
                "model": {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()},
                "optimiser": optimiser.state_dict(),
                "averaged": 0 if average is None else average.steps,
            }
        weights = {name: tensor.detach().cpu().clone() for name, tensor in kept.state_dict().items()}
        described = replace(
            card,
            weights_sha256=weights_hash(kept),
            threshold=None if result is None else result.threshold,
            accuracy={} if result is None else {"validation": result.to_dict()},
        )
        save_checkpoint(path, Checkpoint(described, weights, config.to_dict(), progress, state))

    if last is None:
        save(run.last, None, resumable=True)
    sampler = FrameSampler(sets, config.size, config.jitter(), config.seed, config.faceless_times)
    steps_per_epoch = len(sampler.order(1)) // config.batch_size or 1
    try:
        for epoch in range(len(history) + 1, config.epochs + 1):
            measured = [record["criterion"] for record in history if "criterion" in record]
            if config.patience and epochs_since_best(measured) * config.validate >= config.patience:
                say(f"stopped after epoch {epoch - 1}: no better validation for {config.patience} epochs")
                break
            if phase_of(config, epoch) != phase:
                phase = phase_of(config, epoch)
                optimiser = new_optimiser(phase, groups, config)
                say(f"epoch {epoch}: going on with {phase}")
            began = time.perf_counter()
            model.train()
            stop_frozen_statistics(model.network)
            sums, counts = torch.zeros(len(LOSSES), dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
            norm, factor = 0.0, 0.0
            for step, views in enumerate(_batches(sampler, epoch, config.batch_size, steps_per_epoch, device)):
                whole = (epoch - 1) * steps_per_epoch + step
                factor = learning_rate(config, whole, config.epochs * steps_per_epoch, measured)
                for group in optimiser.param_groups:
                    group["lr"] = group["initial_lr"] * factor
                frames, targets = to_tensors(views, device)
                with _precision(config, device):
                    rows, cells = model.raw(frames)
                losses, counted = detector_losses(rows, cells, targets)
                loss = total_loss(config, losses, counted)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                longest = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip or math.inf)
                if not (math.isfinite(loss.item()) and math.isfinite(longest.item())):
                    raise TrainingError(
                        f"epoch {epoch}, step {whole}: the loss is {loss.item()}, the gradient's norm {longest.item()}",
                        "use a lower --lr, or a --clip",
                    )
                optimiser.step()
                if average is not None:
                    average.update(model)
                sums += losses.detach().cpu().double()
                counts += counted.cpu().double()
                norm = max(norm, longest.item())
            record: Record = {
                "epoch": epoch,
                "lr": config.lr * factor,
                "train_loss": float(total_loss(config, sums, counts)),
                **{
                    f"train_{name}_loss": float(value / counts[int(name == "points")].clamp(min=1))
                    for name, value in zip(LOSSES, sums, strict=True)
                },
                "grad_norm": norm,
            }
            result = None
            if epoch % config.validate == 0 or epoch == config.epochs:
                result = validate_detector(kept, card, sets)
                record |= {"criterion": result.criterion, **result.record()}
            record["seconds"] = time.perf_counter() - began
            history.append(record)
            if result is not None and result.criterion < best:
                best, best_epoch = result.criterion, epoch
                save(run.best, result, resumable=False)
            save(run.last, result, resumable=True)
            run.log(history)
            board.figures(record, model.network, of=config.epochs)
            on_epoch(record, config.epochs)
    finally:
        board.close(history)
        if any("criterion" in record for record in history):
            run.draw_detector_curves(history)
    return TrainResult(run.best, len(history), best_epoch, best, 1.0)


def new_detector_card(sets: Sequence[FrameSet], config: DetectorConfig, start: Start | None = None) -> DetectorCard:
    """The card of a detector that is about to be trained, from the weights `start` where they are given."""
    names = ("name", "terms", "counts", "source_sha256")
    return DetectorCard(
        name="detector",
        task=TASK,
        architecture={"name": "detector", "options": {}, **({"brighten": True} if config.brighten else {})},
        colour="bgr",
        scheme=FACES5,
        stride=max(STRIDES),
        side=SIDE,
        suppression=SUPPRESSION,
        training={
            "sets": [{name: source.info[name] for name in names} for source in sets],
            "recipe": config.to_dict(),
            "start": None if start is None else {"weights_sha256": start.sha256, **start.training},
        },
    )


def total_loss(config: DetectorConfig, sums: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """The loss that is minimised, from the sums and counts of `detector_losses`."""
    cells, pointed = counts.clamp(min=1)
    weights = (config.face_weight, config.quality_weight, config.box_weight, config.point_weight)
    face, quality, box, points = (weight * value for weight, value in zip(weights, sums, strict=True))
    total: torch.Tensor = (face + quality + box) / cells + points / pointed
    return total


def to_tensors(views: Sequence[View], device: str = "cpu") -> tuple[torch.Tensor, Targets]:
    """Views as a batch, uint8 (N, S, S, 3), and their faces, padded to the same number."""
    most = max(1, *(len(view.boxes) for view in views))
    boxes = np.zeros((len(views), most, 4), np.float32)
    points = np.full((len(views), most, len(FACES5), 2), np.nan, np.float32)
    real, ignore = np.zeros((2, len(views), most), bool)
    for row, view in enumerate(views):
        count = len(view.boxes)
        boxes[row, :count], points[row, :count] = view.boxes, view.points
        real[row, :count], ignore[row, :count] = ~view.ignore, view.ignore
    arrays = (np.stack([view.image for view in views]), boxes, points, real, ignore)
    frames, *targets = (torch.from_numpy(array).to(device) for array in arrays)
    return frames, Targets(*targets)


def _batches(sampler: FrameSampler, epoch: int, size: int, steps: int, device: str) -> Iterator[list[View]]:
    """The batches of an epoch; on a GPU, threads prepare them ahead."""
    order = sampler.order(epoch)
    places = [
        [(*map(int, order[place % len(order)]), epoch, place) for place in range(step * size, (step + 1) * size)]
        for step in range(steps)
    ]
    if not device.startswith("cuda"):
        for batch in places:
            yield [sampler.sample(*place) for place in batch]
        return
    with ThreadPoolExecutor(GPU_WORKERS) as pool:
        ahead = [[pool.submit(sampler.sample, *place) for place in batch] for batch in places[:2]]
        for step in range(steps):
            if step + 2 < steps:
                ahead.append([pool.submit(sampler.sample, *place) for place in places[step + 2]])
            yield [future.result() for future in ahead[step]]
            ahead[step] = []


def _precision(config: DetectorConfig, device: str) -> Any:
    """Mixed precision, where it is asked for; float16 needs a scaled loss, so bfloat16 stands in for it."""
    return torch.autocast(device.split(":")[0], torch.bfloat16, enabled=config.precision != "float32")
