"""`course-lists`: `train.txt`, `validation.txt`, `test.txt`, the lists of a prepared set, and of the course:
`photo x1 y1 x2 y2 x y … 1` with the box widened by a quarter on each side and points relative to its upper left corner;
rows that end in 0 are negatives.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from pathlib import Path

import numpy as np

from kpedge.core.errors import DataError
from kpedge.core.geometry import widen_box
from kpedge.core.keypoints import FACES21
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.formats.common import Collected, Parsed, Places, folder_and_files, known_scheme, write_scheme
from kpedge.data.formats.common import generic_scheme as generic
from kpedge.data.labels import Labels, format_row
from kpedge.data.rows import (
    RowError,
    check_points,
    first_lines,
    is_file,
    named_photo,
    numbers_behind,
    row_box,
    row_name,
    row_numbers,
    text_lines,
)

HOLDS = "train.txt, validation.txt, test.txt: photo, widened box, points relative to it, 1; or photo, box, 0"
LISTS = ("train.txt", "validation.txt", "test.txt")
WIDEN = 0.25
"""How far the boxes are widened on each side, in their width and height."""
SET_FILE = "set.json"


def looks_like(root: Path) -> bool:
    """Whether the first rows of a list are rows of such a list."""
    files = [root] if root.is_file() else [root / name for name in LISTS if is_file(root / name)]
    rows = [line.split() for path in files for line in first_lines(path)]
    return bool(rows) and all(_is_row(row) for row in rows)


def _is_row(cells: list[str]) -> bool:
    numbers = numbers_behind(cells)
    return (numbers == 5 and cells[-1] == "0") or (numbers >= 7 and numbers % 2 == 1 and cells[-1] in ("0", "1"))


def read(root: Path, scheme: KeypointScheme | None = None) -> Labels:
    """The faces of the lists that are there; negatives are passed over, as kpedge chooses its own. The photos of
    `test.txt` stand in `test`.

    Raises:
        DataError: there is nothing to read.
    """
    folder, files = folder_and_files(root, LISTS)
    content = {path: list(text_lines(path)) for path in files}
    own = _scheme(folder, [line for lines in content.values() for _, line in lines], scheme)

    def parse(text: str) -> Parsed:
        cells = text.split()
        numbers = 2 * len(own) + 5
        if numbers_behind(cells) != numbers:
            raise RowError(
                "columns",
                f"{format_count(len(cells), 'column')}, expected {numbers + 1}: "
                f"photo, 4 of the box, {len(own)} x y ({own.name}), 1",
            )
        first = len(cells) - numbers + 1
        wide = row_box(row_numbers(cells[-numbers : 4 - numbers], first))
        points = row_numbers(cells[4 - numbers : -1], first + 4, unlabelled=True).reshape(-1, 2)
        margin = (wide[2:] - wide[:2]) * WIDEN / (1 + 2 * WIDEN)
        box = np.concatenate([wide[:2] + margin, wide[2:] - margin])
        return row_name(" ".join(cells[:-numbers])), box, check_points(points + wide[:2])

    found = Collected()
    for path, lines in content.items():
        faces = [(line, row) for line, row in lines if not _is_negative(row)]
        found.dropped["negatives"] += len(lines) - len(faces)
        found.add_lines(path.name, faces, parse, lambda row: named_photo(folder, row))
    if not found.dropped["negatives"]:
        found.check(files[0])
    kept = dict.fromkeys(row.photo for row in found.rows if row.file == "test.txt")
    return found.labels(folder, own, files, "course-lists", test=tuple(kept) or None)


def _is_negative(row: str) -> bool:
    cells = row.split()
    return cells[-1] == "0" and numbers_behind(cells) >= 5


def _scheme(root: Path, rows: list[str], wanted: KeypointScheme | None) -> KeypointScheme:
    numbers = Counter(numbers_behind(row.split()) for row in rows if not _is_negative(row))
    counts = [(count - 5) // 2 for count, _ in numbers.most_common() if count >= 7 and count % 2]
    known = next(filter(None, (known_scheme(root, count, wanted) for count in counts)), None)
    return known or (generic(counts[0]) if counts else wanted or FACES21)


def place(photo: str, _test: bool) -> str:
    """Photos lie where they lay."""
    return photo


def write(folder: Path, labels: Labels, places: Places) -> None:
    """Write a list of what trains and, where there is a test split, one of that."""
    held_out = set(labels.test or ())
    lines: dict[str, list[str]] = {"train.txt": [], "test.txt": []}
    for row in labels.rows:
        wide = widen_box(row.box, WIDEN)
        name = posixpath.normpath(places[row.photo])
        lines["test.txt" if row.photo in held_out else "train.txt"].append(
            f"{format_row(name, wide, row.keypoints - wide[:2])} 1"
        )
    for name, rows in lines.items():
        if rows or name == "train.txt":
            (folder / name).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    write_scheme(folder, labels.scheme)


def refuse_prepared(root: Path) -> None:
    """Say what to do with a prepared set, which holds such lists and no photos.

    Raises:
        DataError: the folder is one.
    """
    if is_file(root / SET_FILE):
        raise DataError(
            f"{root} is a prepared set; its photos lie elsewhere",
            "give the folder of the photos, or copy the set's lists there and add --format course-lists",
        )
