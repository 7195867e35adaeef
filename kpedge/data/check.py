"""What is in a folder of labelled photos, and what is wrong with it."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.drawing import contact_sheet, draw_box, draw_keypoints, write
from kpedge.core.errors import DataError, ImageError
from kpedge.core.geometry import CropRule, Image, box_size, crop, crop_transform, iou, transform_points
from kpedge.core.scheme import KeypointScheme
from kpedge.data.face_shape import Finding
from kpedge.data.formats import AUTO
from kpedge.data.labels import LabelProblem, LabelRow, Labels, photo_problem, photos_below, usable_rows
from kpedge.data.leaks import Thumbnail, find_pairs, report_pairs, splits_of, thumbnail
from kpedge.data.photos import open_photo
from kpedge.data.source import Progress, read_source

SAME_FACE = 0.9  # two boxes of one photo that overlap by more than this label the same face twice
SIDE, SIDE_OF_MANY = 240, 420  # side of a face's tile on the preview, pixels; of one with more than `MANY_POINTS`
MANY_POINTS = 30  # from this many on only some points are numbered, and lines join them
NUMBER_AWAY, NUMBER_SCALE = 11.0, 0.34  # how far from its point a number stands, pixels, and its size
OF_POINTS = (
    "faces with a point beyond the photo",
    "faces with a point outside their box",
    "faces with points not labelled",
    "faces with hidden points",
    "faces unlike a face",
)
"""Notes that do not apply to faces with boxes alone."""
FACES_A_PHOTO = (1, 2, 3, 5, 10)  # lower bounds of the groups in which faces per photo are counted


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` found."""

    root: Path
    format: str  # of the labels
    scheme: str  # name of the keypoint scheme; empty where faces have boxes alone
    points: int  # how many points it has
    convention: str  # what the boxes hold, of `kpedge.core.boxes.CONVENTIONS`
    # label_files, rows, photos: how many there are; `photos` counts those that labels name, or that show no face
    label_files: int
    rows: int
    photos: int
    faces: int  # rows that can be used
    background: int  # readable photos that show no face
    problems: tuple[LabelProblem, ...]  # rows and photos that cannot be used, each with its place
    # what is unusual about rows that can be used: faces labelled twice, points beyond the photo, points that do not lie
    # like a face
    remarks: tuple[LabelProblem, ...]
    findings: tuple[Finding, ...]  # what is implausible about the set as a whole, each with advice
    reading: tuple[str, ...]  # notes on how the files were read
    notes: dict[str, int]  # kind -> count, of what is unusual but no error
    faces_a_photo: dict[str, int]  # "1", "2", "3-4", ... -> photos
    box_px: dict[str, float]  # minimum, quartiles and maximum of the boxes' size, pixels
    roll_deg: dict[str, float]  # 5th, 50th and 95th percentile of the faces' roll, and the largest, degrees

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return {**asdict(self), "root": str(self.root), "problem_counts": dict(Counter(p.kind for p in self.problems))}


def check(
    root: Path,
    scheme: KeypointScheme | None = None,
    *,
    label_format: str = AUTO,
    only: Collection[str] = (),
    test_list: Path | None = None,
    progress: Progress | None = None,
) -> tuple[CheckReport, Labels]:
    """Read all labels of a folder and decode all photos, for a report, and the labels that can be used; the arguments
    are those of `read_source`.

    Raises:
        DataError: there is no label file at all.
    """
    read = read_source(root, scheme, test_list, label_format, only=only)
    labels = read.labels
    problems, remarks = list(read.problems), []
    notes: Counter[str] = Counter()
    contents: dict[str, str] = {}
    thumbnails: dict[str, Thumbnail] = {}
    usable: list[LabelRow] = []
    for done, photo in enumerate(read.digests, 1):
        rows = read.by_photo[photo]
        try:
            image = open_photo(labels, photo)
        except ImageError as error:
            problems.append(photo_problem(labels.root, photo, rows, error))
        else:
            digest = hashlib.sha256(image.tobytes()).hexdigest()
            if digest in contents:
                notes["photos with the same image as another"] += 1
                remarks.append(LabelProblem("same image", photo, f"the same image as {contents[digest]}"))
            contents.setdefault(digest, photo)
            thumbnails[photo] = thumbnail(image)
            rows, outside = usable_rows(rows, image.shape[1], image.shape[0])
            problems += outside
            usable += rows
            remarks += _remarks(rows, image, notes)
        if progress:
            progress(done, len(read.digests))
    unlabelled = set() if labels.pixels else set(photos_below(labels.root)) - set(read.by_photo)
    if unlabelled:
        notes["photos without a label"] = len(unlabelled)
    remarks += read.odd_faces
    notes["faces unlike a face"] += len(read.odd_faces)
    splits = splits_of(labels, read.listed)
    pairs = find_pairs(thumbnails, splits)
    leaks, twins = report_pairs(pairs, splits)
    remarks += twins
    if pairs:
        notes["pairs of photos that show nearly the same"] = len(pairs)
    if labels.boxes_only:
        notes = Counter({kind: count for kind, count in notes.items() if kind not in OF_POINTS})
    boxes = np.array([row.box for row in usable]).reshape(-1, 4)
    roll = labels.scheme.roll(np.array([row.keypoints for row in usable]).reshape(-1, len(labels.scheme), 2))
    report = CheckReport(
        root=root,
        format=labels.format,
        scheme="" if labels.boxes_only else labels.scheme.name,
        points=0 if labels.boxes_only else len(labels.scheme),
        convention=labels.convention,
        label_files=len(labels.files),
        rows=len(labels.rows) + len(labels.problems),
        photos=len(read.by_photo),
        faces=len(usable),
        background=sum(photo in read.digests for photo in labels.background),
        problems=tuple(problems),
        remarks=tuple(remarks),
        findings=(*read.findings, *leaks),
        reading=labels.remarks,
        notes=dict(sorted(notes.items())),
        faces_a_photo=_grouped(Counter(row.photo for row in usable).values()),
        box_px=_percentiles(box_size(boxes), min=0, q25=25, median=50, q75=75, max=100),
        roll_deg=_percentiles(np.rad2deg(roll[np.isfinite(roll)]), p5=5, median=50, p95=95),
    )
    return report, replace(labels, rows=tuple(usable), problems=tuple(problems))


def _remarks(rows: list[LabelRow], image: Image, notes: Counter[str]) -> list[LabelProblem]:
    """What is unusual about the rows of a photo, though they are used."""
    height, width = image.shape[:2]
    remarks: list[LabelProblem] = []
    for index, row in enumerate(rows):
        twin = next((o for o in rows[:index] if iou(row.box[None], o.box[None])[0, 0] > SAME_FACE), None)
        if twin is not None:
            remarks.append(LabelProblem("duplicate", row.where, f"{row.photo}: the same face as {twin.where}"))
        labelled = row.labelled
        beyond = labelled & ~((row.keypoints > -0.5) & (row.keypoints < (width - 0.5, height - 0.5))).all(axis=1)
        if beyond.any():
            which = ", ".join(map(str, np.flatnonzero(beyond)))
            remarks.append(LabelProblem("point beyond photo", row.where, f"{row.photo}: points {which}"))
        points = row.keypoints[labelled]
        in_box = (points >= row.box[:2]) & (points <= row.box[2:])
        notes["faces labelled twice"] += twin is not None
        notes["faces with a point beyond the photo"] += bool(beyond.any())
        notes["faces with a negative coordinate"] += bool((points < 0).any() or (row.box < 0).any())
        notes["faces with a point outside their box"] += not in_box.all()
        notes["faces with points not labelled"] += not labelled.all()
        notes["faces with hidden points"] += row.visible is not None
        notes["faces smaller than 30 px"] += bool(box_size(row.box) < 30)
    return remarks


def _percentiles(values: NDArray[np.float64], **at: float) -> dict[str, float]:
    return {name: round(float(np.percentile(values, q)), 1) for name, q in at.items()} if len(values) else {}


def _grouped(counts: Iterable[int]) -> dict[str, int]:
    """Photos by the number of their faces."""
    values = np.array(sorted(counts), dtype=int)
    groups = {}
    for low, high in zip(FACES_A_PHOTO, (*FACES_A_PHOTO[1:], None), strict=True):
        label = f"{low}+" if high is None else str(low) if high == low + 1 else f"{low}-{high - 1}"
        groups[label] = int(((values >= low) & (values < (high or np.inf))).sum())
    return groups


def label_preview(labels: Labels, *, count: int = 24, columns: int = 6, side: int = 0) -> Image:
    """A contact sheet of at most `count` labelled faces, spread evenly over the rows, with points and their indices; a
    tile has `side` pixels, when 0 enough to distinguish its points.

    Raises:
        DataError: there is no face to draw.
        ImageError: a photo cannot be read.
    """
    if not labels.rows:
        raise DataError(f"{labels.root}: no face to draw")
    chosen: Sequence[LabelRow] = labels.rows
    if len(chosen) > count:
        chosen = [chosen[round(i)] for i in np.linspace(0, len(chosen) - 1, count)]
    points = 0 if labels.boxes_only else len(labels.scheme)
    dense = points > MANY_POINTS
    side = side or (SIDE_OF_MANY if dense else SIDE)
    numbers = _numbered_points(labels.scheme) if dense else None
    tiles = []
    for row in chosen:
        way = crop_transform(row.box, side, CropRule())
        tile = crop(open_photo(labels, row.photo), way, side).copy()
        draw_box(tile, transform_points(way, row.box.reshape(2, 2)).ravel())
        found = transform_points(way, row.keypoints)
        draw_keypoints(tile, found, labels.scheme, skeleton=dense, numbers=numbers is None)
        if numbers is not None:
            _write_numbers(tile, found, numbers)
        tiles.append(tile)
    return contact_sheet(tiles, [f"{row.photo} {row.place or f':{row.line}'}" for row in chosen], columns)


def _numbered_points(scheme: KeypointScheme) -> list[int]:
    """The points whose numbers are written if there is no room for all: both ends of every line of the skeleton, and
    the middle of long ones; every fifth if there is no skeleton.
    """
    chosen: set[int] = set()
    path: list[int] = []
    for start, end in (*scheme.skeleton, (-1, -1)):
        if not path or path[-1] != start:
            ends = dict.fromkeys(path)
            chosen |= {path[0], list(ends)[-1], path[len(path) // 2]} if path else set()
            path = [start]
        path.append(end)
    return sorted(chosen - {-1}) if scheme.skeleton else list(range(0, len(scheme), 5))


def _write_numbers(tile: Image, points: NDArray[np.float64], numbers: list[int]) -> None:
    """Write the numbers of some points, each away from the middle of all."""
    middle = np.nanmean(points, axis=0) if np.isfinite(points).any() else np.zeros(2)
    for number in numbers:
        if np.isfinite(points[number]).all():
            way = points[number] - middle
            reach = way / max(float(np.hypot(*way)), 1e-6)
            x, y = points[number] + reach * NUMBER_AWAY - (4 * len(str(number)), -4)
            write(tile, str(number), (round(float(x)), round(float(y))), NUMBER_SCALE)
