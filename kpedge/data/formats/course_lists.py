"""`course-lists`: `train.txt`, `validation.txt`, `test.txt`, the lists of a prepared set, and of the course:
`photo x1 y1 x2 y2 x y … 1` with the box widened by a quarter on each side and points relative to its upper left corner;
rows that end in 0 are negatives.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from kpedge.core.geometry import widen_box
from kpedge.core.keypoints import FACES21
from kpedge.core.scheme import KeypointScheme
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, WriteJob, files
from kpedge.data.formats.label import format_row
from kpedge.data.formats.reader import LabelReader, Parsed, columns_error
from kpedge.data.formats.schemes import generic_scheme, known_scheme, write_scheme
from kpedge.data.labels import Labels
from kpedge.data.rows import check_box, check_points, first_lines, parse_numbers, text_lines, trailing_numbers

LISTS = ("train.txt", "validation.txt", "test.txt")
WIDEN = 0.25  # how far the boxes are widened on each side, as a fraction of their width and height


def sniff(path: Path) -> bool:
    """Whether its first rows are rows of such a list."""
    rows = [line.split() for line in first_lines(path)]
    return bool(rows) and all(map(_is_row, rows))


def _is_row(cells: list[str]) -> bool:
    numbers = trailing_numbers(cells)
    return (numbers == 5 and cells[-1] == "0") or (numbers >= 7 and numbers % 2 == 1 and cells[-1] in ("0", "1"))


def _is_negative(row: str) -> bool:
    cells = row.split()
    return cells[-1] == "0" and trailing_numbers(cells) >= 5


def read(reader: LabelReader) -> Labels:
    """The faces of all lists; negatives are ignored: kpedge chooses its own. `test.txt` is the test split."""
    content = {path: list(text_lines(path)) for path in reader.files}
    scheme = _scheme_of_rows(reader, [line for lines in content.values() for _, line in lines])
    numbers = 2 * len(scheme) + 5

    def parse(text: str) -> Parsed:
        cells = text.split()
        if trailing_numbers(cells) != numbers:
            raise columns_error(len(cells), f"{numbers + 1}: photo, 4 of the box, {len(scheme)} x y ({scheme.name}), 1")
        first = len(cells) - numbers + 1
        wide = check_box(parse_numbers(cells[-numbers : 4 - numbers], first))
        points = parse_numbers(cells[4 - numbers : -1], first + 4, nan_pairs=True).reshape(-1, 2)
        margin = (wide[2:] - wide[:2]) * WIDEN / (1 + 2 * WIDEN)
        box = np.concatenate([wide[:2] + margin, wide[2:] - margin])
        return reader.photo(" ".join(cells[:-numbers])), box, check_points(points + wide[:2])

    for path, lines in content.items():
        faces = [(line, row) for line, row in lines if not _is_negative(row)]
        reader.dropped["negatives"] += len(lines) - len(faces)
        reader.add_lines(path.name, faces, parse, lambda row: reader.leading_photo(row.split()))
    return reader.labels(scheme, test=reader.test_photos(lambda row: row.file == "test.txt"))


def _scheme_of_rows(reader: LabelReader, rows: list[str]) -> KeypointScheme:
    numbers = Counter(trailing_numbers(row.split()) for row in rows if not _is_negative(row))
    counts = [(count - 5) // 2 for count, _ in numbers.most_common() if count >= 7 and count % 2]
    known = next(filter(None, (known_scheme(reader.root, count, reader.scheme) for count in counts)), None)
    return known or (generic_scheme(counts[0]) if counts else reader.scheme or FACES21)


def write(job: WriteJob) -> None:
    """Write a list of what trains and, if there is a test split, one of that."""
    for is_test, rows in job.splits():
        boxes = (widen_box(row.box, WIDEN) for row in rows)
        lines = (
            f"{format_row(job.paths[row.photo], wide, row.keypoints - wide[:2])} 1"
            for row, wide in zip(rows, boxes, strict=True)
        )
        job.write_lines("test.txt" if is_test else "train.txt", lines)
    write_scheme(job.folder, job.labels.scheme)


_CAN = FormatCapabilities
FORMAT = LabelFormat(
    "course-lists",
    "train.txt, validation.txt, test.txt: photo, widened box, points relative to it, 1; or photo, box, 0",
    files(*LISTS),
    sniff,
    read,
    _CAN.BOXES | _CAN.POINTS | _CAN.PARTIAL_POINTS | _CAN.MANY_FACES | _CAN.TEST_SPLIT | _CAN.BLANK_SEPARATED,
    write,
)
