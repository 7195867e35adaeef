"""`kpedge export` and `kpedge verify`: write model files, and prove them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, Json, examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from kpedge.export.parity import ParityRow
    from kpedge.runtime.sessions import Model


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog=examples(
            "kpedge export runs/stage1/best.pt --out export",
            "kpedge export runs/stage1/best.pt --format onnx --out models --name mine --data data/photos",
        )
    )(export)
    app.command(
        epilog=examples(
            "kpedge verify export/stage1.onnx",
            "kpedge verify export/stage1.onnx export/stage1.torchscript.pt",
        )
    )(verify)


def _show_parity(rows: Sequence[ParityRow]) -> None:
    output.table(
        ("form", "inputs", "batch", "crops", "output", "shape", "largest difference", "allowed"),
        [
            (
                row.form,
                row.inputs,
                str(row.batch),
                str(row.crops),
                row.output,
                "×".join(map(str, row.shape)),
                f"{row.largest:.1e}",
                f"{row.tolerance:.0e}",
            )
            for row in rows
        ],
        left=2,
    )


def _crops(model: Model, data: list[Path]) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Real crops for the proof, and the accuracy on a test split where there is one."""
    from kpedge.core.errors import UsageError
    from kpedge.core.model_zoo import sample_folder
    from kpedge.data.packed import is_prepared
    from kpedge.evaluation.evaluate import evaluate
    from kpedge.evaluation.keypoint_report import first_split, labelled_faces
    from kpedge.runtime.keypoints import keypoint_model

    if len(data) > 1:
        raise UsageError("a keypoint model takes one --data", "only a detector is measured on several sets")
    folder, opened = data[0] if data else sample_folder(), keypoint_model(model)
    split = first_split(folder) if is_prepared(folder) else None
    faces, problems = labelled_faces(folder, opened, split=split)
    for problem in problems:
        output.say(f"left out: {problem}")
    measured = split == "test"
    if measured and faces.truth.scheme != opened.card.scheme:
        output.say(
            f"the card gets no test accuracy: {folder} has {faces.truth.scheme.name} keypoints, "
            f"the model {opened.card.scheme.name}"
        )
        measured = False
    return faces.crops, {"test": evaluate(opened, faces, opened.card).headline()} if measured else {}


def _frames(model: Model, data: list[Path]) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Real frames for the proof, and the accuracy on the test splits of frame sets."""
    from kpedge.evaluation.detection_report import measure_sets, probe_frames
    from kpedge.runtime.detector import detector_model

    detector = detector_model(model)
    with output.progress("photos") as update:
        accuracy = measure_sets(detector, data, progress=update)
    return probe_frames(data, detector.card.usual_shape), {"test": accuracy} if accuracy else {}


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of a run, as best.pt.")],
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("export"),
    kind: Annotated[str, typer.Option("--format", help="onnx, torchscript or all.")] = "all",
    name: Annotated[str, typer.Option(help="Name of the files. [default: the recipe's]")] = "",
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Real inputs for the proof: a prepared set, whose test accuracy goes into the card, or labelled "
            "photos; of a detector frame sets. Repeatable."
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a checkpoint as ONNX and TorchScript, and prove that every file computes what PyTorch computes.

    A file that misses its tolerance is not left behind, and the command fails with exit code 3.
    """
    from kpedge.core.extras import importable

    importable("torch", "export")
    from kpedge.core.card import DetectorCard
    from kpedge.export.exporter import export_model
    from kpedge.export.formats import SUFFIXES, open_eager

    formats = tuple(SUFFIXES) if kind == "all" else (kind,)
    eager = open_eager(checkpoint)
    real, accuracy = (_frames if isinstance(eager.card, DetectorCard) else _crops)(eager, data or [])
    result = export_model(checkpoint, out, formats, name=name, real=real, accuracy=accuracy, force=force)
    if as_json:
        output.result_json(
            {
                "files": [str(path) for path in (*result.files, result.card_file)],
                "parity": [row.to_dict() for row in result.parity],
            },
            indent=1,
        )
        return
    _show_parity(result.parity)
    for path in (*result.files, result.card_file):
        output.say(f"wrote {path} ({path.stat().st_size:,} bytes)")


def verify(
    files: Annotated[list[Path], typer.Argument(help="ONNX or TorchScript files; those of one model are compared.")],
    as_json: Json = False,
) -> None:
    """Repeat the proof of exported files from the files alone: no checkpoint, and for ONNX no PyTorch, is needed."""
    from kpedge.export.verify import verify as run_verify

    checks = run_verify(files)
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
    _show_parity([row for check in checks for row in check.rows])
    for check in checks:
        beside = {True: ", as its card says", None: ", no card beside it"}[check.card_matches]
        output.say(f"{check.path}: holds (SHA-256 {check.sha256[:12]}…{beside})")
        for reason in check.skipped:
            output.say(f"{check.path}: {reason}")
