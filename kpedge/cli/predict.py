"""`kpedge predict`: faces and their keypoints in photos and videos."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kpedge.cli import output
from kpedge.cli.options import (
    Backend,
    Detector,
    Features,
    Focal,
    Force,
    Licence,
    Model,
    Names,
    Provider,
    Threads,
    Threshold,
    examples,
    output_option,
    parse_box,
    results_option,
    runtime_option,
    search_option,
    with_outputs,
)
from kpedge.core.errors import DataError, ImageError, KpedgeError, SourceError, UsageError
from kpedge.core.files import real_path, record_output, refuse_existing
from kpedge.core.model_zoo import ANY, DEFAULT_DETECTOR, DEFAULT_MODEL, licensed
from kpedge.core.text import format_count, quote
from kpedge.runtime.sinks.outputs import OUTPUTS, OutputContext, open_outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpedge.core.faces import Face

LISTED = 5  # reasons in the last line, at most
DEFAULT_OUT = "predictions"
JPEGS = frozenset({".jpg", ".jpeg", ".jfif"})
"""Photos with these endings get a JPEG as their annotated copy, others a PNG."""
TARGETS = ("coco", "cvat", "label-studio", "pts", "yolo")  # label formats that annotation tools import
PHOTO_OUTPUTS = tuple(one for one in OUTPUTS if one.photos)  # outputs of `kpedge webcam` that photos have, too


app = typer.Typer()


@app.command(
    epilog=examples(
        "kpedge predict photo.jpg",
        "kpedge predict photos --json --max-side 1280",
        "kpedge predict clip.mp4 --every 10 --csv faces.csv --features",
        "kpedge predict photos --json --workers 8 > faces.jsonl",
        "kpedge predict photos --to label-studio --out prelabelled",
        "kpedge predict face.jpg --box 150,130,305,285",
        "kpedge predict photos/I/000007.jpg --boxes photos/I/label.txt --model runs/stage1/best.pt --json",
        "curl -s https://example.com/photo.jpg | kpedge predict - --json",
    )
)
@with_outputs(PHOTO_OUTPUTS)
def predict(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="Photos, animated images, videos, folders of photos, URLs, or - for standard input. With --boxes: all "
            "photos that FILE names."
        ),
    ] = None,
    model: Model = DEFAULT_MODEL,
    detector: Detector = DEFAULT_DETECTOR,
    every: Annotated[int, typer.Option(min=1, help="Read every Nth frame of videos and animations.", metavar="N")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"Folder for annotated copies (default: {DEFAULT_OUT}; none with --json), or for labels with --to.",
            metavar="FOLDER",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help=f"Write photos and labels to correct by hand, into --out: {', '.join(TARGETS)}.", metavar="FORMAT"
        ),
    ] = None,
    force: Force = False,
    max_side: Annotated[
        int | None,
        search_option(
            help="Longer side in pixels at which photos are searched: faces under about 16 px there are missed; "
            "doubling it takes four times as long. (default: the detector's)",
            metavar="PX",
        ),
    ] = None,
    boxes: Annotated[
        Path | None,
        search_option(
            help="File with one face per row, `name x1 y1 x2 y2 …`, photo names relative to it; a label.txt fits.",
            metavar="FILE",
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        search_option(help="x1,y1,x2,y2 in pixels, for every photo; repeatable.", metavar="BOX"),
    ] = None,
    threshold: Threshold = None,
    keep_rejected: Annotated[
        bool,
        search_option(
            "--keep-rejected", help="Keep boxes that the model rejects: given ones with points, detected ones without."
        ),
    ] = False,
    rotations: Annotated[
        bool,
        search_option(help="Search photos without a face again, rotated by 90, 180 and 270 degrees."),
    ] = True,
    flip_test: Annotated[
        bool,
        results_option(
            "--flip-test",
            help="Average each crop with its mirror image: more exact keypoints, twice the time of a face.",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        output_option("--json", help="JSON lines only: no annotated copies, unless --out is given."),
    ] = False,
    names: Names = False,
    pose: Annotated[bool, results_option("--pose", help="Add the head pose: yaw, pitch, roll.")] = False,
    features: Features = False,
    focal: Focal = None,
    workers: Annotated[
        int,
        runtime_option(min=1, help="Processes that photos are shared among; one per core.", metavar="N"),
    ] = 1,
    licence: Licence = ANY,
    threads: Threads = 1,
    provider: Provider = "cpu",
    backend: Backend = "auto",
    **outputs: Path | None,
) -> None:
    """Find faces and their keypoints in photos and videos: a line of JSON per image, and an annotated copy.

    Without --box or --boxes faces are detected first. A detected box that turns out not to be a face is dropped; a
    given one is listed without points. Given boxes may be those of any detector: crops are corrected by the points that
    are found in them. ONNX models need neither PyTorch nor a GPU.
    """
    if not (images or boxes):
        raise UsageError("no photo is given", "name a photo or a folder of photos, or give --boxes FILE")
    if keep_rejected and threshold is not None:
        raise UsageError("--keep-rejected and --threshold contradict each other", "give one of them")
    if box and boxes:
        raise UsageError("give either --boxes FILE or --box x1,y1,x2,y2", "a label.txt is a boxes file")
    searching = not (box or boxes)
    if not searching and max_side is not None:
        raise UsageError("--max-side is for searching; boxes are given", "leave one of them out")
    if to is not None and to not in TARGETS:
        raise UsageError(f"--to {to}: no such format", f"choose from: {', '.join(TARGETS)}")
    if to is not None and out is None:
        raise UsageError(f"--to {to} needs a folder", "add --out FOLDER")

    from kpedge.cli.finder import Finder
    from kpedge.core.drawing import draw_faces
    from kpedge.core.faces import ImageFaces
    from kpedge.core.images import write_image
    from kpedge.runtime.features import add_features, add_poses, lacking_line
    from kpedge.runtime.overlay import Layers
    from kpedge.runtime.photos import display_name, find_inputs, is_video, unread_line
    from kpedge.runtime.sinks.sink import LiveFrame
    from kpedge.runtime.sources.source import Frame
    from kpedge.runtime.workers import PhotoReader, PhotoWorkers

    copied = None if to else out or (None if as_json else Path(DEFAULT_OUT))
    found, unread = find_inputs(images or [], out or copied)
    settings: dict[str, Any] = {"threads": threads, "provider": provider, "backend": backend}
    search: dict[str, Any] = {"threshold": threshold, "flip_test": flip_test}
    if searching:
        search |= {"max_side": max_side, "rotations": rotations}
    model, detector = licensed(model, licence), licensed(detector, licence)
    finder = Finder(model, detector, settings, search, boxes, [parse_box(text) for text in box or ()], keep_rejected)
    scheme, find, named = finder.open()
    found = list(dict.fromkeys(found or named))
    if not found:
        raise UsageError("no photo is given", "name one, or give --boxes FILE")
    if features and (line := lacking_line(scheme)):
        output.say(line)
    copies = _annotated_copies(found, copied, force=force) if copied else {}
    written: dict[str, Path] = {}
    tally = _Tally()
    with contextlib.ExitStack() as closing, output.progress("predicting", streams=True) as update:
        nothing: Any = None  # photos have neither a source nor controls
        context = OutputContext(nothing, scheme, nothing, output.say, features, force)
        sinks = list(open_outputs(PHOTO_OUTPUTS, outputs, context, found))
        for sink in sinks:
            closing.callback(sink.close)
        labels = None
        if to and out:
            from kpedge.data.prelabel import Prelabels

            labels = closing.enter_context(Prelabels(scheme, out, to, force=force))
        # Boxes of a label file count pixels as they are stored; a person reads a box off a viewer.
        pixels = bool(copies or sinks or labels)
        reader = PhotoReader(finder.open_find, stored=boxes is not None, every=every, pixels=pixels)
        pool = closing.enter_context(PhotoWorkers(reader, found, workers, output.say)) if workers > 1 else None
        for done, text in enumerate(found, 1):
            try:
                results = pool(text) if pool and pool.takes(text) else reader.read(text, find, output.say)
                for image, faces, size in results:
                    tally.add(faces, searching=searching)
                    if image.frame is not None:
                        update(done - 1, len(found), format_count(tally.images, "image"))
                    if searching and not keep_rejected:
                        faces = tuple(face for face in faces if len(face.keypoints))
                    if features:
                        faces = add_features(faces, scheme, size, focal=focal)
                    elif pose:
                        faces = add_poses(faces, scheme, size, focal=focal)
                    name = display_name(text)
                    result = ImageFaces(name, faces, size, scheme.name, scheme.points if names else None)
                    output.result_json(result.to_dict() | image.position())
                    frame = Frame(image.image, image.frame or 0, image.time_s or 0.0, name)
                    if sinks and not (features or pose):
                        faces = add_poses(faces, scheme, size, focal=focal)
                    for sink in sinks:
                        sink.show(LiveFrame(name, frame, faces, scheme, {}, 0.0, Layers(), still=image.frame is None))
                    if labels is not None:
                        labels.add(text, image, faces)
                    if text in copies:
                        file = copies[text]
                        if image.frame is not None:
                            file /= f"{image.frame:04}.{'jpg' if is_video(text) else 'png'}"
                        draw_faces(image.image, faces, scheme)
                        write_image(file, image.image)
                        record_output(file)
                        written[text] = copies[text]
            except (ImageError, DataError, SourceError) as problem:
                message = str(problem).removeprefix(f"{display_name(text)}: ")
                error = type(problem)(f"{display_name(text)}: {message}", problem.advice)
                if len(found) == 1 and not tally.images:
                    raise error from problem
                output.error(error)
                tally.skipped[message] += 1
            update(done, len(found))
    output.say(tally.summary(keep_rejected) + _where(written))
    for line in labels.report() if labels else ():
        output.say(line)
    if unread:
        output.say(unread_line(unread))
    if video := next((text for text in found if is_video(text)), None):
        command = f"kpedge webcam {quote(display_name(video))}"
        output.say(f"each frame was searched by itself; to track faces: {command}")
    if skipped := tally.skipped.total():
        reasons = ", ".join(f"{count} × {reason}" for reason, count in tally.skipped.most_common(LISTED))
        raise KpedgeError(f"{skipped} of {format_count(len(found), 'photo')} skipped: {reasons}")


@dataclass(slots=True)
class _Tally:
    """Counts for the summary: images, faces, images without any (and if boxes were rejected there), skipped photos."""

    images: int = 0
    faces: int = 0
    empty: int = 0
    rejected: bool = False
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, faces: Sequence[Face], *, searching: bool) -> None:
        """Count an image."""
        real = sum(len(face.keypoints) > 0 for face in faces) if searching else len(faces)
        self.images += 1
        self.faces += real
        self.empty += not real
        self.rejected |= not real and len(faces) > 0

    def summary(self, listed: bool) -> str:
        """The counts in words; where boxes were rejected and no face found, how to list them."""
        without = f" ({self.empty:,} without a face)" if self.empty else ""
        text = f"{format_count(self.images, 'image')}{without}, {format_count(self.faces, 'face')}"
        if self.rejected and self.empty and not listed:
            text += "; weaker detections were rejected as no face: --keep-rejected lists them and their scores"
        return text


def _where(written: dict[str, Path]) -> str:
    """The end of the summary: where the annotated copies are."""
    if not written:
        return ""
    first = next(iter(written.values()))
    place = first if len(written) == 1 else first.parent
    return f"; annotated {'copies' if place.is_dir() else 'copy'}: {place}"


def _annotated_copies(found: list[str], out: Path, *, force: bool) -> dict[str, Path]:
    """Input -> its annotated copy: a file with its name, and a number where another has that name; for a video or an
    animated image a folder for its frames. None replaces one of the photos.
    """
    from kpedge.core.animation import holds_several
    from kpedge.runtime.photos import file_name, is_video

    originals = {real_path(Path(text)) for text in found}
    taken: set[str] = set()
    copies: dict[str, Path] = {}
    for text in found:
        own = Path(file_name(text))
        ending = (
            ".jpg" if own.suffix.lower() in JPEGS else "" if is_video(text) or holds_several(Path(text)) else ".png"
        )
        names = (f"{own.stem}{'' if number == 1 else f'-{number}'}{ending}" for number in count(1))
        name = next(name for name in names if name.lower() not in taken)
        taken.add(name.lower())
        copies[text] = out / name
        if real_path(copies[text]) in originals:
            raise UsageError(
                f"the annotated copy of {text} would replace the photo {copies[text]}", "give another --out"
            )
        refuse_existing(copies[text], force=force)
    return copies
