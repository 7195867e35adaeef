"""Rows of text files: taking numbers, names and boxes out of them, with a reason where that cannot be done."""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError
from kpedge.core.files import read_bytes
from kpedge.core.geometry import MAX_COORDINATE, MIN_SIDE, as_box

NAME_PARTS = 8
"""How many blanks at most are looked behind for the name of the photo in a row that cannot be read."""


class RowError(DataError):
    """A row of a label file that cannot be read; `kind` is a fixed word for counting."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def where_in(file: str, place: int | str) -> str:
    """A place in a label file, for messages: `label.txt:7`, or `instances.json, annotation 7` where no line tells it.

    Args:
        file: its name.
        place: a line, from 1; or words.
    """
    return f"{file}:{place}" if isinstance(place, int) else f"{file}, {place}"


def row_numbers(values: Sequence[str], first: int, *, unlabelled: bool = False) -> NDArray[np.float64]:
    """The numbers of a row, whose first stands in column `first`, counted from 1.

    Args:
        values: the cells.
        first: the column of the first, for messages.
        unlabelled: two cells `nan nan` where an x and y are expected are a point that is not labelled.

    Raises:
        RowError: one is no number, not finite, or beyond all photos.
    """
    try:
        parsed = np.array([float(value) for value in values])
    except ValueError:
        column, value = next((i, v) for i, v in enumerate(values, first) if not is_number(v))
        raise RowError("not a number", f"column {column} is {value!r}, not a number") from None
    wrong = ~np.isfinite(parsed)
    hint = ""
    if unlabelled and len(parsed) % 2 == 0 and wrong.any():
        wrong &= ~np.repeat(np.isnan(parsed).reshape(-1, 2).all(axis=1), 2)
        hint = "; a point that is not labelled is nan nan"
    if wrong.any():
        column = int(np.flatnonzero(wrong)[0])
        raise RowError("not a number", f"column {first + column} is {values[column]!r}, not a finite number{hint}")
    return parsed


def check_points(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (K, 2), checked.

    Raises:
        RowError: one lies beyond all photos.
    """
    if (np.abs(points) > MAX_COORDINATE).any():  # NaN compares as not
        raise RowError("point out of range", f"a point lies beyond {MAX_COORDINATE:g} px")
    return points


def row_name(name: str) -> str:
    """A photo's name in a row, as a path in its shortest form, with forward slashes.

    Raises:
        RowError: it cannot be a path.
    """
    if "\0" in name:
        raise RowError("name", "the name holds a NUL byte")
    if not name.strip():
        raise RowError("name", "no photo is named")
    return posixpath.normpath(name)


def row_box(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A row's box (4,), checked.

    Raises:
        RowError: it has no area, or lies beyond all photos.
    """
    try:
        return as_box(values)
    except DataError as error:
        flat = bool((values[2:] - values[:2]).min() < MIN_SIDE)
        raise RowError("box without area" if flat else "box out of range", str(error)) from error


def is_number(text: str) -> bool:
    """Whether a cell of a row is a number, finite or not."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def numbers_behind(cells: Sequence[str]) -> int:
    """How many cells at the end of a row are numbers; the first cell, which names the photo, never counts."""
    count = 0
    while count < len(cells) - 1 and is_number(cells[-1 - count]):
        count += 1
    return count


def csv_cells(text: str) -> list[str]:
    """The cells of one row of a CSV file.

    Raises:
        RowError: it is none.
    """
    try:
        return next(csv.reader([text]), [])
    except csv.Error as error:
        raise RowError("columns", f"not a row of a CSV file: {error}") from error


def csv_row(cells: Sequence[str]) -> str:
    """Cells as one row of a CSV file: those that hold a comma, a quotation mark or a blank at an end are quoted."""
    quoted = (
        '"' + cell.replace('"', '""') + '"' if cell != cell.strip() or set(cell) & set(',"') else cell for cell in cells
    )
    return ",".join(quoted)


def named_photo(folder: Path, row: str, separator: str | None = None) -> str:
    """The photo beside a label file that a broken row begins with; empty where there is none."""
    parts = row.split(separator, NAME_PARTS)[:NAME_PARTS]
    names = [(separator or " ").join(parts[:count]) for count in range(1, len(parts) + 1)]
    found = [name for name in names if is_file(folder / name)]
    return posixpath.normpath(found[-1]) if found else ""


def is_file(path: Path) -> bool:
    """Whether a file is there, by a name that comes out of a label file and may be no name at all."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long; a NUL byte
        return False


def read_text(path: Path) -> str:
    """The content of a text file, UTF-8 with or without a byte order mark.

    Raises:
        DataError: the file is missing or not text.
    """
    try:
        return read_bytes(path, DataError).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not a text file (byte {error.start} is not UTF-8)", "save it anew as UTF-8, or give another file"
        ) from error


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers, from 1.

    Raises:
        DataError: the file is missing or not text.
    """
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield number, line


def first_lines(path: Path, count: int = 5, limit: int = 1 << 16) -> list[str]:
    """The first lines of a file that are not blank, for a guess at what it is; none where it is no text."""
    try:
        data = read_bytes(path, DataError, limit=limit)
    except DataError:
        return []
    whole = len(data) < limit
    lines = [line for line in data.decode("utf-8-sig", "replace").split("\n") if line.strip()]
    return (lines if whole or len(lines) < 2 else lines[:-1])[:count]


def number_text(value: float) -> str:
    """A number with six digits behind the point and no trailing zeros; `nan` as it is."""
    text = f"{value:.6f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
