"""`kpedge data synth`: photos of synthetic faces, for whoever has none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, examples


def register(app: typer.Typer) -> None:
    """Add the command to its group."""
    app.command(
        epilog=examples(
            "kpedge data synth --out synthetic --count 5000",
            "kpedge data synth --out synthetic --count 5000 --seed 1 --faceless 400",
            "kpedge data synth --out frames --count 1000 --frames",
            "kpedge data synth --out few --count 60 --sheet faces.jpg",
        )
    )(synth)


def synth(
    out: Annotated[Path, typer.Option(help="Folder for the photos and their label.txt.")],
    count: Annotated[int, typer.Option(min=1, help="Photos with faces.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same photos.")] = 0,
    frames: Annotated[
        bool,
        typer.Option("--frames", help="Whole frames with none to six faces, instead of a face or two that fill them."),
    ] = False,
    faceless: Annotated[
        int, typer.Option(min=0, help="Further photos without a face, in OUT/faceless: --format faceless.")
    ] = 0,
    sheet: Annotated[Path | None, typer.Option(help="Draw faces with their points into this picture.")] = None,
    faces: Annotated[int, typer.Option(min=1, help="Faces on the sheet.")] = 40,
    force: Force = False,
) -> None:
    """Render photos of parametric heads in three dimensions, with exact points, as a data folder."""
    from kpedge.core.files import refuse_existing
    from kpedge.core.images import check_format, write_image
    from kpedge.synthetic import write_synthetic
    from kpedge.synthetic.sheet import synthetic_sheet

    if sheet is not None:
        refuse_existing(sheet, force=force)
        check_format(sheet)
    with output.progress("rendering") as update:
        report = write_synthetic(out, count, seed=seed, frames=frames, faceless=faceless, force=force, progress=update)
    least, median, largest = report.boxes_px
    without = f", and {report.faceless:,} without a face in {report.path / 'faceless'}" if report.faceless else ""
    output.say(
        f"{report.path}: {report.faces:,} faces in {report.photos:,} photos, "
        f"boxes of {least:.0f} to {largest:.0f} px, median {median:.0f}{without}"
    )
    if sheet is not None:
        write_image(sheet, synthetic_sheet(seed, faces, photos=count, frames=frames))
        output.say(f"sheet: {sheet}")
    output.result(str(report.path))
