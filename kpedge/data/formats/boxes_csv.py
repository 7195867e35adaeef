"""`boxes`: `boxes.csv`: `image,x1,y1,x2,y2` and whatever follows; boxes of heads and no points, for the detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kpedge.core.boxes import HEAD
from kpedge.core.errors import DataError
from kpedge.core.images import SUFFIXES
from kpedge.core.keypoints import FACES21
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.formats.common import Collected, Parsed, Places, folder_and_files, join, separator_hint
from kpedge.data.labels import Labels
from kpedge.data.rows import (
    RowError,
    csv_cells,
    csv_row,
    is_file,
    is_number,
    named_photo,
    number_text,
    row_box,
    row_name,
    row_numbers,
    text_lines,
)

HOLDS = "boxes.csv: image,x1,y1,x2,y2 and whatever follows; boxes and no points"
BOXES_FILE = "boxes.csv"
BOXES_FOLDERS = ("images", "photos")
"""Folders beside `boxes.csv` in which its photos may lie."""

_NO_CORNERS = ("w", "h", "width", "height", "class", "label", "cx", "cy")
"""Names of columns that stand where corners should in tables of other tools."""


def looks_like(root: Path) -> bool:
    """Whether the file lies there."""
    return root.name == BOXES_FILE if root.is_file() else (root / BOXES_FILE).is_file()


def read(root: Path, scheme: KeypointScheme | None = None) -> Labels:
    """The boxes of a folder's `boxes.csv`; no face has points.

    Raises:
        DataError: there is nothing to read.
    """
    root, (path,) = folder_and_files(root, [BOXES_FILE])
    scheme = scheme or FACES21
    folder = next((name for name in BOXES_FOLDERS if (root / name).is_dir()), "")
    nothing = np.full((len(scheme), 2), np.nan)
    found = Collected()

    def parse(text: str) -> Parsed:
        cells = csv_cells(text)
        if len(cells) < 5:
            found_cells = format_count(len(cells), "column")
            raise RowError("columns", f"{found_cells}, expected image,x1,y1,x2,y2{separator_hint(text, cells)}")
        name = row_name(cells[0].replace("\\", "/"))
        box = row_box(row_numbers(cells[1:5], 2))
        found.dropped["attributes"] += any(cell.strip() for cell in cells[5:])
        return name if is_file(root / name) else join(folder, name), box, nothing

    def photo_of(row: str) -> str:
        named = named_photo(root / folder, row, ",")
        return join(folder, named) if named else ""

    lines = list(text_lines(path))
    if lines and _is_header(lines[0][1], path):
        lines = lines[1:]
    found.add_lines(path.name, lines, parse, photo_of)
    found.check(path)
    return found.labels(root, scheme, [path], "boxes", boxes_only=True, convention=HEAD)


def _is_header(row: str, path: Path) -> bool:
    """Whether a first line names the columns.

    Raises:
        DataError: they are not the corners.
    """
    cells = [cell.strip().lower() for cell in row.split(",")]
    named = Path(cells[0]).suffix not in SUFFIXES and len(cells) >= 5 and not any(map(is_number, cells[1:5]))
    if cells[0] != "image" and not named:
        return False
    other = next((cell for cell in cells[1:5] if cell in _NO_CORNERS), None)
    if other is not None:
        raise DataError(
            f"{path}: a column of the first line is called {other!r}, expected image,x1,y1,x2,y2",
            "write the corners of each box, in this order",
        )
    return True


def place(photo: str, _test: bool) -> str:
    """Photos lie where they lay."""
    return photo


def write(folder: Path, labels: Labels, places: Places) -> None:
    """Write `boxes.csv`."""
    lines = ["image,x1,y1,x2,y2"]
    lines += [csv_row([places[row.photo], *map(number_text, row.box.tolist())]) for row in labels.rows]
    (folder / BOXES_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
