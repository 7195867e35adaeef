"""`pts`: 300-W's `.pts` files, one face each, next to their photos; the upper left pixel is 1, 1. `pts0`: it is 0, 0.

300-W's authors worked in MATLAB, and Menpo, the same group's library, takes 1 off every coordinate of a `.pts` file for
that reason (`menpo.io.input.landmark`, "PTS landmarks are 1-based"). Other tools write the files a little differently:
without version or braces, with commas or comments. All that is needed are pairs of numbers.
"""

import posixpath
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError
from kpedge.core.files import read_text
from kpedge.core.text import format_count
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, WriteJob, files
from kpedge.data.formats.reader import LabelReader, in_test_folder, points_box
from kpedge.data.formats.schemes import generic_scheme, known_scheme, write_scheme
from kpedge.data.labels import LabelRow, Labels
from kpedge.data.rows import RowError, check_points, format_number, parse_numbers

ENDING = ".pts"
_COMMENT = re.compile(r"(#|//).*")
_FIELD = re.compile(r"^\s*([a-z_]\w*)\s*[:=]\s*(\S+)\s*", re.IGNORECASE | re.MULTILINE)


def sniff(path: Path) -> bool:
    """Whether it has that ending."""
    return path.suffix.lower() == ENDING


def _parse_points(path: Path) -> NDArray[np.float64]:
    """The points of a file, (K, 2), as they are written."""
    try:
        text = _COMMENT.sub("", read_text(path, DataError))
    except DataError as error:
        raise RowError("not a text file", str(error).removeprefix(f"{path}: ")) from error
    fields = {name.lower(): value for name, value in _FIELD.findall(text)}
    start, brace, inside = _FIELD.sub("", text).partition("{")
    cells = (inside if brace else start).partition("}")[0].replace(",", " ").split()
    if (brace and start.strip()) or not cells or len(cells) % 2:
        raise RowError("form", "not of the form version: 1, n_points: N, { x y … }")
    expected = fields.get("n_points", fields.get("n_points:", str(len(cells) // 2)))
    if not (expected.isdecimal() and len(expected) < 10) or len(cells) != 2 * int(expected):
        hint = "; write decimals with a point" if re.search(r"\d,\d+ +\d+,\d", text) else ""
        raise RowError(
            "columns", f"{format_count(len(cells), 'number')}, expected 2 x {expected[:20]}: n_points is that{hint}"
        )
    return check_points(parse_numbers(cells, 1, nan_pairs=True).reshape(-1, 2))


def read(reader: LabelReader, base: float = 1.0) -> Labels:
    """The labels of all files, whose upper left pixel is `base`, `base`; most of them decide how many points a face
    has. Photos in a test folder, as Helen's and LFPW's `testset`, are the test split.
    """
    faces: list[tuple[str, str, NDArray[np.float64]]] = []
    for path in reader.files:
        file = reader.path_of(path)
        stem = posixpath.splitext(file)[0]
        photo = reader.find.of_stem([stem]) or f"{stem}.jpg"
        with reader.problems_in(file, photo=photo):
            faces.append((photo, file, _parse_points(path) - base))
    counts = Counter(len(points) for _, _, points in faces)
    count = counts.most_common(1)[0][0] if counts else 0
    scheme = known_scheme(reader.root, count, reader.scheme) if count else reader.scheme
    scheme = scheme or generic_scheme(count or 1)
    for photo, file, points in faces:
        with reader.problems_in(file, photo=photo):
            if len(points) != len(scheme):
                found = format_count(len(points), "point")
                raise RowError("columns", f"{found}, expected {len(scheme)} ({scheme.name})")
            reader.rows.append(LabelRow(photo, points_box(points, scheme), points, file, 1))
    return reader.labels(scheme, test=reader.test_photos(lambda row: in_test_folder(row.photo)))


def write(job: WriteJob, base: float = 1.0) -> None:
    """Write a file for each photo, which has one face."""
    for row in job.labels.rows:
        points = (" ".join(map(format_number, point)) for point in (row.keypoints + base).tolist())
        name = PurePosixPath(job.paths[row.photo]).with_suffix(ENDING).as_posix()
        job.write_lines(name, ["version: 1", f"n_points:  {len(row.keypoints)}", "{", *points, "}"])
    write_scheme(job.folder, job.labels.scheme)


FORMAT = LabelFormat(
    "pts",
    "300-W: *.pts, each next to its photo: version, n_points, { x y … }; the upper left pixel is 1, 1",
    files(f"**/*{ENDING}"),
    sniff,
    read,
    FormatCapabilities.POINTS | FormatCapabilities.FILE_PER_PHOTO,
    write,
)
FROM_ZERO = replace(
    FORMAT,
    name="pts0",
    description="the same; the upper left pixel is 0, 0",
    read=lambda reader: read(reader, 0.0),
    write=lambda job: write(job, 0.0),
    auto=False,
)
