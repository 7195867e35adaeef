"""`retinaface`: the labels of RetinaFace's WIDER FACE: `# photo`, then a row a face: `x y width height`, `x y v` of
five points, and a blur score; photos in `images/`.

-1 -1 -1 is a point that is not labelled, and v is 1 for one that is hidden. Boxes are WIDER FACE's: they hold the head
and count the edges of pixels, so that our coordinates are half a pixel less.
"""

from pathlib import Path

import numpy as np

from kpedge.core.boxes import HEAD, POINTS
from kpedge.core.keypoints import FACES5
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, files
from kpedge.data.formats.reader import LabelReader, columns_error, corners
from kpedge.data.labels import LabelRow, Labels
from kpedge.data.rows import RowError, check_points, first_lines, is_number, parse_numbers, text_lines

_COUNTS = (4, 19, 20)  # numbers of a row: a box, with points, with the blur score


def sniff(path: Path) -> bool:
    """Whether a photo is named after `#` and then come rows of numbers."""
    lines = [line.split() for line in first_lines(path, 10)]
    rows = [cells for cells in lines if cells[0] != "#"]
    return bool(lines) and lines[0][0] == "#" and all(len(row) in _COUNTS and all(map(is_number, row)) for row in rows)


def _add_face(reader: LabelReader, text: str, photo: str, file: str, line: int) -> None:
    cells = text.split()
    if len(cells) not in _COUNTS:
        raise columns_error(len(cells), "4, 19 or 20: x y width height, 5 x y v, blur")
    values = parse_numbers(cells, 1)
    box = corners(values[:4], cells)
    points, visible = np.full((5, 2), np.nan), None
    if len(values) > 4:
        flagged = values[4:19].reshape(5, 3)
        labelled = flagged[:, 2] >= 0
        points[labelled] = check_points(flagged[labelled, :2])
        visible = None if (flagged[labelled, 2] != 1).all() else flagged[:, 2] != 1
    reader.rows.append(LabelRow(photo, box, points, file, line, visible))


def read(reader: LabelReader) -> Labels:
    """The faces of all files."""
    for path in reader.files:
        file, photo = reader.path_of(path), ""
        folder = file.rpartition("/")[0]
        for line, text in text_lines(path):
            with reader.problems_in(file, line, photo):
                if text.lstrip().startswith("#"):
                    photo = reader.photo(text.strip().lstrip("#").strip(), f"{folder}/images".lstrip("/"), folder)
                elif not photo:
                    raise RowError("no photo", "no photo is named before this line")
                else:
                    _add_face(reader, text, photo, file, line)
    with_points = any(row.labelled.any() for row in reader.rows)
    return reader.labels(FACES5, boxes_only=not with_points, convention=POINTS if with_points else HEAD)


FORMAT = LabelFormat(
    "retinaface",
    "RetinaFace: label.txt: # photo, then x y width height and 5 x y v a face; photos in images/",
    files("**/label.txt"),
    sniff,
    read,
    FormatCapabilities.FACES | FormatCapabilities.VISIBILITY,
    scheme=FACES5,
)
