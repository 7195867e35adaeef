"""From photos and labels to a frame set (`kpedge.data.frames` has the format)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import CONVENTIONS, POINTS, to_convention
from kpedge.core.errors import DataError, ImageError, UsageError
from kpedge.core.files import atomic_folder
from kpedge.core.geometry import Box, Image, resize_to
from kpedge.core.keypoints import FACES5, convert_points
from kpedge.core.scheme import KeypointScheme
from kpedge.data.formats import AUTO
from kpedge.data.frames import FORMAT, MAX_SIDE, FrameWriter, is_frame_set, open_frames
from kpedge.data.labels import LabelRow, Labels, photo_problem, usable_rows
from kpedge.data.photos import open_photo
from kpedge.data.prepare import PrepareReport, Progress, still_fits
from kpedge.data.source import NOT_STATED, our_box, raise_first, read_source, terms_of
from kpedge.data.split import SPLITS, split_photos


@dataclass(frozen=True, slots=True)
class FrameOptions:
    """How a frame set is prepared; all of it goes into the set's hash.

    Attributes:
        scheme: keypoint scheme that is wanted; the set's own when None.
        seed: of the split.
        validation: fraction of the photos outside the test split that go to validation.
        test: fraction of the photos that go to test, where no test list is given.
        boxes: what the labelled boxes hold, of `CONVENTIONS`; what the format says when empty. With "points" they are
            those that follow from the points.
        name: what the set is called in model cards; the folder's name when empty.
        terms: the terms of the photos, as model cards state them.
    """

    scheme: KeypointScheme | None = None
    seed: int = 0
    validation: float = 0.1
    test: float = 0.1
    boxes: str = ""
    name: str = ""
    terms: str = NOT_STATED

    def __post_init__(self) -> None:
        if self.boxes and self.boxes not in CONVENTIONS:
            raise UsageError(f"--boxes must be one of {', '.join(CONVENTIONS)}, not {self.boxes!r}")


def prepare_frames(
    source: Path,
    out: Path,
    options: FrameOptions | None = None,
    *,
    test_list: Path | None = None,
    label_format: str = AUTO,
    only: Collection[str] = (),
    strict: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> PrepareReport:
    """Make a frame set of a folder of labelled photos; do nothing when it is there and still fits.

    Arguments and errors are those of `kpedge.data.prepare.prepare`.
    """
    options = options or FrameOptions()
    read = read_source(source, options.scheme, test_list, label_format, kept_test=bool(options.test), only=only)
    scheme = read.labels.scheme
    options = replace(
        options,
        scheme=scheme,
        name=options.name or source.resolve().name,
        terms=terms_of(source, options.terms),
        boxes=options.boxes or read.labels.convention,
    )
    digest = read.sha256(FORMAT, {"frames": MAX_SIDE, **asdict(options), "scheme": scheme.to_dict()})
    if strict:
        raise_first(read.problems)
    known = (lambda: open_frames(out).info) if is_frame_set(out) else None
    earlier = still_fits(out, digest, known, strict=strict, force=force)
    if earlier is not None:
        return replace(earlier, remarks=read.labels.remarks)
    splits = split_photos(
        read.digests, seed=options.seed, validation=options.validation, test=options.test, test_list=read.listed
    )
    problems = list(read.problems)
    counts = {split: {"photos": 0, "faces": 0} for split in SPLITS}
    photos: list[str] = []
    written: set[str] = set()
    with atomic_folder(out) as folder, FrameWriter(folder) as writer:
        for done, (photo, content) in enumerate(read.digests.items(), 1):
            rows, unlabelled = read.by_photo[photo], read.unlabelled.get(photo, [])
            if content not in written:  # a copy of a photo adds nothing, and its labels may be others
                try:
                    image = open_photo(read.labels, photo)
                except ImageError as error:
                    problems.append(photo_problem(read.labels.root, photo, rows, error))
                else:
                    written.add(content)
                    rows, outside = usable_rows(rows, image)
                    problems += outside
                    kept, zoom = shrink(image)
                    faces = _faces(rows, unlabelled, read.labels, options.boxes, zoom)
                    writer.add(kept, splits[photo], faces)
                    photos.append(photo)
                    counts[splits[photo]]["photos"] += 1
                    counts[splits[photo]]["faces"] += len(rows)
            if progress:
                progress(done, len(read.digests))
        if strict:
            raise_first(problems)
        if not counts["train"]["photos"]:
            raise DataError(f"{source}: nothing is left to train on", "see what is wrong: kpedge data check")
        writer.finish(
            {
                "name": options.name,
                "terms": options.terms,
                "source_sha256": digest,
                "settings": {
                    "seed": options.seed,
                    "validation": options.validation,
                    "test": "given list" if read.listed is not None else options.test,
                    "boxes": options.boxes,
                    "max_side": MAX_SIDE,
                },
                "counts": counts,
                "problems": [asdict(problem) for problem in problems],
                "photos": photos,
            }
        )
    return PrepareReport(out, True, counts, tuple(problems), read.labels.remarks)


def shrink(image: Image, longest: int = MAX_SIDE) -> tuple[Image, NDArray[np.float64]]:
    """An image with a longer side of at most `longest` pixels, averaged down, and its zoom along x and y, (2,)."""
    return resize_to(image, min(longest, max(image.shape[:2])))


def _faces(
    rows: list[LabelRow], unlabelled: list[Box], labels: Labels, kind: str, zoom: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """The faces of a photo in pixels of the frame that is `zoom` times as large."""
    nothing = np.full((len(FACES5), 2), np.nan)

    def face(box: Box, ours: Box, points: NDArray[np.float64], ignore: bool) -> dict[str, Any]:
        return {"labelled": box, "boxes": ours, "points": (points + 0.5) * zoom - 0.5, "ignore": ignore}

    def ours(row: LabelRow, box: Box) -> Box:
        """Heads become squares after the zoom, as sets of them were made before there were boxes from points."""
        return _zoomed(our_box(row, labels, kind), zoom) if kind == POINTS else np.ravel(to_convention(box[None], kind))

    boxes = [_zoomed(row.box, zoom) for row in rows]
    return [
        *(
            face(box, ours(row, box), convert_points(row.keypoints, labels.scheme, FACES5), False)
            for row, box in zip(rows, boxes, strict=True)
        ),
        *(face(_zoomed(box, zoom), _zoomed(box, zoom), nothing, True) for box in unlabelled),
    ]


def _zoomed(box: Box, zoom: NDArray[np.float64]) -> Box:
    return np.ravel((box.reshape(2, 2) + 0.5) * zoom - 0.5)
