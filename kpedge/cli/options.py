"""What several commands share: option types, and turning a --data argument into a prepared set."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kpedge.cli import output
from kpedge.core.files import real_path
from kpedge.core.model_zoo import FREE, LICENCES, RENDERED_TERMS
from kpedge.runtime.registry import BACKENDS

if TYPE_CHECKING:
    from kpedge.data.frames import FrameSet
    from kpedge.data.packed import PreparedSet
    from kpedge.data.packing import SetOptions
    from kpedge.data.preparation import FrameOptions, PrepareOptions, PrepareReport
    from kpedge.runtime.sinks.outputs import Output


def panel(name: str) -> Callable[..., Any]:
    """`typer.Option` for the options of a part of the help."""
    return functools.partial(typer.Option, rich_help_panel=name)


search_option, results_option, runtime_option = panel("Search"), panel("Results"), panel("Runtime")
output_option = panel("Outputs (any mix)")  # with what `kpedge.runtime.sinks.outputs` registers
Model = Annotated[str, typer.Option(help="Keypoint model: a file, a run folder or a released name.")]
Detector = Annotated[str, typer.Option(help="Detector that finds the faces: a file, a run folder or a released name.")]
ExportedModel = Annotated[str, typer.Option(help="Keypoint model: an exported file or a released name.")]
ExportedDetector = Annotated[str, typer.Option(help="Detector of the faces: an exported file or a released name.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Backend = Annotated[
    str,
    runtime_option(help=f"What runs the models: {', '.join(BACKENDS)}, or auto, by their files."),
]
Features = Annotated[
    bool,
    results_option("--features", help="Add openness of eyes and mouth, smile, brows, gaze, position in mm."),
]
Focal = Annotated[
    float | None,
    results_option(
        help="The camera's focal length in pixels, for positions. (default: that of a 60 degree view)", metavar="PX"
    ),
]
Names = Annotated[bool, results_option("--names", help="Add the keypoints' names to each JSON document.")]
Threshold = Annotated[
    float | None,
    search_option(
        min=0, max=1, help="Lowest score at which a box counts as a face. (default: the model's)", metavar="SCORE"
    ),
]
Threads = Annotated[int, runtime_option(min=1, help="CPU threads.", metavar="N")]
Provider = Annotated[
    str,
    runtime_option(help="onnxruntime's execution provider: cpu, cuda, …, or auto."),
]
Licence = Annotated[
    str,
    runtime_option(
        help=f"Released models that may be used: {' or '.join(LICENCES)}. {FREE}: those that were trained on rendered "
        "photos alone, which anybody may use for anything.",
        metavar="KIND",
    ),
]


def with_outputs(registered: Iterable[Output]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's `**outputs` by a flag for each registered output."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            command(**values)

        signature = inspect.signature(command, eval_str=True)
        parameters = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        for one in registered:
            option = output_option(one.flag, help=one.help, metavar=one.metavar)
            annotation: Any = Annotated[one.value if one.value is bool else one.value | None, option]
            default = False if one.value is bool else None
            parameters.append(
                inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            )
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def examples(*lines: str) -> str:
    """The examples at the end of a command's help."""
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"[cyan]{line}[/cyan]" for line in lines)


def parse_box(text: str) -> list[float]:
    """A `--box` argument as four numbers.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise typer.BadParameter(f"{text!r} is not x1,y1,x2,y2")
    return values


SYNTHETIC_PHOTOS, SYNTHETIC_FRAMES = 4000, 1000
"""Synthetic photos that keypoints, or the detector, are trained on where no data is given."""


def synthetic_set(run_folder: Path) -> PreparedSet:
    """Synthetic faces, for whoever gives no data: rendered and prepared below `run_folder` the first time."""
    from kpedge.data.preparation import PrepareOptions

    photos = _synthetic_photos(run_folder, SYNTHETIC_PHOTOS)
    return prepared_set(photos, run_folder, PrepareOptions(name="synthetic faces", terms=RENDERED_TERMS))


def synthetic_frames(run_folder: Path) -> list[FrameSet]:
    """The same for the detector: frames with faces, and frames without."""
    from kpedge.data.preparation import FrameOptions

    photos = _synthetic_photos(run_folder, SYNTHETIC_FRAMES, frames=True)
    sets = [frame_set(photos, run_folder, FrameOptions(name="synthetic frames", terms=RENDERED_TERMS))]
    background = photos / "background"
    if background.is_dir():
        options = FrameOptions(name="synthetic frames without faces", terms=RENDERED_TERMS)
        sets.append(frame_set(background, run_folder, options, label_format="background"))
    return sets


def _synthetic_photos(run_folder: Path, count: int, *, frames: bool = False) -> Path:
    """A folder of synthetic photos below `run_folder`; another version of the renderer writes another one."""
    from kpedge.synthetic import SYNTHETIC_FORM, write_synthetic

    kind = "frames" if frames else "photos"
    folder = run_folder / "synthetic" / f"{kind}-{count}-v{SYNTHETIC_FORM}"
    output.say(
        f"no --data: {count:,} {kind} of synthetic faces (kpedge data synth), in {folder}; a model for real faces "
        "needs real photos"
    )
    if not folder.exists():
        with output.progress("rendering", unit=kind) as update:
            write_synthetic(folder, count, frames=frames, progress=update)
    return folder


def prepared_set(
    data: Path, run_folder: Path, options: PrepareOptions | None = None, *, trust: bool = False
) -> PreparedSet:
    """Open a prepared set; labelled photos are first prepared below `run_folder`, and again when they have changed."""
    from kpedge.data.packed import is_prepared, open_set

    return open_set(data if is_prepared(data) else _prepare(data, _place_below(data, run_folder), options, trust=trust))


def frame_set(
    data: Path,
    run_folder: Path,
    options: FrameOptions | None = None,
    *,
    label_format: str = "auto",
    trust: bool = False,
) -> FrameSet:
    """The same for a frame set."""
    from kpedge.data.frames import is_frame_set, open_frames
    from kpedge.data.preparation import FrameOptions

    if is_frame_set(data):
        return open_frames(data)
    out = _place_below(data, run_folder, "-frames")
    return open_frames(_prepare(data, out, options or FrameOptions(), label_format=label_format, trust=trust))


def _prepare(data: Path, out: Path, options: SetOptions | None, *, label_format: str = "auto", trust: bool) -> Path:
    from kpedge.data.preparation import prepare

    with output.progress(f"preparing {data}") as update:
        report = prepare(data, out, options, label_format=label_format, force=True, trust=trust, progress=update)
    say_prepared(report)
    return out


def _place_below(data: Path, run_folder: Path, ending: str = "") -> Path:
    """Where a set is prepared that was not asked for by name; folders of one name do not share it."""
    source = real_path(data)
    own = hashlib.sha256(str(source).encode()).hexdigest()[:8]
    return run_folder / "prepared" / f"{source.name or 'set'}-{own}{ending}"


def say_prepared(report: PrepareReport) -> None:
    """Say what is implausible about a set, and what it holds."""
    for finding in report.findings:
        output.say(f"warning: {finding}")
    parts = ", ".join(
        f"{split} {n['faces']:,} faces"
        + (f" and {n['negatives']:,} negatives" if "negatives" in n else "")
        + f" of {n['photos']:,} photos"
        for split, n in report.counts.items()
    )
    output.say(f"{report.path}: {'prepared' if report.written else 'up to date'}: {parts}")
    if count := len(report.problems):
        what = "1 row or photo was" if count == 1 else f"{count:,} rows or photos were"
        output.say(f"warning: {what} left out; kpedge data check names {'it' if count == 1 else 'them'}")
