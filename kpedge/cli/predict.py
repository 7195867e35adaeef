"""`kpedge predict`: keypoints of faces in photos."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, Threads, examples, parse_box
from kpedge.shelf import DEFAULT_MODEL


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kpedge predict face.jpg --box 150,130,305,285",
            "kpedge predict --boxes photos/label.txt --out drawn",
            "kpedge predict photos/I/000007.jpg --boxes photos/I/label.txt --model runs/stage1/best.pt --json",
        )
    )(predict)


def _picture_files(photos: list[Path], out: Path) -> dict[Path, Path]:
    """A file of its own for each photo: its name, with a number behind it where another photo has that name."""
    taken: set[str] = set()
    files: dict[Path, Path] = {}
    for photo in photos:
        names = (f"{photo.stem}{'' if number == 1 else f'-{number}'}.png" for number in count(1))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        files[photo] = out / name
    return files


def predict(
    images: Annotated[
        list[Path] | None, typer.Argument(help="Photos. With --boxes they may be left out: all that the file names.")
    ] = None,
    model: Annotated[str, typer.Option(help="A model file, or the name of a released model.")] = DEFAULT_MODEL,
    boxes: Annotated[
        Path | None,
        typer.Option(help="File with a face a row, `name x1 y1 x2 y2 …`, photos beside it; label.txt fits."),
    ] = None,
    box: Annotated[list[str] | None, typer.Option(help="x1,y1,x2,y2 in pixels, for every photo; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the pictures. (default: predictions)")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines only: no pictures, unless --out is given.")
    ] = False,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Score from which on a box shows a face. [default: the model's]")
    ] = None,
    keep_rejected: Annotated[
        bool, typer.Option("--keep-rejected", help="Give points of boxes that show no face, too.")
    ] = False,
    threads: Threads = 1,
    force: Force = False,
) -> None:
    """Find the keypoints of faces in photos: one JSON line a photo on standard output, and a picture of each.

    A box whose score says that it shows no face gets no points. ONNX files need neither PyTorch nor a GPU. Boxes are
    squares around the face from brows to chin.
    """
    from kpedge.datasets.labels import read_boxes
    from kpedge.drawing import draw_face
    from kpedge.errors import DataError, ImageError, KpedgeError, UsageError
    from kpedge.export.formats import open_model
    from kpedge.faces import ImageFaces
    from kpedge.files import refuse_existing
    from kpedge.geometry import as_box
    from kpedge.images import read_image, write_image
    from kpedge.runtime.keypoints import KeypointPredictor
    from kpedge.shelf import find_model

    given = [as_box(parse_box(text)) for text in box or ()]
    if bool(given) == bool(boxes):
        raise UsageError("give either --boxes FILE or --box x1,y1,x2,y2", "a label.txt is a boxes file")
    by_photo = read_boxes(boxes) if boxes else {}
    resolved = {photo.resolve(): boxes_of for photo, boxes_of in by_photo.items()}
    photos = list(dict.fromkeys(images or by_photo))
    if not photos:
        raise UsageError("no photo is given", "name one, or give --boxes FILE")
    if keep_rejected and threshold is not None:
        raise UsageError("--keep-rejected and --threshold contradict each other", "give one of them")
    opened = open_model(find_model(model), threads=threads)
    every = keep_rejected and opened.card.has_score
    predictor = KeypointPredictor(opened, threshold=0.0 if every else threshold)
    drawn = _picture_files(photos, out or Path("predictions")) if out or not as_json else {}
    originals = {photo.resolve() for photo in photos}
    for photo, target in drawn.items():
        if target.resolve() in originals:
            raise UsageError(f"the picture of {photo} would replace the photo {target}", "give another --out")
        refuse_existing(target, force=force)
    broken = 0
    with output.progress("photos", streams=True) as update:
        for done, photo in enumerate(photos, 1):
            try:
                # Boxes of a label file count pixels as they are stored; a person reads a box off a viewer.
                image = read_image(photo, stored=boxes is not None)
                own = given or resolved.get(photo.resolve())
                if not own:
                    raise ImageError(f"{photo}: {boxes} has no box for this photo")
                faces = predictor(image, own)
            except (ImageError, DataError) as problem:
                output.error(problem if isinstance(problem, ImageError) else DataError(f"{photo}: {problem}"))
                broken += 1
                continue
            output.result_json(ImageFaces(str(photo), faces).to_dict())
            if photo in drawn:
                for face in faces:
                    draw_face(image, face, predictor.model.card.scheme)
                write_image(drawn[photo], image)
                output.say(f"picture: {drawn[photo]}")
            update(done, len(photos))
    if broken:
        raise KpedgeError(f"{broken} of {len(photos)} photos could not be used", "they are named above")
