"""`mtfl`: `label.txt`, or MTFL's own `training.txt` and `testing.txt`: `photo x1 … x5 y1 … y5`, left and right eye,
nose tip, left and right corner of the mouth, and behind them MTFL's four attributes, which are passed over.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kpedge.core.keypoints import FACES5
from kpedge.core.scheme import KeypointScheme, read_scheme
from kpedge.core.text import format_count
from kpedge.data.formats.common import SCHEME_FILE, Collected, Parsed, Places, folder_and_files, points_box
from kpedge.data.labels import LABEL_FILE, Labels
from kpedge.data.rows import (
    RowError,
    check_points,
    first_lines,
    is_file,
    is_number,
    named_photo,
    number_text,
    numbers_behind,
    row_name,
    row_numbers,
    text_lines,
)

HOLDS = "label.txt, or training.txt and testing.txt: photo x1 … x5 y1 … y5"
SCHEME = FACES5
TRAINING, TESTING = "training.txt", "testing.txt"
_NUMBERS = 2 * len(SCHEME)
_ATTRIBUTES = 4
"""Gender, smile, glasses and pose, whole numbers up to 5."""


def looks_like(root: Path, scheme: KeypointScheme | None = None) -> bool:
    """Whether most of the first rows of a label file have ten numbers, and ours would have another count, or four more
    that can be MTFL's attributes.
    """
    if root.is_file():
        return _is_row(root, scheme)
    return any(_is_row(root / name, scheme) for name in (LABEL_FILE, TRAINING))


def _is_row(path: Path, scheme: KeypointScheme | None) -> bool:
    own = path.parent / SCHEME_FILE
    if is_file(own):
        scheme = read_scheme(own)
    if scheme is not None and 4 + 2 * len(scheme) == _NUMBERS:
        return False
    rows = [line.split() for line in first_lines(path)] if is_file(path) else []
    fitting = sum(
        numbers == _NUMBERS or (numbers == _NUMBERS + _ATTRIBUTES and _are_attributes(cells))
        for numbers, cells in ((numbers_behind(cells), cells) for cells in rows)
    )
    return fitting > len(rows) / 2


def _are_attributes(cells: list[str]) -> bool:
    return all(cell in {"1", "2", "3", "4", "5"} for cell in cells[-_ATTRIBUTES:])


def _parse(text: str) -> Parsed:
    cells = text.split()
    if numbers_behind(cells) == _NUMBERS + _ATTRIBUTES and _are_attributes(cells):
        cells = cells[:-_ATTRIBUTES]
    if len(cells) < _NUMBERS + 1 or any(map(is_number, cells[1:-_NUMBERS])):
        found = format_count(len(cells), "column")
        raise RowError("columns", f"{found}, expected {_NUMBERS + 1}: photo, x1 to x5, y1 to y5")
    values = row_numbers(cells[-_NUMBERS:], len(cells) - _NUMBERS + 1)
    points = check_points(np.ascontiguousarray(values.reshape(2, -1).T))
    return row_name(" ".join(cells[:-_NUMBERS]).replace("\\", "/")), points_box(points, SCHEME), points


def read(root: Path, _scheme: KeypointScheme | None = None) -> Labels:
    """The labels of a folder with MTFL's five points a face; those of `testing.txt` stand in `test`.

    Raises:
        DataError: there is nothing to read.
    """
    folder, files = folder_and_files(root, (LABEL_FILE, TRAINING, TESTING))
    if len(files) > 1 and files[0].name == LABEL_FILE:
        files = files[:1]
    found = Collected()
    for path in files:
        lines = list(text_lines(path))
        found.add_lines(path.name, lines, _parse, lambda row: named_photo(folder, row.replace("\\", "/").strip()))
        found.dropped["attributes"] += sum(numbers_behind(line.split()) == _NUMBERS + _ATTRIBUTES for _, line in lines)
    found.check(files[0])
    kept = dict.fromkeys(row.photo for row in found.rows if row.file == TESTING)
    return found.labels(folder, SCHEME, files, "mtfl", test=tuple(kept) or None)


def place(photo: str, _test: bool) -> str:
    """Photos lie where they lay."""
    return photo


def write(folder: Path, labels: Labels, places: Places) -> None:
    """Write `label.txt`."""
    lines = [" ".join([places[row.photo], *map(number_text, row.keypoints.T.ravel().tolist())]) for row in labels.rows]
    (folder / LABEL_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
