"""`label`: one face a row, `name x1 y1 x2 y2` then x y of every keypoint, between blanks, or commas or semicolons.

A data folder holds one or more files called `label.txt`, each next to the photos it names (or above them, with a path
in the name). Coordinates are pixels of the photo as it is stored.
"""

import re
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError
from kpedge.core.files import nearest_file
from kpedge.core.keypoints import FACES21
from kpedge.core.scheme import KeypointScheme, read_scheme
from kpedge.core.text import format_count
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, WriteJob, files
from kpedge.data.formats.reader import LabelReader, Parsed, columns_error
from kpedge.data.formats.schemes import SCHEME_FILE, known_scheme, write_scheme
from kpedge.data.labels import Labels
from kpedge.data.rows import (
    check_box,
    check_name,
    check_points,
    first_lines,
    format_number,
    is_file,
    is_number,
    parse_numbers,
    split_row,
    text_lines,
    trailing_numbers,
)

LABEL_FILE = "label.txt"
FEWEST_ROWS = 0.1  # a number of points that a smaller share of the rows has is a mistake


find = files(f"**/{LABEL_FILE}")


def sniff(path: Path) -> bool:
    """Whether the file is called `label.txt`, or is a text file with its rows."""
    if path.name.lower() == LABEL_FILE:
        return True
    return path.suffix.lower() == ".txt" and any(count_points(line) for line in first_lines(path))


def parse_row(text: str, scheme: KeypointScheme) -> Parsed:
    """One row as name, box (4,) and keypoints (K, 2).

    A name may contain blanks as long as no part after the first is a number by itself. A point `nan nan` is not
    labelled.

    Raises:
        RowError: the message says what is wrong with the row; the caller knows where it is.
    """
    cells = split_row(text)
    numbers = 4 + 2 * len(scheme)
    # A number within the name is rather a column too many, or two rows without a line break between them.
    if len(cells) < numbers + 1 or any(map(is_number, cells[1:-numbers])):
        raise columns_error(len(cells), f"{numbers + 1}: name, 4 of the box, {len(scheme)} x y ({scheme.name})")
    first = len(cells) - numbers + 1
    values = cells[-numbers:]
    box = check_box(parse_numbers(values[:4], first))
    points = parse_numbers(values[4:], first + 4, nan_pairs=True).reshape(-1, 2)
    return check_name(" ".join(cells[:-numbers])), box, check_points(points)


def format_row(name: str, box: NDArray[np.float64], keypoints: NDArray[np.float64]) -> str:
    """One row: numbers with up to six decimals."""
    return " ".join([name, *map(format_number, (*box.tolist(), *keypoints.ravel().tolist()))])


def _is_heading(line: int, text: str) -> bool:
    """Whether a line is a comment, or names the columns of a table."""
    cells = re.split(r"[\s,;\"]+", text.strip())
    return (text.startswith("#") or (line == 1 and len(cells) > 4)) and not any(map(is_number, cells))


def read_rows(reader: LabelReader, scheme: KeypointScheme) -> Labels:
    """The rows of all files of a reader, in a scheme."""
    for path in reader.files:
        folder = path.parent.relative_to(reader.root).as_posix()
        below = "" if folder == "." else folder

        def parse(text: str, below: str = below) -> Parsed:
            name, box, points = parse_row(text, scheme)
            return reader.find(name, (below,), below), box, points

        def photo_of(text: str, below: str = below) -> str:
            return reader.leading_photo(text.split(), (below,), below)

        before = len(reader.rows) + len(reader.problems)
        rows = [(line, text) for line, text in text_lines(path) if not _is_heading(line, text)]
        reader.add_lines(reader.path_of(path), rows, parse, photo_of)
        if len(reader.rows) + len(reader.problems) == before:
            raise DataError(f"{path}: the label file is empty")
    return reader.labels(scheme)


def read(reader: LabelReader) -> Labels:
    """The labels in the scheme that most rows have columns for."""
    return read_rows(reader, _scheme_of_rows(reader))


def read_labels(root: Path, scheme: KeypointScheme = FACES21) -> Labels:
    """All labels of a folder with `label.txt` files, or of one such file, whose scheme is known; `read_format` finds it
    out.

    Raises:
        DataError: there is nothing to read. Broken rows do not raise: they are listed in `problems`.
    """
    files = [root] if root.is_file() else find(root)
    if not root.exists():
        raise DataError(f"{root}: no such folder", nearest_file(root))
    if not files:
        raise DataError(f"{root}: no {LABEL_FILE} in this folder or below it")
    return read_rows(LabelReader(root.parent if root.is_file() else root, files), scheme)


def _scheme_of_rows(reader: LabelReader) -> KeypointScheme:
    """The scheme of the rows: `scheme.toml`, or the one with their number of columns."""
    if is_file(reader.root / SCHEME_FILE):
        return read_scheme(reader.root / SCHEME_FILE)
    counts: Counter[int] = Counter()
    for path in reader.files:
        counts.update(filter(None, (count_points(line) for _, line in text_lines(path))))
    for count, rows in counts.most_common():
        known = known_scheme(reader.root, count, reader.scheme)
        if known is not None and rows >= FEWEST_ROWS * counts.total():
            return known
    if reader.scheme is not None or not counts:
        return reader.scheme or FACES21
    count = counts.most_common(1)[0][0]
    raise DataError(
        f"{reader.files[0]}: rows of {format_count(count, 'point')}, for which kpedge has no scheme",
        f"name the points in {SCHEME_FILE} next to the labels, or with --scheme (docs/schemes.md)",
    )


def count_points(line: str) -> int:
    """How many points a row has columns for; 0 if that is unclear."""
    numbers = trailing_numbers(split_row(line)) - 4
    return numbers // 2 if numbers > 0 and numbers % 2 == 0 else 0


def write(job: WriteJob) -> None:
    """Write one `label.txt` for the whole folder."""
    rows = job.labels.rows
    job.write_lines(LABEL_FILE, (format_row(job.paths[row.photo], row.box, row.keypoints) for row in rows))
    write_scheme(job.folder, job.labels.scheme)


_CAN = FormatCapabilities
FORMAT = LabelFormat(
    "label",
    "label.txt: photo x1 y1 x2 y2, then x y of each point",
    find,
    sniff,
    read,
    _CAN.BOXES | _CAN.POINTS | _CAN.PARTIAL_POINTS | _CAN.MANY_FACES | _CAN.BLANK_SEPARATED,
    write,
)
