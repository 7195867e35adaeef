"""`yolo`: YOLO's boxes: photos in `images/`, and in `labels/` a text file each, `class x y w h` in fractions of the
photo, then `x y v` or `x y` of each point if `kpt_shape` in `data.yaml`, or Label Studio's `notes.json`, says so.

0 is the photo's left edge and 1 its right one, so a fraction f lies at f·W - 0.5 in our frame.
"""

import posixpath
from collections.abc import Collection
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import HEAD, POINTS
from kpedge.core.errors import DataError, ImageError
from kpedge.core.images import PHOTO_SUFFIXES
from kpedge.core.keypoints import FACES21
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, WriteJob, photos_in
from kpedge.data.formats.reader import LabelReader, in_test_folder
from kpedge.data.formats.schemes import generic_scheme, known_scheme, scheme_of_points, write_scheme
from kpedge.data.formats.yolo_settings import SETTINGS, Settings, listed_tests, read_settings, settings_lines
from kpedge.data.labels import LabelRow, Labels, photo_problem
from kpedge.data.photos import read_head
from kpedge.data.rows import (
    RowError,
    check_box,
    check_points,
    first_lines,
    glob_any_case,
    is_number,
    parse_numbers,
    text_lines,
)

PHOTOS, LABELS = "images", "labels"
_LARGEST = 2.0  # fraction of a photo beyond which a number counts pixels
_NO_LABELS = ("classes.txt", "train.txt", "test.txt", "val.txt", "README.txt", "notes.txt", "obj.names")


def _text_files(root: Path) -> list[Path]:
    """The text files that may hold labels: those in `labels/` folders first."""
    found = sorted(path for path in glob_any_case(root, "**/*.txt") if path.name not in _NO_LABELS)
    return sorted(found, key=lambda path: not _is_inside(path, root))


def _is_inside(path: Path, root: Path) -> bool:
    """Whether a file is in a `labels/` folder."""
    return LABELS in path.relative_to(root).parts[:-1]


def find(root: Path) -> list[Path]:
    """The text files in `labels/` folders, or, if there is none, next to the photos."""
    found = _text_files(root)
    return [path for path in found if _is_inside(path, root)] or [path for path in found if sniff(path)]


def sniff(path: Path) -> bool:
    """Whether the first row is a class and fractions; in a `labels/` folder or next to a photo, pixels by mistake."""
    lines = first_lines(path, 1)
    cells = lines[0].split() if lines else []
    return (
        len(cells) >= 5
        and all(map(is_number, cells))
        and cells[0].isdecimal()
        and (
            all(-0.5 <= float(cell) <= 1.5 for cell in cells[1:5])
            or LABELS in path.parts[-4:-1]
            or any(path.with_suffix(ending).is_file() for ending in PHOTO_SUFFIXES)
        )
    )


def _parse_row(
    cells: list[str], size: NDArray[np.float64], settings: Settings, scheme: KeypointScheme
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_] | None]:
    """Box, points and their visibility, of one row."""
    count, step = settings.shape
    expected = 5 + count * step
    if len(cells) != expected:
        hint = "" if count else "; points need kpt_shape in data.yaml, outlines are not read"
        raise RowError("columns", f"{format_count(len(cells), 'column')}, expected {expected}: class, x y w h{hint}")
    values = parse_numbers(cells[1:], 2)
    for column in np.flatnonzero(np.abs(values) > _LARGEST) + 1:
        raise RowError("pixels", f"column {column + 1} is {cells[column]}, not a fraction of the photo, from 0 to 1")
    centre, side = values[:2] * size, values[2:4] * size
    box = check_box(np.concatenate([centre - side / 2, centre + side / 2]) - 0.5)
    points, visible = np.full((len(scheme), 2), np.nan), None
    if count:
        given = values[4:].reshape(count, step)
        flags = given[:, 2] if step == 3 else np.where((given[:, :2] != 0).any(axis=1), 2.0, 0.0)
        points = np.where(flags[:, None] > 0, given[:, :2] * size - 0.5, np.nan)
        visible = flags != 1 if (flags == 1).any() else None
    return box, check_points(points), visible


def _add_file(reader: LabelReader, path: Path, photo: str, settings: Settings, scheme: KeypointScheme) -> None:
    file = reader.path_of(path)
    try:
        lines = list(text_lines(path))
        head = read_head(reader.root / photo) if lines else None
    except DataError as error:
        reader.problem(RowError("not a text file", str(error).removeprefix(f"{path}: ")), file, photo)
        return
    except ImageError as error:
        faces = [LabelRow(photo, np.zeros(4), np.zeros((0, 2)), file, line) for line, _ in lines]
        reader.problems.append(photo_problem(reader.root, photo, faces, error))
        return
    if head is None:
        reader.background.append(photo)
        return
    size = np.array([head.width, head.height], dtype=np.float64)
    for line, content in lines:
        cells = content.split()
        with reader.problems_in(file, line, photo):
            if len(cells) < 5 or reader.wants(_class_name(cells[0], settings, selecting=bool(reader.only))):
                box, points, visible = _parse_row(cells, size, settings, scheme)
                reader.rows.append(LabelRow(photo, box, points, file, line, visible))


def _class_name(cell: str, settings: Settings, *, selecting: bool) -> str:
    """The name of a row's class, or its number if nothing names it. Where the user selects classes by name, it may be
    anything, else it must be a number, and one of the named ones.
    """
    number = str(int(float(cell))) if is_number(cell) and float(cell).is_integer() else cell
    if not (number.isdecimal() or selecting):
        raise RowError("class", f"column 1 is {cell[:20]!r}, not the number of a class")
    if settings.names and number not in settings.names and not selecting:
        listed = ", ".join(f"{one} {name}" for one, name in list(settings.names.items())[:5])
        raise RowError(
            "class", f"class {number} is none of those in {SETTINGS} ({listed}): correct it, or add it there"
        )
    return settings.names.get(number, number)


def _stems_of(file: str) -> list[str]:
    """Paths without ending of a label file's photo: in `images` next to its `labels` folder, or next to the file."""
    parts = list(PurePosixPath(file).with_suffix("").parts)
    ways = [parts]
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == LABELS:
            ways.insert(0, [*parts[:place], PHOTOS, *parts[place + 1 :]])
            ways.append([*parts[:place], *parts[place + 1 :]])
            break
    return [posixpath.join(*way) for way in ways]


def read(reader: LabelReader) -> Labels:
    """The boxes, and points, of all label files; an empty one says that its photo shows no face."""
    settings = read_settings(reader.root)
    count, scheme = settings.shape[0], reader.scheme or FACES21
    if settings.points:
        scheme, reader.remarks = scheme_of_points(reader.root, f"points{count}", settings.points, None)
    elif count:
        scheme = known_scheme(reader.root, count, reader.scheme) or generic_scheme(count)
    for path in reader.files:
        stems = _stems_of(reader.path_of(path))
        _add_file(reader, path, reader.find.of_stem(stems) or f"{stems[0]}.jpg", settings, scheme)
    if all(_is_inside(path, reader.root) for path in reader.files):
        others = [path for path in _text_files(reader.root) if not _is_inside(path, reader.root) and sniff(path)]
        if others:
            reader.remarks.append(
                f"{format_count(len(others), 'file')} outside labels/ not read: {reader.path_of(others[0])}"
            )
    tests = _find_tests(reader.root, {row.photo for row in reader.rows} | set(reader.background))
    return reader.labels(
        scheme, test=tuple(sorted(tests)) or None, boxes_only=not count, convention=POINTS if count else HEAD
    )


def _find_tests(root: Path, photos: Collection[str]) -> set[str]:
    """The photos of the set's own test split: those of its list or, if there is no list, in a test folder.

    A list may name them from another folder on, as Darknet's do.
    """
    lines = listed_tests(root)
    if not lines:
        return set(filter(in_test_folder, photos))
    ends: dict[str, list[str]] = {}
    for line in lines:
        ends.setdefault(posixpath.basename(line), []).append(f"/{posixpath.normpath(line)}")
    return {
        photo
        for photo in photos
        if any(
            line.endswith(f"/{photo}") or f"/{photo}".endswith(line) for line in ends.get(posixpath.basename(photo), ())
        )
    }


def write(job: WriteJob) -> None:
    """Write a label file for each photo, and `data.yaml`."""
    for photo, rows in job.labels.by_photo().items():
        where = PurePosixPath(LABELS, *PurePosixPath(job.paths[photo]).parts[1:]).with_suffix(".txt")
        size = np.array(job.sizes[photo], dtype=np.float64)
        job.write_lines(where.as_posix(), (_format_row(row, size, job.labels.boxes_only) for row in rows))
    scheme = None if job.labels.boxes_only else job.labels.scheme
    job.write_lines(SETTINGS, settings_lines(scheme, bool(job.labels.test)))
    if scheme is not None:
        write_scheme(job.folder, scheme)


def _format_row(row: LabelRow, size: NDArray[np.float64], boxes_only: bool) -> str:
    low, high = (row.box[:2] + 0.5) / size, (row.box[2:] + 0.5) / size
    cells = ["0", *map(_format_fraction, (*((low + high) / 2).tolist(), *(high - low).tolist()))]
    if not boxes_only:
        for flag, point in zip(row.flags, ((row.keypoints + 0.5) / size).tolist(), strict=True):
            cells += [*map(_format_fraction, point), str(flag)] if flag else ["0", "0", "0"]
    return " ".join(cells)


def _format_fraction(value: float) -> str:
    """Ten digits: a millionth of a pixel in a photo of ten thousand."""
    text = f"{value:.10f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


_CAN = FormatCapabilities
FORMAT = LabelFormat(
    "yolo",
    "YOLO: images/ and labels/*.txt, or both in one folder; data.yaml, classes.txt, or Label Studio's notes.json",
    find,
    sniff,
    read,
    _CAN.FACES | _CAN.VISIBILITY | _CAN.BACKGROUND | _CAN.TEST_SPLIT | _CAN.NAMES | _CAN.SIZES | _CAN.FILE_PER_PHOTO,
    write,
    photos_in(f"{PHOTOS}/train", f"{PHOTOS}/test"),
)
