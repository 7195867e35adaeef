"""`kaggle-csv`: Kaggle's facial keypoints: a row a face, 30 named columns of coordinates, and `Image` with 96x96 grey
pixels between blanks. Empty cells are points that are not labelled.

Its names call left what is left of the person, ours what is left in the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from kpedge.core.errors import DataError, ImageError
from kpedge.core.geometry import Image
from kpedge.core.keypoints import scheme_named
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.formats.common import Collected, points_box, separator_hint
from kpedge.data.labels import LabelRow, Labels, PixelsError
from kpedge.data.rows import RowError, check_points, csv_cells, first_lines, row_numbers, where_in

HOLDS = "training.csv: 15 named points and the pixels of a 96x96 picture a row"
SCHEME = scheme_named("kaggle15")
SIDE = 96
"""Of a picture, pixels."""
FILES = ("training.csv", "train.csv")
PIXELS = "Image"
COLUMNS = {
    "left_eye_center": "right_pupil",
    "right_eye_center": "left_pupil",
    "left_eye_inner_corner": "right_eye_inner",
    "left_eye_outer_corner": "right_eye_outer",
    "right_eye_inner_corner": "left_eye_inner",
    "right_eye_outer_corner": "left_eye_outer",
    "left_eyebrow_inner_end": "right_brow_inner",
    "left_eyebrow_outer_end": "right_brow_outer",
    "right_eyebrow_inner_end": "left_brow_inner",
    "right_eyebrow_outer_end": "left_brow_outer",
    "nose_tip": "nose_tip",
    "mouth_left_corner": "mouth_right_corner",
    "mouth_right_corner": "mouth_left_corner",
    "mouth_center_top_lip": "upper_lip_top",
    "mouth_center_bottom_lip": "lower_lip_bottom",
}
"""Its names, without `_x` and `_y`, and ours."""
_LONGEST_HEADER = 10_000
"""Letters of a first line from which on it is no header."""


def _tables(root: Path) -> list[Path]:
    paths = [root] if root.is_file() else sorted(root.glob("*.csv"))
    return [path for path in paths if _is_table(first_lines(path, 1))]


def _is_table(lines: list[str]) -> bool:
    if not lines or len(lines[0]) > _LONGEST_HEADER:
        return False
    try:
        names = [cell.strip() for cell in csv_cells(lines[0])]
    except RowError:
        return False
    return PIXELS in names and "left_eye_center_x" in names


def looks_like(root: Path) -> bool:
    """Whether a table with its columns lies there."""
    return bool(_tables(root))


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Gives the picture of a row, `training.csv#12`, the line in the file."""

    root: Path
    column: int
    offsets: dict[str, int]

    def __call__(self, photo: str) -> Image:
        if photo not in self.offsets:
            raise ImageError(f"{photo}: no such row")
        try:
            with (self.root / photo.rpartition("#")[0]).open("rb") as stream:
                stream.seek(self.offsets[photo])
                line = stream.readline().decode("utf-8", "replace")
            values = np.array(csv_cells(line.strip())[self.column].split(), dtype=np.int64)
        except OSError as error:
            raise PixelsError(f"{photo}: cannot be read: {error.strerror}") from error
        except (ValueError, IndexError, OverflowError, RowError) as error:
            raise PixelsError(f"{photo}: the pixels are not whole numbers") from error
        if len(values) != SIDE * SIDE:
            found = format_count(len(values), "value")
            raise PixelsError(f"{photo}: {found} in {PIXELS}, expected {SIDE}x{SIDE} = {SIDE * SIDE:,} pixels")
        wrong = values[(values < 0) | (values > 255)]
        if len(wrong):
            raise PixelsError(f"{photo}: a pixel is {wrong[0]}, expected 0 to 255")
        grey = values.astype(np.uint8).reshape(SIDE, SIDE)
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), dtype=np.uint8)


def _lines(path: Path) -> Iterator[tuple[int, int, str]]:
    """Number, offset and content of the lines that are not blank; the file may be larger than the memory."""
    try:
        with path.open("rb") as stream:
            offset = 0
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, offset, line.decode("utf-8-sig" if number == 1 else "utf-8", "replace")
                offset += len(line)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def read(root: Path, _scheme: KeypointScheme | None = None) -> Labels:
    """The faces of the table that has points; a table without, Kaggle's `test.csv`, is passed over.

    Raises:
        DataError: there is nothing to read, or a column is missing.
    """
    paths = _tables(root)
    if not paths:
        raise DataError(f"{root}: no table with left_eye_center_x … {PIXELS}", f"give the folder that holds {FILES[0]}")
    path = next((path for path in paths if path.name in FILES), paths[0])
    folder = path.parent
    found, column = Collected(), 0
    offsets: dict[str, int] = {}
    places: list[int] = []
    for number, offset, line in _lines(path):
        if not places:
            cells = _cells(line)
            places, column = _header(path, cells), cells.index(PIXELS)
            width = len(cells)
            continue
        photo = f"{path.name}#{number}"
        offsets[photo] = offset
        try:
            cells = _cells(line)
            if len(cells) != width:
                raise RowError(
                    "columns", f"{format_count(len(cells), 'column')}, expected {width}{separator_hint(line, cells)}"
                )
            values = row_numbers([cells[place] or "nan" for place in places], 1, unlabelled=True)
            points = check_points(values.reshape(-1, 2))
            found.rows.append(LabelRow(photo, points_box(points, SCHEME), points, path.name, number))
        except RowError as error:
            found.problem(error, where_in(path.name, number))
    found.check(path)
    return found.labels(folder, SCHEME, [path], "kaggle-csv", pixels=_Pixels(folder, column, offsets))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in csv_cells(line.strip().replace("\0", ""))]


def _header(path: Path, cells: list[str]) -> list[int]:
    """The columns of x and y of our points, in our order."""
    theirs = {ours: name for name, ours in COLUMNS.items()}
    wanted = [f"{theirs[point]}_{axis}" for point in SCHEME.points for axis in "xy"]
    missing = [name for name in wanted if name not in cells]
    if missing:
        raise DataError(f"{path}: no column is called {missing[0]}", "the first line has to name the columns")
    return [cells.index(name) for name in wanted]
