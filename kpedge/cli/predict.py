"""`kpedge predict`: faces and their keypoints in photos."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import Backend, Features, Focal, Force, Threads, examples, parse_box
from kpedge.core.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from kpedge.core.text import format_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpedge.core.faces import Face
    from kpedge.core.geometry import Image
    from kpedge.runtime.keypoints import KeypointPredictor


DEFAULT_OUT = "predictions"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kpedge predict photo.jpg",
            "kpedge predict photos --json --max-side 1280",
            "kpedge predict face.jpg --box 150,130,305,285",
            "kpedge predict --boxes photos/label.txt --out annotated",
            "kpedge predict photos/I/000007.jpg --boxes photos/I/label.txt --model runs/stage1/best.pt --json",
        )
    )(predict)


JPEGS = frozenset({".jpg", ".jpeg", ".jfif"})
"""Photos with these endings get a JPEG as their annotated copy, others a PNG."""
VIDEOS = frozenset({".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"})
"""File name endings of videos, which `kpedge webcam` reads."""
LISTED = 5
"""File names in a line of the summary, at most."""


def predict(
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Photos, animated GIFs, or folders of them. With --boxes: all photos that FILE names."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Keypoint model: a file, a run folder or a released name.")
    ] = DEFAULT_MODEL,
    detector: Annotated[
        str, typer.Option(help="Detector that finds the faces: a file, a run folder or a released name.")
    ] = DEFAULT_DETECTOR,
    max_side: Annotated[
        int | None,
        typer.Option(
            help="Longer side in pixels at which photos are searched: faces under about 16 px there are missed; "
            "doubling it takes four times as long. (default: the detector's)"
        ),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="File with one face per row, `name x1 y1 x2 y2 …`, photo names relative to it; a label.txt fits."
        ),
    ] = None,
    box: Annotated[list[str] | None, typer.Option(help="x1,y1,x2,y2 in pixels, for every photo; repeatable.")] = None,
    out: Annotated[
        Path | None, typer.Option(help=f"Folder for annotated copies. (default: {DEFAULT_OUT}; none with --json)")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines only: no annotated copies, unless --out is given.")
    ] = False,
    names: Annotated[bool, typer.Option("--names", help="Add the keypoints' names to each JSON line.")] = False,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Lowest score at which a box counts as a face. (default: the model's)"),
    ] = None,
    keep_rejected: Annotated[
        bool,
        typer.Option(
            "--keep-rejected", help="Keep boxes that the model rejects: given ones with points, detected ones without."
        ),
    ] = False,
    features: Features = False,
    focal: Focal = None,
    rotations: Annotated[
        bool, typer.Option(help="Search photos without a face again, rotated by 90, 180 and 270 degrees.")
    ] = True,
    threads: Threads = 1,
    backend: Backend = "auto",
    force: Force = False,
) -> None:
    """Find faces and their keypoints in photos: one line of JSON per photo on standard output, and an annotated copy.

    Without --box or --boxes faces are detected first. A detected box that turns out not to be a face is dropped; a
    given one is listed without points. Given boxes are squares around the face, from the brows to the chin. ONNX
    models need neither PyTorch nor a GPU.
    """
    from kpedge.core.errors import UsageError

    if not (images or boxes):
        raise UsageError("no photo is given", "name a photo or a folder of photos, or give --boxes FILE")
    if keep_rejected and threshold is not None:
        raise UsageError("--keep-rejected and --threshold contradict each other", "give one of them")
    if box and boxes:
        raise UsageError("give either --boxes FILE or --box x1,y1,x2,y2", "a label.txt is a boxes file")
    searching = not (box or boxes)
    if not searching and max_side is not None:
        raise UsageError("--max-side is for searching; boxes are given", "leave one of them out")
    folder = out or (None if as_json else Path(DEFAULT_OUT))
    photos, unread = _find_photos(images or [], folder)

    from kpedge.core.drawing import draw_face
    from kpedge.core.errors import DataError, ImageError, KpedgeError
    from kpedge.core.faces import ImageFaces
    from kpedge.core.files import record_output
    from kpedge.core.images import read_pictures, write_image
    from kpedge.core.model_zoo import resolve_model
    from kpedge.export.load import open_model
    from kpedge.runtime.detector import detector_model
    from kpedge.runtime.features import add_features
    from kpedge.runtime.keypoints import KeypointPredictor, keypoint_model
    from kpedge.runtime.pipeline import FacePipeline

    opened = keypoint_model(open_model(resolve_model(model), threads=threads, backend=backend))
    scheme = opened.card.scheme
    keep_all = keep_rejected and opened.card.has_score and not searching
    if searching:
        finder = detector_model(open_model(resolve_model(detector), threads=threads, backend=backend))
        pipeline = FacePipeline(
            opened,
            finder,
            max_side=max_side,
            threshold=threshold,
            keep_rejected=keep_rejected,
            rotations=rotations,
        )
        find: Callable[[Path, Image], tuple[Face, ...]] = lambda _, image: pipeline(image)  # noqa: E731
    else:
        predictor = KeypointPredictor(opened, threshold=0.0 if keep_all else threshold)
        photos, find = _given(predictor, photos, box or [], boxes)
    copies = _annotated_copies(photos, folder, force=force) if folder else {}
    written: dict[Path, Path] = {}
    tally = _Tally()
    with output.progress("photos", streams=True) as update:
        for done, photo in enumerate(photos, 1):
            try:
                # Boxes of a label file count pixels as they are stored; a person reads a box off a viewer.
                for image in read_pictures(photo, stored=boxes is not None):
                    faces, size = find(photo, image.image), (image.image.shape[1], image.image.shape[0])
                    if features:
                        faces = add_features(faces, scheme, size, focal=focal)
                    result = ImageFaces(str(photo), faces, size, scheme.name, scheme.points if names else None)
                    output.result_json(result.to_dict() | image.position())
                    tally.add(len(faces))
                    if photo in copies:
                        file = copies[photo] if image.frame is None else copies[photo] / f"{image.frame:04}.png"
                        for face in faces:
                            draw_face(image.image, face, scheme)
                        write_image(file, image.image)
                        record_output(file)
                        written[photo] = copies[photo]
            except (ImageError, DataError) as problem:
                message = str(problem).removeprefix(f"{photo}: ")
                error = type(problem)(f"{photo}: {message}", problem.advice)
                if len(photos) == 1 and not tally.images:
                    raise error from problem
                output.error(error)
                tally.skipped[message] += 1
            update(done, len(photos))
    output.say(tally.summary() + _where(written, folder))
    if unread:
        output.say(_unread_line(unread))
    if skipped := tally.skipped.total():
        reasons = ", ".join(f"{count} × {reason}" for reason, count in tally.skipped.most_common(LISTED))
        raise KpedgeError(f"{skipped} of {format_count(len(photos), 'photo')} skipped: {reasons}")


@dataclass(slots=True)
class _Tally:
    """What the summary counts: images, their faces, images without any, and skipped photos by reason."""

    images: int = 0
    faces: int = 0
    empty: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, faces: int) -> None:
        """Count an image."""
        self.images += 1
        self.faces += faces
        self.empty += not faces

    def summary(self) -> str:
        """The counts in words."""
        without = f" ({self.empty:,} without a face)" if self.empty else ""
        return f"{format_count(self.images, 'image')}{without}, {format_count(self.faces, 'face')}"


def _where(written: dict[Path, Path], folder: Path | None) -> str:
    """The end of the summary: where the annotated copies are."""
    if not written:
        return ""
    return f"; annotated copy: {next(iter(written.values()))}" if len(written) == 1 else f"; annotated copies: {folder}"


def _find_photos(named: list[Path], out: Path | None) -> tuple[list[Path], list[Path]]:
    """The photos that are named, and those in and below folders that are named, each once; and the files there that are
    no photos. Annotated copies that an earlier call left in a folder `out` below them are neither.

    Raises:
        UsageError: a video is named.
        ImageError: there is no photo in a folder.
    """
    from kpedge.core.errors import ImageError, UsageError
    from kpedge.core.files import real_path
    from kpedge.core.images import ANIMATED, SUFFIXES

    photos: list[Path] = []
    unread: list[Path] = []
    for path in named:
        if not path.is_dir():
            if path.suffix.lower() in VIDEOS:
                raise UsageError(f"{path} is a video", f"use: kpedge webcam {path}")
            photos.append(path)
            continue
        below = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        if out and real_path(path) in real_path(out).parents:
            below = [file for file in below if real_path(out) not in real_path(file).parents]
        found = [file for file in below if file.suffix.lower() in SUFFIXES | ANIMATED]
        others = [file for file in below if file.suffix.lower() not in SUFFIXES | ANIMATED]
        if not found:
            raise ImageError(f"{path}: no photo in this folder or below it", _unread_line(others) if others else "")
        photos += found
        unread += others
    return list(dict.fromkeys(photos)), list(dict.fromkeys(unread))


def _unread_line(files: list[Path]) -> str:
    """A line about files in a folder that are no photos; how to read the videos among them."""
    listed = ", ".join(str(file) for file in files[:LISTED])
    more = f" and {len(files) - LISTED:,} more" if len(files) > LISTED else ""
    video = next((file for file in files if file.suffix.lower() in VIDEOS), None)
    return f"not read: {listed}{more}" + (f"; for a video: kpedge webcam {video}" if video else "")


def _annotated_copies(photos: list[Path], out: Path, *, force: bool) -> dict[Path, Path]:
    """Photo -> its annotated copy: a file with its name, and a number where another photo has that name; for an
    animated image a folder for its frames.

    Raises:
        UsageError: a copy would replace one of the photos.
        OutputError: it would replace another file of the user's, and `force` is off.
    """
    from kpedge.core.animation import holds_several
    from kpedge.core.errors import UsageError
    from kpedge.core.files import real_path, refuse_existing

    originals = {real_path(photo) for photo in photos}
    taken: set[str] = set()
    copies: dict[Path, Path] = {}
    for photo in photos:
        suffix = photo.suffix.lower()
        ending = ".jpg" if suffix in JPEGS else "" if holds_several(photo) else ".png"
        names = (f"{photo.stem}{'' if number == 1 else f'-{number}'}{ending}" for number in count(1))
        name = next(name for name in names if name.lower() not in taken)
        taken.add(name.lower())
        copies[photo] = out / name
        if real_path(copies[photo]) in originals:
            raise UsageError(
                f"the annotated copy of {photo} would replace the photo {copies[photo]}", "give another --out"
            )
        refuse_existing(copies[photo], force=force)
    return copies


def _given(
    predictor: KeypointPredictor, images: list[Path], box: list[str], boxes: Path | None
) -> tuple[list[Path], Callable[[Path, Image], tuple[Face, ...]]]:
    """The photos, and a function that takes the boxes that are given for one."""
    from kpedge.core.errors import ImageError, UsageError
    from kpedge.core.files import real_path
    from kpedge.core.geometry import as_box
    from kpedge.data.labels import read_boxes

    given = [as_box(parse_box(text)) for text in box]
    by_photo = read_boxes(boxes) if boxes else {}
    resolved = {real_path(photo): boxes_of for photo, boxes_of in by_photo.items()}
    photos = list(dict.fromkeys(images or by_photo))
    if not photos:
        raise UsageError("no photo is given", "name one, or give --boxes FILE")

    def find(photo: Path, image: Image) -> tuple[Face, ...]:
        own = given or resolved.get(real_path(photo))
        if not own:
            raise ImageError(f"{photo}: {boxes} has no box for this photo")
        return predictor(image, own)

    return photos, find
