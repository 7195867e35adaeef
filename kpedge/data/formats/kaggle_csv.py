"""`kaggle-csv`: Kaggle's facial keypoints: a row a face, 30 named columns of coordinates, and `Image` with 96x96 grey
pixels between blanks. Empty cells are points that are not labelled.

Its names call left what is left of the person, ours what is left in the image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from kpedge.core.errors import DataError, ImageError
from kpedge.core.files import decode_text, read_bytes, text_encoding
from kpedge.core.geometry import Image
from kpedge.core.keypoints import scheme_named
from kpedge.core.text import format_count
from kpedge.data.formats.format import FormatCapabilities, LabelFormat
from kpedge.data.formats.reader import LabelReader, columns_error, points_box
from kpedge.data.labels import LabelRow, Labels, PixelsError
from kpedge.data.rows import RowError, check_points, first_lines, glob_any_case, parse_csv_row, parse_numbers

SCHEME = scheme_named("kaggle15")
SIDE = 96  # of an image, pixels
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
_LONGEST_HEADER = 10_000  # letters of a first line from which on it is not a header


def find(root: Path) -> list[Path]:
    """The tables of the folder that have its columns: the one of `FILES` first."""
    paths = sorted(glob_any_case(root, "*.csv"), key=lambda path: path.name not in FILES)
    return [path for path in paths if sniff(path)][:1]


def sniff(path: Path) -> bool:
    """Whether its header has the columns of points and pixels; Kaggle's `test.csv` has no points."""
    lines = first_lines(path, 1)
    if not lines or len(lines[0]) > _LONGEST_HEADER:
        return False
    try:
        names = [cell.strip() for cell in parse_csv_row(lines[0])]
    except RowError:
        return False
    return PIXELS in names and "left_eye_center_x" in names


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Reads the image of a row, `training.csv#12`, the line in the file."""

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
            values = np.array(parse_csv_row(line)[self.column].split(), dtype=np.int64)
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
    """Number, offset and text of the lines that are not blank; the file may be larger than the memory."""
    try:
        head = read_bytes(path, DataError, limit=1 << 16)
        if text_encoding(head) != "utf-8" or (b"\r" in head and b"\n" not in head):
            raise DataError(f"{path}: its lines are not UTF-8, or end as on old Macs", "save it as CSV UTF-8")
        with path.open("rb") as stream:
            offset = 0
            for number, line in enumerate(stream, 1):
                if text := decode_text(line, "replace").replace("\0", "").strip():
                    yield number, offset, text
                offset += len(line)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def read(reader: LabelReader) -> Labels:
    """The faces of the table."""
    (path,) = reader.files
    offsets: dict[str, int] = {}
    places: list[int] = []
    column = width = 0
    for number, offset, text in _lines(path):
        if not places:
            cells = [cell.strip() for cell in parse_csv_row(text)]
            places, column, width = *_parse_header(path, cells), len(cells)
            continue
        photo = f"{path.name}#{number}"
        offsets[photo] = offset
        with reader.problems_in(path.name, number):
            cells = [cell.strip() for cell in parse_csv_row(text)]
            if len(cells) != width:
                raise columns_error(len(cells), str(width))
            values = parse_numbers([cells[place] or "nan" for place in places], 1, nan_pairs=True)
            points = check_points(values.reshape(-1, 2))
            reader.rows.append(LabelRow(photo, points_box(points, SCHEME), points, path.name, number))
    return reader.labels(SCHEME, pixels=_Pixels(reader.root, column, offsets))


def _parse_header(path: Path, cells: list[str]) -> tuple[list[int], int]:
    """The columns of x and y of our points, in our order, and that of the pixels."""
    theirs = {ours: name for name, ours in COLUMNS.items()}
    expected = [*(f"{theirs[point]}_{axis}" for point in SCHEME.points for axis in "xy"), PIXELS]
    missing = [name for name in expected if name not in cells]
    if missing:
        raise DataError(f"{path}: no column is called {missing[0]}", "the first line must name the columns")
    if twice := [name for name in expected if cells.count(name) > 1]:
        raise DataError(f"{path}: several columns are called {twice[0]}", "each point has a column for x and one for y")
    return [cells.index(name) for name in expected[:-1]], cells.index(PIXELS)


FORMAT = LabelFormat(
    "kaggle-csv",
    "Kaggle: training.csv with named columns of 15 points and the pixels of a 96x96 image a row",
    find,
    sniff,
    read,
    FormatCapabilities.POINTS | FormatCapabilities.PARTIAL_POINTS,
    scheme=SCHEME,
)
