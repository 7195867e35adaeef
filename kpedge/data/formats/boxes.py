"""`boxes`: `boxes.csv`: `image,x1,y1,x2,y2`, further columns ignored; boxes of heads, for the detector."""

from pathlib import Path

from kpedge.core.boxes import HEAD
from kpedge.core.errors import DataError
from kpedge.core.images import PHOTO_SUFFIXES
from kpedge.core.keypoints import FACES21
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, WriteJob, files
from kpedge.data.formats.reader import NO_POINTS, LabelReader, Parsed, columns_error
from kpedge.data.labels import Labels
from kpedge.data.rows import (
    check_box,
    format_csv_row,
    format_number,
    is_number,
    parse_csv_row,
    parse_numbers,
    text_lines,
)

BOXES_FILE = "boxes.csv"
_FOLDERS = ("images", "photos")  # folders next to `boxes.csv` that may hold its photos
_NOT_CORNERS = ("w", "h", "width", "height", "class", "label", "cx", "cy")  # columns of other tools


def sniff(path: Path) -> bool:
    """Whether the file has that name."""
    return path.name.lower() == BOXES_FILE


def read(reader: LabelReader) -> Labels:
    """The boxes of all rows; no face has points."""
    (path,) = reader.files
    folder = next((name for name in _FOLDERS if (reader.root / name).is_dir()), "")

    def parse(text: str) -> Parsed:
        cells = parse_csv_row(text)
        if len(cells) < 5:
            raise columns_error(len(cells), "image,x1,y1,x2,y2")
        photo = reader.photo(cells[0], "", folder)
        box = check_box(parse_numbers(cells[1:5], 2))
        reader.dropped["attributes"] += any(cell.strip() for cell in cells[5:])
        return photo, box, NO_POINTS

    lines = list(text_lines(path))
    if lines and _is_header(lines[0][1], path):
        lines = lines[1:]
    reader.add_lines(path.name, lines, parse, lambda text: reader.leading_photo(text.split(",")[:1], ("", folder)))
    return reader.labels(FACES21, boxes_only=True, convention=HEAD)


def _is_header(row: str, path: Path) -> bool:
    """Whether a first line names the columns."""
    cells = [cell.strip().lower() for cell in parse_csv_row(row)]
    named = Path(cells[0]).suffix not in PHOTO_SUFFIXES and len(cells) >= 5 and not any(map(is_number, cells[1:5]))
    if cells[0] != "image" and not named:
        return False
    other = next((cell for cell in cells[1:5] if cell in _NOT_CORNERS), None)
    if other is not None:
        raise DataError(
            f"{path}: a column of the first line is called {other!r}, expected image,x1,y1,x2,y2",
            "write the corners of each box, in this order",
        )
    return True


def write(job: WriteJob) -> None:
    """Write `boxes.csv`."""
    rows = (format_csv_row([job.paths[row.photo], *map(format_number, row.box.tolist())]) for row in job.labels.rows)
    job.write_lines(BOXES_FILE, ["image,x1,y1,x2,y2", *rows])


FORMAT = LabelFormat(
    "boxes",
    "boxes.csv: image,x1,y1,x2,y2, further columns ignored",
    files(BOXES_FILE),
    sniff,
    read,
    FormatCapabilities.HEADS,
    write,
)
