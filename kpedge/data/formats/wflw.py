"""`wflw`: WFLW's lists: 98 x y, the corners of a rectangle, six attributes, and the photo in `WFLW_images/`."""

from pathlib import Path

from kpedge.core.boxes import FACE, POINTS
from kpedge.core.keypoints import scheme_named
from kpedge.core.text import format_count
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, WriteJob, photos_in
from kpedge.data.formats.reader import LabelReader, Parsed, points_box
from kpedge.data.labels import Labels
from kpedge.data.rows import (
    RowError,
    check_box,
    check_points,
    first_lines,
    format_number,
    glob_any_case,
    is_number,
    parse_numbers,
    text_lines,
)

SCHEME = scheme_named("wflw98")
PHOTOS = "WFLW_images"
_LISTS = "list_98pt*.txt"
_FOLDERS = ("WFLW_annotations", "list_98pt_rect_attr_train_test")
_POINTS = 2 * len(SCHEME)
_RECT, _ATTRIBUTES = 4, 6
_COUNTS = (_POINTS, _POINTS + _RECT, _POINTS + _RECT + _ATTRIBUTES)


def _leading_numbers(cells: list[str]) -> int:
    count = next((place for place, cell in enumerate(cells) if not is_number(cell)), len(cells))
    return count - (count == len(cells) > 0)  # a photo that is called by a number


def find(root: Path) -> list[Path]:
    """The lists that name every face once: `list_98pt_test/` repeats faces of the test list, by attribute."""
    found = sorted(path for path in glob_any_case(root, f"**/{_LISTS}") if path.is_file())
    for stem in ("list_98pt_rect_attr_", "list_98pt_"):
        whole = [path for path in found if path.stem in (f"{stem}train", f"{stem}test")]
        if whole:
            return list({path.name: path for path in reversed(whole)}.values())[::-1]
    return found


def sniff(path: Path) -> bool:
    """Whether it has the name of such a list, or its first row the numbers of one."""
    lines = first_lines(path, 1)
    return path.match(_LISTS) or (bool(lines) and _leading_numbers(lines[0].split()) in _COUNTS)


def read(reader: LabelReader) -> Labels:
    """The labels of WFLW's lists; the photos of the test list are the test split."""

    def parse(text: str) -> Parsed:
        cells = text.split()
        numbers = _leading_numbers(cells)
        if numbers not in _COUNTS:
            raise RowError(
                "columns",
                f"{format_count(numbers, 'number')} before the photo, expected {_COUNTS[0]}, "
                f"or {_COUNTS[1]} with the rectangle, or {_COUNTS[2]} with the attributes",
            )
        values = parse_numbers(cells[: min(numbers, _POINTS + _RECT)], 1)
        points = check_points(values[:_POINTS].reshape(-1, 2))
        box = check_box(values[_POINTS:]) if numbers > _POINTS else points_box(points, SCHEME)
        reader.dropped["attributes"] += numbers == _COUNTS[2]
        boxes[0] |= numbers > _POINTS
        return reader.photo(" ".join(cells[numbers:]), PHOTOS), box, points

    def photo_of(text: str) -> str:
        cells = text.split()
        name = " ".join(cells[_leading_numbers(cells) :])
        return "" if "\0" in name else reader.find(name, (PHOTOS,))

    boxes = [False]
    for path in reader.files:
        reader.add_lines(reader.path_of(path), text_lines(path), parse, photo_of)
    test = reader.test_photos(lambda row: Path(row.file).stem.endswith("_test"))
    return reader.labels(SCHEME, test=test, convention=POINTS if boxes[0] else FACE)


def write(job: WriteJob) -> None:
    """Write the list of training and, if there is a test split, of test; all attributes are 0."""
    for is_test, rows in job.splits():
        lines = []
        for row in rows:
            numbers = [*row.keypoints.ravel().tolist(), *row.box.tolist(), *[0.0] * _ATTRIBUTES]
            lines.append(" ".join([*map(format_number, numbers), job.paths[row.photo].removeprefix(f"{PHOTOS}/")]))
        job.write_lines("/".join([*_FOLDERS, f"list_98pt_rect_attr_{'test' if is_test else 'train'}.txt"]), lines)


_CAN = FormatCapabilities
FORMAT = LabelFormat(
    "wflw",
    "WFLW: list_98pt_rect_attr_train.txt and …_test.txt: 98 x y, rectangle, attributes, photo; photos in WFLW_images/",
    find,
    sniff,
    read,
    _CAN.BOXES | _CAN.POINTS | _CAN.MANY_FACES | _CAN.TEST_SPLIT | _CAN.BLANK_SEPARATED,
    write,
    photos_in(PHOTOS),
    SCHEME,
    label_folders=_FOLDERS,
)
