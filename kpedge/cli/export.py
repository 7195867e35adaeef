"""`kpedge export` and `kpedge verify`: write model files, and check them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, Json, examples
from kpedge.core.errors import UsageError
from kpedge.core.extras import importable, installed
from kpedge.core.model_zoo import DEFAULT_MODEL, newest_run, resolve_model, resolve_weights, sample_folder
from kpedge.core.text import quote
from kpedge.export.registry import ALL, DEFAULT_FORMATS, FORMATS, WEB

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from kpedge.evaluation.detection_report import LabelledFrame
    from kpedge.evaluation.evaluate import TestFaces
    from kpedge.export.parity import ParityRow
    from kpedge.runtime.sessions import Model

    Samples = TestFaces | list[LabelledFrame] | None


app = typer.Typer()


Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print every comparison.")]


@app.command(
    epilog=examples(
        "kpedge export",
        "kpedge export stage3 --format onnx-fp16,onnx-int8 --out models",
        "kpedge export runs/stage1 --format onnx --out models --name mine --data data/photos",
        "kpedge export runs/stage3 --format web --out site",
        "kpedge export --list",
    )
)
def export(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A run folder, a checkpoint, or a released model's name. (default: the newest finished run in runs/)"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("export"),
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help=f"{', '.join(FORMATS)}, several with commas between them, or {ALL}; or {WEB}, a page for browsers. "
            f"Repeatable. (default: {','.join(DEFAULT_FORMATS)})",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the files. (default: the recipe's)")] = "",
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Real inputs for the check: a prepared set, whose test accuracy goes into the card, or labelled "
            "photos; for a detector frame sets. Repeatable."
        ),
    ] = None,
    groups: Annotated[
        list[Path] | None,
        typer.Option(
            help="report.json of `kpedge eval --by`, whose errors by group go into the card; repeatable.",
            metavar="FILE",
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Prepared set or frame set to measure int8 ranges on. (default: synthetic faces)"),
    ] = None,
    detector: Annotated[str, typer.Option(help=f"For {WEB}: finds the faces.")] = "detector",
    frame_size: Annotated[
        str,
        typer.Option(help="Frame of a detector in formats of one input size, WIDTHxHEIGHT, multiples of 32."),
    ] = "640x640",
    listed: Annotated[bool, typer.Option("--list", help="List the formats and stop.")] = False,
    verbose: Verbose = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a model in one or more file formats, and check that every file computes what PyTorch computes.

    A file that exceeds its tolerance is deleted, and the command fails with exit code 3. `--format all` leaves out the
    formats that the model cannot be written in, and says why.
    """
    if listed:
        _list_formats(as_json)
        return
    kind = ",".join(kinds or DEFAULT_FORMATS)
    if WEB in kind.split(","):
        _export_site(model, detector, out, kind, force=force, as_json=as_json)
        return

    importable("torch", "export")
    from kpedge.core.card import DetectorCard
    from kpedge.evaluation.groups import read_report
    from kpedge.export.exporter import export_model
    from kpedge.export.load import open_eager
    from kpedge.export.registry import chosen_formats

    formats = chosen_formats(kind)
    width, _, height = frame_size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise UsageError(f"--frame-size {frame_size}: not WIDTHxHEIGHT", "as in --frame-size 640x480")
    if model is None:
        checkpoint = newest_run()
        output.say(f"exporting the newest finished run: {checkpoint}")
    else:
        checkpoint = resolve_weights(model)
    eager = open_eager(checkpoint)
    read = _frames if isinstance(eager.card, DetectorCard) else _faces
    with output.progress("exporting", unit="formats") as update:
        by_group = dict(read_report(path, eager.card.weights_sha256) for path in groups or ())
        real, labelled, accuracy = read(eager, data or [])
        result = export_model(
            checkpoint,
            out,
            formats,
            name=name,
            real=real,
            labelled=labelled,
            calibration=calibration,
            frame=(int(height), int(width)),
            accuracy={**accuracy, **({"groups": by_group} if by_group else {})},
            force=force,
            progress=update,
            skip_failed=kind == ALL,
        )
    if as_json:
        output.result_json(
            {
                "files": [str(path) for path in (*result.files, result.card_file)],
                "parity": [row.to_dict() for row in result.parity],
                "accuracy": result.accuracy,
                "failed": result.failed,
            },
            indent=1,
        )
        return
    if verbose:
        _show_parity(result.parity)
    for path in (*result.files, result.card_file):
        output.result(str(path))
    if result.parity:
        worst = max(row.largest / row.tolerance for row in result.parity)
        output.say(f"equal to PyTorch: {len(result.parity)} comparisons, at most {worst:.0%} of the tolerance")
    for name_, figures in result.accuracy.items():
        output.say(f"{name_}: {_accuracy_line(figures)}")
    for reason in result.failed.values():
        output.say(f"left out: {reason}")
    formats = tuple(one for one in formats if one not in result.failed)
    for one, path in zip(formats, result.files, strict=True):
        if not FORMATS[one].runs_here():
            output.say(f"{path}: written, not run here; on the device: kpedge verify {quote(path)}")
        if (build_line := FORMATS[one].build_line) is not None:
            output.say(f"build its engine on the device: {build_line(path)}")
    if any(FORMATS[one].limits is None for one in formats) and not isinstance(eager.card, DetectorCard):
        output.say(f"next: kpedge predict PHOTO --model {quote(result.files[0])}")
    else:
        output.say(f"next: kpedge verify {quote(result.files[0])}")


def _export_site(model: str | None, detector: str, out: Path, kind: str, *, force: bool, as_json: bool) -> None:
    """`kpedge export --format web`."""
    from kpedge.export.web import export_site

    if kind != WEB:
        raise UsageError(f"--format {WEB} writes a folder of its own", f"run kpedge export --format {WEB} separately")
    with output.progress("writing the page"):
        files = export_site(out, model or DEFAULT_MODEL, detector, force=force)
    if as_json:
        output.result_json({"files": [str(path) for path in files]}, indent=1)
        return
    output.result(str(out))
    output.say(f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB, for any web server")
    if not installed("onnx"):
        output.say("the weights are float32; with the package onnx (pip install onnx) they take half as much")
    output.say(f"next: python -m http.server --directory {quote(out)}, and open http://localhost:8000")


@app.command(
    epilog=examples(
        "kpedge verify stage3",
        "kpedge verify export/stage1.onnx export/stage1.torchscript.pt",
    )
)
def verify(
    models: Annotated[
        list[str], typer.Argument(help="Model files, or a released model's name; files of one model are compared.")
    ],
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Check exported files again, without their checkpoint, and ONNX files without PyTorch."""
    from kpedge.export.verification import verify as run_verify

    paths = [resolve_model(name) for name in models]
    with output.progress("verifying"):
        checks = run_verify(paths)
    if as_json:
        output.result_json(
            [
                {
                    "file": str(check.path),
                    "format": check.kind,
                    "sha256": check.sha256,
                    "card_matches": check.card_matches,
                    "parity": [row.to_dict() for row in check.rows],
                    "skipped": list(check.skipped),
                }
                for check in checks
            ],
            indent=1,
        )
        return
    if verbose:
        _show_parity([row for check in checks for row in check.rows])
    for check in checks:
        for reason in check.skipped:
            output.say(f"{check.path}: {reason}")
        card = {True: ", as its card says", None: ", no card next to it"}[check.card_matches]
        output.result(f"{check.path}: verified ({len(check.rows)} comparisons, SHA-256 {check.sha256[:12]}…{card})")
    output.say(f"next: kpedge bench {' '.join(map(quote, models))}")


def _list_formats(as_json: bool) -> None:
    """`kpedge export --list`."""
    if as_json:
        output.result_json(
            [
                {
                    "format": one.name,
                    "file": f"NAME{one.suffix}",
                    "for": one.purpose,
                    "precision": one.precision,
                    "missing": one.missing(),
                    "install": one.install_line,
                    "install_mb": one.install_mb,
                    "status": one.status,
                }
                for one in FORMATS.values()
            ],
            indent=1,
        )
        return
    output.table(
        ("format", "file", "for", "install", "here"),
        [
            (one.name, f"NAME{one.suffix}", one.purpose, f"{one.install_mb} MB" if one.install_mb else "-", one.status)
            for one in FORMATS.values()
        ]
        + [(WEB, "a folder", "browsers: a page that needs only a web server", "-", "ready")],
        left=3,
    )


def _accuracy_line(figures: dict[str, Any]) -> str:
    if "frames" in figures:
        return (
            f"average precision {figures['average_precision']:.3f} on {figures['frames']} frames, in float32 "
            f"{figures['average_precision_float32']:.3f}; the difference is exact to {figures['standard_error']:.3f}"
        )
    return (
        f"mean error {figures['nme_box']:.3%} of the box on {figures['faces']} faces, in float32 "
        f"{figures['nme_box_float32']:.3%}; {figures['decisions_changed']} face decisions change"
    )


def _show_parity(rows: Sequence[ParityRow]) -> None:
    output.table(
        ("file", "inputs", "batch", "crops", "output", "shape", "largest difference", "allowed"),
        [
            (
                row.candidate,
                row.inputs,
                str(row.batch),
                str(row.crops),
                row.output,
                "×".join(map(str, row.shape)),
                f"{row.largest:.1e}",
                f"{row.tolerance:.1e}",
            )
            for row in rows
        ],
        left=2,
    )


def _faces(model: Model, data: list[Path]) -> tuple[NDArray[np.uint8], Samples, dict[str, Any]]:
    """Real crops for the check, labelled faces where `--data` gives some, and the accuracy on a test split."""
    from kpedge.data.packed import is_prepared
    from kpedge.evaluation.evaluate import evaluate, in_common
    from kpedge.evaluation.keypoint_report import first_split, load_faces
    from kpedge.runtime.keypoints import keypoint_model

    if len(data) > 1:
        raise UsageError("a keypoint model takes one --data", "only a detector is measured on several sets")
    folder, opened = data[0] if data else sample_folder(), keypoint_model(model)
    split = first_split(folder) if is_prepared(folder) else None
    faces, problems = load_faces(folder, opened, split=split, any_points=True)
    for problem in problems:
        output.say(f"left out: {problem}")
    accuracy = {}
    if split == "test" and faces.truth.scheme == opened.card.scheme:
        accuracy = {"test": evaluate(opened, faces, opened.card).headline()}
    elif split == "test":
        output.say(
            f"the card gets no test accuracy: {folder} has {faces.truth.scheme.name} keypoints, "
            f"the model {opened.card.scheme.name}"
        )
    return faces.crops, in_common(faces, opened.card.scheme, str(folder)) if data else None, accuracy


def _frames(model: Model, data: list[Path]) -> tuple[NDArray[np.uint8], Samples, dict[str, Any]]:
    """Real frames for the check, labelled ones where `--data` gives some, and the accuracy on the test splits of frame
    sets.
    """
    from kpedge.data.frames import open_frames
    from kpedge.evaluation.detection_report import load_frames, measure_sets, probe_frames
    from kpedge.runtime.detector import detector_model

    detector = detector_model(model)
    accuracy = measure_sets(detector, data)
    splits = [(folder, "validation" if len(open_frames(folder).frames("validation")) else None) for folder in data]
    labelled = [frame for folder, split in splits for frame in load_frames(folder, split=split)[0]]
    probes = probe_frames(data, detector.card.nominal_input_shape)
    return probes, labelled or None, {"test": accuracy} if accuracy else {}
