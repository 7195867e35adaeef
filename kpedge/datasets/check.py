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

from kpedge.datasets.labels import LabelProblem, LabelRow, Labels, photos_below, read_labels
from kpedge.drawing import contact_sheet, draw_box, draw_keypoints
from kpedge.errors import DataError, ImageError
from kpedge.geometry import CropRule, Image, box_overlaps_image, box_size, crop, crop_transform, iou, transform_points
from kpedge.images import read_image
from kpedge.keypoints import KeypointScheme

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
        label_files, rows, photos: how many there are; `photos` counts those that labels name.
        faces: rows that can be used.
        problems: everything that is wrong, each with its place.
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
    notes: dict[str, int]
    faces_a_photo: dict[str, int]
    box_px: dict[str, float]
    roll_deg: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return {**asdict(self), "root": str(self.root), "problem_counts": dict(Counter(p.kind for p in self.problems))}


def check(
    root: Path, scheme: KeypointScheme, *, progress: Callable[[int, int], None] | None = None
) -> tuple[CheckReport, Labels]:
    """Read all labels of a folder and decode all photos.

    Raises:
        DataError: there is no label file at all.
    """
    labels = read_labels(root, scheme)
    by_photo = labels.by_photo()
    problems = list(labels.problems)
    notes: Counter[str] = Counter()
    contents: dict[str, str] = {}
    usable: list[LabelRow] = []
    for done, (photo, rows) in enumerate(by_photo.items(), 1):
        try:
            image = read_image(labels.root / photo, stored=True)
        except ImageError as error:
            kind = "unreadable photo" if (labels.root / photo).exists() else "missing photo"
            problems.append(LabelProblem(kind, rows[0].where, f"{error} ({len(rows)} faces)"))
        else:
            digest = hashlib.sha256(image.tobytes()).hexdigest()
            if digest in contents:
                notes["photos with the same picture as another"] += 1
            contents.setdefault(digest, photo)
            fine, found = _check_rows(photo, rows, image, notes)
            usable += fine
            problems += found
        if progress:
            progress(done, len(by_photo))
    unlabelled = set(photos_below(labels.root)) - set(by_photo)
    if unlabelled:
        notes["photos without a label"] = len(unlabelled)
    boxes = np.array([row.box for row in usable]).reshape(-1, 4)
    keypoints = np.array([row.keypoints for row in usable]).reshape(-1, len(scheme), 2)
    report = CheckReport(
        root=root,
        scheme=scheme.name,
        label_files=len(labels.files),
        rows=len(labels.rows) + len(labels.problems),
        photos=len(by_photo),
        faces=len(usable),
        problems=tuple(problems),
        notes=dict(sorted(notes.items())),
        faces_a_photo=_grouped(Counter(row.photo for row in usable).values()),
        box_px=_percentiles(box_size(boxes), min=0, q25=25, median=50, q75=75, max=100),
        roll_deg=_percentiles(np.rad2deg(scheme.roll(keypoints)), p5=5, median=50, p95=95),
    )
    return report, Labels(labels.root, scheme, tuple(usable), tuple(problems), labels.files)


def _check_rows(
    photo: str, rows: list[LabelRow], image: Image, notes: Counter[str]
) -> tuple[list[LabelRow], list[LabelProblem]]:
    height, width = image.shape[:2]
    problems: list[LabelProblem] = []
    fine: list[LabelRow] = []
    for row in rows:
        if not box_overlaps_image(row.box, width, height):
            message = f"{photo}: the box lies outside the photo of {width}x{height}"
            problems.append(LabelProblem("box outside photo", row.where, message))
            continue
        twin = next((other for other in fine if iou(row.box[None], other.box[None])[0, 0] > SAME_FACE), None)
        if twin is not None:
            problems.append(LabelProblem("duplicate", row.where, f"{photo}: the same face as {twin.where}"))
            continue
        fine.append(row)
        inside = (row.keypoints > -0.5) & (row.keypoints < (width - 0.5, height - 0.5))
        notes["faces with a point beyond the photo"] += not inside.all()
        notes["faces with a negative coordinate"] += bool((row.keypoints < 0).any() or (row.box < 0).any())
        in_box = (row.keypoints >= row.box[:2]) & (row.keypoints <= row.box[2:])
        notes["faces with a point outside their box"] += not in_box.all()
        notes["faces smaller than 30 px"] += bool(box_size(row.box) < 30)
    return fine, problems


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
