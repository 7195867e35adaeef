"""What labels are, whatever format they were read from: faces with a box and points, and what could not be read."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import FACE, box_of_points
from kpedge.core.errors import DataError, ImageError, UsageError
from kpedge.core.geometry import Box, Image, as_box, box_overlaps_image
from kpedge.core.images import PHOTO_SUFFIXES
from kpedge.core.keypoints import conversion
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.rows import is_file, split_row, text_lines, trailing_numbers, where_in

TEST_LIST = "test_images.txt"  # in a data folder: the photos of the test split, one path a line

SAME_BOX = 1e-3  # boxes that differ less, in their side, from those that follow from the points, are these


@dataclass(frozen=True, slots=True, eq=False)
class LabelRow:
    """One labelled face."""

    photo: str  # path of the photo, relative to the data folder, with forward slashes
    box: NDArray[np.float64]  # float64 (4,), x1 y1 x2 y2, pixels of the stored photo
    # float64 (K, 2), pixels of the stored photo; negative or beyond its edge where the face is cut, NaN where the set
    # does not label a point
    keypoints: NDArray[np.float64]
    file: str  # the label file, relative to the data folder
    line: int  # its line, from 1; in a file without lines of its own the number of the face
    # bool (K,), False for points that are labelled though hidden; None if all are visible, or unknown
    visible: NDArray[np.bool_] | None = None
    place: str = ""  # where it is in a file without lines, in words, such as `annotation 7`

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which points are labelled, (K,)."""
        return np.asarray(np.isfinite(self.keypoints).all(axis=1))

    @property
    def flags(self) -> list[int]:
        """Visibility of each point as COCO has it: 0 not labelled, 1 labelled though hidden, 2 visible."""
        visible = np.ones(len(self.keypoints), dtype=bool) if self.visible is None else self.visible
        return [int(flag) for flag in self.labelled * (1 + visible.astype(int))]

    @property
    def where(self) -> str:
        """File and line, or file and `place`, for messages."""
        return where_in(self.file, self.place or self.line)


@dataclass(frozen=True, slots=True)
class LabelProblem:
    """Something wrong with a row or a photo."""

    kind: str  # what sort of problem, a short fixed word for counting
    where: str  # file and place (`kpedge.data.rows.where_in`), or the photo
    message: str  # what is wrong
    photo: str = ""  # the photo whose face cannot be used, relative to the data folder; empty if unknown

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True, slots=True)
class Labels:
    """All labels of a data folder."""

    root: Path
    scheme: KeypointScheme  # the keypoint scheme of the rows
    rows: tuple[LabelRow, ...]  # the rows that could be read, in file and line order
    problems: tuple[LabelProblem, ...]  # the rows that could not
    files: tuple[str, ...]  # the label files, relative to the folder
    background: tuple[str, ...] = ()  # photos that show no face at all
    test: tuple[str, ...] | None = None  # the photos of the set's own test split; None if it has none
    boxes_only: bool = False  # the rows have boxes and no points
    convention: str = FACE  # what the boxes hold, of `kpedge.core.boxes.CONVENTIONS`
    # photo -> boxes (4,) of faces that are neither face nor background
    ignored: Mapping[str, Sequence[Box]] = field(default_factory=dict)
    crowds: frozenset[str] = frozenset()  # photos with a region full of faces: no crop of them is known to show none
    remarks: tuple[str, ...] = ()  # notes on how the files were read
    # kind -> count, of what the files hold and the rows do not
    dropped: Mapping[str, int] = field(default_factory=dict)
    # photo -> width and height, pixels, as the label files say
    sizes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    pixels: Callable[[str], Image] | None = None  # reads a photo's pixels if photos are not files of their own
    format: str = "label"  # the format's name

    def by_photo(self) -> dict[str, list[LabelRow]]:
        """The rows of each photo, photos in order of first mention; last those that show no face, with no row."""
        photos: dict[str, list[LabelRow]] = {}
        for row in self.rows:
            photos.setdefault(row.photo, []).append(row)
        for photo in (*self.ignored, *self.background):
            photos.setdefault(photo, [])
        return photos

    def in_scheme(self, scheme: KeypointScheme) -> Labels:
        """The same faces in the points of another scheme: by name, and by what the own scheme derives. If no point
        follows and both have as many, the points are taken by position. A remark counts those that do not follow.

        Raises:
            UsageError: no point follows.
        """
        if scheme == self.scheme:
            return self
        if self.boxes_only or not self.rows:
            empty = np.full((len(scheme), 2), np.nan)
            rows = tuple(replace(row, keypoints=empty, visible=None) for row in self.rows)
            return replace(self, scheme=scheme, rows=rows)
        convert = conversion(self.scheme, scheme)
        known, missing = len(convert.known), len(scheme) - len(convert.known)
        if not known:
            if len(self.scheme) == len(scheme):
                return replace(self, scheme=scheme)
            raise UsageError(
                f"none of the {len(scheme)} points of {scheme.name} follows from the {len(self.scheme)} of "
                f"{self.scheme.name}",
                "leave out --scheme to keep the set's own points, or name them as in docs/schemes.md",
            )
        remarks = self.remarks
        if missing:
            remarks += (
                f"of {scheme.name}'s {len(scheme)} points {known} {'follows' if known == 1 else 'follow'} from "
                f"{self.scheme.name}; the other {missing} {'is' if missing == 1 else 'are'} not labelled",
            )
        rows = tuple(
            replace(
                row,
                keypoints=convert(row.keypoints),
                visible=None
                if row.visible is None  # a mean is visible if all of its points are
                else np.array([bool(group) and bool(row.visible[list(group)].all()) for group in convert.groups]),
            )
            for row in self.rows
        )
        return replace(self, scheme=scheme, rows=rows, remarks=remarks)


def usable_rows(rows: Iterable[LabelRow], width: int, height: int) -> tuple[list[LabelRow], list[LabelProblem]]:
    """The rows of a photo of that size whose box lies at least partly in it, and a problem for each other."""
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
    """The pixels of a photo that is not a file of its own cannot be used."""


def photo_problem(root: Path, photo: str, rows: Sequence[LabelRow], error: ImageError) -> LabelProblem:
    """The problem of a photo that cannot be read."""
    exists = isinstance(error, PixelsError) or os.path.lexists(root / photo)
    message = str(error).removeprefix(f"{root}{os.sep}")
    return LabelProblem(
        "unreadable photo" if exists else "missing photo",
        rows[0].where if rows else photo,
        f"{message} ({format_count(len(rows), 'face')})",
        photo,
    )


def read_boxes(path: Path) -> dict[Path, list[NDArray[np.float64]]]:
    """Photo, as a path next to the file -> its boxes, each (4,), in a file with rows `name x1 y1 x2 y2 ...`; further
    numbers, as the points of a label, are ignored.

    Raises:
        DataError: the file is missing or empty, or a row is broken; the message names its line.
    """
    boxes: dict[Path, list[NDArray[np.float64]]] = {}
    for line, content in text_lines(path):
        cells = split_row(content)
        numbers = trailing_numbers(cells)
        name, values = " ".join(cells[: len(cells) - numbers]), cells[len(cells) - numbers :][:4]
        if numbers % 2:
            raise DataError(
                f"{path}:{line}: {format_count(numbers, 'number')} after the name",
                "a row is: name x1 y1 x2 y2, then x y pairs",
            )
        try:
            boxes.setdefault(path.parent / name, []).append(as_box([float(value) for value in values]))
        except DataError as error:
            raise DataError(f"{path}:{line}: {error}", "a row is: name x1 y1 x2 y2") from error
    if not boxes:
        raise DataError(f"{path}: the file is empty")
    return boxes


def follows(row: LabelRow, scheme: KeypointScheme) -> bool:
    """Whether a row's box is the one that follows from its points."""
    if row.labelled.sum() < 2:
        return False
    side = float((row.box[2:] - row.box[:2]).max())
    return bool(np.abs(box_of_points(row.keypoints, scheme) - row.box).max() < SAME_BOX * side)


def read_photo_list(path: Path, labels: Labels) -> tuple[list[str], list[LabelProblem]]:
    """The photos of a list, one path a line, relative to the data folder, that have a readable row, each once; and a
    problem for each that exists but has none.

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
    files = (Path(folder) / name for folder, _, names in os.walk(root) for name in names)
    return sorted(file.relative_to(root).as_posix() for file in files if file.suffix.lower() in PHOTO_SUFFIXES)
