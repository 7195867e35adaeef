"""`kpedge predict`: faces and their keypoints in photos."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, Threads, examples, parse_box
from kpedge.core.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpedge.core.faces import Face
    from kpedge.core.geometry import Image
    from kpedge.runtime.keypoints import KeypointPredictor


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kpedge predict photo.jpg",
            "kpedge predict photos --json --max-side 1280",
            "kpedge predict face.jpg --box 150,130,305,285",
            "kpedge predict --boxes photos/label.txt --out drawn",
            "kpedge predict photos/I/000007.jpg --boxes photos/I/label.txt --model runs/stage1/best.pt --json",
        )
    )(predict)


FRAME = re.compile(r"-\d{4,}$")
"""How the names of an animated picture's frames end."""


def _picture_files(photos: list[Path], out: Path) -> dict[Path, Path]:
    """A file of its own for each photo: its name, with a number behind it where another photo has that name, or a frame
    of an animated one would have it.
    """
    from kpedge.core.images import ANIMATED

    animated = {photo.stem for photo in photos if photo.suffix.lower() in ANIMATED}
    taken: set[str] = set()
    files: dict[Path, Path] = {}
    for photo in photos:
        names = (f"{photo.stem}{'' if number == 1 else f'-{number}'}" for number in count(1))
        name = next(name for name in names if name not in taken and FRAME.sub("", name) not in animated - {name})
        taken.add(name)
        files[photo] = out / f"{name}.png"
    return files


def _files_there(photo: Path, file: Path) -> list[Path]:
    """The files that the pictures of a photo would replace."""
    from kpedge.core.images import ANIMATED

    if photo.suffix.lower() not in ANIMATED:
        return [file] if file.exists() else []
    others = sorted(file.parent.glob("*.png"))
    return [other for other in others if other.stem != file.stem == FRAME.sub("", other.stem)]


def predict(
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Photos, animated GIFs, or folders of them. With --boxes: all that the file names."),
    ] = None,
    model: Annotated[str, typer.Option(help="A model file, or the name of a released model.")] = DEFAULT_MODEL,
    detector: Annotated[
        str, typer.Option(help="What finds the faces where no box is given: a file or a released model.")
    ] = DEFAULT_DETECTOR,
    max_side: Annotated[
        int | None,
        typer.Option(
            help="Longer side, px, at which photos are searched: faces under about 16 px there are missed; "
            "twice the side takes four times as long. [default: the detector's]"
        ),
    ] = None,
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
        bool,
        typer.Option("--keep-rejected", help="Give points of given boxes that show no face; list found ones."),
    ] = False,
    threads: Threads = 1,
    force: Force = False,
) -> None:
    """Find faces and their keypoints in photos: one JSON line a photo on standard output, and a picture of each.

    Without --box or --boxes the faces are searched for. A given box that shows no face gets no points; a found one is
    left out. ONNX files need neither PyTorch nor a GPU. Given boxes are squares around the face from brows to chin.
    """
    from kpedge.core.drawing import draw_face
    from kpedge.core.errors import DataError, ImageError, KpedgeError, UsageError
    from kpedge.core.faces import ImageFaces
    from kpedge.core.files import refuse_existing
    from kpedge.core.images import read_pictures, write_image
    from kpedge.core.model_zoo import resolve_model
    from kpedge.export.formats import open_model
    from kpedge.runtime.keypoints import KeypointPredictor, keypoint_model

    if keep_rejected and threshold is not None:
        raise UsageError("--keep-rejected and --threshold contradict each other", "give one of them")
    if box and boxes:
        raise UsageError("give either --boxes FILE or --box x1,y1,x2,y2", "a label.txt is a boxes file")
    searching = not (box or boxes)
    folder = out or (None if as_json else Path("predictions"))
    if not searching and max_side is not None:
        raise UsageError("--max-side is for searching; boxes are given", "leave one of them out")
    opened = keypoint_model(open_model(resolve_model(model), threads=threads))
    every = keep_rejected and opened.card.has_score and not searching
    predictor = KeypointPredictor(opened, threshold=0.0 if every else threshold)
    if searching:
        photos = _photos(images or [], folder)
        find = _searching(predictor, detector, max_side, threads, keep_rejected)
    else:
        photos, find = _given(predictor, images or [], box or [], boxes)
    drawn = _picture_files(photos, folder) if folder else {}
    originals = {photo.resolve() for photo in photos}
    for photo, file in drawn.items():
        for target in _files_there(photo, file):
            if target.resolve() in originals:
                raise UsageError(f"the picture of {photo} would replace the photo {target}", "give another --out")
            refuse_existing(target, force=force)
    broken = 0
    with output.progress("photos", streams=True) as update:
        for done, photo in enumerate(photos, 1):
            try:
                # Boxes of a label file count pixels as they are stored; a person reads a box off a viewer.
                for picture in read_pictures(photo, stored=boxes is not None):
                    faces = find(photo, picture.image)
                    place = {} if picture.frame is None else {"frame": picture.frame, "time_s": picture.time_s}
                    output.result_json({**ImageFaces(str(photo), faces).to_dict(), **place})
                    if photo in drawn:
                        target = drawn[photo]
                        if picture.frame is not None:
                            target = target.with_name(f"{target.stem}-{picture.frame:04}.png")
                        for face in faces:
                            draw_face(picture.image, face, predictor.model.card.scheme)
                        write_image(target, picture.image)
                        output.say(f"picture: {target}")
            except (ImageError, DataError) as problem:
                output.error(problem if isinstance(problem, ImageError) else DataError(f"{photo}: {problem}"))
                broken += 1
            update(done, len(photos))
    if broken:
        raise KpedgeError(f"{broken} of {len(photos)} photos could not be used", "they are named above")


def _photos(named: list[Path], out: Path | None) -> list[Path]:
    """The photos that are named, and those in folders that are named, each once; without pictures that an earlier call
    left in a folder `out` below them.
    """
    from kpedge.core.errors import ImageError, UsageError
    from kpedge.core.images import pictures_below

    if not named:
        raise UsageError("no photo is given", "name a photo or a folder of photos")
    photos: list[Path] = []
    for path in named:
        below = pictures_below(path) if path.is_dir() else [path]
        if out and path.resolve() in out.resolve().parents:
            below = [photo for photo in below if out.resolve() not in photo.resolve().parents]
        if not below:
            raise ImageError(f"{path}: no photo in this folder or below it")
        photos += below
    return list(dict.fromkeys(photos))


def _searching(
    predictor: KeypointPredictor, detector: str, max_side: int | None, threads: int, keep_rejected: bool
) -> Callable[[Path, Image], tuple[Face, ...]]:
    """A function that searches a photo for faces."""
    from kpedge.core.model_zoo import resolve_model
    from kpedge.export.formats import open_model
    from kpedge.runtime.detector import FaceDetector, detector_model
    from kpedge.runtime.models import search_threshold
    from kpedge.runtime.pipeline import FacePipeline

    finding = detector_model(open_model(resolve_model(detector), threads=threads))
    finder = FaceDetector(finding, threshold=search_threshold(finding.card, predictor.model.card), side=max_side)
    pipeline = FacePipeline(finder, predictor, keep_rejected=keep_rejected)
    return lambda _, image: pipeline(image)


def _given(
    predictor: KeypointPredictor, images: list[Path], box: list[str], boxes: Path | None
) -> tuple[list[Path], Callable[[Path, Image], tuple[Face, ...]]]:
    """The photos, and a function that takes the boxes that are given for one."""
    from kpedge.core.errors import ImageError, UsageError
    from kpedge.core.geometry import as_box
    from kpedge.data.labels import read_boxes

    given = [as_box(parse_box(text)) for text in box]
    by_photo = read_boxes(boxes) if boxes else {}
    resolved = {photo.resolve(): boxes_of for photo, boxes_of in by_photo.items()}
    photos = list(dict.fromkeys(images or by_photo))
    if not photos:
        raise UsageError("no photo is given", "name one, or give --boxes FILE")

    def find(photo: Path, image: Image) -> tuple[Face, ...]:
        own = given or resolved.get(photo.resolve())
        if not own:
            raise ImageError(f"{photo}: {boxes} has no box for this photo")
        return predictor(image, own)

    return photos, find
