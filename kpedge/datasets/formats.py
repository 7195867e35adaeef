"""Label formats by name, ours and those of public sets: each reader gives `Labels`, in the points and boxes of faces21.

| name | what a folder holds |
|---|---|
| `label` | `label.txt` files, as `kpedge.datasets.labels` reads them |
| `ibug68-csv` | `training_frames_keypoints.csv` and photos in `training/`; likewise `test`; rows `photo,x0,y0,…` |
| `mtfl` | `label.txt`: `photo x1 … x5 y1 … y5`, eyes, nose tip, mouth corners, left before right |
| `boxes` | `boxes.csv`: `image,x1,y1,x2,y2` and whatever follows; boxes of heads and no points, for the detector |
| `faceless` | photos that show no face, and no labels; never guessed |

Sets without boxes get those that faces21 would have: there the box is a square that follows from the points.
"""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.boxes import box_of_points
from kpedge.datasets.labels import (
    LABEL_FILE,
    LabelProblem,
    LabelRow,
    Labels,
    RowError,
    is_number,
    named_photo,
    photos_below,
    read_labels,
    row_box,
    row_name,
    row_numbers,
    text_lines,
)
from kpedge.errors import DataError, UsageError
from kpedge.keypoints import FACES21, convert_points, scheme_named
from kpedge.scheme import KeypointScheme

AUTO = "auto"
BOXES_FILE = "boxes.csv"
BOXES_FOLDERS = ("images", "photos")
"""Folders beside `boxes.csv` in which its photos may lie."""
IBUG_POINTS = 68
IBUG_FOLDERS = ("training", "test")
"""Photos of a split, and with `_frames_keypoints.csv` behind it the file of their labels."""
MTFL_POINTS = (16, 17, 18, 19, 20)
"""The points of faces21 that MTFL labels, in its order."""

_Row = Callable[[str], tuple[str, NDArray[np.float64]]]
"""Takes a row apart: photo, and points (K, 2)."""


def _csv_cells(text: str) -> list[str]:
    try:
        return next(csv.reader([text]))
    except csv.Error as error:
        raise RowError("columns", f"not a row of a CSV file: {error}") from error


def _ibug68_row(text: str) -> tuple[str, NDArray[np.float64]]:
    cells = _csv_cells(text)
    if len(cells) != 1 + 2 * IBUG_POINTS:
        raise RowError("columns", f"{len(cells)} columns, expected {1 + 2 * IBUG_POINTS}: photo, {IBUG_POINTS} x y")
    points = row_numbers(cells[1:], 2).reshape(IBUG_POINTS, 2)
    return row_name(cells[0]), convert_points(points, scheme_named("ibug68"), FACES21)


def _mtfl_row(text: str) -> tuple[str, NDArray[np.float64]]:
    cells, numbers = text.split(), 2 * len(MTFL_POINTS)
    if len(cells) < numbers + 1 or any(map(is_number, cells[1:-numbers])):
        raise RowError("columns", f"{len(cells)} columns, expected {numbers + 1}: photo, x1 to x5, y1 to y5")
    points = np.full((len(FACES21), 2), np.nan)
    points[list(MTFL_POINTS)] = row_numbers(cells[-numbers:], len(cells) - numbers + 1).reshape(2, -1).T
    return row_name(" ".join(cells[:-numbers]).replace("\\", "/")), points


def _read_rows(
    path: Path, root: Path, folder: str, row: _Row, *, header: bool, separator: str | None
) -> tuple[list[LabelRow], list[LabelProblem]]:
    """The rows of one label file, whose photos lie in `folder` below `root`, and the problems of broken ones."""
    file = path.relative_to(root).as_posix()
    rows: list[LabelRow] = []
    problems: list[LabelProblem] = []
    for line, content in list(text_lines(path))[header:]:
        try:
            name, points = row(content)
            box = row_box(box_of_points(points))
        except RowError as error:
            name = named_photo(root / folder, content.replace("\\", "/"), separator)
            photo = posixpath.join(folder, name) if name else ""
            problems.append(LabelProblem(error.kind, f"{file}:{line}", str(error), photo))
        else:
            rows.append(LabelRow(posixpath.join(folder, name), box, points, file, line))
    if not rows and not problems:
        raise DataError(f"{path}: the label file is empty")
    return rows, problems


def _needs_faces21(scheme: KeypointScheme, name: str) -> None:
    if scheme != FACES21:
        raise UsageError(f"--format {name} gives the points of {FACES21.name}, not of {scheme.name}")


def read_ibug68(root: Path, scheme: KeypointScheme = FACES21) -> Labels:
    """The labels of a folder with 68 iBUG points a face; its own test photos stand in `test`.

    Raises:
        DataError: there is nothing to read.
        UsageError: another scheme than faces21 is asked for.
    """
    _needs_faces21(scheme, "ibug68-csv")
    files = [(f"{folder}_frames_keypoints.csv", folder) for folder in IBUG_FOLDERS]
    files = [(file, folder) for file, folder in files if (root / file).is_file()]
    if not files:
        raise DataError(f"{root}: no {IBUG_FOLDERS[0]}_frames_keypoints.csv", "give the folder that holds it")
    rows: list[LabelRow] = []
    problems: list[LabelProblem] = []
    for file, folder in files:
        more_rows, more_problems = _read_rows(root / file, root, folder, _ibug68_row, header=True, separator=",")
        rows += more_rows
        problems += more_problems
    kept = dict.fromkeys(row.photo for row in rows if row.photo.startswith(f"{IBUG_FOLDERS[1]}/"))
    return Labels(
        root, scheme, tuple(rows), tuple(problems), tuple(file for file, _ in files), test=tuple(kept) or None
    )


def read_mtfl(root: Path, scheme: KeypointScheme = FACES21) -> Labels:
    """The labels of a folder with MTFL's five points a face.

    Raises:
        DataError: there is nothing to read.
        UsageError: another scheme than faces21 is asked for.
    """
    _needs_faces21(scheme, "mtfl")
    path = root if root.is_file() else root / LABEL_FILE
    if not path.is_file():
        raise DataError(f"{root}: no {LABEL_FILE}", "give the folder that holds it")
    rows, problems = _read_rows(path, path.parent, "", _mtfl_row, header=False, separator=None)
    return Labels(path.parent, scheme, tuple(rows), tuple(problems), (path.name,))


def _boxes_row(text: str) -> tuple[str, NDArray[np.float64]]:
    cells = _csv_cells(text)
    if len(cells) < 5:
        raise RowError("columns", f"{len(cells)} columns, expected image,x1,y1,x2,y2")
    return row_name(cells[0].replace("\\", "/")), row_numbers(cells[1:5], 2)


def read_boxes_csv(root: Path, scheme: KeypointScheme = FACES21) -> Labels:
    """The boxes of a folder's `boxes.csv`; no face has points.

    Raises:
        DataError: there is nothing to read.
    """
    path = root if root.is_file() else root / BOXES_FILE
    if not path.is_file():
        raise DataError(f"{root}: no {BOXES_FILE}", "give the folder that holds it")
    root = path.parent
    folder = next((name for name in BOXES_FOLDERS if (root / name).is_dir()), "")
    rows: list[LabelRow] = []
    problems: list[LabelProblem] = []
    for line, content in text_lines(path):
        if line == 1 and content.lower().startswith("image,"):
            continue
        try:
            name, values = _boxes_row(content)
            box = row_box(values)
        except RowError as error:
            named = named_photo(root / folder, content, ",")
            photo = posixpath.join(folder, named) if named else ""
            problems.append(LabelProblem(error.kind, f"{path.name}:{line}", str(error), photo))
        else:
            points = np.full((len(scheme), 2), np.nan)
            photo = name if (root / name).is_file() else posixpath.join(folder, name)
            rows.append(LabelRow(photo, box, points, path.name, line))
    if not rows and not problems:
        raise DataError(f"{path}: the label file is empty")
    return Labels(root, scheme, tuple(rows), tuple(problems), (path.name,), boxes_only=True)


def read_faceless(root: Path, scheme: KeypointScheme = FACES21) -> Labels:
    """All photos of a folder as photos that show no face.

    Raises:
        DataError: no such folder, no photo in it, or labels beside them.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    labels = next(root.rglob(LABEL_FILE), None)
    if labels is not None:
        raise DataError(f"{labels} labels faces", "leave --format faceless, or give a folder without labels")
    photos = photos_below(root)
    if not photos:
        raise DataError(f"{root}: no photo in this folder or below it")
    return Labels(root, scheme, (), (), (), faceless=tuple(photos))


FORMATS: dict[str, Callable[[Path, KeypointScheme], Labels]] = {
    "label": read_labels,
    "ibug68-csv": read_ibug68,
    "mtfl": read_mtfl,
    "boxes": read_boxes_csv,
    "faceless": read_faceless,
}


def _is_mtfl(path: Path, scheme: KeypointScheme) -> bool:
    """Whether the first row of a label file has ten numbers, and ours would have another count."""
    if not path.is_file() or 4 + 2 * len(scheme) == 2 * len(MTFL_POINTS):
        return False
    try:
        _, first = next(text_lines(path), (0, ""))
        _mtfl_row(first)
    except DataError:
        return False
    return True


def guess_format(root: Path, scheme: KeypointScheme) -> str:
    """The format of a folder's labels, from what lies in it; photos without labels are never taken for faceless."""
    if (root / f"{IBUG_FOLDERS[0]}_frames_keypoints.csv").is_file():
        return "ibug68-csv"
    if root.is_file() and root.name == BOXES_FILE:
        return "boxes"
    if (root / BOXES_FILE).is_file() and not (root / LABEL_FILE).is_file():
        return "boxes"
    return "mtfl" if _is_mtfl(root if root.is_file() else root / LABEL_FILE, scheme) else "label"


def read_format(root: Path, scheme: KeypointScheme, name: str = AUTO) -> Labels:
    """All labels of a data folder, in a format known by name.

    Args:
        root: the folder.
        scheme: the points that are wanted.
        name: a key of `FORMATS`, or "auto" for the one that the folder's content tells.

    Raises:
        DataError: there is nothing to read. Broken rows do not raise: they are listed in `problems`.
        UsageError: there is no such format, or it cannot give these points.
    """
    chosen = guess_format(root, scheme) if name == AUTO else name
    if chosen not in FORMATS:
        raise UsageError(f"no label format is called {name!r}", f"known: {', '.join((AUTO, *FORMATS))}")
    return FORMATS[chosen](root, scheme)
