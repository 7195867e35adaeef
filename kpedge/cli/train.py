"""`kpedge train`: the recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import Data, Force, Threads, examples
from kpedge.training.config import INITIALISATIONS, SCHEDULES, TrainConfig

RECIPE = TrainConfig()
"""The released recipe: the defaults of the flags."""

app = typer.Typer(no_args_is_help=True, help="Train a model.")


def _lr_group(text: str) -> tuple[str, float]:
    pattern, _, rate = text.rpartition("=")
    try:
        return pattern, float(rate)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not PATTERN=RATE, as in 'conv*=0.001'") from None


@app.command(
    epilog=examples(
        "kpedge train stage1 --data photos --out runs/stage1",
        "kpedge train stage1 --data photos --out runs/stage1 --resume",
        "kpedge train stage1 --data mine --out runs/mine --init-from runs/stage1/best.pt --freeze 'conv*' --epochs 30",
    )
)
def stage1(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/stage1"),
    epochs: Annotated[int, typer.Option(help="Passes over the training photos.")] = RECIPE.epochs,
    batch_size: Annotated[int, typer.Option(help="Faces a step.")] = RECIPE.batch_size,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = RECIPE.lr,
    momentum: Annotated[float, typer.Option(help="Of SGD.")] = RECIPE.momentum,
    weight_decay: Annotated[float, typer.Option(help="On weights, not on biases and slopes.")] = RECIPE.weight_decay,
    schedule: Annotated[str, typer.Option(help=f"One of {', '.join(SCHEDULES)}.")] = RECIPE.schedule,
    warmup: Annotated[int, typer.Option(help="Steps over which the learning rate rises.")] = RECIPE.warmup,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient; 0 for no limit.")] = RECIPE.clip,
    init: Annotated[
        str, typer.Option(help=f"One of {', '.join(INITIALISATIONS)}; torch is PyTorch's default, which collapses.")
    ] = RECIPE.init,
    mirror: Annotated[bool, typer.Option(help="Show half of the faces mirrored.")] = RECIPE.mirror,
    roll: Annotated[float, typer.Option(help="Turn crops by up to this, degrees.")] = RECIPE.roll,
    scale: Annotated[float, typer.Option(help="Change the crop's side by up to this fraction.")] = RECIPE.scale,
    shift: Annotated[float, typer.Option(help="Move the crop by up to this fraction of its side.")] = RECIPE.shift,
    seed: Annotated[int, typer.Option(help="Of weights, order and jitter.")] = RECIPE.seed,
    freeze: Annotated[
        list[str] | None, typer.Option(help="Layers that are not trained, as a pattern; repeatable.")
    ] = None,
    lr_group: Annotated[
        list[str] | None, typer.Option(help="PATTERN=RATE: a learning rate for some layers; repeatable.")
    ] = None,
    init_from: Annotated[Path | None, typer.Option(help="Start from the weights of this checkpoint.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    threads: Threads = RECIPE.threads,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    force: Force = False,
) -> None:
    """Train the plain PReLU network: 21 keypoints from a grey 112x112 crop, MSE, SGD with momentum."""
    from kpedge.extras import importable

    importable("torch", "train")
    importable("matplotlib", "train")
    importable("tensorboard", "train")
    from kpedge.cli.options import prepared_set
    from kpedge.errors import UsageError
    from kpedge.training.loop import train
    from kpedge.training.run import Record

    if device not in ("cpu", "cuda") or (device == "cuda" and not importable("torch", "train").cuda.is_available()):
        raise UsageError(f"--device {device}: there is no such device here", "use --device cpu")
    config = TrainConfig(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        schedule=schedule,
        warmup=warmup,
        clip=clip,
        init=init,
        mirror=mirror,
        roll=roll,
        scale=scale,
        shift=shift,
        seed=seed,
        threads=threads,
        freeze=tuple(freeze or ()),
        lr_groups=tuple(_lr_group(text) for text in lr_group or ()),
    )
    source = prepared_set(data, out.parent)
    terminal = output.on_terminal()
    with output.progress("epoch") as update:

        def on_epoch(record: Record, of: int) -> None:
            line = f"loss {record['train_loss']:.4f}  validation {record['val_nme']:.2%}"
            update(int(record["epoch"]), of, line)
            if not terminal:
                output.say(
                    f"epoch {record['epoch']:.0f}/{of}  {line}  lr {record['lr']:.2g}  {record['seconds']:.1f} s"
                )

        try:
            result = train(
                "stage1",
                source,
                out,
                config,
                resume=resume,
                force=force,
                init_from=init_from,
                device=device,
                say=output.say,
                on_epoch=on_epoch,
            )
        except KeyboardInterrupt:
            output.say(f"stopped; go on with the same command and --resume ({out / 'last.pt'})")
            raise
    output.say(
        f"best: {result.best} (epoch {result.best_epoch} of {result.epochs}), validation error "
        f"{result.best_nme:.2%} of the box, mean face {result.mean_face_nme:.2%}"
    )
    if result.nothing_learnt:
        output.say("warning: validation is no better than the mean face: the network learnt nothing")
    output.result(str(result.best))
