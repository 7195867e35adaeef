"""`celeba`: CelebA's `list_landmarks_*.txt`: a count, a header, then `photo x y …` of left and right eye, nose, left
and right corner of the mouth; or a `label.txt` of such rows. The photos are next to the list, or in a folder such as
`img_align_celeba`; `list_eval_partition.txt`, if it is there, gives the test split.
"""

from pathlib import Path

from kpedge.core.keypoints import FACES5
from kpedge.data.formats import mtfl
from kpedge.data.formats.format import FormatCapabilities, LabelFormat
from kpedge.data.formats.label import LABEL_FILE
from kpedge.data.formats.reader import LabelReader, Parsed, points_box
from kpedge.data.labels import Labels
from kpedge.data.rows import first_lines, glob_any_case, is_file, text_lines

_LISTS = "list_landmarks*.txt"
_HEADER = ("lefteye_x", "lefteye_y", "righteye_x", "righteye_y")
_PARTITION = "list_eval_partition.txt"


def find(root: Path) -> list[Path]:
    """The lists in the folder or below, or else `label.txt`."""
    lists = sorted(glob_any_case(root, f"**/{_LISTS}"))
    return lists or [path for path in glob_any_case(root, LABEL_FILE) if is_file(path)]


def _is_header(line: str) -> bool:
    cells = line.replace(",", " ").lower().split()
    return len(cells) == 1 or tuple(cells[-10:-6]) == _HEADER


def sniff(path: Path) -> bool:
    """Whether the header is there, or rows of ten numbers that lie like a face when read as pairs."""
    if any(tuple(line.replace(",", " ").lower().split()[-10:-6]) == _HEADER for line in first_lines(path, 2)):
        return True
    return mtfl.has_ten_numbers(path) and mtfl.are_pairs(path)


def read(reader: LabelReader) -> Labels:
    """The labels of all lists."""

    def parse(text: str) -> Parsed:
        name, points = mtfl.parse_five(text, pairs=True)
        return reader.find(name), points_box(points, FACES5), points

    for path in reader.files:
        lines = list(text_lines(path))
        start = next((place for place, (_, line) in enumerate(lines[:3]) if not _is_header(line)), min(len(lines), 2))
        reader.add_lines(reader.path_of(path), lines[start:], parse, lambda text: reader.leading_photo(text.split()))
    partition = reader.root / _PARTITION
    cells = [line.split() for _, line in text_lines(partition)] if is_file(partition) else []
    held_out = {reader.find(row[0]) for row in cells if len(row) == 2 and row[1] == "2"}
    return reader.labels(FACES5, test=reader.test_photos(lambda row: row.photo in held_out))


FORMAT = LabelFormat(
    "celeba",
    "CelebA: list_landmarks_align_celeba.txt, or label.txt: photo, then x y of 5 points",
    find,
    sniff,
    read,
    FormatCapabilities.POINTS | FormatCapabilities.MANY_FACES,
    scheme=FACES5,
    bare_points=True,
)
