"""`kpedge train`: the recipes. Their flags are the fields of `TrainConfig`, their defaults the recipe's."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, examples
from kpedge.core.text import flag
from kpedge.training.config import DETECTOR, FIXED_NETWORKS, RECIPES, PixelConfig, TrainConfig

app = typer.Typer(no_args_is_help=True, help="Train a model.")

Config = TypeVar("Config", bound=PixelConfig)

KEYPOINTS_ONLY = ("face_weight", "positive_weight", "negatives")
"""Fields that mean nothing to a recipe without a face score."""


def _lr_group(text: str) -> tuple[str, float]:
    pattern, _, rate = text.rpartition("=")
    try:
        return pattern, float(rate)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not PATTERN=RATE, as in 'conv*=0.001'") from None


def _flags(defaults: PixelConfig, hidden: set[str]) -> dict[str, tuple[Any, Any]]:
    """Field -> annotation and default of its flag."""
    found: dict[str, tuple[Any, Any]] = {}
    for item in fields(defaults):
        about, default = item.metadata, getattr(defaults, item.name)
        if not about["group"] or item.name in hidden:
            continue
        text = about["help"] + (f" One of {', '.join(about['choices'])}." if about["choices"] else "")
        name, kind = f"--{flag(item.name)}", type(default)
        if isinstance(default, bool):
            option = typer.Option(f"{name}/--no-{flag(item.name)}", help=text, rich_help_panel=about["group"])
        else:
            option = typer.Option(name, help=text, rich_help_panel=about["group"])
        if item.name == "milestones":
            found[item.name] = Annotated[list[float] | None, option], None
        elif isinstance(default, tuple):
            found[item.name] = Annotated[list[str] | None, option], None
        else:
            found[item.name] = Annotated[kind, option], default
    return found


def _config(defaults: Config, given: dict[str, Any]) -> Config:
    """The configuration of a recipe with flags given."""
    values = defaults.to_dict() | {name: value for name, value in given.items() if value is not None}
    values["lr_groups"] = tuple(_lr_group(text) for text in given["lr_groups"] or ())
    for name in ("freeze", "milestones"):
        values[name] = tuple(values[name])
    return type(defaults)(**values)


def _command(recipe: str, about: str) -> Callable[..., None]:
    """The command of a recipe. Its signature is made from the configuration, so that no flag is written down twice."""
    hidden = {*FIXED_NETWORKS.get(recipe, ()), *(() if recipe == "stage3" else KEYPOINTS_ONLY)}

    def command(
        data: Annotated[
            Path | None,
            typer.Option(
                "--data",
                help="A prepared set, or a folder of labelled photos, which is prepared first. "
                "(default: synthetic faces)",
            ),
        ] = None,
        also: Annotated[
            list[Path] | None,
            typer.Option(help="More prepared sets, for faces, negatives or both; repeatable.", rich_help_panel="Data"),
        ] = None,
        out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs") / recipe,
        init_from: Annotated[
            Path | None,
            typer.Option(
                help="Start from the weights of this checkpoint, as far as they fit.", rich_help_panel="Finetuning"
            ),
        ] = None,
        resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
        find_lr: Annotated[
            bool,
            typer.Option("--find-lr", help="Do not train: try rising learning rates, draw the losses, suggest one."),
        ] = False,
        device: Annotated[str, typer.Option(help="cpu or cuda.", rich_help_panel="Run")] = "cpu",
        force: Force = False,
        **given: Any,
    ) -> None:
        _run(
            recipe,
            _config(RECIPES[recipe], given),
            data=data,
            also=also or [],
            out=out,
            init_from=init_from,
            resume=resume,
            find_lr=find_lr,
            device=device,
            force=force,
        )

    return _with_flags(command, recipe, about, _flags(RECIPES[recipe], hidden))


def _with_flags(
    command: Callable[..., None], name: str, about: str, flags: dict[str, tuple[Any, Any]]
) -> Callable[..., None]:
    """A command whose signature has flags instead of `**given`."""
    signature = inspect.signature(command, eval_str=True)
    fixed = [item for item in signature.parameters.values() if item.kind is not inspect.Parameter.VAR_KEYWORD]
    made = [
        inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for field, (annotation, default) in flags.items()
    ]
    command.__signature__ = inspect.Signature([*fixed, *made])  # type: ignore[attr-defined]
    command.__annotations__ = {item.name: item.annotation for item in (*fixed, *made)}
    command.__name__, command.__doc__ = name, about
    return command


def _detector(
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="A frame set, or a folder of photos with every face boxed, which is prepared first; repeatable. "
            "(default: synthetic frames)"
        ),
    ] = None,
    background: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of photos that show no face; repeatable.", rich_help_panel="Data"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs") / "detector",
    init_from: Annotated[
        Path | None,
        typer.Option(
            help="Start from the weights of this checkpoint, as far as they fit.", rich_help_panel="Finetuning"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.", rich_help_panel="Run")] = "cpu",
    force: Force = False,
    **given: Any,
) -> None:
    """Train the face detector: boxes, scores and five points in whole frames."""
    _needs(device)
    from kpedge.cli.options import frame_set, synthetic_frames
    from kpedge.evaluation.compare import Record
    from kpedge.training.detector_loop import train_detector
    from kpedge.training.run import Run

    config = _config(DETECTOR, given)
    Run(out).refuse_other(resume=resume, force=force)  # before photos are prepared for it
    sets = [frame_set(folder, out.parent) for folder in data] if data else synthetic_frames(out.parent)
    sets += [frame_set(folder, out.parent, label_format="background") for folder in background or ()]
    terminal = output.on_terminal()
    with output.progress("epoch") as update:

        def on_epoch(record: Record, of: int) -> None:
            line = f"loss {record['train_loss']:.3f}"
            for name in (name for name in record if name.startswith("val_ap_")):
                line += f"  {name.removeprefix('val_ap_')} {record[name]:.3f}"
            update(int(record["epoch"]), of, line)
            if not terminal:
                output.say(
                    f"epoch {record['epoch']:.0f}/{of}  {line}  lr {record['lr']:.2g}  {record['seconds']:.1f} s"
                )

        with _told_how_to_resume(out):
            result = train_detector(
                sets,
                out,
                config,
                resume=resume,
                force=force,
                init_from=init_from,
                device=device,
                say=output.say,
                on_epoch=on_epoch,
            )
    output.say(
        f"best: {result.best} (epoch {result.best_epoch} of {result.epochs}), average precision on the "
        f"validation splits {1 - result.best_nme:.1%}"
    )
    output.result(str(result.best))


@contextlib.contextmanager
def _told_how_to_resume(out: Path) -> Iterator[None]:
    """Tell who stops a run how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        output.say(f"stopped; go on with the same command and --resume ({out / 'last.pt'})")
        raise


def _needs(device: str) -> None:
    """Check that everything is installed that training takes, and the device is there."""
    from kpedge.core.errors import UsageError
    from kpedge.core.extras import importable

    for module in ("torch", "torchvision", "matplotlib", "tensorboard"):
        importable(module, "train")
    if device not in ("cpu", "cuda") or (device == "cuda" and not importable("torch", "train").cuda.is_available()):
        raise UsageError(f"--device {device}: there is no such device here", "use --device cpu")


def _run(
    recipe: str,
    config: TrainConfig,
    *,
    data: Path | None,
    also: list[Path],
    out: Path,
    init_from: Path | None,
    resume: bool,
    find_lr: bool,
    device: str,
    force: bool,
) -> None:
    _needs(device)
    from kpedge.cli.options import prepared_set, synthetic_set
    from kpedge.core.errors import UsageError
    from kpedge.data.packed import is_prepared
    from kpedge.evaluation.compare import Record
    from kpedge.training.loop import train
    from kpedge.training.run import Run

    if not find_lr:
        Run(out).refuse_other(resume=resume, force=force)  # before photos are prepared for it
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if data is None:
            raise UsageError(
                "several processes cannot render synthetic faces together",
                "first: kpedge data synth --out PHOTOS && kpedge data prepare PHOTOS --out FOLDER; then --data FOLDER",
            )
        unprepared = next((folder for folder in (data, *also) if not is_prepared(folder)), None)
        if unprepared is not None:
            raise UsageError(
                f"{unprepared} is not prepared, and several processes cannot prepare it together",
                f"first: kpedge data prepare {unprepared} --out FOLDER",
            )
    source = synthetic_set(out.parent) if data is None else prepared_set(data, out.parent)
    others = [prepared_set(folder, out.parent) for folder in also]
    terminal = output.on_terminal()
    if find_lr and resume:
        raise UsageError("--find-lr trains nothing that could be resumed", "leave --resume out")
    if find_lr:
        from kpedge.training.find_lr import find_learning_rate

        with output.progress("step") as advance:
            found = find_learning_rate(
                recipe,
                (source, *others),
                out,
                config,
                init_from=init_from,
                device=device,
                force=force,
                progress=advance,
            )
        output.say(f"curve: {found.picture}")
        output.say(f"the loss falls fastest at {found.steepest:.2g} and rises again from {found.highest:.2g} on")
        output.result(f"{found.suggested:.2g}")
        return
    with output.progress("epoch") as update:

        def on_epoch(record: Record, of: int) -> None:
            line = f"loss {record['train_loss']:.4f}  validation {record['val_nme']:.2%}"
            if "val_accuracy" in record:
                line += f"  faces {record['val_face_accuracy']:.2%}  negatives {record['val_negative_accuracy']:.2%}"
            update(int(record["epoch"]), of, line)
            if not terminal:
                output.say(
                    f"epoch {record['epoch']:.0f}/{of}  {line}  lr {record['lr']:.2g}  {record['seconds']:.1f} s"
                )

        with _told_how_to_resume(out):
            result = train(
                recipe,
                source,
                out,
                config,
                also=others,
                resume=resume,
                force=force,
                init_from=init_from,
                device=device,
                say=output.say,
                on_epoch=on_epoch,
            )
    if not result.speaks:
        return
    output.say(
        f"best: {result.best} (epoch {result.best_epoch} of {result.epochs}), validation error "
        f"{result.best_nme:.2%} of the box, mean face {result.mean_face_nme:.2%}"
    )
    if result.nothing_learnt:
        output.say("warning: validation is no better than the mean face: the network learnt nothing")
    output.result(str(result.best))


COMMANDS = {
    "stage1": (
        "Train the plain PReLU network of the course: keypoints from a grey 112x112 crop, MSE, SGD with momentum.",
        (
            "kpedge train stage1 --epochs 40",
            "kpedge train stage1 --data photos --out runs/stage1",
            "kpedge train stage1 --data photos --out runs/stage1 --resume",
            "kpedge train stage1 --data mine --init-from runs/stage1/best.pt --freeze 'conv*' --epochs 30",
        ),
    ),
    "stage2": (
        "Train keypoints done well: augmentation, batch normalisation, a choice of networks, losses and optimisers.",
        (
            "kpedge train stage2 --data data/photos --out runs/stage2",
            "kpedge train stage2 --data data/photos --out runs/resnet --backbone resnet18 --epochs 60",
            "kpedge train stage2 --data data/photos --out runs/lr --find-lr",
        ),
    ),
    "stage3": (
        "Train the model to deploy: keypoints, whether there is a face at all, and how far to trust each point.",
        (
            "kpedge train stage3 --data data/photos --out runs/stage3",
            "kpedge train stage3 --data data/photos --also data/background --also data/more --out runs/stage3",
            "torchrun --nproc-per-node 2 -m kpedge train stage3 --data data/photos --batch-size 32",
        ),
    ),
}
for _name, (_about, _lines) in COMMANDS.items():
    app.command(_name, epilog=examples(*_lines))(_command(_name, _about))
app.command(
    "detector",
    epilog=examples(
        "kpedge train detector --data photos --background landscapes --out runs/detector",
        "kpedge train detector --data data/photos --data data/crowds --resume",
        "kpedge train detector --data mine --init-from runs/detector/best.pt --epochs 20",
    ),
)(_with_flags(_detector, "detector", str(_detector.__doc__), _flags(DETECTOR, set())))
