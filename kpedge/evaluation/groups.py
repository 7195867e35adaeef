"""Errors and recall by group of faces: any column of a label file, or of a table of photos."""

import csv
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError, UsageError
from kpedge.core.files import decode_text, read_bytes, read_json
from kpedge.core.geometry import fractions_to_pixels
from kpedge.evaluation.evaluate import TestFaces
from kpedge.runtime.pose import head_poses

FEW = 30  # groups of fewer faces are marked: their figures are hardly more than chance
BANDS = 4  # bands, of about as many faces each, into which a column with many different numbers is cut
MANY_VALUES = 12  # a column of more different numbers than this is cut into bands
UNKNOWN = "not given"  # group of the faces for which the column has no value
Z95 = 1.96  # standard errors on each side of a 95 % interval


@dataclass(frozen=True, slots=True)
class Group:
    """The figures of a group of faces."""

    name: str  # the value of the column
    faces: int  # how many there are
    nme_box: float | None = None  # mean error, fraction of the box; None of a detector
    nme_box_95: tuple[float, float] | None = None  # its 95 % confidence interval (normal); None for a single face
    recall: float | None = None  # share of the faces that were found; None where the model has no face score
    recall_95: tuple[float, float] | None = None  # its 95 % confidence interval (Wilson, 1927)

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a CSV file with a header."""

    name: str
    # where the numbers in it are cut into bands; empty to choose these, or to take the values as they are
    bounds: tuple[float, ...]
    by_line: Mapping[int, str]  # line of the file, from 1 -> value
    by_photo: Mapping[str, str]  # photo, as the first column names it -> value

    def of_photo(self, photo: str) -> str:
        """The value for a photo, by its path or by its file name."""
        return self.by_photo.get(photo) or self.by_photo.get(PurePosixPath(photo).name, "")


def parse_by(text: str) -> tuple[str, tuple[float, ...]]:
    """The name and the bounds of `--by COLUMN` or `--by COLUMN:BOUND,BOUND…`.

    Raises:
        UsageError: the bounds are not rising numbers.
    """
    name, _, bounds = text.partition(":")
    try:
        values = tuple(float(value) for value in bounds.split(",")) if bounds else ()
    except ValueError:
        values = (math.nan,)
    if not all(low < high for low, high in itertools.pairwise((-math.inf, *values, math.inf))):
        raise UsageError(f"--by {text}: the bounds of a column are rising numbers", "as in --by age:20,40,60")
    return name, values


def read_column(path: Path, by: str) -> Column:
    """A column, as `parse_by` takes it, of a CSV file whose first row names its columns, the first of which names the
    photo.

    Raises:
        DataError: there is no such file, or no such column in it.
    """
    name, bounds = parse_by(by)
    reader = csv.reader(decode_text(read_bytes(path, DataError), "replace").splitlines())
    header = [cell.strip() for cell in next(reader, [])]
    if name not in header:
        shown = ", ".join(header[:20])
        raise DataError(f"{path}: no column is called {name!r}", f"it has: {shown}" if shown else "the file is empty")
    place = header.index(name)
    by_line: dict[int, str] = {}
    by_photo: dict[str, str] = {}
    for row in reader:
        if len(row) > place:
            by_line[reader.line_num] = by_photo[row[0].strip()] = row[place].strip()
    return Column(name, bounds, by_line, by_photo)


def computed_column(name: str, faces: TestFaces) -> list[str] | None:
    """A column that follows from faces themselves: `light`, the mean brightness of the crop, 0 to 255, or `yaw`, how
    far the head is turned to either side, degrees, from the labelled points. None for other names.
    """
    if name == "light":
        return [f"{value:.1f}" for value in faces.crops.mean(axis=(1, 2, 3))]
    if name == "yaw":
        side = faces.crops.shape[1]
        points = fractions_to_pixels(faces.truth.keypoints, side)
        poses = head_poses(points.astype(np.float64), faces.truth.scheme, (side, side))
        return ["" if pose is None else f"{abs(pose.yaw):.1f}" for pose in poses]
    return None


def groups_of_faces(by: str, root: Path, faces: TestFaces, table: Path | None = None) -> tuple[str, list[str]]:
    """`read_groups` for faces; `light` and `yaw` are computed unless there is a table."""
    name, bounds = parse_by(by)
    values = computed_column(name, faces) if table is None else None
    return read_groups(by, root, faces.rows, table) if values is None else (name, band_names(values, bounds))


def read_groups(
    by: str, root: Path, rows: Sequence[tuple[str, str, int]], table: Path | None = None
) -> tuple[str, list[str]]:
    """A column's name, as `parse_by` takes it, and the group of each face: of its row in a table of photos, or of its
    line in its label file. Faces are given by photo, label file relative to `root` (empty where it is not known) and
    line.

    Raises:
        DataError: a file cannot be read or has no such column, or the column fits no face.
    """
    if table is not None:
        column = read_column(table, by)
        name, bounds = column.name, column.bounds
        values = [column.of_photo(photo) for photo, _, _ in rows]
    else:
        files = {file for _, file, _ in rows}
        if "" in files:
            raise UsageError(f"--by {by}: a prepared set has no columns", "give --table FILE.csv, with a row per photo")
        columns = {file: read_column(root / file, by) for file in sorted(files)}
        name, bounds = parse_by(by)
        values = [columns[file].by_line.get(line, "") for _, file, line in rows]
    if not any(values):
        raise DataError(f"{table or root}: column {name} has a value for none of the {len(rows):,} faces")
    return name, band_names(values, bounds)


def band_names(values: Sequence[str], bounds: Sequence[float] = ()) -> list[str]:
    """The group of each value: itself, or of numbers, where there are bounds or many different ones, a band."""
    try:
        numbers = np.array([float(value) if value else math.nan for value in values])
    except ValueError:
        numbers = np.zeros(0)
    known = numbers[np.isfinite(numbers)]
    if not len(known):
        if bounds:
            raise DataError("--by: bounds are given, and the column does not hold numbers", "leave the bounds out")
        return [value or UNKNOWN for value in values]
    if not len(bounds):
        if len(np.unique(known)) <= MANY_VALUES:
            return [f"{number:g}" if np.isfinite(number) else UNKNOWN for number in numbers]
        bounds = np.unique(np.quantile(known, np.arange(1, BANDS) / BANDS)).tolist()
    edges = [f"{bound:g}" for bound in bounds]
    names = [f"under {edges[0]}", *(f"{low} to {high}" for low, high in itertools.pairwise(edges)), f"from {edges[-1]}"]
    places = np.searchsorted(np.asarray(bounds), numbers, side="right")
    return [names[place] if np.isfinite(number) else UNKNOWN for place, number in zip(places, numbers, strict=True)]


def read_report(path: Path, weights_sha256: str) -> tuple[str, dict[str, Any]]:
    """The name of the data and the groups by column in a `report.json` of `kpedge eval --by`, for the model's card.

    Raises:
        DataError: there are no groups in it, or it is of a model with other weights.
    """
    report = read_json(path, DataError)
    if not (
        isinstance(report, dict) and isinstance(report.get("groups"), dict) and isinstance(report.get("data"), str)
    ):
        raise DataError(
            f"{path}: not a report with groups", "write one: kpedge eval MODEL --data DATA --by COLUMN --out DIR"
        )
    if report.get("weights_sha256") != weights_sha256:
        raise DataError(f"{path}: the report is of a model with other weights", "run kpedge eval on this one")
    return Path(report["data"]).name, report["groups"]


def measure_groups(
    names: Sequence[str], errors: NDArray[np.float64] | None = None, found: NDArray[np.bool_] | None = None
) -> tuple[Group, ...]:
    """The figures of each group, groups in their natural order, from the name of each face's group, its mean error in
    fractions of its box (N,), and whether it was found (N,), as far as that is known.
    """
    labels = np.asarray(names)
    groups = []
    for name in sorted(set(names), key=_order):
        chosen = labels == name
        count = int(chosen.sum())
        figures: dict[str, Any] = {}
        if errors is not None:
            mean = float(errors[chosen].mean())
            figures["nme_box"] = round(mean, 6)
            if count > 1:
                half = Z95 * float(errors[chosen].std(ddof=1)) / math.sqrt(count)
                figures["nme_box_95"] = (round(mean - half, 6), round(mean + half, 6))
        if found is not None:
            hits = int(found[chosen].sum())
            figures["recall"] = round(hits / count, 6)
            figures["recall_95"] = wilson_interval(hits, count)
        groups.append(Group(name, count, **figures))
    return tuple(groups)


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (E. B. Wilson, 1927)."""
    share, square = hits / count, Z95**2
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = Z95 * math.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    return round(max(0.0, centre - half), 6), round(min(1.0, centre + half), 6)


def _order(name: str) -> tuple[int, float, str]:
    """Numbers and bands by their value, then words, then what is not known."""
    first = name.removeprefix("under ").removeprefix("from ").split(" ", 1)[0]
    try:
        value = float(first)
    except ValueError:
        return (3 if name == UNKNOWN else 2), 0.0, name
    return 1, value, "" if name.startswith("under ") else name
