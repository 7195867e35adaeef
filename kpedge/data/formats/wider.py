"""`wider`: WIDER FACE's lists of boxes: a photo, how many faces it has, and a row for each: `x y width height`, and six
attributes; photos in `WIDER_train/images/` and `WIDER_val/images/`; no points.

Its boxes hold the forehead, chin and cheeks (Yang et al., WIDER FACE, CVPR 2016, section 3): those of heads. They count
the edges of pixels, as COCO's do, so that our coordinates are half a pixel less.
"""

from pathlib import Path, PurePosixPath

from kpedge.core.boxes import HEAD
from kpedge.core.images import PHOTO_SUFFIXES
from kpedge.core.keypoints import FACES21
from kpedge.core.text import format_count
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, files
from kpedge.data.formats.reader import NO_POINTS, LabelReader, columns_error, corners
from kpedge.data.labels import LabelRow, Labels
from kpedge.data.rows import RowError, first_lines, is_number, parse_numbers, text_lines, where_in

_LISTS = "wider_face_*_bbx_gt.txt"
_VALIDATION = "_val_bbx_gt.txt"
_PHOTOS = ("WIDER_train/images", "WIDER_val/images")
_INVALID = 7  # the number of a row that is 1 where its authors take the face for too blurred or small to count
_SMALLEST = 1.0  # least width and height, pixels, of an ignored face whose box has none


def sniff(path: Path) -> bool:
    """Whether it has the name of such a list, or begins like one."""
    lines = [line.strip() for line in first_lines(path, 3)]
    if path.match(_LISTS):
        return True
    return len(lines) == 3 and _is_photo(lines[0]) and lines[1].isdecimal() and _is_row(lines[2])


def _is_photo(line: str) -> bool:
    return PurePosixPath(line).suffix.lower() in PHOTO_SUFFIXES and not is_number(line)


def _is_row(line: str) -> bool:
    cells = line.split()
    return len(cells) >= 4 and all(map(is_number, cells))


class _Photo:
    """The photo whose faces are being read, and how many of them there should be."""

    def __init__(self, name: str, where: str) -> None:
        self.name, self.where = name, where
        self.expected: int | None = None
        self.faces = self.empty = 0


def _finish(reader: LabelReader, photo: _Photo | None) -> int:
    """Compare the number of faces with what was announced; 1 if the photo has none."""
    if photo is None or not photo.name:
        return 0
    if photo.expected == 0 and photo.faces == photo.empty:
        return 1
    if photo.expected is None:
        message = f"no number of faces follows {photo.name}"
        reader.problem(RowError("count", message), photo.where, photo.name)
    elif photo.expected != photo.faces:
        message = f"{photo.name} should have {format_count(photo.expected, 'face')}; rows that follow: {photo.faces}"
        reader.problem(RowError("count", message), photo.where, photo.name)
    return 0


def _add_face(reader: LabelReader, text: str, photo: str, file: str, line: int) -> None:
    cells = text.split()
    if len(cells) < 4:
        raise columns_error(len(cells), "x, y, width, height, and attributes")
    values = parse_numbers(cells, 1)
    reader.dropped["attributes"] += bool(values[4:].any())
    flat = values[2:4].min() == 0
    box = corners(values, cells, _SMALLEST if flat else 0.0)
    if flat or (len(values) > _INVALID and values[_INVALID] == 1):
        reader.ignore(photo, box)
    else:
        reader.rows.append(LabelRow(photo, box, NO_POINTS, file, line))


def read(reader: LabelReader) -> Labels:
    """The boxes of all lists. Faces that are marked as invalid, or whose box has no area, are neither face nor
    background; photos without a box are not used. The photos of the list for validation are the test split, as the
    boxes of WIDER FACE's own test photos are not public.
    """
    empty = 0
    for path in reader.files:
        file = reader.path_of(path)
        folders = _PHOTOS[::-1] if file.endswith(_VALIDATION) else _PHOTOS
        photo: _Photo | None = None
        for line, content in text_lines(path):
            text, where = content.strip(), where_in(file, line)
            try:
                if _is_photo(text):
                    empty += _finish(reader, photo)
                    photo = _Photo("", where)  # until the name is known to be one
                    photo.name = reader.photo(text, *folders)
                elif photo is None:
                    photo = _Photo("", where)
                    raise RowError("no photo", "no photo is named before this line")
                elif photo.expected is None and not photo.faces and text.isdecimal() and len(text) < 10:
                    photo.expected = int(text)
                elif photo.name:
                    photo.faces += 1
                    photo.empty += _is_row(text) and set(text.split()) == {"0"}
                    if photo.expected or not photo.empty:
                        _add_face(reader, text, photo.name, file, line)
            except RowError as error:
                reader.problem(error, where, photo.name if photo else "")
        empty += _finish(reader, photo)
    if empty:
        reader.remarks.append(f"{format_count(empty, 'photo')} without a box {'is' if empty == 1 else 'are'} not used")
        reader.dropped["photos without a box"] += empty
    return reader.labels(
        FACES21,
        test=reader.test_photos(lambda row: row.file.endswith(_VALIDATION)),
        boxes_only=True,
        convention=HEAD,
    )


FORMAT = LabelFormat(
    "wider",
    "WIDER FACE: wider_face_train_bbx_gt.txt and …_val_bbx_gt.txt; photos in WIDER_train/images/, WIDER_val/images/",
    files(f"**/{_LISTS}"),
    sniff,
    read,
    FormatCapabilities.HEADS,
    label_folders=("wider_face_split",),
)
