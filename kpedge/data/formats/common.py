"""What the readers and writers of label formats share."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import box_of_points
from kpedge.core.errors import DataError
from kpedge.core.geometry import Box
from kpedge.core.keypoints import BUILT_IN, scheme_named
from kpedge.core.scheme import KeypointScheme, read_scheme, scheme_of_names
from kpedge.core.text import format_count
from kpedge.data.labels import LabelProblem, LabelRow, Labels, photos_below
from kpedge.data.rows import RowError, is_file, row_box, where_in

SCHEME_FILE = "scheme.toml"
"""In a data folder: what the points of its labels are, where its format has no names for them."""

TEST_FOLDERS = ("test", "testset")
"""What sets without a list of their test photos call the folder of these; Helen and LFPW have a `testset`."""

Parsed = tuple[str, Box, NDArray[np.float64]]
"""A row taken apart: photo, box (4,), and points (K, 2)."""

_LABEL_ENDINGS = (".txt", ".json", ".csv", ".xml", ".pts")


@dataclass(slots=True)
class Collected:
    """Rows and problems as a reader finds them, file by file."""

    rows: list[LabelRow] = field(default_factory=list)
    problems: list[LabelProblem] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def add_lines(
        self,
        file: str,
        lines: Iterable[tuple[int, str]],
        parse: Callable[[str], Parsed],
        photo_of: Callable[[str], str],
    ) -> None:
        """Take the rows of a text file.

        Args:
            file: its name in messages.
            lines: (number, content).
            parse: takes a row apart, or raises `RowError`.
            photo_of: the photo that a broken row is about, or nothing.
        """
        for line, content in lines:
            try:
                photo, box, points = parse(content)
            except RowError as error:
                self.problem(error, where_in(file, line), photo_of(content))
            else:
                self.rows.append(LabelRow(photo, box, points, file, line))

    def problem(self, error: RowError, where: str, photo: str = "") -> None:
        """Remember a row that cannot be read."""
        self.problems.append(LabelProblem(error.kind, where, str(error), photo))

    def labels(self, root: Path, scheme: KeypointScheme, files: Iterable[Path], form: str, **more: Any) -> Labels:
        """What was found, as the labels of a data folder.

        Args:
            root: the folder.
            scheme: of the points.
            files: the label files, below it.
            form: the format.
            more: further fields of `Labels`.
        """
        return Labels(
            root,
            scheme,
            tuple(self.rows),
            tuple(self.problems),
            tuple(path.relative_to(root).as_posix() for path in files),
            dropped=+self.dropped,
            format=form,
            **more,
        )

    def check(self, where: Path) -> None:
        """Stop where nothing was found.

        Raises:
            DataError: neither a row nor a broken one.
        """
        if not self.rows and not self.problems:
            raise DataError(f"{where}: the label file is empty")


def folder_and_files(root: Path, names: Iterable[str]) -> tuple[Path, list[Path]]:
    """The data folder and those of its label files that are there, or the one file that was given, in its folder.

    Raises:
        DataError: none is there.
    """
    wanted = list(names)
    if root.is_file():
        return root.parent, [root]
    found = [root / name for name in wanted if is_file(root / name)]
    if not found:
        raise DataError(f"{root}: no {wanted[0]}", "give the folder that holds it")
    return root, found


def refuse_unreadable(root: Path) -> None:
    """Say so where labels may be in files that may not be read.

    Raises:
        DataError: there is one.
    """
    for path in [root, *sorted(root.rglob("*"))] if root.is_dir() else [root]:
        if not os.access(path, os.R_OK) and (path.is_dir() or path.suffix.lower() in _LABEL_ENDINGS or path == root):
            raise DataError(f"{path}: cannot be read: permission denied", "allow it, or give another folder")


def points_box(points: NDArray[np.float64], scheme: KeypointScheme) -> Box:
    """The box that follows from a face's points, checked.

    Raises:
        RowError: fewer than two points are labelled, or all lie in one place.
    """
    if np.isfinite(points).all(axis=1).sum() < 2:
        raise RowError("points", "fewer than two points are labelled: no box follows")
    return row_box(box_of_points(points, scheme))


def separator_hint(row: str, cells: Sequence[str]) -> str:
    """What to say of a row of a CSV file that has one cell, as something else than commas parts it."""
    return "; commas are to part the columns" if len(cells) == 1 and set(row.strip()) & set(";\t") else ""


def generic_scheme(count: int) -> KeypointScheme:
    """A scheme of points that nobody named."""
    return scheme_of_names(f"points{count}", [str(number) for number in range(1, count + 1)])


def is_generic(scheme: KeypointScheme) -> bool:
    """Whether the names of the points are numbers."""
    return all(point.isdecimal() for point in scheme.points)


def known_scheme(root: Path, count: int, wanted: KeypointScheme | None) -> KeypointScheme | None:
    """The scheme of labels with that many points a face: the folder's `scheme.toml`, the one that is asked for, or one
    that comes with kpedge; None where none of them has as many.

    Raises:
        DataError: `scheme.toml` is broken, or has another number of points.
    """
    if is_file(root / SCHEME_FILE):
        own = read_scheme(root / SCHEME_FILE)
        if len(own) != count:
            raise DataError(
                f"{root / SCHEME_FILE} names {format_count(len(own), 'point')}, the labels have {count} a face",
                "give it the names of all points, in the order of the labels",
            )
        return own
    if wanted is not None and len(wanted) == count:
        return wanted
    return next((scheme for scheme in map(scheme_named, BUILT_IN) if len(scheme) == count), None)


def in_test_folder(photo: str) -> bool:
    """Whether a photo lies, at any depth, in a folder whose name keeps it for testing, of `TEST_FOLDERS`."""
    return any(folder.lower() in TEST_FOLDERS for folder in photo.split("/")[:-1])


def join(folder: str, name: str) -> str:
    """A photo's name below a folder, in its shortest form; `.` is the data folder itself."""
    return posixpath.normpath(posixpath.join(folder, name))


class PhotoFinder:
    """Finds photos that label files name in one way and that lie somewhere else."""

    def __init__(self, root: Path) -> None:
        """Remember the folder; it is searched when a name is not found at once.

        Args:
            root: the data folder.
        """
        self._root = root
        self._by_name: dict[str, list[str]] | None = None

    def __call__(self, name: str, folders: Iterable[str] = ()) -> str:
        """The photo of that name: in one of the folders, relative to the root; else the only one below the root whose
        path ends in the name, or in its last part. Where there is none, the name in the first folder.
        """
        places = [join(folder, name) for folder in (*folders, "")]
        for place in places:
            if not place.startswith("../") and is_file(self._root / place):
                return place
        if self._by_name is None:
            self._by_name = {}
            for photo in photos_below(self._root):
                self._by_name.setdefault(posixpath.basename(photo), []).append(photo)
        tail = posixpath.normpath(name).lstrip("/")
        same = self._by_name.get(posixpath.basename(tail), [])
        ending = [photo for photo in same if f"/{photo}".endswith(f"/{tail}")]
        for found in (ending, same):
            if len(found) == 1:
                return found[0]
        return places[0]


Places = Mapping[str, str]
"""Photo -> where it lies in the folder that is written, relative to it."""


def write_scheme(folder: Path, scheme: KeypointScheme) -> None:
    """Write `scheme.toml` beside labels whose format has no names, where their number alone does not tell them."""
    if known_scheme(folder, len(scheme), None) != scheme:
        (folder / SCHEME_FILE).write_text(scheme_toml(scheme), encoding="utf-8")


def scheme_toml(scheme: KeypointScheme) -> str:
    """A scheme as the TOML that `kpedge.core.scheme.read_scheme` reads."""

    def text(value: str) -> str:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in escaped) + '"'

    def names(indices: Iterable[int]) -> str:
        return "[" + ", ".join(text(scheme.points[index]) for index in indices) + "]"

    def lists(pairs: Iterable[Iterable[int]]) -> str:
        return "[" + "".join(f"\n    {names(pair)}," for pair in pairs) + "\n]"

    lines = [f"name = {text(scheme.name)}", f"points = {names(range(len(scheme)))}"]
    lines.append(f"mirror = {lists(scheme.mirror)}")
    if scheme.skeleton:
        lines.append(f"skeleton = {lists(scheme.skeleton)}")
    for table, content in (("parts", scheme.parts), ("derived", scheme.derived)):
        if content:
            lines += ["", f"[{table}]", *(f"{text(key)} = {names(group)}" for key, group in content.items())]
    return "\n".join(lines) + "\n"


def numbered(labels: Labels) -> dict[str, int]:
    """Photos with a face or without, in order, and a number for each, from 1."""
    return {photo: number for number, photo in enumerate(labels.by_photo(), 1)}
