"""`pts`: 300-W's `.pts` files, one face each, beside their photos; the upper left pixel is 1, 1. `pts0`: it is 0, 0.

300-W's authors worked in MATLAB, and Menpo, the same group's library, takes 1 off every coordinate of a `.pts` file for
that reason (`menpo.io.input.landmark`, "PTS landmarks are 1-based").
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError
from kpedge.core.images import SUFFIXES
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.formats.common import (
    Collected,
    Places,
    generic_scheme,
    in_test_folder,
    known_scheme,
    points_box,
    write_scheme,
)
from kpedge.data.labels import LabelRow, Labels
from kpedge.data.rows import RowError, check_points, number_text, read_text, row_numbers

HOLDS = "*.pts, each beside its photo: version, n_points, { x y … }; the upper left pixel is 1, 1"
HOLDS0 = "the same, the upper left pixel is 0, 0"
ENDING = ".pts"
_FORM = re.compile(r"\s*version:\s*\d+(?:\.\d+)?\s+n_points:\s*(\d+)\s*\{([^{}]*)\}\s*", re.IGNORECASE)


def looks_like(root: Path) -> bool:
    """Whether such a file lies there or below."""
    if root.is_file():
        return root.suffix.lower() == ENDING
    return any(path.suffix.lower() == ENDING for path in root.rglob("*.[pP][tT][sS]"))


def _points(path: Path) -> NDArray[np.float64]:
    """The points of a file, (K, 2), as they stand there."""
    try:
        text = read_text(path)
    except DataError as error:
        raise RowError("not a text file", str(error).removeprefix(f"{path}: ")) from error
    form = _FORM.fullmatch(text)
    if form is None:
        raise RowError("form", "not of the form version: 1, n_points: N, { x y … }")
    cells = form[2].split()
    if len(cells) != 2 * int(form[1]) or not cells:
        found = format_count(len(cells), "number")
        raise RowError("columns", f"{found}, expected {2 * int(form[1])}: n_points is {int(form[1])}")
    return check_points(row_numbers(cells, 1, unlabelled=True).reshape(-1, 2))


def _photos(folder: Path) -> dict[str, str]:
    """Stem, in small letters -> name, of the photos in a folder."""
    names = sorted((path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES), reverse=True)
    return {Path(name).stem.lower(): name for name in names}


def read(root: Path, scheme: KeypointScheme | None = None, *, base: float = 1.0) -> Labels:
    """The labels of all `.pts` files below a folder; most of them say how many points a face has. The photos in a test
    folder, as Helen's and LFPW's `testset`, stand in `test`.

    Args:
        root: the folder, or one file.
        scheme: of the points, where their number is its.
        base: the coordinate of the upper left pixel's centre.

    Raises:
        DataError: there is nothing to read.
    """
    files = [root] if root.is_file() else sorted(root.rglob("*.[pP][tT][sS]"))
    root = root.parent if root.is_file() else root
    if not files:
        raise DataError(f"{root}: no {ENDING} file in this folder or below it")
    found = Collected()
    faces: list[tuple[str, str, NDArray[np.float64]]] = []
    beside = functools.lru_cache(maxsize=None)(_photos)
    for path in files:
        photo = beside(path.parent).get(path.stem.lower(), f"{path.stem}.jpg")
        place, file = (path.parent / photo).relative_to(root).as_posix(), path.relative_to(root).as_posix()
        try:
            faces.append((place, file, _points(path) - base))
        except RowError as error:
            found.problem(error, file, place)
    counts = Counter(len(points) for _, _, points in faces)
    count = counts.most_common(1)[0][0] if counts else 0
    own = (known_scheme(root, count, scheme) or generic_scheme(count)) if count else scheme or generic_scheme(1)
    for photo, file, points in faces:
        try:
            if len(points) != len(own):
                raise RowError("columns", f"{format_count(len(points), 'point')}, expected {len(own)} ({own.name})")
            found.rows.append(LabelRow(photo, points_box(points, own), points, file, 1))
        except RowError as error:
            found.problem(error, file, photo)
    kept = dict.fromkeys(row.photo for row in found.rows if in_test_folder(row.photo))
    return found.labels(root, own, files, "pts" if base else "pts0", test=tuple(kept) or None)


read0 = functools.partial(read, base=0.0)
"""`read` of files whose upper left pixel is 0, 0."""


def place(photo: str, _test: bool) -> str:
    """Photos lie where they lay."""
    return photo


def write(folder: Path, labels: Labels, places: Places, *, base: float = 1.0) -> None:
    """Write a file for each photo, which has one face."""
    for row in labels.rows:
        path = (folder / places[row.photo]).with_suffix(ENDING)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [" ".join(map(number_text, point)) for point in (row.keypoints + base).tolist()]
        text = "\n".join(["version: 1", f"n_points:  {len(lines)}", "{", *lines, "}"]) + "\n"
        path.write_text(text, encoding="utf-8")
    write_scheme(folder, labels.scheme)


write0 = functools.partial(write, base=0.0)
"""`write` of files whose upper left pixel is 0, 0."""
