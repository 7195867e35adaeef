"""The label format: one face a row, `name x1 y1 x2 y2` then x y of every keypoint, separated by blanks.

A data folder holds one or more files called `label.txt`, each beside the photos it names (or above them, with a path
in the name). Coordinates are pixels of the photo as it is stored. A row that cannot be read is reported with its file
and line, never dropped in silence.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import FACE
from kpedge.core.errors import DataError, ImageError, UsageError
from kpedge.core.geometry import Box, Image, as_box, box_overlaps_image
from kpedge.core.images import SUFFIXES
from kpedge.core.keypoints import FACES21, Conversion, conversion
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.rows import (
    RowError,
    check_points,
    is_file,
    is_number,
    named_photo,
    number_text,
    numbers_behind,
    row_box,
    row_name,
    row_numbers,
    text_lines,
    where_in,
)

LABEL_FILE = "label.txt"
TEST_LIST = "test_images.txt"


@dataclass(frozen=True, slots=True, eq=False)
class LabelRow:
    """One labelled face.

    Attributes:
        photo: path of the photo, relative to the data folder, with forward slashes.
        box: float64 (4,), x1 y1 x2 y2, pixels of the stored photo.
        keypoints: float64 (K, 2), pixels of the stored photo; negative or beyond its edge where the face is cut, NaN
            where the set does not label a point.
        file: the label file, relative to the data folder.
        line: its line, from 1; in a file without lines of its own the number of the face.
        visible: bool (K,), False for points that are labelled though something hides them; None where the set does not
            tell.
        place: the words that tell where it stands in a file without lines of its own, such as `annotation 7`.
    """

    photo: str
    box: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    file: str
    line: int
    visible: NDArray[np.bool_] | None = None
    place: str = ""

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which points are labelled, (K,)."""
        return np.asarray(np.isfinite(self.keypoints).all(axis=1))

    @property
    def where(self) -> str:
        """File and line, or file and `place`, for messages."""
        return where_in(self.file, self.place or self.line)


@dataclass(frozen=True, slots=True)
class LabelProblem:
    """Something wrong with a row or a photo.

    Attributes:
        kind: what sort of problem, a short fixed word for counting.
        where: file and line, or what `kpedge.data.rows.where_in` gives without lines; or the photo.
        message: what is wrong.
        photo: the photo whose face could not be used, relative to the data folder; empty where it cannot be told.
    """

    kind: str
    where: str
    message: str
    photo: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True, slots=True)
class Labels:
    """All labels of a data folder.

    Attributes:
        root: the folder.
        scheme: the keypoint scheme of the rows.
        rows: the rows that could be read, in file and line order.
        problems: the rows that could not.
        files: the label files, relative to the folder.
        background: photos that show no face at all.
        test: the photos that the set itself keeps for testing; none when None.
        boxes_only: the rows have boxes and no points.
        convention: what the boxes hold, of `kpedge.core.boxes.CONVENTIONS`.
        unlabelled: photo -> boxes (4,) of faces that are neither face nor background.
        crowded: photos with a region full of faces, of which no crop can be said to show none.
        remarks: what is to be known of how the files were read.
        dropped: kind -> count, of what the files hold and the rows do not.
        sizes: photo -> width and height, pixels, where the label files tell them.
        pixels: gives a photo's pixels where photos are no files of their own.
        format: the format's name.
    """

    root: Path
    scheme: KeypointScheme
    rows: tuple[LabelRow, ...]
    problems: tuple[LabelProblem, ...]
    files: tuple[str, ...]
    background: tuple[str, ...] = ()
    test: tuple[str, ...] | None = None
    boxes_only: bool = False
    convention: str = FACE
    unlabelled: Mapping[str, Sequence[Box]] = field(default_factory=dict)
    crowded: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    pixels: Callable[[str], Image] | None = None
    format: str = "label"

    def by_photo(self) -> dict[str, list[LabelRow]]:
        """The rows of each photo, photos in order of first mention; last those that show no face, with no row."""
        photos: dict[str, list[LabelRow]] = {}
        for row in self.rows:
            photos.setdefault(row.photo, []).append(row)
        for photo in (*self.unlabelled, *self.background):
            photos.setdefault(photo, [])
        return photos

    def converted(self, wanted: KeypointScheme) -> Labels:
        """The same faces in the points of another scheme: by name, and by what the own scheme derives. Where no point
        follows and both have as many, the points are taken by position. A remark tells how many do not follow.

        Raises:
            UsageError: no point follows.
        """
        if wanted == self.scheme:
            return self
        if self.boxes_only or not self.rows:
            empty = np.full((len(wanted), 2), np.nan)
            return replace(
                self, scheme=wanted, rows=tuple(replace(row, keypoints=empty, visible=None) for row in self.rows)
            )
        way = conversion(self.scheme, wanted)
        if not len(way.known):
            if len(self.scheme) == len(wanted):
                return replace(self, scheme=wanted)
            raise UsageError(
                f"none of the {len(wanted)} points of {wanted.name} follows from the {len(self.scheme)} of "
                f"{self.scheme.name}",
                "leave --scheme out to keep the set's own points, or name them as in docs/schemes.md",
            )
        remarks, known = self.remarks, len(way.known)
        if known < len(wanted):
            missing = len(wanted) - known
            remarks += (
                f"of {wanted.name}'s {len(wanted)} points {known} {'follows' if known == 1 else 'follow'} from "
                f"{self.scheme.name}; the other {missing} {'is' if missing == 1 else 'are'} not labelled",
            )
        return replace(self, scheme=wanted, rows=tuple(_converted(row, way) for row in self.rows), remarks=remarks)


def _converted(row: LabelRow, way: Conversion) -> LabelRow:
    visible = None
    if row.visible is not None:  # a mean is seen where all of its points are
        visible = np.array([bool(group) and bool(row.visible[list(group)].all()) for group in way.groups])
    return replace(row, keypoints=way(row.keypoints), visible=visible)


def parse_row(text: str, scheme: KeypointScheme) -> tuple[str, NDArray[np.float64], NDArray[np.float64]]:
    """One row of the label format as name, box (4,) and keypoints (K, 2).

    A name may contain blanks as long as no part behind the first is a number by itself. A point `nan nan` is not
    labelled.

    Raises:
        RowError: the message says what is wrong with the row; the caller knows where it stands.
    """
    cells = text.split()
    numbers = 4 + 2 * len(scheme)
    name, values = " ".join(cells[:-numbers]), cells[-numbers:]
    # A number within the name is rather a column too many, or two rows without a line break between them.
    if len(cells) < numbers + 1 or any(map(is_number, cells[1:-numbers])):
        raise RowError(
            "columns",
            f"{format_count(len(cells), 'column')}, expected {numbers + 1}: "
            f"name, 4 of the box, {len(scheme)} x y ({scheme.name})",
        )
    first = len(cells) - numbers + 1
    box = row_box(row_numbers(values[:4], first))
    points = row_numbers(values[4:], first + 4, unlabelled=True).reshape(-1, 2)
    return row_name(name), box, check_points(points)


def usable_rows(rows: Iterable[LabelRow], image: Image) -> tuple[list[LabelRow], list[LabelProblem]]:
    """The rows of a photo whose box lies at least in part within it, and a problem for each other."""
    height, width = image.shape[:2]
    usable: list[LabelRow] = []
    problems: list[LabelProblem] = []
    for row in rows:
        if box_overlaps_image(row.box, width, height):
            usable.append(row)
        else:
            message = f"{row.photo}: the box lies outside the photo of {width}x{height}"
            problems.append(LabelProblem("box outside photo", row.where, message, row.photo))
    return usable, problems


class PixelsError(ImageError):
    """The pixels of a photo that is no file of its own cannot be used."""


def photo_problem(root: Path, photo: str, rows: Sequence[LabelRow], error: ImageError) -> LabelProblem:
    """What is to be said of a photo that cannot be read."""
    there = isinstance(error, PixelsError) or is_file(root / photo)
    message = str(error).removeprefix(f"{root}{os.sep}")
    return LabelProblem(
        "unreadable photo" if there else "missing photo",
        rows[0].where if rows else photo,
        f"{message} ({format_count(len(rows), 'face')})",
        photo,
    )


def read_label_file(path: Path, root: Path, scheme: KeypointScheme) -> tuple[list[LabelRow], list[LabelProblem]]:
    """The rows of one label file, and the problems of those that cannot be read.

    Raises:
        DataError: the file is missing, not text, or holds no row at all.
    """
    file = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    folder = path.parent.relative_to(root).as_posix() if path.is_relative_to(root) else str(path.parent)
    rows: list[LabelRow] = []
    problems: list[LabelProblem] = []
    for line, content in text_lines(path):
        try:
            name, box, keypoints = parse_row(content, scheme)
        except RowError as error:
            name = named_photo(path.parent, content)
            photo = name if folder == "." or not name else f"{folder}/{name}"
            problems.append(LabelProblem(error.kind, where_in(file, line), str(error), photo))
            continue
        photo = name if folder == "." else f"{folder}/{name}"
        rows.append(LabelRow(photo, box, keypoints, file, line))
    if not rows and not problems:
        raise DataError(f"{path}: the label file is empty")
    return rows, problems


def find_label_files(root: Path) -> list[Path]:
    """Every `label.txt` below a folder, in the order of their paths.

    Raises:
        DataError: no such folder, or none in it.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found = sorted(path for path in root.rglob(LABEL_FILE) if path.is_file())
    if not found:
        raise DataError(
            f"{root}: no {LABEL_FILE} in this folder or below it",
            "other sets: --format; photos that show no face: --format background",
        )
    return found


def read_labels(root: Path, scheme: KeypointScheme = FACES21) -> Labels:
    """All labels of a data folder, or of one label file, whose scheme is known; `kpedge.data.formats` finds it out.

    Args:
        root: a folder that holds `label.txt` files, or one such file.
        scheme: how many points a row has, and what they are.

    Raises:
        DataError: there is nothing to read. Broken rows do not raise: they are listed in `problems`.
    """
    if root.is_file():
        files, root = [root], root.parent
    else:
        files = find_label_files(root)
    rows: list[LabelRow] = []
    problems: list[LabelProblem] = []
    for path in files:
        more_rows, more_problems = read_label_file(path, root, scheme)
        rows += more_rows
        problems += more_problems
    names = tuple(path.relative_to(root).as_posix() for path in files)
    return Labels(root, scheme, tuple(rows), tuple(problems), names)


def read_boxes(path: Path) -> dict[Path, list[NDArray[np.float64]]]:
    """The boxes of a file with rows `name x1 y1 x2 y2 ...`; further numbers, as the points of a label, are passed over.

    Returns:
        photo, as a path beside the file -> its boxes, each (4,).

    Raises:
        DataError: the file is missing or empty, or a row is broken; the message names its line.
    """
    boxes: dict[Path, list[NDArray[np.float64]]] = {}
    for line, content in text_lines(path):
        cells = content.split()
        numbers = numbers_behind(cells)
        name, values = " ".join(cells[: len(cells) - numbers]), cells[len(cells) - numbers :][:4]
        if numbers % 2:
            raise DataError(
                f"{path}:{line}: {format_count(numbers, 'number')} behind the name",
                "a row is: name x1 y1 x2 y2, then x y pairs",
            )
        try:
            boxes.setdefault(path.parent / name, []).append(as_box([float(value) for value in values]))
        except DataError as error:
            raise DataError(f"{path}:{line}: {error}", "a row is: name x1 y1 x2 y2") from error
    if not boxes:
        raise DataError(f"{path}: the file is empty")
    return boxes


def read_photo_list(path: Path, labels: Labels) -> tuple[list[str], list[LabelProblem]]:
    """A list of photos, one path a line, relative to the data folder.

    Returns:
        The listed photos that have a readable row, each once; and a problem for each that is there but has none.

    Raises:
        DataError: the file is missing or not text, or names a photo that neither exists nor is labelled.
    """
    labelled = {row.photo for row in labels.rows} | set(labels.background)
    photos: list[str] = []
    problems: list[LabelProblem] = []
    for number, line in text_lines(path):
        photo = posixpath.normpath(line.strip())
        if photo in labelled:
            photos.append(photo)
        elif is_file(labels.root / photo):
            problems.append(
                LabelProblem("listed, no label", where_in(path.name, number), f"{photo} has no readable row")
            )
        else:
            raise DataError(
                f"{path}:{number}: {photo} neither exists in {labels.root} nor is labelled",
                "give paths relative to the data folder",
            )
    return list(dict.fromkeys(photos)), problems


def photos_below(root: Path) -> list[str]:
    """Every photo file below a folder, relative to it, sorted."""
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            if path.suffix.lower() in SUFFIXES:
                found.append(path.relative_to(root).as_posix())
    return sorted(found)


def format_row(name: str, box: NDArray[np.float64], keypoints: NDArray[np.float64]) -> str:
    """One row of the label format, six digits behind the point and no trailing zeros."""
    return " ".join([name, *map(number_text, (*box.tolist(), *keypoints.ravel().tolist()))])
