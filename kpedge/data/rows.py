"""Rows of text files: taking numbers, names and boxes out of them, with a reason where that is not possible."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError
from kpedge.core.files import decode_text, read_bytes, read_text, text_encoding
from kpedge.core.geometry import MAX_COORDINATE, MIN_SIDE, as_box

_DECIMAL_COMMA = re.compile(r"\s*-?\d+,\d+\s*")
_COLUMNS = 4  # separators in a row from which on it is a table's row in another dialect


class RowError(DataError):
    """A row of a label file that cannot be read; `kind` is a fixed word for counting."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def where_in(file: str, place: int | str) -> str:
    """A place in a label file, for messages: `label.txt:7`; in files without lines `instances.json, annotation 7`."""
    return f"{file}:{place}" if isinstance(place, int) else f"{file}, {place}"


def parse_numbers(values: Sequence[str], first: int, *, nan_pairs: bool = False) -> NDArray[np.float64]:
    """The numbers of a row, the first of which is in column `first`, counted from 1. With `nan_pairs`, two cells `nan
    nan` where an x and y are expected are a point that is not labelled.

    Raises:
        RowError: a cell is not a finite number.
    """
    try:
        parsed = np.array(values, dtype=np.float64)
    except (ValueError, OverflowError):  # JSON knows integers of any size
        column, value = next(((i, v) for i, v in enumerate(values, first) if not is_number(v)), (first, values))
        raise RowError("not a number", f"column {column} is {repr(value)[:40]}, not a number") from None
    wrong = ~np.isfinite(parsed)
    if not wrong.any():
        return parsed
    hint = ""
    if nan_pairs and len(parsed) % 2 == 0:
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
    if (np.abs(points) > MAX_COORDINATE).any():  # comparisons with NaN are false
        raise RowError("point out of range", f"a point lies beyond {MAX_COORDINATE:g} px")
    return points


def check_name(name: str) -> str:
    """The name of a photo, checked.

    Raises:
        RowError: it cannot be a path.
    """
    if "\0" in name:
        raise RowError("name", "the name holds a NUL byte")
    if not name.strip():
        raise RowError("name", "no photo is named")
    return name


def check_box(values: NDArray[np.float64]) -> NDArray[np.float64]:
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
    except (ValueError, OverflowError):
        return False
    return True


def split_row(text: str) -> list[str]:
    """The cells of a row between blanks; if commas or semicolons separate numbers, those between them."""
    cells = text.split()
    if trailing_numbers(cells) < min(_COLUMNS, len(cells) - 1) or len(cells) == 1:
        try:
            table = parse_csv_row(text.rstrip(" \t\r,;"))
        except RowError:
            return cells
        if trailing_numbers(table) >= _COLUMNS:
            return table
    return cells


def trailing_numbers(cells: Sequence[str]) -> int:
    """How many cells at the end of a row are numbers; the first cell, which names the photo, never counts."""
    count = 0
    for cell in reversed(cells[1:]):
        try:
            float(cell)
        except ValueError:
            break
        count += 1
    return count


def parse_csv_row(text: str) -> list[str]:
    """The cells of one row of a CSV file: between commas, or, as spreadsheets write it where the decimal separator is a
    comma, between semicolons; or between tabs.

    Raises:
        RowError: it is not a CSV row.
    """
    delimiter = next((one for one in ";\t" if text.count(one) >= _COLUMNS), ",")
    try:
        cells = next(csv.reader([text.strip("\r\n")], delimiter=delimiter), [])
    except csv.Error as error:
        raise RowError("columns", f"not a row of a CSV file: {error}") from error
    return [cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell for cell in cells]


def format_csv_row(cells: Sequence[str]) -> str:
    """Cells as one row of a CSV file: those that hold a comma, a quotation mark or a blank at an end are quoted."""
    quoted = (
        '"' + cell.replace('"', '""') + '"' if cell != cell.strip() or set(cell) & set(',"') else cell for cell in cells
    )
    return ",".join(quoted)


def is_file(path: Path) -> bool:
    """Whether a file exists, by a name that comes out of a label file and may not be a name at all."""
    return _holds(path.is_file)


def is_folder(path: Path) -> bool:
    """The same of a folder."""
    return _holds(path.is_dir)


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except (OSError, ValueError):  # too long; a NUL byte; links in a circle
        return False


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers, from 1."""
    for number, line in enumerate(read_text(path, DataError).split("\n"), 1):
        if line.strip():
            yield number, line


def first_lines(path: Path, count: int = 5, limit: int = 1 << 16) -> list[str]:
    """The first lines of a file that are not blank, to guess what it is; none if it cannot be read."""
    try:
        data = read_bytes(path, DataError, limit=limit)
    except DataError:
        return []
    whole = len(data) < limit
    lines = [line for line in decode_text(data, "replace").split("\n") if line.strip()]
    return (lines if whole or len(lines) < 2 else lines[:-1])[:count]


def sample_text(path: Path, limit: int = 1 << 16) -> str:
    """The beginning and the end of a file, to guess what it is; none if it cannot be read."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            first = stream.read(limit)
            stream.seek(max(limit, path.stat().st_size - limit))
            last = stream.read(limit).decode(text_encoding(first), "replace")
            return decode_text(first, "replace") + last
    except OSError:
        return ""


def glob_any_case(root: Path, pattern: str) -> Iterator[Path]:
    """`Path.glob` without differences in case: other systems write `LABEL.TXT`."""
    return root.glob("".join(f"[{one}{one.swapcase()}]" if one.isalpha() else one for one in pattern))


def format_number(value: float) -> str:
    """A number with six decimals and no trailing zeros; `nan` as it is."""
    text = f"{value:.6f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
