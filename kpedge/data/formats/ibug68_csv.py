"""`ibug68-csv`: `training_frames_keypoints.csv` with photos in `training/`, and the same of `test`: a header, then
`photo,x0,y0,…,x67,y67`, the 68 points of iBUG, as the public Udacity set has them.
"""

from pathlib import Path

from kpedge.core.keypoints import scheme_named
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, WriteJob, files, photos_in
from kpedge.data.formats.reader import LabelReader, Parsed, columns_error, points_box
from kpedge.data.labels import Labels
from kpedge.data.rows import (
    check_points,
    format_csv_row,
    format_number,
    parse_csv_row,
    parse_numbers,
    text_lines,
)

SCHEME = scheme_named("ibug68")
TRAINING, TEST = "training", "test"  # photos of a split; with `_frames_keypoints.csv` after it, their labels
_ENDING = "_frames_keypoints.csv"


def sniff(path: Path) -> bool:
    """Whether it has the name of such a table."""
    return path.name.endswith(_ENDING)


def read(reader: LabelReader) -> Labels:
    """The labels of both tables; photos in `test/` are the test split."""
    for path in reader.files:
        split = path.name.removesuffix(_ENDING)

        def parse(text: str, split: str = split) -> Parsed:
            cells = parse_csv_row(text)
            if len(cells) != 1 + 2 * len(SCHEME):
                raise columns_error(len(cells), f"{1 + 2 * len(SCHEME)}: photo, {len(SCHEME)} x y")
            points = check_points(parse_numbers(cells[1:], 2).reshape(-1, 2))
            return reader.photo(cells[0], split), points_box(points, SCHEME), points

        def photo_of(text: str, split: str = split) -> str:
            return reader.leading_photo(text.split(",")[:1], (split,))

        reader.add_lines(path.name, list(text_lines(path))[1:], parse, photo_of)
    return reader.labels(SCHEME, test=reader.test_photos(lambda row: row.photo.startswith(f"{TEST}/")))


def write(job: WriteJob) -> None:
    """Write a table for each split."""
    header = ",".join(["", *map(str, range(2 * len(SCHEME)))])
    for is_test, rows in job.splits():
        split = TEST if is_test else TRAINING
        names = (job.paths[row.photo].removeprefix(f"{split}/") for row in rows)
        points = (map(format_number, row.keypoints.ravel().tolist()) for row in rows)
        lines = (format_csv_row([name, *numbers]) for name, numbers in zip(names, points, strict=True))
        job.write_lines(f"{split}{_ENDING}", [header, *lines])


FORMAT = LabelFormat(
    "ibug68-csv",
    "training_frames_keypoints.csv: photo,x0,y0,…,x67,y67; photos in training/; the same of test",
    files(f"{TRAINING}{_ENDING}", f"{TEST}{_ENDING}"),
    sniff,
    read,
    FormatCapabilities.POINTS | FormatCapabilities.MANY_FACES | FormatCapabilities.TEST_SPLIT,
    write,
    photos_in(TRAINING, TEST),
    SCHEME,
)
