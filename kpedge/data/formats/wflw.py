"""`wflw`: WFLW's lists: 98 x y, the corners of a rectangle, six attributes, and the photo in `WFLW_images/`."""

from __future__ import annotations

from pathlib import Path

from kpedge.core.boxes import FACE, POINTS
from kpedge.core.errors import DataError
from kpedge.core.keypoints import scheme_named
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.formats.common import Collected, Parsed, PhotoFinder, Places, points_box
from kpedge.data.labels import LabelRow, Labels
from kpedge.data.rows import (
    RowError,
    check_points,
    first_lines,
    is_number,
    number_text,
    row_box,
    row_name,
    row_numbers,
    text_lines,
)

HOLDS = "list_98pt_rect_attr_train.txt and …_test.txt: 98 x y, rectangle, attributes, photo; photos in WFLW_images/"
SCHEME = scheme_named("wflw98")
PHOTOS = "WFLW_images"
_LISTS = "list_98pt*.txt"
_FOLDER = "WFLW_annotations/list_98pt_rect_attr_train_test"
_POINTS = 2 * len(SCHEME)
_RECT, _ATTRIBUTES = 4, 6


def looks_like(root: Path) -> bool:
    """Whether WFLW's lists lie there or below."""
    if root.is_file():
        lines = first_lines(root, 1)
        return bool(lines) and _leading_numbers(lines[0]) in (_POINTS, _POINTS + _RECT, _POINTS + _RECT + _ATTRIBUTES)
    return next(root.rglob(_LISTS), None) is not None


def _leading_numbers(line: str) -> int:
    cells = line.split()
    return next((place for place, cell in enumerate(cells) if not is_number(cell)), len(cells))


def _lists(root: Path) -> list[Path]:
    """The lists that name every face once: `list_98pt_test/` repeats faces of the test list, by attribute."""
    found = sorted(path for path in root.rglob(_LISTS) if path.is_file())
    for stem in ("list_98pt_rect_attr_", "list_98pt_"):
        whole = [path for path in found if path.stem in (f"{stem}train", f"{stem}test")]
        if whole:
            return list({path.name: path for path in reversed(whole)}.values())[::-1]
    return found


def _parse(text: str, find: PhotoFinder) -> Parsed:
    cells, numbers = text.split(), _leading_numbers(text)
    if numbers == len(cells):
        numbers -= 1  # a photo that is called by a number
    if numbers not in (_POINTS, _POINTS + _RECT, _POINTS + _RECT + _ATTRIBUTES):
        raise RowError(
            "columns",
            f"{format_count(numbers, 'number')} before the photo, expected {_POINTS}, "
            f"or {_POINTS + _RECT} with the rectangle, or {_POINTS + _RECT + _ATTRIBUTES} with the attributes",
        )
    values = row_numbers(cells[: min(numbers, _POINTS + _RECT)], 1)
    points = check_points(values[:_POINTS].reshape(-1, 2))
    box = row_box(values[_POINTS:]) if numbers > _POINTS else points_box(points, SCHEME)
    return find(row_name(" ".join(cells[numbers:]).replace("\\", "/")), (PHOTOS,)), box, points


def read(root: Path, _scheme: KeypointScheme | None = None) -> Labels:
    """The labels of WFLW's lists; the photos of the test list stand in `test`.

    Raises:
        DataError: there is nothing to read.
    """
    files = [root] if root.is_file() else _lists(root)
    if not files:
        raise DataError(f"{root}: no {_LISTS}", "give the folder that holds WFLW_annotations and WFLW_images")
    root = _data_folder(root) if root.is_file() else root
    find, found, has_boxes = PhotoFinder(root), Collected(), False
    for path in files:
        lines = list(text_lines(path))
        file = path.relative_to(root).as_posix()
        found.add_lines(file, lines, lambda row: _parse(row, find), lambda row: _photo_of(row, find))
        counts = [_leading_numbers(line) for _, line in lines]
        found.dropped["attributes"] += sum(count >= _POINTS + _RECT + _ATTRIBUTES for count in counts)
        has_boxes |= any(count >= _POINTS + _RECT for count in counts)
    found.check(files[0])
    convention = POINTS if has_boxes else FACE
    return found.labels(root, SCHEME, files, "wflw", test=_tests(found.rows) or None, convention=convention)


def _tests(rows: list[LabelRow]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row.photo for row in rows if Path(row.file).stem.endswith("_test")))


def _data_folder(path: Path) -> Path:
    """The folder above a list beside which the photos lie."""
    return next((folder for folder in list(path.parents)[:3] if (folder / PHOTOS).is_dir()), path.parent)


def _photo_of(row: str, find: PhotoFinder) -> str:
    name = " ".join(row.split()[_leading_numbers(row) :]).replace("\\", "/")
    return "" if not name or "\0" in name else find(name, (PHOTOS,))


def place(photo: str, _test: bool) -> str:
    """Photos lie in `WFLW_images/`."""
    return photo if photo.startswith(f"{PHOTOS}/") else f"{PHOTOS}/{photo}"


def write(folder: Path, labels: Labels, places: Places) -> None:
    """Write the lists of training and, where there is a test split, of test; all attributes are 0."""
    (folder / _FOLDER).mkdir(parents=True)
    held_out = set(labels.test or ())
    for split in ("train", "test"):
        rows = [row for row in labels.rows if (row.photo in held_out) == (split == "test")]
        if not rows and split == "test":
            continue
        lines = []
        for row in rows:
            numbers = [*row.keypoints.ravel().tolist(), *row.box.tolist(), *[0.0] * _ATTRIBUTES]
            lines.append(" ".join([*map(number_text, numbers), places[row.photo].removeprefix(f"{PHOTOS}/")]))
        text = "".join(f"{line}\n" for line in lines)
        (folder / _FOLDER / f"list_98pt_rect_attr_{split}.txt").write_text(text, encoding="utf-8")
