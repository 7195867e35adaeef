"""`mtfl`: `label.txt`, or MTFL's own `training.txt` and `testing.txt`: `photo x1 … x5 y1 … y5`, left and right eye,
nose tip, left and right corner of the mouth, then MTFL's four attributes, which are ignored.

Other sets write the same ten numbers as `x y` pairs (`kpedge.data.formats.celeba`). If no header says which, the order
is that in which the points lie more like a face.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.core.keypoints import FACES5, FACES21, convert_points
from kpedge.core.scheme import read_scheme
from kpedge.data.face_shape import ODD, fit_mean_face
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, WriteJob
from kpedge.data.formats.label import LABEL_FILE
from kpedge.data.formats.reader import LabelReader, Parsed, columns_error, points_box
from kpedge.data.formats.schemes import SCHEME_FILE
from kpedge.data.labels import Labels
from kpedge.data.rows import (
    check_name,
    check_points,
    first_lines,
    format_number,
    glob_any_case,
    is_file,
    is_number,
    parse_numbers,
    split_row,
    text_lines,
    trailing_numbers,
)

TRAINING, TESTING = "training.txt", "testing.txt"
_NUMBERS = 2 * len(FACES5)
_ATTRIBUTES = 4  # gender, smile, glasses and pose, whole numbers up to 5
_SAMPLE = 50  # rows from which the order is guessed


def find(root: Path) -> list[Path]:
    """`label.txt`, or else the lists of MTFL."""
    files = [path for name in (LABEL_FILE, TRAINING, TESTING) for path in glob_any_case(root, name) if is_file(path)]
    return files[:1] if files and files[0].name.lower() == LABEL_FILE else files


def sniff(path: Path) -> bool:
    """Whether most of the first rows have ten numbers, in the order of MTFL."""
    return has_ten_numbers(path) and not are_pairs(path)


def has_ten_numbers(path: Path) -> bool:
    """Whether most of the first rows have ten numbers, perhaps with MTFL's attributes, and that is not explained by a
    box and the points of the folder's scheme.
    """
    own = path.parent / SCHEME_FILE
    if is_file(own) and 4 + 2 * len(read_scheme(own)) == _NUMBERS:
        return False
    rows = [split_row(line) for line in first_lines(path)]
    return sum(_numbers_of(cells) is not None for cells in rows) > len(rows) / 2


def _numbers_of(cells: list[str]) -> list[str] | None:
    """The ten numbers of a row; None if it has another count."""
    numbers = trailing_numbers(cells)
    if numbers == _NUMBERS + _ATTRIBUTES and all(cell in {"1", "2", "3", "4", "5"} for cell in cells[-_ATTRIBUTES:]):
        return cells[-numbers:-_ATTRIBUTES]
    return cells[-_NUMBERS:] if numbers == _NUMBERS else None


def are_pairs(path: Path) -> bool:
    """Whether the first rows of ten numbers look like `x y` pairs and not like five x and then five y."""
    rows = [_numbers_of(split_row(line)) for line in first_lines(path, _SAMPLE)]
    values = np.array([row for row in rows if row is not None], dtype=np.float64).reshape(-1, _NUMBERS)
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        return False
    apart, paired = (
        np.nanmedian(fit_mean_face(convert_points(points, FACES5, FACES21)).residual)
        for points in (values.reshape(-1, 2, 5).transpose(0, 2, 1), values.reshape(-1, 5, 2))
    )
    return bool(paired < min(apart, ODD))


def parse_five(text: str, *, pairs: bool) -> tuple[str, NDArray[np.float64]]:
    """A row of ten numbers as name and points (5, 2).

    Raises:
        RowError: it cannot be read.
    """
    cells = split_row(text)
    numbers = _numbers_of(cells)
    if numbers is not None and len(numbers) < trailing_numbers(cells):
        cells = cells[:-_ATTRIBUTES]
    if len(cells) < _NUMBERS + 1 or any(map(is_number, cells[1:-_NUMBERS])):
        order = "5 x y" if pairs else "x1 to x5, y1 to y5"
        raise columns_error(len(cells), f"{_NUMBERS + 1}: photo, {order}")
    values = parse_numbers(cells[-_NUMBERS:], len(cells) - _NUMBERS + 1)
    points = values.reshape(-1, 2) if pairs else np.ascontiguousarray(values.reshape(2, -1).T)
    return check_name(" ".join(cells[:-_NUMBERS])), check_points(points)


def read(reader: LabelReader) -> Labels:
    """The labels; those of `testing.txt` are the test split."""

    def parse(text: str) -> Parsed:
        name, points = parse_five(text, pairs=False)
        return reader.find(name), points_box(points, FACES5), points

    for path in reader.files:
        lines = list(text_lines(path))
        reader.add_lines(reader.path_of(path), lines, parse, lambda text: reader.leading_photo(text.split()))
        reader.dropped["attributes"] += sum(trailing_numbers(split_row(line)) > _NUMBERS for _, line in lines)
    return reader.labels(FACES5, test=reader.test_photos(lambda row: row.file == TESTING))


def write(job: WriteJob) -> None:
    """Write `label.txt`."""
    job.write_lines(
        LABEL_FILE,
        (
            " ".join([job.paths[row.photo], *map(format_number, row.keypoints.T.ravel().tolist())])
            for row in job.labels.rows
        ),
    )


FORMAT = LabelFormat(
    "mtfl",
    "label.txt, or training.txt and testing.txt: photo x1 … x5 y1 … y5",
    find,
    sniff,
    read,
    FormatCapabilities.POINTS | FormatCapabilities.MANY_FACES | FormatCapabilities.BLANK_SEPARATED,
    write,
    scheme=FACES5,
    bare_points=True,
)
