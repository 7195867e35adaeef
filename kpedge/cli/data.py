"""`kpedge data`: look at labelled photos, and prepare them for training; further commands have files of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kpedge.cli import convert, fetch, options, output, preview, synth
from kpedge.cli.labels import Force, Format, Label, Scheme, requested_scheme
from kpedge.cli.options import Json, examples, say_prepared
from kpedge.core.errors import DataError, UsageError
from kpedge.core.files import record_output, refuse_existing
from kpedge.core.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL, closest_model
from kpedge.core.text import quote

if TYPE_CHECKING:
    from kpedge.data.check import CheckReport

app = typer.Typer(name="data", no_args_is_help=True, help="Get, check, convert and prepare labelled photos.")


REMARKS_SHOWN = ("duplicate", "odd face")  # of what is unusual; --json lists all
CONVENTION_WORDS = {"face": "brows to chin", "head": "heads", "points": "by another rule"}


@app.command(
    epilog=examples(
        "kpedge data check photos",
        "kpedge data check photos --preview preview.png",
        "kpedge data check photos --json --strict",
        "kpedge data check photos --test-list held_out.txt",
        "kpedge data check export.json --preview preview.png",
        "kpedge data check scans --format pts --scheme my_points.toml",
    )
)
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of photos and their labels, or a label file.")],
    scheme: Scheme = "auto",
    label_format: Format = "auto",
    label: Label = None,
    preview: Annotated[Path | None, typer.Option(help="Image file for a preview grid of labelled faces.")] = None,
    faces: Annotated[int, typer.Option(min=1, help="Faces on the preview.")] = 24,
    test_list: Annotated[
        Path | None,
        typer.Option(help="Photos of the test split, one per line. (default: FOLDER/test_images.txt, if there)"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when anything is wrong.")] = False,
    force: options.Force = False,
    as_json: Json = False,
) -> None:
    """Read every label and decode every photo; report counts, statistics, and everything that is wrong, with its place.

    Labels of many tools are read (--format), and compared with what a face looks like: left and right, order of the
    points, size of the photos, boxes. Photos that leak from one split into another are found: the same
    file, and near-duplicates by a perceptual hash.
    """
    from kpedge.core.images import check_format, write_image
    from kpedge.data.check import check as run_check
    from kpedge.data.check import label_preview
    from kpedge.data.source import raise_if_unusable

    if preview is not None:
        refuse_existing(preview, force=force)
        check_format(preview)
    with output.progress("reading photos") as update:
        report, labels = run_check(
            folder,
            requested_scheme(scheme),
            label_format=label_format,
            only=label or (),
            test_list=test_list,
            progress=update,
        )
    if as_json:
        output.result_json(report.to_dict(), indent=1)
    else:
        output.table(("what", "value"), _rows_of(report))
    for line in report.reading:
        output.say(f"note: {line}")
    for finding in report.findings:
        output.say(f"warning: {finding}")
    remarks = [f"{remark.kind}: {remark}" for remark in report.remarks if remark.kind in REMARKS_SHOWN]
    output.say_some(remarks, "--json lists all")
    output.say_some([f"{problem.kind}: {problem}" for problem in report.problems], "--json lists all")
    if preview is not None:
        write_image(preview, label_preview(labels, count=faces))
        record_output(preview)
        output.say(f"preview: {preview}")
    raise_if_unusable(folder, report.problems, report.faces + report.background)
    if report.problems and strict:
        raise DataError(
            f"{folder}: {len(report.problems)} problems", "correct them, or leave out --strict to skip these rows"
        )


def _rows_of(report: CheckReport) -> list[tuple[str, str]]:
    """The report as lines of a table."""
    return [
        ("format", report.format),
        ("keypoints", f"{report.points} ({report.scheme})" if report.points else "none: boxes alone"),
        ("boxes", CONVENTION_WORDS[report.convention]),
        ("label files", f"{report.label_files:,}"),
        ("rows", f"{report.rows:,}"),
        ("photos", f"{report.photos:,}"),
        ("usable faces", f"{report.faces:,}"),
        ("problems", f"{len(report.problems):,}"),
        *(
            (f"photos with {group} face{'' if group == '1' else 's'}", f"{count:,}")
            for group, count in report.faces_a_photo.items()
        ),
        *((f"box size {name}, px", f"{value:g}") for name, value in report.box_px.items()),
        *((f"roll {name}, degrees", f"{value:g}") for name, value in report.roll_deg.items()),
        *((kind, f"{count:,}") for kind, count in report.notes.items()),
    ]


@app.command(
    epilog=examples(
        "kpedge data prepare photos --out data/photos",
        'kpedge data prepare photos --out data/photos --name wedding --terms "ours"',
        "kpedge data prepare photos --out data/photos --test-list held_out.txt --seed 3",
        "kpedge data prepare landscapes --out data/landscapes --format background",
        "kpedge data prepare crowds --out data/crowds --frames --test 0.5",
        "kpedge data prepare photos --out data/photos224 --crop-size 224",
        "kpedge data prepare youtube68 --out data/youtube68 --scheme faces21",
    )
)
def prepare(
    folder: Annotated[Path, typer.Argument(help="Folder of photos and their labels, or a label file.")],
    out: Annotated[Path, typer.Option(help="Folder for the prepared set.")],
    scheme: Scheme = "auto",
    label_format: Format = "auto",
    label: Label = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    validation: Annotated[float, typer.Option(help="Fraction of the other photos for validation.")] = 0.1,
    test: Annotated[
        float, typer.Option(help="Fraction of the photos for testing, unless a list names them; 0: none.")
    ] = 0.1,
    test_list: Annotated[
        Path | None,
        typer.Option(help="Photos of the test split, one per line. (default: FOLDER/test_images.txt, if there)"),
    ] = None,
    negatives: Annotated[
        int | None,
        typer.Option(min=0, help="Crops without a face of each photo. (default: 3; 8 where photos show no face)"),
    ] = None,
    pointless: Annotated[
        bool, typer.Option("--pointless", help="Crops: keep faces without points, to train the face score alone.")
    ] = False,
    context: Annotated[
        float | None,
        typer.Option(help="Margin of pixels kept around a box, as a fraction of its side. (default: 0.75)"),
    ] = None,
    crop_size: Annotated[
        int | None,
        typer.Option(min=64, max=512, help="Side of the crops that networks are trained on, pixels. (default: 112)"),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the set in model cards. (default: the folder's)")] = "",
    terms: Annotated[str, typer.Option(help="Terms of the photos, for model cards.")] = "not stated",
    frames: Annotated[
        bool, typer.Option("--frames", help="Pack whole photos, for the detector, instead of faces.")
    ] = False,
    boxes: Annotated[
        str,
        typer.Option(
            help="Crops: cut around labelled boxes, or those that follow from the points. With --frames: what the "
            "boxes hold, face or head; points takes those. (default: what the format says)",
        ),
    ] = "",
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on the first broken row instead of leaving it out.")
    ] = False,
    force: Force = False,
) -> None:
    """Split photos into train, validation and test; pack every face, and crops without one, for fast training.

    With --frames, whole photos are packed with the boxes of all their faces, to train the detector.
    """
    from kpedge.data.packed import open_set
    from kpedge.data.preparation import FrameOptions, PrepareOptions
    from kpedge.data.preparation import prepare as run_prepare

    own = {"negatives": negatives, "context": context, "size": crop_size, "pointless": pointless or None}
    crops: dict[str, Any] = {option: value for option, value in own.items() if value is not None}
    if frames and crops:
        what = "--negatives, --context, --crop-size and --pointless are for crops, --frames packs photos"
        raise UsageError(what, "leave one of them out")
    common: dict[str, Any] = {
        "scheme": requested_scheme(scheme),
        "boxes": boxes,
        "seed": seed,
        "validation": validation,
        "test": test,
        "name": name,
        "terms": terms,
    }
    with output.progress("preparing") as update:
        report = run_prepare(
            folder,
            out,
            FrameOptions(**common) if frames else PrepareOptions(**common, **crops),
            test_list=test_list,
            label_format=label_format,
            only=label or (),
            strict=strict,
            force=force,
            trust=force,
            progress=update,
        )
    for line in report.remarks:
        output.say(f"note: {line}")
    output.say_some([f"left out: {problem}" for problem in report.problems], "kpedge data check --json lists all")
    say_prepared(report)
    recipe = DEFAULT_DETECTOR if frames else DEFAULT_MODEL
    start = recipe if frames else closest_model(open_set(out).scheme.name)
    place = quote(report.path)
    output.say(f"next: kpedge train {recipe} --data {place} --out runs/{recipe} --init-from {start}")


for module in (convert, preview, synth, fetch):
    app.add_typer(module.app)
