"""`wider`: WIDER FACE's lists of boxes: a photo, how many faces it has, and a row for each: `x y width height`, and six
attributes; photos in `WIDER_train/images/`, likewise `val`; no points.

Its boxes hold the forehead, chin and cheeks (Yang et al., WIDER FACE, CVPR 2016, section 3): those of heads. They count
the edges of pixels, as COCO's do, so that our coordinates are half a pixel less.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from kpedge.core.boxes import HEAD
from kpedge.core.errors import DataError
from kpedge.core.geometry import Box
from kpedge.core.images import SUFFIXES
from kpedge.core.keypoints import FACES21
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.formats.coco import EDGE
from kpedge.data.formats.common import Collected, PhotoFinder
from kpedge.data.labels import LabelRow, Labels
from kpedge.data.rows import RowError, first_lines, is_number, row_box, row_name, row_numbers, text_lines, where_in

HOLDS = "wider_face_train_bbx_gt.txt and …_val_bbx_gt.txt: photo, count, x y width height …; boxes and no points"
_LISTS = "wider_face_*_bbx_gt.txt"
_SPLIT = "wider_face_split"
_PHOTOS = ("WIDER_train/images", "WIDER_val/images")
_INVALID = 7
"""The number of a row that is 1 where its authors take the face for too blurred or small to count."""
_SMALLEST = 1.0
"""Least width and height, pixels, of what is kept away from where a box has none."""


def looks_like(root: Path) -> bool:
    """Whether one of the lists lies there or below, or is the file."""
    if root.is_dir():
        return next(root.rglob(_LISTS), None) is not None
    lines = [line.strip() for line in first_lines(root, 3)]
    return len(lines) == 3 and _is_photo(lines[0]) and lines[1].isdecimal() and _is_row(lines[2])


def _is_photo(line: str) -> bool:
    return PurePosixPath(line).suffix.lower() in SUFFIXES and not is_number(line)


def _is_row(line: str) -> bool:
    cells = line.split()
    return len(cells) >= 4 and all(map(is_number, cells))


@dataclass(slots=True)
class _Group:
    """The lines about a photo: its name, how many faces it has, and what follows up to the next photo."""

    line: int
    name: str
    rows: list[tuple[int, str]] = field(default_factory=list)


def _groups(lines: Iterable[tuple[int, str]]) -> Iterator[_Group]:
    """The lines of each photo; those before the first have no name."""
    group: _Group | None = None
    for number, line in lines:
        if _is_photo(line.strip()):
            if group is not None:
                yield group
            group = _Group(number, line.strip())
        elif group is None:
            group = _Group(number, "", [(number, line)])
        else:
            group.rows.append((number, line))
    if group is not None:
        yield group


@dataclass(slots=True)
class _Reader:
    """Reads the lists into rows."""

    find: PhotoFinder
    found: Collected = field(default_factory=Collected)
    unlabelled: dict[str, list[Box]] = field(default_factory=dict)
    empty: int = 0

    def group(self, group: _Group, file: str) -> None:
        """Take the faces of a photo."""
        where = where_in(file, group.line)
        try:
            if not group.name:
                raise RowError("no photo", "no photo is named before this line")
            photo = self.find(row_name(group.name.replace("\\", "/")), _PHOTOS[:: -1 if _is_validation(file) else 1])
        except RowError as error:
            self.found.problem(error, where)
            return
        told, rows = _count(group.rows)
        if told is None:
            self.found.problem(RowError("count", f"no number of faces stands behind {group.name}"), where, photo)
        elif told == 0 and all(_is_row(row) and set(row.split()) == {"0"} for _, row in rows):
            self.empty += 1
            return
        elif told != len(rows):
            message = f"{group.name} is to have {format_count(told, 'face')}; rows that follow: {len(rows)}"
            self.found.problem(RowError("count", message), where, photo)
        for line, content in rows:
            try:
                self.row(content, photo, file, line)
            except RowError as error:
                self.found.problem(error, where_in(file, line), photo)

    def row(self, text: str, photo: str, file: str, line: int) -> None:
        """Take one face.

        Raises:
            RowError: it cannot be read.
        """
        cells = text.split()
        if len(cells) < 4:
            raise RowError(
                "columns", f"{format_count(len(cells), 'column')}, expected x, y, width, height, and attributes"
            )
        values = row_numbers(cells, 1)
        self.found.dropped["attributes"] += bool(values[4:].any())
        corner, side = values[:2] - EDGE, values[2:4]
        if side.min() < 0:
            raise RowError("box without area", f"width and height are {cells[2]} and {cells[3]}")
        invalid = len(values) > _INVALID and values[_INVALID] == 1
        flat = side.min() == 0
        box = row_box(np.concatenate([corner, corner + (np.maximum(side, _SMALLEST) if flat else side)]))
        if invalid or flat:
            self.unlabelled.setdefault(photo, []).append(box)
        else:
            self.found.rows.append(LabelRow(photo, box, _NOTHING, file, line))


_NOTHING = np.full((len(FACES21), 2), np.nan)


def _count(rows: list[tuple[int, str]]) -> tuple[int | None, list[tuple[int, str]]]:
    """How many faces the first line behind a photo tells, None where it does not, and the lines of the faces."""
    if rows and len(cells := rows[0][1].split()) == 1 and cells[0].isdecimal() and len(cells[0]) < 10:
        return int(cells[0]), rows[1:]
    return None, rows


def read(root: Path, scheme: KeypointScheme | None = None) -> Labels:
    """The boxes of both lists. Faces that are marked as invalid, or whose box has no area, are neither face nor
    background; photos without a box are not used. The photos of the list for validation stand in `test`, as the boxes
    of WIDER FACE's own test photos are not public.

    Args:
        root: the folder, or one list.
        scheme: what boxes without points are to have.

    Raises:
        DataError: there is nothing to read.
    """
    files = [root] if root.is_file() else sorted(root.rglob(_LISTS))
    if not files:
        raise DataError(f"{root}: no {_LISTS}", f"give the folder that holds {_SPLIT}, WIDER_train and WIDER_val")
    root = _data_folder(root)
    reader = _Reader(PhotoFinder(root))
    for path in files:
        for group in _groups(text_lines(path)):
            reader.group(group, path.relative_to(root).as_posix())
    found = reader.found
    if not reader.empty and not reader.unlabelled:
        found.check(files[0])
    kept = dict.fromkeys(row.photo for row in found.rows if _is_validation(row.file))
    remarks = []
    if reader.empty:
        remarks.append(
            f"{format_count(reader.empty, 'photo')} without a box {'is' if reader.empty == 1 else 'are'} not used"
        )
    labels = found.labels(
        root,
        FACES21,
        files,
        "wider",
        test=tuple(kept) or None,
        boxes_only=True,
        convention=HEAD,
        unlabelled=reader.unlabelled,
        remarks=tuple(remarks),
    )
    return labels if scheme is None else labels.converted(scheme)


def _is_validation(file: str) -> bool:
    return file.endswith("_val_bbx_gt.txt")


def _data_folder(root: Path) -> Path:
    """The folder that holds the photos, for it, its folder of lists, or one list."""
    start = root.parent if root.is_file() else root
    return start.parent if start.name == _SPLIT else start
