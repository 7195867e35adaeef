"""`yolo`: YOLO's boxes: photos in `images/`, and in `labels/` a text file each, `class x y w h` in fractions of the
photo, with `x y v` or `x y` of each point behind them where `kpt_shape` in `data.yaml`, or Label Studio's `notes.json`,
says so.

0 is the photo's left edge and 1 its right one, so a fraction f lies at f·W - 0.5 in our frame.
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import HEAD, POINTS
from kpedge.core.errors import DataError, ImageError
from kpedge.core.keypoints import FACES21
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.formats.coco_categories import scheme_of
from kpedge.data.formats.coco_write import Sizes
from kpedge.data.formats.common import (
    Collected,
    Places,
    generic_scheme,
    in_test_folder,
    known_scheme,
    write_scheme,
)
from kpedge.data.formats.yolo_settings import (
    SETTINGS,
    Settings,
    listed_tests,
    read_settings,
    settings_text,
)
from kpedge.data.labels import LabelProblem, LabelRow, Labels, photos_below
from kpedge.data.photos import photo_head
from kpedge.data.rows import (
    RowError,
    check_points,
    first_lines,
    is_file,
    is_number,
    row_box,
    row_numbers,
    text_lines,
    where_in,
)

HOLDS = "images/ and labels/*.txt: class x y w h in fractions of the photo, and points where data.yaml has kpt_shape"
PHOTOS, LABELS = "images", "labels"
_NO_LABELS = ("classes.txt", "README.txt", "train.txt", "val.txt", "test.txt", "notes.txt", "obj.names")


def _label_files(root: Path) -> list[Path]:
    """The text files of labels, in `labels/` folders, or where there is none beside the photos."""
    found = sorted(path for path in root.rglob("*.txt") if path.name not in _NO_LABELS)
    inside = [path for path in found if LABELS in path.relative_to(root).parts[:-1]]
    return inside or [path for path in found if _is_row(path)]


def _is_row(path: Path) -> bool:
    lines = first_lines(path, 1)
    cells = lines[0].split() if lines else []
    return (
        len(cells) >= 5
        and all(map(is_number, cells))
        and cells[0].isdecimal()
        and all(-0.5 <= float(cell) <= 1.5 for cell in cells[1:5])
    )


def looks_like(root: Path) -> bool:
    """Whether text files with its rows lie there."""
    return root.is_dir() and any(_is_row(path) for path in _label_files(root)[:20])


@dataclass(slots=True)
class _Reader:
    """Reads the label files of a folder."""

    root: Path
    settings: Settings
    scheme: KeypointScheme
    only: frozenset[str]
    found: Collected = field(default_factory=Collected)
    background: list[str] = field(default_factory=list)
    classes: Counter[str] = field(default_factory=Counter)

    def file(self, path: Path, photo: str) -> None:
        """Take the rows of one file."""
        file = path.relative_to(self.root).as_posix()
        try:
            lines = list(text_lines(path))
            head = photo_head(self.root / photo) if lines else None
        except DataError as error:
            self.found.problem(RowError("not a text file", str(error).removeprefix(f"{path}: ")), file, photo)
            return
        except ImageError as error:
            kind = "unreadable photo" if is_file(self.root / photo) else "missing photo"
            message = str(error).removeprefix(f"{self.root}{os.sep}")
            self.found.problems.append(LabelProblem(kind, file, message, photo))
            return
        if head is None:
            self.background.append(photo)
            return
        for line, content in lines:
            try:
                row = self.row(content, photo, file, line, np.array([head.width, head.height], dtype=np.float64))
            except RowError as error:
                self.found.problem(error, where_in(file, line), photo)
            else:
                if row is not None:
                    self.found.rows.append(row)

    def row(self, text: str, photo: str, file: str, line: int, size: NDArray[np.float64]) -> LabelRow | None:
        """One row, or nothing where it is of another class.

        Raises:
            RowError: it cannot be read.
        """
        cells, (count, step) = text.split(), self.settings.shape
        name = self.settings.names.get(cells[0], cells[0])
        if len(cells) >= 5:  # a row of fewer is none
            self.classes[name] += 1
        if self.only and name not in self.only:
            self.found.dropped["annotations of other categories"] += 1
            return None
        expected = 5 + count * step
        if len(cells) != expected:
            hint = "" if count else "; points need kpt_shape in data.yaml, outlines are not read"
            raise RowError(
                "columns", f"{format_count(len(cells), 'column')}, expected {expected}: class, x y w h{hint}"
            )
        values = row_numbers(cells[1:], 2)
        centre, side = values[:2] * size, values[2:4] * size
        box = row_box(np.concatenate([centre - side / 2, centre + side / 2]) - 0.5)
        points, visible = np.full((len(self.scheme), 2), np.nan), None
        if count:
            given = values[4:].reshape(count, step)
            flags = given[:, 2] if step == 3 else np.where((given[:, :2] != 0).any(axis=1), 2.0, 0.0)
            points = np.where(flags[:, None] > 0, given[:, :2] * size - 0.5, np.nan)
            hidden = flags == 1
            visible = ~hidden if hidden.any() else None
        return LabelRow(photo, box, check_points(points), file, line, visible)


def _photo_of(path: Path, root: Path, photos: dict[str, str]) -> str:
    """The photo of a label file: in the `images` folder that answers to its `labels` folder, or beside it."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    ways = [parts]
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == LABELS:
            ways.insert(0, [*parts[:place], PHOTOS, *parts[place + 1 :]])
            ways.append([*parts[:place], *parts[place + 1 :]])
            break
    stems = [posixpath.join(*way) for way in ways]
    return next((photos[stem] for stem in stems if stem in photos), f"{stems[0]}.jpg")


def read(root: Path, scheme: KeypointScheme | None = None, *, only: Collection[str] = ()) -> Labels:
    """The boxes, and points, of all label files; an empty one says that its photo shows no face.

    Args:
        root: the folder.
        scheme: of points without names where their number is its, and what boxes without points are to have.
        only: names of classes; all when empty.

    Raises:
        DataError: there is nothing to read.
    """
    files = _label_files(root) if root.is_dir() else []
    if not files:
        raise DataError(f"{root}: no label file in {LABELS}/", f"give the folder that holds {PHOTOS}/ and {LABELS}/")
    settings = read_settings(root)
    count, own = settings.shape[0], scheme or FACES21
    remarks: list[str] = []
    if settings.points:
        own, remarks = scheme_of(root, f"points{count}", settings.points, None)
    elif count:
        own = known_scheme(root, count, scheme) or generic_scheme(count)
    photos = {posixpath.splitext(photo)[0]: photo for photo in photos_below(root)}
    reader = _Reader(root, settings, own, frozenset(only))
    for path in files:
        reader.file(path, _photo_of(path, root, photos))
    found = reader.found
    found.dropped["names of objects"] += sum(reader.classes.values()) if len(reader.classes) > 1 else 0
    if len(reader.classes) > 1 and not only:
        every = ", ".join(f"{name} ({number:,})" for name, number in reader.classes.most_common())
        remarks.append(f"all classes are taken for faces: {every}; --label chooses among them")
    read_photos = {row.photo for row in found.rows} | set(reader.background)
    return found.labels(
        root,
        own,
        files,
        "yolo",
        background=tuple(reader.background),
        test=tuple(sorted(_tests(root, read_photos))) or None,
        boxes_only=not count,
        convention=POINTS if count else HEAD,
        remarks=tuple(remarks),
    )


def _tests(root: Path, photos: Collection[str]) -> set[str]:
    """The photos of the set's own test split: those of its list or, where there is no list, in a test folder.

    A list may name them from another folder on, as Darknet's do.
    """
    lines = listed_tests(root)
    if not lines:
        return set(filter(in_test_folder, photos))
    ends: dict[str, list[str]] = {}
    for line in lines:
        ends.setdefault(posixpath.basename(line), []).append(f"/{posixpath.normpath(line)}")
    return {
        photo
        for photo in photos
        if any(
            line.endswith(f"/{photo}") or f"/{photo}".endswith(line) for line in ends.get(posixpath.basename(photo), ())
        )
    }


def place(photo: str, test: bool) -> str:
    """Photos lie in a folder for each split."""
    split = f"{PHOTOS}/{'test' if test else 'train'}/"
    return photo if photo.startswith(split) else split + photo


def write(folder: Path, labels: Labels, places: Places, sizes: Sizes) -> None:
    """Write a label file for each photo, and `data.yaml`."""
    for photo, rows in labels.by_photo().items():
        where = PurePosixPath(places[photo])
        path = folder / PurePosixPath(LABELS, *where.parts[1:]).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        size = np.array(sizes[photo], dtype=np.float64)
        path.write_text("".join(f"{_row(row, size, labels.boxes_only)}\n" for row in rows), encoding="utf-8")
    scheme = None if labels.boxes_only else labels.scheme
    (folder / SETTINGS).write_text(settings_text(scheme, bool(labels.test)), encoding="utf-8")
    if scheme is not None:
        write_scheme(folder, scheme)


def _row(row: LabelRow, size: NDArray[np.float64], boxes_only: bool) -> str:
    low, high = (row.box[:2] + 0.5) / size, (row.box[2:] + 0.5) / size
    cells = ["0", *map(_fraction, (*((low + high) / 2).tolist(), *(high - low).tolist()))]
    if not boxes_only:
        labelled = row.labelled
        for place, point in enumerate(((row.keypoints + 0.5) / size).tolist()):
            flag = 0 if not labelled[place] else 1 if row.visible is not None and not row.visible[place] else 2
            cells += [*map(_fraction, point), str(flag)] if flag else ["0", "0", "0"]
    return " ".join(cells)


def _fraction(value: float) -> str:
    """Ten digits: a millionth of a pixel in a photo of ten thousand."""
    text = f"{value:.10f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
