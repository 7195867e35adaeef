"""`kpedge train`: one command per recipe. Most flags are the fields of the recipe's configuration."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kpedge.cli import output
from kpedge.cli.config_flags import config_flags
from kpedge.cli.options import Force, examples, panel
from kpedge.core.errors import UsageError
from kpedge.core.extras import check_installed
from kpedge.core.text import quote
from kpedge.training.config import DetectorConfig, RunConfig, TrainConfig
from kpedge.training.recipes import DETECTOR, FIXED_NETWORKS, RECIPES

if TYPE_CHECKING:
    from kpedge.evaluation.compare import Record
    from kpedge.training.task import TrainResult

app = typer.Typer(name="train", no_args_is_help=True, help="Train a model.")


data_option, finetuning_option, run_option = panel("Data"), panel("Finetuning"), panel("Run")
SCORE_ONLY = ("face_branch", "face_weight", "positive_weight", "label_smoothing", "negatives")
"""Fields that mean nothing to a network without a face score."""
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="A prepared set, or a folder of labelled photos, which is prepared first. (default: synthetic faces)",
    ),
]
ExtraData = Annotated[
    list[Path] | None,
    data_option("--extra-data", help="More prepared sets, for their faces, negatives or both; repeatable."),
]
Frames = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        help="A frame set, or a folder of photos with every face boxed, which is prepared first; repeatable, "
        "also with the same set, whose photos are then shown more often. "
        "(default: synthetic frames)",
    ),
]
Background = Annotated[
    list[Path] | None,
    data_option(help="A folder of photos without a face; repeatable."),
]
Out = Annotated[Path, typer.Option(help="Folder of the run.")]
InitFrom = Annotated[
    Path | None,
    finetuning_option(
        help="Start from these weights, as far as they fit: a checkpoint, a run folder or a released name."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
FindLr = Annotated[
    bool, typer.Option("--find-lr", help="Do not train: try rising learning rates, chart the loss, suggest a rate.")
]
Device = Annotated[
    str,
    run_option(help="cpu, cuda, or cuda:1 for the second GPU; torchrun gives each process its own."),
]


def _add_recipe(recipe: str, what: str, *lines: str, without: tuple[str, ...] = ()) -> None:
    """Add the command of a keypoint recipe."""

    @app.command(recipe, help=what, epilog=examples(*lines))
    @config_flags(RECIPES[recipe], without=without)
    def command(
        config: TrainConfig,
        data: Data = None,
        extra_data: ExtraData = None,
        out: Out = Path("runs") / recipe,
        init_from: InitFrom = None,
        resume: Resume = False,
        find_lr: FindLr = False,
        device: Device = "cpu",
        force: Force = False,
    ) -> None:
        sets = _keypoint_sets(config, data, extra_data, force)
        _train(recipe, config, sets, out, init_from, resume, find_lr, device, force)


_add_recipe(
    "stage1",
    "Train the small plain PReLU network: keypoints from a grey 112x112 crop, MSE, SGD with momentum.",
    "kpedge train stage1 --epochs 40",
    "kpedge train stage1 --data photos --out runs/stage1",
    "kpedge train stage1 --data photos --out runs/stage1 --resume",
    "kpedge train stage1 --data mine --init-from runs/stage1/best.pt --freeze 'conv*' --epochs 30",
    without=(*FIXED_NETWORKS["stage1"], *SCORE_ONLY),
)
_add_recipe(
    "stage2",
    "Train the configurable network: backbone, head, loss, optimizer and augmentation as flags.",
    "kpedge train stage2 --data data/photos --out runs/stage2",
    "kpedge train stage2 --data data/photos --out runs/resnet --backbone resnet18 --epochs 60",
    "kpedge train stage2 --data data/photos --out runs/lr --find-lr",
    without=SCORE_ONLY,
)
_add_recipe(
    "stage3",
    "Train the model to deploy: keypoints, a face score, and the uncertainty of each point.",
    "kpedge train stage3 --data data/photos --init-from stage3 --out runs/mine --epochs 20",
    "kpedge train stage3 --data data/photos --out runs/stage3",
    "kpedge train stage3 --data data/photos --extra-data data/background --extra-data data/more --out runs/stage3",
    "torchrun --nproc-per-node 2 -m kpedge train stage3 --data data/photos --batch-size 32",
)


@app.command(
    epilog=examples(
        "kpedge train detector --data photos --background landscapes --out runs/detector",
        "kpedge train detector --data data/photos --data data/crowds --resume",
        "kpedge train detector --data mine --init-from runs/detector/best.pt --epochs 20",
    )
)
@config_flags(DETECTOR)
def detector(
    config: DetectorConfig,
    data: Frames = None,
    background: Background = None,
    out: Out = Path("runs/detector"),
    init_from: InitFrom = None,
    resume: Resume = False,
    find_lr: FindLr = False,
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """Train the face detector: boxes, scores and five points in whole photos."""
    sets = _frame_sets(data, background, force)
    _train("detector", config, sets, out, init_from, resume, find_lr, device, force)


Sets = Callable[[Path], list[Any]]  # opens the sets, and first prepares below a folder those that are not prepared


def _keypoint_sets(config: TrainConfig, data: Path | None, extra_data: list[Path] | None, force: bool) -> Sets:
    def open_sets(work: Path) -> list[Any]:
        from kpedge.cli.options import prepared_set, synthetic_set
        from kpedge.data.packed import is_prepared
        from kpedge.data.preparation import PrepareOptions

        options = PrepareOptions(size=config.crop_size)
        _check_prepared([data, *(extra_data or [])], is_prepared, "")
        main = synthetic_set(work) if data is None else prepared_set(data, work, options, trust=force)
        return [main, *(prepared_set(folder, work, options, trust=force) for folder in extra_data or [])]

    return open_sets


def _frame_sets(data: list[Path] | None, background: list[Path] | None, force: bool) -> Sets:
    def open_sets(work: Path) -> list[Any]:
        from kpedge.cli.options import frame_set, synthetic_frames
        from kpedge.data.frames import is_frame_set

        _check_prepared([*(data or (None,)), *(background or ())], is_frame_set, " --frames")
        sets = [frame_set(folder, work, trust=force) for folder in data] if data else synthetic_frames(work)
        return [*sets, *(frame_set(folder, work, label_format="background") for folder in background or [])]

    return open_sets


def _check_prepared(folders: list[Path | None], prepared: Callable[[Path], bool], flags: str) -> None:
    """Stop where several processes would prepare one set."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    for folder in folders:
        if folder is None:
            raise UsageError(
                "several processes cannot render synthetic faces together",
                f"first: kpedge data synth --out PHOTOS && kpedge data prepare PHOTOS{flags} --out SET",
            )
        if not prepared(folder):
            raise UsageError(
                f"{folder} is not prepared, and several processes cannot prepare it together",
                f"first: kpedge data prepare {quote(folder)}{flags} --out SET",
            )


def check_device(device: str) -> None:
    """Check that everything that training needs is installed, and that the device exists.

    Raises:
        MissingExtraError: a package is missing.
        UsageError: there is no such device.
    """
    check_installed("train")
    import torch

    kind, colon, number = device.partition(":")
    gpus = torch.cuda.device_count() if kind == "cuda" else 0
    known = device == "cpu" or (kind == "cuda" and (int(number) if number.isdecimal() else 0) < gpus)
    if not known or (colon and not number.isdecimal()):
        there = f"cpu, cuda or cuda:0 to cuda:{gpus - 1}" if gpus else "cpu"
        raise UsageError(f"--device {device}: no such device", f"use --device {there}")


def _train(
    recipe: str,
    config: RunConfig,
    open_sets: Sets,
    out: Path,
    init_from: Path | None,
    resume: bool,
    find_lr: bool,
    device: str,
    force: bool,
) -> None:
    """What all four commands do."""
    check_device(device)
    if find_lr and resume:
        raise UsageError("--find-lr trains nothing that could be resumed", "leave --resume out")
    if find_lr:
        _find_lr(recipe, config, open_sets, out, init_from, device, force)
        return
    from kpedge.training.loop import train
    from kpedge.training.run import Run

    Run(out).check_free(resume=resume, force=force)  # before photos are prepared for it
    sets = open_sets(out.parent)
    resuming = f"continue with the same command and --resume ({out / 'last.pt'})"
    with output.progress("training", unit="steps", resume=resuming) as update:
        shown = ""

        def on_step(epoch: int, step: int, steps: int, loss: float) -> None:
            note = f"epoch {epoch}/{config.epochs}  step {step}/{steps}  loss {loss:.4f}"
            update((epoch - 1) * steps + step, config.epochs * steps, f"{note}  {shown}".rstrip())
            if config.log_every and step % config.log_every == 0:
                output.say(note)

        def on_epoch(record: Record, of: int) -> None:
            nonlocal shown
            shown = _figures(record)
            if not output.on_terminal():
                line = f"epoch {record['epoch']:.0f}/{of}  loss {record['train_loss']:.4f}  {shown}".rstrip()
                output.say(f"{line}  lr {record['lr']:.2g}  {record['seconds']:.1f} s")

        result = train(
            recipe,
            sets,
            out,
            config,
            resume=resume,
            force=force,
            init_from=init_from,
            device=device,
            notify=output.say,
            on_step=on_step,
            on_epoch=on_epoch,
        )
    if result.is_main_process:
        for line in verdict(result, recipe, sets[0].path):
            output.say(line)
        output.result(str(result.best))


def _figures(record: Record) -> str:
    """The validation figures of an epoch, for a line."""
    names = {"val_nme": "validation", "val_face_accuracy": "faces", "val_negative_accuracy": "negatives"}
    parts = [f"{label} {record[name]:.2%}" for name, label in names.items() if name in record]
    parts += [f"AP {name[6:].lstrip('_') or 'all'} {record[name]:.3f}" for name in record if name.startswith("val_ap")]
    return "  ".join(parts)


def verdict(result: TrainResult, recipe: str, data: Path) -> list[str]:
    """What the run achieved, in one line, and the next command."""
    later = "" if result.best_epoch == result.epochs else "; those after it are no better"
    where = f"{result.best} (epoch {result.best_epoch} of {result.epochs}{later})"
    if recipe == "detector":
        what = f"average precision {1 - result.error:.1%} on the validation splits"
    else:
        error, baseline = f"{result.error:.2%}", f"{result.baseline:.2%}"
        gain = 1 - result.error / result.baseline
        what = f"validation error {error} of the box, {gain:.0%} better than the mean-shape baseline of {baseline}"
        if not result.learned:
            what = f"validation error {error} of the box, no better than the mean-shape baseline of {baseline}"
    if not result.learned:
        return [
            f"warning: {where}: {what}: the model learned nothing",
            "next: train longer, on more photos, or find a learning rate with --find-lr",
        ]
    command = f"kpedge eval {quote(result.best)} --data {quote(data)}"
    return [f"best: {where}: {what}", f"next: {command}"]


def _find_lr(
    recipe: str, config: RunConfig, open_sets: Sets, out: Path, init_from: Path | None, device: str, force: bool
) -> None:
    from kpedge.training.find_lr import find_learning_rate

    sets = open_sets(out.parent)
    with output.progress("learning-rate search", unit="steps") as update:
        found = find_learning_rate(
            recipe, sets, out, config, init_from=init_from, device=device, force=force, progress=update
        )
    output.say(f"chart: {found.chart}")
    output.say(f"the loss falls fastest at {found.steepest:.2g} and rises again from {found.highest:.2g} on")
    output.result(f"{found.suggested:.2g}")
