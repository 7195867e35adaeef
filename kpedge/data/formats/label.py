"""`label`: `label.txt` files, `name x1 y1 x2 y2` and then x y of every point (`kpedge.data.labels` reads a row)."""

from __future__ import annotations

import posixpath
from collections import Counter
from pathlib import Path

from kpedge.core.errors import DataError
from kpedge.core.keypoints import FACES21
from kpedge.core.scheme import KeypointScheme, read_scheme
from kpedge.core.text import format_count
from kpedge.data.formats.common import SCHEME_FILE, Places, known_scheme, write_scheme
from kpedge.data.labels import LABEL_FILE, Labels, find_label_files, format_row, read_labels
from kpedge.data.rows import first_lines, is_file, numbers_behind, text_lines

HOLDS = "label.txt: photo x1 y1 x2 y2, then x y of each point"

FEWEST_ROWS = 0.1
"""A number of points that fewer of the rows have than this is a mistake."""


def looks_like(root: Path) -> bool:
    """Whether a label file lies there; `kpedge.data.formats.mtfl` has a file of the same name."""
    if root.is_file():
        lines = first_lines(root)
        return root.name == LABEL_FILE or (root.suffix == ".txt" and any(_points(line) for line in lines))
    return next(root.rglob(LABEL_FILE), None) is not None


def read(root: Path, scheme: KeypointScheme | None = None) -> Labels:
    """The labels of a data folder, or of one label file, in the scheme that most of their rows have columns for.

    Raises:
        DataError: there is nothing to read, or the rows have points that nobody named.
    """
    files = [root] if root.is_file() else find_label_files(root)
    folder = root.parent if root.is_file() else root
    return read_labels(root, _scheme(folder, files, scheme))


def _scheme(root: Path, files: list[Path], wanted: KeypointScheme | None) -> KeypointScheme:
    """The scheme of the rows: `scheme.toml`, or what their number of columns tells."""
    if is_file(root / SCHEME_FILE):
        return read_scheme(root / SCHEME_FILE)
    counts: Counter[int] = Counter()
    for path in files:
        counts.update(filter(None, (_points(line) for _, line in text_lines(path))))
    for count, rows in counts.most_common():
        known = known_scheme(root, count, wanted)
        if known is not None and rows >= FEWEST_ROWS * counts.total():
            return known
    if wanted is not None or not counts:
        return wanted or FACES21
    count = counts.most_common(1)[0][0]
    raise DataError(
        f"{files[0]}: rows of {format_count(count, 'point')}, of which kpedge has no scheme",
        f"name the points in {SCHEME_FILE} beside the labels, or give it with --scheme (docs/schemes.md)",
    )


def _points(line: str) -> int:
    """How many points a row has columns for; 0 where that cannot be told."""
    numbers = numbers_behind(line.split()) - 4
    return numbers // 2 if numbers > 0 and numbers % 2 == 0 else 0


def place(photo: str, _test: bool) -> str:
    """Photos lie where they lay."""
    return photo


def write(folder: Path, labels: Labels, places: Places) -> None:
    """Write one `label.txt` for the whole folder."""
    rows = [format_row(posixpath.normpath(places[row.photo]), row.box, row.keypoints) for row in labels.rows]
    (folder / LABEL_FILE).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    write_scheme(folder, labels.scheme)
