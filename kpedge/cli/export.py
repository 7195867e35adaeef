"""`kpedge export` and `kpedge verify`: write model files, and prove them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, Json, examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpedge.export.parity import ParityRow


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


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of a run, as best.pt.")],
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("export"),
    kind: Annotated[str, typer.Option("--format", help="onnx, torchscript or all.")] = "all",
    name: Annotated[str, typer.Option(help="Name of the files. [default: the recipe's]")] = "",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Real crops for the proof: a prepared set, whose test accuracy goes into the card, or labelled photos."
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a checkpoint as ONNX and TorchScript, and prove that every file computes what PyTorch computes.

    A file that misses its tolerance is not left behind, and the command fails with exit code 3.
    """
    from kpedge.extras import importable

    importable("torch", "export")
    from kpedge.bench.accuracy import first_split, load_faces
    from kpedge.datasets.packed import is_prepared
    from kpedge.export.formats import SUFFIXES, open_eager
    from kpedge.export.gate import export_model
    from kpedge.shelf import sample_folder
    from kpedge.training.evaluate import evaluate

    formats = tuple(SUFFIXES) if kind == "all" else (kind,)
    eager = open_eager(checkpoint)
    accuracy = {}
    split = first_split(data) if data is not None and is_prepared(data) else None
    faces, problems = load_faces(data or sample_folder(), eager, split=split)
    for problem in problems:
        output.say(f"left out: {problem}")
    if split == "test":
        accuracy["test"] = evaluate(eager, faces, eager.card).headline()
    result = export_model(checkpoint, out, formats, name=name, real=faces.crops, accuracy=accuracy, force=force)
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
