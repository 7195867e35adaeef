"""From one label format to another: nothing is lost that the target can hold, and what is lost is counted by kind."""

import shutil
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import FACE, HEAD, POINTS
from kpedge.core.errors import DataError, ImageError, OutputError, UsageError
from kpedge.core.files import atomic_folder, read_bytes, real_path, record_output, write_json
from kpedge.core.images import write_image
from kpedge.core.keypoints import conversion
from kpedge.core.scheme import KeypointScheme
from kpedge.data.face_shape import Finding
from kpedge.data.formats import AUTO, FORMATS, WRITABLE, read_format
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, WriteJob
from kpedge.data.formats.record import RECORD
from kpedge.data.labels import TEST_LIST, LabelProblem, LabelRow, Labels, follows
from kpedge.data.negatives import UNLABELLED_LIST
from kpedge.data.photos import open_photo
from kpedge.data.rows import format_csv_row, format_number, is_file, is_number
from kpedge.data.source import Progress, Source, read_source

_CAN = FormatCapabilities
PHOTOS = ("copy", "link", "none")  # what becomes of the photos: copied, linked to where they are, or left there
BOXES_OF = {
    FACE: "faces from the brows to the chin",
    HEAD: "heads",
    POINTS: "something else, so that the boxes that follow from the points are used instead",
}
"""What boxes of each of `kpedge.core.boxes.CONVENTIONS` hold, in words."""
SAME = 1e-4  # coordinates that differ by less than this are the same, pixels


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What `convert` did."""

    path: Path  # the folder that was written
    # source_format, target_format: names of the formats
    source_format: str
    target_format: str
    scheme: str  # name of the keypoint scheme that was written; empty for boxes alone
    # photos, faces: how many were written
    photos: int
    faces: int
    dropped: dict[str, int]  # kind -> how many of what the source has and the target does not hold
    problems: tuple[LabelProblem, ...]  # rows and photos of the source that cannot be used
    remarks: tuple[str, ...]  # notes on reading and on using the result
    findings: tuple[Finding, ...] = ()  # what is implausible about the labels


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
    progress: Progress | None = None,
) -> ConvertReport:
    """Write the labels of a folder in a format of `WRITABLE`, and read them back to verify that they are the same.
    `photos` is of `PHOTOS`; `force` replaces a folder that an earlier conversion wrote, and converts labels that
    look wrong; other arguments are those of `read_source`.

    Raises:
        DataError: there is nothing to read, or nothing is left to write, or the labels are certainly wrong.
        UsageError: the target cannot hold these labels at all.
        OutputError: `out` exists already, or cannot be written.
    """
    if target_format not in WRITABLE:
        raise UsageError(f"kpedge writes no format called {target_format!r}", f"--to takes: {', '.join(WRITABLE)}")
    if photos not in PHOTOS:
        raise UsageError(f"--photos takes {', '.join(PHOTOS)}, not {photos!r}")
    target = FORMATS[target_format]
    _check_target(source, out, force=force)
    read = read_source(source, scheme, None, label_format, only=only, progress=progress)
    needs_photos = photos != "none" or _CAN.SIZES in target.capabilities
    problems = tuple(read.problems if needs_photos else read.labels.problems)
    if needs_photos:
        read.check(force=force)
    labels, dropped = _fit(read, target, needs_photos=needs_photos)
    paths = choose_paths(labels, target, photos, dropped)
    written = list(labels.by_photo())
    if not written:
        raise DataError(f"{source}: nothing is left to write in the format {target_format}", "see: kpedge data check")
    sizes = {photo: (head.width, head.height) for photo, head in read.heads.items()}
    report = ConvertReport(
        out,
        labels.format,
        target_format,
        "" if labels.boxes_only else labels.scheme.name,
        len(written),
        len(labels.rows),
        {kind: count for kind, count in sorted(dropped.items()) if count},
        problems,
        labels.remarks,
        tuple(read.findings),
    )
    with atomic_folder(out) as folder:
        for photo in written:
            _write_photo(labels, photo, folder / paths[photo], photos)
        job = WriteJob(folder, labels, paths, sizes)
        assert target.write is not None  # noqa: S101
        target.write(job)
        _write_lists(job, target)
        if photos != "none":
            back = read_format(folder, None, target_format)
            _verify(labels, back, paths)
            report = replace(report, remarks=(*report.remarks, *_remarks_on_boxes(labels, back, target)))
        record = {"from": labels.format, "to": target_format, "faces": report.faces, "dropped": report.dropped}
        boxes = {"boxes": labels.convention} if _CAN.BOXES in target.capabilities else {}
        write_json(folder / RECORD, {**record, **boxes})  # last: what was read back is what others read
        record_output(folder)
    return report


def _check_target(source: Path, out: Path, *, force: bool) -> None:
    """Stop if writing would destroy something."""
    where, root = real_path(out), real_path(source)
    if where == root or where in root.parents:
        raise UsageError(f"{out} holds the labels to convert", "choose another --out")
    if source.is_dir() and root in where.parents:
        raise UsageError(
            f"{out} lies in {source}, which is converted: both sets would be read as one there", "choose another --out"
        )
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not is_file(out / RECORD):
        raise OutputError(f"{out} exists and was not written by kpedge data convert", "choose another --out")
    if not force:
        raise OutputError(f"{out} exists already", "choose another --out, or add --force to replace it")


def _fit(read: Source, target: LabelFormat, *, needs_photos: bool) -> tuple[Labels, Counter[str]]:
    """What the target can hold of the labels, and what it cannot, counted by kind."""
    labels = replace(read.labels, ignored=read.ignored, test=tuple(read.listed or ()) or None)
    dropped = Counter(labels.dropped)
    derived = {row.where for row in labels.rows if not labels.boxes_only and follows(row, labels.scheme)}
    labels = _in_points_of(labels, target, dropped)
    if _CAN.BOXES in FORMATS[labels.format].capabilities:
        # of fewer points another box follows than the one that was labelled
        derived &= {row.where for row in labels.rows if not labels.boxes_only and follows(row, labels.scheme)}
    if needs_photos:
        labels = replace(
            labels,
            rows=tuple(row for row in labels.rows if row.photo in read.heads),
            background=tuple(photo for photo in labels.background if photo in read.heads),
            ignored={photo: boxes for photo, boxes in labels.ignored.items() if photo in read.heads},
        )
    can, rows = target.capabilities, []
    seen: set[str] = set()
    for row in labels.rows:
        labelled = row.labelled
        if _CAN.POINTS not in can:
            dropped["points"] += int(labelled.sum())
        elif not labels.boxes_only and _CAN.PARTIAL_POINTS not in can and not labelled.all():
            dropped["faces with points that are not labelled"] += 1
            continue
        if _CAN.MANY_FACES not in can and row.photo in seen:
            dropped["faces after the first of their photo"] += 1
            continue
        seen.add(row.photo)
        if row.visible is not None and _CAN.VISIBILITY not in can:
            dropped["marks of hidden points"] += int((labelled & ~row.visible).sum())
        if _CAN.BOXES not in can:
            dropped["boxes that do not follow from the points"] += row.where not in derived
        rows.append(_round(row, dropped) if _CAN.WHOLE_PIXELS in can else row)
    if _CAN.BACKGROUND not in can:
        dropped["photos without a face"] += len(labels.background)
    dropped["regions full of faces"] += len(labels.crowds)
    labels = replace(
        labels,
        rows=tuple(rows),
        background=labels.background if _CAN.BACKGROUND in can else (),
        boxes_only=labels.boxes_only or _CAN.POINTS not in can,
    )
    return labels, dropped


def _in_points_of(labels: Labels, target: LabelFormat, dropped: Counter[str]) -> Labels:
    """The labels in the points of the target."""
    if labels.boxes_only and _CAN.BOXES_ONLY not in target.capabilities:
        others = [name for name in WRITABLE if _CAN.BOXES_ONLY in FORMATS[name].capabilities]
        raise UsageError(
            f"the format {target.name} holds points, and these labels have none: they are boxes alone",
            f"formats for these: --to {', '.join(others)}",
        )
    if target.scheme is None or labels.boxes_only or labels.scheme == target.scheme:
        return labels
    way = conversion(labels.scheme, target.scheme)
    missing = len(target.scheme) - len(way.known)
    by_position = not len(way.known) and len(labels.scheme) == len(target.scheme)
    if missing and not by_position:
        others = [name for name in WRITABLE if FORMATS[name].points.startswith("any")]
        raise UsageError(
            f"{target.name} holds the {len(target.scheme)} points of {target.scheme.name}; {missing} of them do not "
            f"follow from those of {labels.scheme.name}",
            f"choose a format that holds any points: {', '.join(others)}",
        )
    if not by_position:
        kept = {group[0] for group in way.groups if len(group) == 1}
        lost = [place for place in range(len(labels.scheme)) if place not in kept]
        count = sum(int(row.labelled[lost].sum()) for row in labels.rows)
        dropped[f"points that {target.scheme.name} does not have"] += count
    return labels.in_scheme(target.scheme)


def _round(row: LabelRow, dropped: Counter[str]) -> LabelRow:
    """A row in whole pixels: points on their centres, boxes along their edges."""
    points = np.round(row.keypoints)
    box = np.round(row.box + 0.5) - 0.5
    box[2:] = np.maximum(box[2:], box[:2] + 1)
    dropped["faces with fractions of pixels"] += not (
        np.array_equal(points, row.keypoints, equal_nan=True) and np.array_equal(box, row.box)
    )
    return replace(row, keypoints=points, box=box)


def choose_paths(labels: Labels, target: LabelFormat, photos: str, dropped: Counter[str]) -> dict[str, str]:
    """Where each photo goes in the folder that is written; names that the target cannot hold are changed.

    Raises:
        UsageError: a name has to change, and photos stay where they are.
    """
    held_out = set(labels.test or ())
    taken: set[str] = set()
    paths: dict[str, str] = {}
    for photo in labels.by_photo():
        name = _safe_name(photo, target, of_pixels=labels.pixels is not None)
        if name != photo and photos == "none":
            raise UsageError(f"{photo!r} cannot be the name of a photo there", "--photos copy gives it another name")
        dropped["names of photos"] += name != photo and labels.pixels is None
        path, number = PurePosixPath(target.image_path(name, photo in held_out)), 2
        free = path
        while (
            key := str(free.with_suffix("") if _CAN.FILE_PER_PHOTO in target.capabilities else free).lower()
        ) in taken:
            free, number = path.with_name(f"{path.stem}_{number}{path.suffix}"), number + 1
        taken.add(key)
        paths[photo] = str(free)
    return paths


def _safe_name(photo: str, target: LabelFormat, *, of_pixels: bool) -> str:
    """A name that stays in the folder and that the target can hold."""
    name = photo
    if of_pixels:  # training.csv#12
        table, _, line = photo.rpartition("#")
        name = f"{PurePosixPath(table).stem}/{int(line):06}.png"
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("..", "/")]
    name = "".join(letter if letter.isprintable() else "_" for letter in "/".join(parts) or "photo")
    words = name.split()
    if _CAN.BLANK_SEPARATED in target.capabilities and (" ".join(words) != name or any(map(is_number, words))):
        name = "_".join(words) if len(words) > 1 else f"photo_{words[0]}"
    return name


def _write_photo(labels: Labels, photo: str, path: Path, photos: str) -> None:
    """Copy or link a photo."""
    if photos == "none":
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if labels.pixels is not None:
        write_image(path, open_photo(labels, photo))
    elif photos == "link":
        path.symlink_to(real_path(labels.root / photo))
    else:
        read_bytes(labels.root / photo, ImageError, limit=1)
        shutil.copyfile(labels.root / photo, path)


def _write_lists(job: WriteJob, target: LabelFormat) -> None:
    """Write the lists in which kpedge keeps what a format does not hold: the test split, faces that are ignored."""
    labels, can = job.labels, target.capabilities
    if labels.test and _CAN.TEST_SPLIT not in can:
        job.write_lines(TEST_LIST, (job.paths[photo] for photo in labels.test if photo in job.paths))
    if labels.ignored and _CAN.IGNORED not in can:
        rows = (
            format_csv_row([job.paths[photo], *map(format_number, box.tolist()), ""])
            for photo, boxes in labels.ignored.items()
            for box in boxes
        )
        job.write_lines(UNLABELLED_LIST, ["image,x1,y1,x2,y2,score", *rows])


def _verify(labels: Labels, back: Labels, paths: Mapping[str, str]) -> None:
    """Compare what was read back with what was to be written."""

    def faces(rows: Collection[LabelRow], names: Mapping[str, str]) -> dict[str, list[NDArray[np.float64]]]:
        found: dict[str, list[NDArray[np.float64]]] = {}
        for row in rows:
            values = row.box if labels.boxes_only else row.keypoints
            found.setdefault(names.get(row.photo, row.photo), []).append(values)
        return found

    expected, read = faces(labels.rows, paths), faces(back.rows, {})
    for photo in {**expected, **read}:
        ours, theirs = expected.get(photo, []), read.get(photo, [])
        same = len(ours) == len(theirs) and all(
            np.allclose(one, other, rtol=0, atol=SAME, equal_nan=True) for one, other in zip(ours, theirs, strict=True)
        )
        if not same:
            raise DataError(
                f"{photo}: of {len(ours)} faces that were written, {len(theirs)} are read back, or other ones",
                "this is a bug in kpedge: report it with the labels of this photo",
            )


def _remarks_on_boxes(labels: Labels, back: Labels, target: LabelFormat) -> list[str]:
    """A remark if the target's boxes would be taken for something else without our record."""
    if back.convention == labels.convention or _CAN.BOXES not in target.capabilities:
        return []
    kind, other = labels.convention, back.convention
    return [
        f"the boxes hold {BOXES_OF[kind]} ({kind!r}), and {RECORD} next to the labels says so; without that file "
        f"boxes of this format are taken to hold {BOXES_OF[other]} ({other!r}): then add --boxes {kind} to "
        "kpedge data prepare --frames (docs/coordinates.md#what-a-box-holds)"
    ]
