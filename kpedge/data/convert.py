"""From one label format to another: nothing is lost that the target can hold, and what is lost is counted by kind."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import FACE, HEAD, POINTS, box_of_points
from kpedge.core.errors import DataError, ImageError, OutputError, UsageError
from kpedge.core.files import atomic_folder, read_bytes
from kpedge.core.images import write_image
from kpedge.core.keypoints import conversion
from kpedge.core.scheme import KeypointScheme
from kpedge.data.formats import AUTO, FORMATS, TARGETS, Target, read_format
from kpedge.data.formats.record import RECORD, write_record
from kpedge.data.labels import (
    TEST_LIST,
    LabelProblem,
    LabelRow,
    Labels,
    photo_problem,
    read_photo_list,
)
from kpedge.data.negatives import UNLABELLED_LIST, all_unlabelled
from kpedge.data.photos import open_photo, photo_head
from kpedge.data.rows import csv_row, is_file, is_number, number_text

PHOTOS = ("copy", "link", "none")
"""What becomes of the photos: copied, linked to where they are, or left there."""
BOXES_OF = {
    FACE: "faces from the brows to the chin",
    HEAD: "heads",
    POINTS: "something else, in whose place the boxes that follow from the points are used",
}
"""What boxes of each of `kpedge.core.boxes.CONVENTIONS` hold, in words."""
SAME_BOX = 1e-3
"""Boxes that differ by less than this follow from the points, in their side."""
SAME = 1e-4
"""Coordinates that differ by less than this are the same, pixels."""


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What `convert` did.

    Attributes:
        path: the folder that was written.
        source_format, target_format: names of the formats.
        scheme: name of the keypoint scheme that was written; empty where there are boxes alone.
        photos, faces: how many were written.
        dropped: kind -> how many of what the source has the target does not hold.
        problems: rows and photos of the source that cannot be used.
        remarks: what is to be known of reading and of using the result.
    """

    path: Path
    source_format: str
    target_format: str
    scheme: str
    photos: int
    faces: int
    dropped: dict[str, int]
    problems: tuple[LabelProblem, ...]
    remarks: tuple[str, ...]


def convert(
    source: Path,
    out: Path,
    target_format: str,
    *,
    scheme: KeypointScheme | None = None,
    label_format: str = AUTO,
    only: Collection[str] = (),
    photos: str = "copy",
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ConvertReport:
    """Write the labels of a folder in another format, and read them back to prove that they are the same.

    Args:
        source: folder of labelled photos, or a label file.
        out: folder to write; it appears whole or not at all.
        target_format: a key of `TARGETS`.
        scheme: the points that are wanted; the set's own when None.
        label_format: of the source, a key of `FORMATS`, or "auto".
        only: names of the objects that are faces, in formats that name them; all when empty.
        photos: of `PHOTOS`.
        force: replace a folder that an earlier conversion wrote.
        progress: told how many photos are done, of how many.

    Raises:
        DataError: there is nothing to read, or nothing is left to write.
        UsageError: the target cannot hold these labels at all.
        OutputError: `out` is there already, or cannot be written.
    """
    target = TARGETS.get(target_format)
    if target is None:
        raise UsageError(f"kpedge writes no format called {target_format!r}", f"--to takes: {', '.join(TARGETS)}")
    if photos not in PHOTOS:
        raise UsageError(f"--photos takes {', '.join(PHOTOS)}, not {photos!r}")
    _refuse(source, out, force=force)
    labels = _read(source, scheme, label_format, only)
    dropped = Counter(labels.dropped)
    derived = {row.where for row in labels.rows if not labels.boxes_only and _follows(row, labels.scheme)}
    own = FORMATS[labels.format].target
    labels = _fitted(labels, target, target_format, dropped)
    if own is not None and own.boxes:  # of fewer points another box follows than the one that was labelled
        derived &= {row.where for row in labels.rows if not labels.boxes_only and _follows(row, labels.scheme)}
    labels, sizes, unreadable = _readable(labels, target, photos, progress)
    held = _held(labels, target, derived, dropped)
    places = _places(held, target, photos, dropped)
    written = list(held.by_photo())
    if not written:
        raise DataError(f"{source}: nothing is left to write in the format {target_format}", "see: kpedge data check")
    problems = (*labels.problems, *unreadable)
    report = ConvertReport(
        out,
        labels.format,
        target_format,
        "" if held.boxes_only else held.scheme.name,
        len(written),
        len(held.rows),
        {kind: count for kind, count in sorted(dropped.items()) if count},
        problems,
        labels.remarks,
    )
    with atomic_folder(out) as folder:
        for photo in written:
            _write_photo(held, photo, folder / places[photo], photos)
        target.write(folder, held, places, *([sizes] if target.sizes else []))
        _write_lists(folder, held, target, places)
        if photos != "none":
            back = read_format(folder, None, target_format)
            _prove(held, back, places)
            report = replace(report, remarks=(*report.remarks, *_about_boxes(held, back, target)))
        boxes = held.convention if target.boxes else ""  # last, so that what was read back is what others read
        write_record(folder, labels.format, target_format, report.faces, report.dropped, boxes)
    return report


def _refuse(source: Path, out: Path, *, force: bool) -> None:
    """Stop where writing would cost something that is there."""
    where, root = out.resolve(), source.resolve()
    if where == root or where in root.parents:
        raise UsageError(f"{out} holds what is to be converted", "choose another --out")
    if source.is_dir() and root in where.parents:
        raise UsageError(
            f"{out} lies in {source}, which is to be converted: both sets would be read as one there",
            "choose another --out",
        )
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not is_file(out / RECORD):
        raise OutputError(f"{out} exists and was not written by kpedge data convert", "choose another --out")
    if not force:
        raise OutputError(f"{out} exists already", "choose another --out, or add --force to replace it")


def _read(source: Path, scheme: KeypointScheme | None, label_format: str, only: Collection[str]) -> Labels:
    """The labels with their test split and all faces that are neither face nor background."""
    labels = read_format(source, scheme, label_format, only=only)
    unlabelled = all_unlabelled(labels)
    test = labels.test
    if is_file(labels.root / TEST_LIST):
        test = tuple(read_photo_list(labels.root / TEST_LIST, labels)[0])
    return replace(labels, unlabelled=unlabelled, test=test or None)


def _fitted(labels: Labels, target: Target, name: str, dropped: Counter[str]) -> Labels:
    """The labels in the points of the target."""
    if labels.boxes_only and not target.boxes_only:
        raise UsageError(
            f"the format {name} holds points, and these labels have none: they are boxes alone",
            f"formats for these: --to {', '.join(n for n, one in TARGETS.items() if one.boxes_only)}",
        )
    if target.scheme is None or labels.boxes_only or labels.scheme == target.scheme:
        return labels
    way = conversion(labels.scheme, target.scheme)
    missing = len(target.scheme) - len(way.known)
    by_position = not len(way.known) and len(labels.scheme) == len(target.scheme)
    if missing and not by_position:
        raise UsageError(
            f"{name} holds the {len(target.scheme)} points of {target.scheme.name}; {missing} of them do not follow "
            f"from those of {labels.scheme.name}",
            "choose a format that holds any points: label, coco, pts, yolo, course-lists",
        )
    if not by_position:
        kept = {group[0] for group in way.groups if len(group) == 1}
        lost = [place for place in range(len(labels.scheme)) if place not in kept]
        count = sum(int(row.labelled[lost].sum()) for row in labels.rows)
        dropped[f"points that {target.scheme.name} does not have"] += count
    return labels.converted(target.scheme)


def _readable(
    labels: Labels, target: Target, photos: str, progress: Callable[[int, int], None] | None
) -> tuple[Labels, dict[str, tuple[int, int]], list[LabelProblem]]:
    """The labels of the photos that can be read, as far as they are needed; sizes; and a problem for each other."""
    sizes: dict[str, tuple[int, int]] = {}
    problems: list[LabelProblem] = []
    by_photo = labels.by_photo()
    if photos == "none" and not target.sizes:
        return labels, sizes, problems
    for done, (photo, rows) in enumerate(by_photo.items(), 1):
        try:
            if labels.pixels is None:
                head = photo_head(labels.root / photo)
                sizes[photo] = head.width, head.height
            else:
                height, width = labels.pixels(photo).shape[:2]
                sizes[photo] = width, height
        except ImageError as error:
            problems.append(photo_problem(labels.root, photo, rows, error))
        if progress:
            progress(done, len(by_photo))
    return _only(labels, sizes), sizes, problems


def _only(labels: Labels, photos: Collection[str]) -> Labels:
    """The labels of some photos."""
    return replace(
        labels,
        rows=tuple(row for row in labels.rows if row.photo in photos),
        background=tuple(photo for photo in labels.background if photo in photos),
        unlabelled={photo: boxes for photo, boxes in labels.unlabelled.items() if photo in photos},
        test=tuple(photo for photo in labels.test if photo in photos) if labels.test else None,
    )


def _held(labels: Labels, target: Target, derived: Collection[str], dropped: Counter[str]) -> Labels:
    """What the target holds of the labels; what it does not is counted. Of the rows `derived` the box follows."""
    rows: list[LabelRow] = []
    seen: set[str] = set()
    for row in labels.rows:
        labelled = row.labelled
        if not target.points:
            dropped["points"] += int(labelled.sum())
        elif not labels.boxes_only and not target.gaps and not labelled.all():
            dropped["faces with points that are not labelled"] += 1
            continue
        if not target.several and row.photo in seen:
            dropped["faces after the first of their photo"] += 1
            continue
        seen.add(row.photo)
        if row.visible is not None and not target.visible:
            dropped["marks of hidden points"] += int((labelled & ~row.visible).sum())
        if not target.boxes:
            dropped["boxes that do not follow from the points"] += row.where not in derived
        rows.append(row)
    if not target.background:
        dropped["photos without a face"] += len(labels.background)
    dropped["regions full of faces"] += len(labels.crowded)
    return replace(
        labels,
        rows=tuple(rows),
        background=labels.background if target.background else (),
        boxes_only=labels.boxes_only or not target.points,
    )


def _follows(row: LabelRow, scheme: KeypointScheme) -> bool:
    """Whether a row's box is the one that follows from its points."""
    if row.labelled.sum() < 2:
        return False
    side = float((row.box[2:] - row.box[:2]).max())
    return bool(np.abs(box_of_points(row.keypoints, scheme) - row.box).max() < SAME_BOX * side)


def _places(labels: Labels, target: Target, photos: str, dropped: Counter[str]) -> dict[str, str]:
    """Where each photo lies in the folder that is written; names that the target cannot hold become others.

    Raises:
        UsageError: a name has to become another, and photos stay where they are.
    """
    held_out = set(labels.test or ())
    taken: set[str] = set()
    places: dict[str, str] = {}
    for photo in labels.by_photo():
        wanted = _safe(photo, target, of_pixels=labels.pixels is not None)
        if wanted != photo and photos == "none":
            raise UsageError(f"{photo!r} cannot be the name of a photo there", "--photos copy gives it another name")
        dropped["names of photos"] += wanted != photo and labels.pixels is None
        place, number = PurePosixPath(target.place(wanted, photo in held_out)), 2
        free = place
        while (key := str(free.with_suffix("") if target.stems else free).lower()) in taken:
            free, number = place.with_name(f"{place.stem}_{number}{place.suffix}"), number + 1
        taken.add(key)
        places[photo] = str(free)
    return places


def _safe(photo: str, target: Target, *, of_pixels: bool) -> str:
    """A name that stays in the folder and that the target can hold."""
    name = photo
    if of_pixels:  # training.csv#12
        table, _, line = photo.rpartition("#")
        name = f"{PurePosixPath(table).stem}/{int(line):06}.png"
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("..", "/")]
    name = "".join(letter if letter.isprintable() else "_" for letter in "/".join(parts) or "photo")
    words = name.split()
    if target.words and (" ".join(words) != name or any(map(is_number, words))):
        name = "_".join(words) if len(words) > 1 else f"photo_{words[0]}"
    return name


def _write_photo(labels: Labels, photo: str, path: Path, photos: str) -> None:
    """Put a photo in its place."""
    if photos == "none":
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if labels.pixels is not None:
        write_image(path, open_photo(labels, photo))
    elif photos == "link":
        path.symlink_to((labels.root / photo).resolve())
    else:
        read_bytes(labels.root / photo, ImageError, limit=1)
        shutil.copyfile(labels.root / photo, path)


def _write_lists(folder: Path, labels: Labels, target: Target, places: Mapping[str, str]) -> None:
    """The lists with which kpedge adds what formats do not hold: the test split, faces that nobody labelled."""
    if labels.test and not target.own_test:
        text = "".join(f"{places[photo]}\n" for photo in labels.test if photo in places)
        (folder / TEST_LIST).write_text(text, encoding="utf-8")
    if labels.unlabelled and not target.unlabelled:
        rows = ["image,x1,y1,x2,y2,score"]
        for photo, boxes in labels.unlabelled.items():
            rows += [csv_row([places[photo], *map(number_text, box.tolist()), ""]) for box in boxes]
        (folder / UNLABELLED_LIST).write_text("\n".join(rows) + "\n", encoding="utf-8")


def _prove(labels: Labels, back: Labels, places: Mapping[str, str]) -> None:
    """Hold what was written against what was to be written.

    Raises:
        DataError: it is not the same; the folder is not left behind.
    """

    def faces(rows: Collection[LabelRow], names: Mapping[str, str] | None) -> dict[str, list[NDArray[np.float64]]]:
        found: dict[str, list[NDArray[np.float64]]] = {}
        for row in rows:
            values = row.box if labels.boxes_only else row.keypoints
            found.setdefault(names[row.photo] if names else row.photo, []).append(values)
        return found

    wanted, got = faces(labels.rows, places), faces(back.rows, None)
    for photo in {**wanted, **got}:
        ours, theirs = wanted.get(photo, []), got.get(photo, [])
        same = len(ours) == len(theirs) and all(
            np.allclose(one, other, rtol=0, atol=SAME, equal_nan=True) for one, other in zip(ours, theirs, strict=True)
        )
        if not same:
            raise DataError(
                f"{photo}: {len(ours)} faces were to be written, and are not what is read back ({len(theirs)} faces)",
                "this is a mistake of kpedge: report it with the labels of this photo",
            )


def _about_boxes(labels: Labels, back: Labels, target: Target) -> list[str]:
    """What is to be said where the target's boxes would be taken for something else without our record."""
    if back.convention == labels.convention or not target.boxes:
        return []
    kind, other = labels.convention, back.convention
    return [
        f"the boxes hold {BOXES_OF[kind]} ({kind!r}), and {RECORD} beside the labels says so; without that file "
        f"boxes of this format are taken to hold {BOXES_OF[other]} ({other!r}): then add --boxes {kind} to "
        "kpedge data prepare --frames (docs/coordinates.md#what-a-box-holds)"
    ]
