"""`kpedge data synth`: photos of synthetic faces, for whoever has none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, examples
from kpedge.core.files import record_output, refuse_existing

app = typer.Typer()


@app.command(
    epilog=examples(
        "kpedge data synth --out synthetic --count 5000",
        "kpedge data synth --out synthetic --count 5000 --seed 1 --background 400",
        "kpedge data synth --out frames --count 1000 --frames",
        "kpedge data synth --out few --count 60 --preview faces.jpg",
    )
)
def synth(
    out: Annotated[Path, typer.Option(help="Folder for the photos and their label.txt.")],
    count: Annotated[int, typer.Option(min=1, help="Photos with faces.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same photos.")] = 0,
    wild: Annotated[
        bool,
        typer.Option(
            "--wild", help="Heads turned by up to 90 degrees, masks, dark glasses, and in frames larger faces."
        ),
    ] = False,
    frames: Annotated[
        bool,
        typer.Option("--frames", help="Whole frames with none to six faces, instead of a face or two that fill them."),
    ] = False,
    background: Annotated[
        int, typer.Option(min=0, help="Number of photos without a face, written to OUT/background.")
    ] = 0,
    preview: Annotated[
        Path | None, typer.Option(help="Image file for a preview of faces, every other one with its points.")
    ] = None,
    faces: Annotated[int, typer.Option(min=1, help="Faces on the preview.")] = 40,
    force: Force = False,
) -> None:
    """Render photos of 3D heads with exact keypoints, as a folder of labelled photos."""
    from kpedge.core.images import check_format, write_image
    from kpedge.synthetic import write_synthetic
    from kpedge.synthetic.preview import synthetic_preview

    if preview is not None:
        refuse_existing(preview, force=force)
        check_format(preview)
    with output.progress("rendering") as update:
        report = write_synthetic(
            out, count, seed=seed, frames=frames, background=background, wild=wild, force=force, progress=update
        )
    least, median, largest = report.boxes_px
    without = f", and {report.background:,} without a face in {report.path / 'background'}" if report.background else ""
    output.say(
        f"{report.path}: {report.faces:,} faces in {report.photos:,} photos, "
        f"boxes of {least:.0f} to {largest:.0f} px, median {median:.0f}{without}"
    )
    if preview is not None:
        write_image(preview, synthetic_preview(seed, faces, photos=count, frames=frames, wild=wild))
        record_output(preview)
        output.say(f"preview: {preview}")
    output.result(str(report.path))
