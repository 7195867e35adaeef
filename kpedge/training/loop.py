"""The training loop: set-up, step, validation, save. One for keypoints and detector, read from top to bottom."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kpedge.core.errors import TrainingError, UsageError
from kpedge.core.files import write_bytes
from kpedge.core.images import figure_png
from kpedge.data.frames import FrameSet
from kpedge.data.packed import PreparedSet
from kpedge.evaluation.compare import Record
from kpedge.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kpedge.models.keypoint_model import weights_hash
from kpedge.training.config import DetectorConfig, RunConfig, TrainConfig
from kpedge.training.detector_task import DetectorTask
from kpedge.training.distributed import World, join
from kpedge.training.keypoint_task import KeypointTask
from kpedge.training.optimizers import new_optimizer, phases
from kpedge.training.run import Run, check_resumable, resumed_config
from kpedge.training.schedules import Schedule, epochs_since_best
from kpedge.training.task import Task, TrainResult
from kpedge.training.tensorboard import Board
from kpedge.training.weights import (
    InitWeights,
    Notify,
    average_weights,
    load_init_weights,
    read_init_weights,
    resume_average,
    train_mode,
)

TASKS: dict[str, Callable[..., Any]] = {
    "stage1": KeypointTask,
    "stage2": KeypointTask,
    "stage3": KeypointTask,
    "detector": DetectorTask,
}
"""Recipe -> the task that trains it."""
GPU_WORKERS = 8
OnStep = Callable[[int, int, int, float], None]
"""Called after each step with the epoch, the step in it, both from 1, the steps of an epoch, and the loss."""
OnEpoch = Callable[[Record, int], None]  # called after each epoch with its figures and the number of epochs


def ignore(*_arguments: object) -> None:
    """Do nothing."""


def train(
    recipe: str,
    data: PreparedSet | FrameSet | Sequence[PreparedSet] | Sequence[FrameSet],
    out: str | Path,
    config: RunConfig,
    *,
    resume: bool = False,
    force: bool = False,
    init_from: str | Path | None = None,
    device: str = "cpu",
    notify: Notify = ignore,
    on_step: OnStep = ignore,
    on_epoch: OnEpoch = ignore,
) -> TrainResult:
    """Train a keypoint model on prepared sets, or the detector on frame sets.

    The weights after every epoch are a function of configuration, data and initial weights, on one kind of CPU and one
    version of PyTorch: a run that was stopped at any moment and resumed ends with the same bits.

    Started by torchrun, the processes train one model together; the first of them writes files and messages.

    Args:
        recipe: a key of `TASKS`.
        data: one set or several, the main one first; train splits are trained on, validation splits choose the best
            checkpoint. Points of another scheme are used as far as those of the main set follow from them.
        out: folder of the run.
        config: everything that determines the result; a `TrainConfig`, or a `DetectorConfig` for the detector.
        resume: continue from `out/last.pt`, if there is one.
        force: replace a run that is there.
        init_from: checkpoint, run folder or released model to start from, as far as its weights fit.
        device: "cpu", "cuda", or "cuda:1" for a certain GPU.
        notify: takes a line about what happens.
        on_step: called after each step.
        on_epoch: called after each epoch.

    Raises:
        TrainingError: the loss is not finite, `resume` does not fit the run that is there, or another process ended.
        UsageError: there is no such recipe or device, or the data or configuration do not fit it.
        DataError: the data cannot be trained on.
        OutputError: the run cannot be written.
    """
    sets: list[Any] = [data] if isinstance(data, PreparedSet | FrameSet) else list(data or ())
    detects = TASKS.get(recipe) is DetectorTask
    set_type, config_type = (FrameSet, DetectorConfig) if detects else (PreparedSet, TrainConfig)
    if not (sets and all(isinstance(one, set_type) for one in sets) and isinstance(config, config_type)):
        given = ", ".join(type(one).__name__ for one in (*sets, config))
        advice = f"open it with kpedge.data.{'open_frames' if detects else 'open_set'}; see kpedge.training"
        raise UsageError(f"{recipe} needs a {set_type.__name__} and a {config_type.__name__}, not {given}", advice)
    with join(device) as world:
        if not world.is_main_process:
            notify = on_step = on_epoch = ignore
        config = replace(config, processes=world.world_size)
        run = Run(Path(out))
        last = load_checkpoint(run.last) if resume and run.last.exists() else None
        init = read_init_weights(init_from) if init_from is not None else None
        if last is not None:
            config = resumed_config(config, last)
        task = build(recipe, sets, config, world, init, notify, load=last is None)
        return _train(task, run, world, last, resume, force, notify, on_step, on_epoch)


def build(
    recipe: str,
    sets: Sequence[Any],
    config: RunConfig,
    world: World,
    init: InitWeights | None,
    notify: Notify,
    *,
    load: bool = True,
) -> Task:
    """Seed PyTorch and make the task of a recipe, with `init` as its weights where `load` is set.

    Raises:
        UsageError: there is no such recipe, or the configuration does not fit it.
        DataError: the data cannot be trained on.
    """
    if recipe not in TASKS:
        raise UsageError(f"no recipe is called {recipe!r}", f"known: {', '.join(TASKS)}")
    if init is not None:
        config = replace(config, init_from=init.sha256)
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(world.device == "cpu")
    torch.manual_seed(config.seed)
    task: Task = TASKS[recipe](recipe, sets, config, world, init, notify)
    if config.channels_last:
        task.loss.to(memory_format=torch.channels_last)
    if init is not None and load:
        load_init_weights(task.model, init, notify)
    return task


class Stepper:
    """Takes steps of one optimizer, which may be replaced between them; `scaler` scales the loss for float16.

    With several processes each has its part of the batch; losses are divided by the counts of the whole batch, so that
    the gradient is that of one process with all of it.
    """

    def __init__(self, task: Task, optimizer: torch.optim.Optimizer, world: World) -> None:
        self.optimizer = optimizer
        self.scaler = torch.amp.GradScaler(world.device.split(":")[0], enabled=task.config.precision == "float16")
        self._task = task
        self._world = world
        self._module = world.parallel(task.loss)
        self._penalized = [parameter for group in task.groups for parameter in group["params"] if parameter.ndim > 1]

    def __call__(self, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor, float, float]:
        """Take a step with this process's part of a batch: sums of losses and of counts over the whole batch, its loss,
        and the norm of the gradient.

        Raises:
            FloatingPointError: the loss or, but for float16, the gradient is not finite.
        """
        config, world = self._task.config, self._world
        losses, counts = self._module(*batch)
        whole = world.sum(torch.cat([losses.detach(), counts]))
        whole_losses, whole_counts = whole[: len(losses)], whole[len(losses) :]
        loss = self._task.loss.total(losses, whole_counts) * world.world_size  # DDP averages gradients
        if config.l1:
            loss = loss + config.l1 * torch.stack([weight.abs().sum() for weight in self._penalized]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = float(nn.utils.clip_grad_norm_(trained, config.grad_clip or math.inf))
        total = float(self._task.loss.total(whole_losses, whole_counts))
        scaling = self.scaler.is_enabled()  # float16 overflows now and then: the scaler skips that step
        if not math.isfinite(total) or not (scaling or math.isfinite(norm)):
            raise FloatingPointError(f"the loss is {total}, the gradient's norm {norm}")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return whole_losses.double().cpu(), whole_counts.double().cpu(), total, norm


def _train(
    task: Task,
    run: Run,
    world: World,
    last: Checkpoint | None,
    resume: bool,
    force: bool,
    notify: Notify,
    on_step: OnStep,
    on_epoch: OnEpoch,
) -> TrainResult:
    # Set-up: optimizer, schedule, average of weights; from scratch, or as they were at the end of an epoch.
    config, card, model = task.config, task.card, task.model
    history: list[Record] = [] if last is None else last.progress["history"]
    steps = task.steps_per_epoch(world)
    averaged = average_weights(model, config.ema_decay) if config.ema_decay else None
    kept: nn.Module = model if averaged is None else averaged.module
    planned = {phase.first: phase for phase in phases(config)}
    phase = max((one for one in planned.values() if one.first <= max(1, len(history))), key=lambda one: one.first)
    stepper = Stepper(task, new_optimizer(phase, task.groups, config), world)
    schedule = Schedule(stepper.optimizer, phase.epochs * steps, config)
    best_epoch = 0
    if last is not None:
        check_resumable(last, config, card, run.last)
        card = replace(card, training={**last.card.training, "recipe": config.to_dict()})
        best_epoch = last.progress["best_epoch"]
        task.loss.load_state_dict(last.resume["loss"])
        stepper.optimizer.load_state_dict(last.resume["optimizer"])
        schedule.load_state_dict(last.resume["schedule"])
        stepper.scaler.load_state_dict(last.resume["scaler"])
        torch.set_rng_state(last.resume["torch_rng"][world.rank])
        if averaged is not None:
            resume_average(averaged, last.state, last.resume["averaged"])
        if len(history) < config.epochs:
            notify(f"resuming after epoch {len(history)} of {config.epochs}")
        else:
            notify(f"{run.path}: all {config.epochs} epochs are done already")
    elif resume:
        notify(f"{run.path} holds no run yet: starting from the beginning")
    if world.is_main_process:
        run.start(resume=resume, force=force)

    def save(path: Path, result: Any, *, resumable: bool) -> None:
        state: dict[str, Any] = {}
        if resumable:
            state = {
                "loss": _on_cpu(task.loss),
                "optimizer": stepper.optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "scaler": stepper.scaler.state_dict(),
                "averaged": 0 if averaged is None else int(averaged.n_averaged),
                "torch_rng": world.gather(torch.get_rng_state()),
            }
        if world.is_main_process:
            described = replace(task.describe(card, kept, result), weights_sha256=weights_hash(kept))
            progress = {"history": history, "best_epoch": best_epoch}
            save_checkpoint(path, Checkpoint(described, _on_cpu(kept), config.to_dict(), progress, state))

    started = math.inf
    if last is None:
        save(run.last, None, resumable=True)  # from here on the run can be resumed, whatever it started from
    board = None
    if world.is_main_process:
        settings = {**task.settings, **config.to_dict()}
        run.describe(settings)
        board = Board(run.board, settings, purge_step=len(history) + 1)
    if last is None and config.init_from:
        started = task.validate(kept, world).criterion
    workers = config.workers or (GPU_WORKERS if world.device.startswith("cuda") else 0)
    warned = False
    try:
        for epoch in range(len(history) + 1, config.epochs + 1):
            criteria = [record["criterion"] for record in history if "criterion" in record]
            if config.patience and epochs_since_best(criteria) * config.validate >= config.patience:
                notify(f"stopped after epoch {epoch - 1}: no better validation for {config.patience} epochs")
                break
            if epoch in planned and epoch > 1:
                phase = planned[epoch]
                stepper.optimizer = new_optimizer(phase, task.groups, config)
                schedule = Schedule(stepper.optimizer, phase.epochs * steps, config)
                notify(f"epoch {epoch}: {phase.optimizer} from here on")

            # Steps.
            began = time.perf_counter()
            train_mode(task.loss)
            sums: list[Tensor] = []
            largest_norm = lr = 0.0
            for step, batch in enumerate(task.batches(epoch, world, workers), 1):
                lr = stepper.optimizer.param_groups[0]["lr"]
                try:
                    losses, counts, loss, norm = stepper(batch)
                except FloatingPointError as error:
                    raise TrainingError(
                        f"epoch {epoch}, step {step}: {error}", "use a lower --lr, or a --grad-clip"
                    ) from None
                schedule.step()
                if averaged is not None:
                    averaged.update_parameters(model)
                sums = [losses + sums[0], counts + sums[1]] if sums else [losses, counts]
                largest_norm = max(largest_norm, norm if math.isfinite(norm) else 0.0)
                on_step(epoch, step, steps, loss)

            # Validation.
            record: Record = {"epoch": epoch, "lr": lr, **task.training_record(*sums), "grad_norm": largest_norm}
            result = None
            if epoch % config.validate == 0 or epoch == config.epochs:
                world.synchronize(kept)
                result = task.validate(kept, world)
                record |= {**result.record(), "criterion": result.criterion}
            schedule.end_epoch(None if result is None else result.criterion)
            record["seconds"] = time.perf_counter() - began
            history.append(record)

            # Save.
            if result is not None and result.criterion < min(criteria, default=math.inf):
                best_epoch = epoch
                save(run.best, result, resumable=False)
            if config.save_every and epoch % config.save_every == 0:
                save(run.path / f"epoch-{epoch:04}.pt", result, resumable=False)
            save(run.last, result, resumable=True)
            if board is not None:
                run.log(history)
                board.log(record, model, kept, task, result, of=config.epochs)
            on_epoch(record, config.epochs)
            if not warned and (warning := task.warning(epoch, history)) is not None:
                warned = True
                notify(f"warning: {warning}")
    finally:
        if board is not None:
            board.close(history)
            if any("criterion" in record for record in history):
                write_bytes(run.path / "curves.png", figure_png(task.curves(history)))
    if started < min((record["criterion"] for record in history if "criterion" in record), default=math.inf):
        notify(
            "warning: on the validation photos no epoch is better than the weights that the run started from; "
            "use a lower --lr, more epochs or more photos"
        )
    return task.result(
        history[best_epoch - 1],
        best=run.best,
        epochs=len(history),
        best_epoch=best_epoch,
        is_main_process=world.is_main_process,
    )


def _on_cpu(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
