"""`ibug68-csv`: `training_frames_keypoints.csv` and photos in `training/`, likewise `test`: a header, then
`photo,x0,y0,…,x67,y67`, the 68 points of iBUG, as the public Udacity set has them.
"""

from __future__ import annotations

from pathlib import Path

from kpedge.core.keypoints import scheme_named
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.formats.common import Collected, Parsed, Places, folder_and_files, join, points_box, separator_hint
from kpedge.data.labels import Labels
from kpedge.data.rows import (
    RowError,
    check_points,
    csv_cells,
    csv_row,
    named_photo,
    number_text,
    row_name,
    row_numbers,
    text_lines,
)

HOLDS = "training_frames_keypoints.csv: photo,x0,y0,…,x67,y67; photos in training/, likewise test"
SCHEME = scheme_named("ibug68")
TRAINING, TEST = "training", "test"
"""Photos of a split, and with `_frames_keypoints.csv` behind it the file of their labels."""
_ENDING = "_frames_keypoints.csv"


def looks_like(root: Path) -> bool:
    """Whether one of the files lies there."""
    if root.is_file():
        return root.name.endswith(_ENDING)
    return any((root / f"{folder}{_ENDING}").is_file() for folder in (TRAINING, TEST))


def _parse(text: str, folder: str) -> Parsed:
    cells = csv_cells(text)
    if len(cells) != 1 + 2 * len(SCHEME):
        found, hint = format_count(len(cells), "column"), separator_hint(text, cells)
        raise RowError("columns", f"{found}, expected {1 + 2 * len(SCHEME)}: photo, {len(SCHEME)} x y{hint}")
    points = check_points(row_numbers(cells[1:], 2).reshape(-1, 2))
    return join(folder, row_name(cells[0].replace("\\", "/"))), points_box(points, SCHEME), points


def read(root: Path, _scheme: KeypointScheme | None = None) -> Labels:
    """The labels of a folder with 68 iBUG points a face; its own test photos stand in `test`.

    Raises:
        DataError: there is nothing to read.
    """
    folder, files = folder_and_files(root, [f"{split}{_ENDING}" for split in (TRAINING, TEST)])
    found = Collected()
    for path in files:
        split = path.name.removesuffix(_ENDING)

        def photo_of(row: str, split: str = split) -> str:
            name = named_photo(folder / split, row.replace("\\", "/"), ",")
            return join(split, name) if name else ""

        lines = list(text_lines(path))[1:]
        found.add_lines(path.name, lines, lambda row, split=split: _parse(row, split), photo_of)  # type: ignore[misc]
    found.check(files[0])
    kept = dict.fromkeys(row.photo for row in found.rows if row.photo.startswith(f"{TEST}/"))
    return found.labels(folder, SCHEME, files, "ibug68-csv", test=tuple(kept) or None)


def place(photo: str, test: bool) -> str:
    """Photos lie in the folder of their split."""
    split = TEST if test else TRAINING
    return photo if photo.startswith(f"{split}/") else f"{split}/{photo}"


def write(folder: Path, labels: Labels, places: Places) -> None:
    """Write a table for each split."""
    for split in (TRAINING, TEST):
        rows = [row for row in labels.rows if places[row.photo].startswith(f"{split}/")]
        if not rows and split == TEST:
            continue
        lines = [",".join(["", *map(str, range(2 * len(SCHEME)))])]
        for row in rows:
            name = places[row.photo].removeprefix(f"{split}/")
            lines.append(csv_row([name, *map(number_text, row.keypoints.ravel().tolist())]))
        (folder / f"{split}{_ENDING}").write_text("\n".join(lines) + "\n", encoding="utf-8")
