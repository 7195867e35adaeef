"""What is in a folder of labelled photos, and what is wrong with it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.datasets.formats import AUTO, read_format
from kpedge.datasets.labels import LabelProblem, LabelRow, Labels, photo_problem, photos_below, usable_rows
from kpedge.drawing import contact_sheet, draw_box, draw_keypoints
from kpedge.errors import DataError, ImageError
from kpedge.geometry import CropRule, Image, box_size, crop, crop_transform, iou, transform_points
from kpedge.images import read_image
from kpedge.scheme import KeypointScheme

SAME_FACE = 0.9
"""Two boxes of one photo that overlap by more than this label the same face twice."""
FACES_A_PHOTO = (1, 2, 3, 5, 10)
"""Lower bounds of the groups in which faces a photo are counted."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` found.

    Attributes:
        root: the folder.
        scheme: name of the keypoint scheme.
        label_files, rows, photos: how many there are; `photos` counts those that labels name, or that show no face.
        faces: rows that can be used.
        problems: rows and photos that cannot be used, each with its place.
        remarks: what is unusual about rows that can be used: faces labelled twice, points beyond the photo.
        notes: kind -> count, of what is unusual but no error.
        faces_a_photo: "1", "2", "3-4", ... -> photos.
        box_px: minimum, quartiles and maximum of the boxes' size, pixels.
        roll_deg: 5th, 50th and 95th percentile of the faces' roll, and the largest, degrees.
    """

    root: Path
    scheme: str
    label_files: int
    rows: int
    photos: int
    faces: int
    problems: tuple[LabelProblem, ...]
    remarks: tuple[LabelProblem, ...]
    notes: dict[str, int]
    faces_a_photo: dict[str, int]
    box_px: dict[str, float]
    roll_deg: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return {**asdict(self), "root": str(self.root), "problem_counts": dict(Counter(p.kind for p in self.problems))}


def check(
    root: Path,
    scheme: KeypointScheme,
    *,
    label_format: str = AUTO,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[CheckReport, Labels]:
    """Read all labels of a folder and decode all photos.

    Args:
        root: the folder.
        scheme: the keypoints that are wanted.
        label_format: a key of `kpedge.datasets.formats.FORMATS`, or "auto".
        progress: told how many photos are done, of how many.

    Returns:
        The report, and the labels that can be used.

    Raises:
        DataError: there is no label file at all.
    """
    labels = read_format(root, scheme, label_format)
    by_photo = labels.by_photo()
    problems = list(labels.problems)
    remarks: list[LabelProblem] = []
    notes: Counter[str] = Counter()
    contents: dict[str, str] = {}
    usable: list[LabelRow] = []
    for done, (photo, rows) in enumerate(by_photo.items(), 1):
        try:
            image = read_image(labels.root / photo, stored=True)
        except ImageError as error:
            problems.append(photo_problem(labels.root, photo, rows, error))
        else:
            digest = hashlib.sha256(image.tobytes()).hexdigest()
            if digest in contents:
                notes["photos with the same picture as another"] += 1
            contents.setdefault(digest, photo)
            rows, outside = usable_rows(rows, image)
            problems += outside
            usable += rows
            remarks += _remarks(rows, image, notes)
        if progress:
            progress(done, len(by_photo))
    unlabelled = set(photos_below(labels.root)) - set(by_photo)
    if unlabelled:
        notes["photos without a label"] = len(unlabelled)
    boxes = np.array([row.box for row in usable]).reshape(-1, 4)
    keypoints = np.array([row.keypoints for row in usable]).reshape(-1, len(scheme), 2)
    roll = scheme.roll(keypoints)
    report = CheckReport(
        root=root,
        scheme=scheme.name,
        label_files=len(labels.files),
        rows=len(labels.rows) + len(labels.problems),
        photos=len(by_photo),
        faces=len(usable),
        problems=tuple(problems),
        remarks=tuple(remarks),
        notes=dict(sorted(notes.items())),
        faces_a_photo=_grouped(Counter(row.photo for row in usable).values()),
        box_px=_percentiles(box_size(boxes), min=0, q25=25, median=50, q75=75, max=100),
        roll_deg=_percentiles(np.rad2deg(roll[np.isfinite(roll)]), p5=5, median=50, p95=95),
    )
    return report, Labels(labels.root, scheme, tuple(usable), tuple(problems), labels.files)


def _remarks(rows: list[LabelRow], image: Image, notes: Counter[str]) -> list[LabelProblem]:
    """What is unusual about the rows of a photo; they are used all the same."""
    height, width = image.shape[:2]
    remarks: list[LabelProblem] = []
    for index, row in enumerate(rows):
        twin = next((o for o in rows[:index] if iou(row.box[None], o.box[None])[0, 0] > SAME_FACE), None)
        if twin is not None:
            remarks.append(LabelProblem("duplicate", row.where, f"{row.photo}: the same face as {twin.where}"))
        labelled = np.isfinite(row.keypoints).all(axis=1)
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


def label_sheet(labels: Labels, *, count: int = 24, columns: int = 6, side: int = 240) -> Image:
    """A contact sheet of labelled faces, spread evenly over the rows, with points and their indices.

    Raises:
        DataError: there is no face to draw.
        ImageError: a photo cannot be read.
    """
    if not labels.rows:
        raise DataError(f"{labels.root}: no face to draw")
    chosen: Sequence[LabelRow] = labels.rows
    if len(chosen) > count:
        chosen = [chosen[round(i)] for i in np.linspace(0, len(chosen) - 1, count)]
    tiles = []
    for row in chosen:
        way = crop_transform(row.box, side, CropRule())
        picture = crop(read_image(labels.root / row.photo, stored=True), way, side).copy()
        draw_box(picture, transform_points(way, row.box.reshape(2, 2)).ravel())
        draw_keypoints(picture, transform_points(way, row.keypoints), labels.scheme, skeleton=False, numbers=True)
        tiles.append(picture)
    return contact_sheet(tiles, [f"{row.photo} :{row.line}" for row in chosen], columns)
