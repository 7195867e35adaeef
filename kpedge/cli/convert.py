"""`kpedge data convert`: labels from one format to another."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kpedge.cli import output
from kpedge.cli.labels import Force, Format, Label, Scheme, To, requested_scheme
from kpedge.cli.options import Json, examples

app = typer.Typer()


@app.command(
    epilog=examples(
        "kpedge data convert export.json --to label --out photos  # from COCO, as CVAT and others write it",
        "kpedge data convert photos --to coco --out for_cvat",
        "kpedge data convert 300w --to label --scheme faces21 --out photos",
        "kpedge data convert photos --to yolo --out frames --photos link",
    )
)
def convert(
    folder: Annotated[Path, typer.Argument(help="Folder of photos and their labels, or a label file.")],
    to: To,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    scheme: Scheme = "auto",
    label_format: Format = "auto",
    label: Label = None,
    photos: Annotated[
        str,
        typer.Option(help="What to do with the photos: copy, link to where they are, or none to write labels alone."),
    ] = "copy",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write labels in another format, verify them by reading them back, and count what the format cannot hold."""
    from kpedge.data.convert import convert as run_convert

    with output.progress("converting") as update:
        report = run_convert(
            folder,
            out,
            to,
            scheme=requested_scheme(scheme),
            label_format=label_format,
            only=label or (),
            photos=photos,
            force=force,
            progress=update,
        )
    for finding in report.findings:
        output.say(f"warning: {finding}")
    output.say_some([f"left out: {problem}" for problem in report.problems], "--json lists all")
    for remark in report.remarks:
        output.say(f"note: {remark}")
    for kind, count in report.dropped.items():
        output.say(f"dropped: {count:,} {kind}")
    what = report.scheme or "boxes alone"
    output.say(
        f"{report.source_format} to {report.target_format}: {report.faces:,} faces of {report.photos:,} photos ({what})"
        + ("" if report.dropped or report.problems else "; nothing is lost")
    )
    if as_json:
        output.result_json({**asdict(report), "path": str(report.path)}, indent=1)
    else:
        output.result(str(report.path))
