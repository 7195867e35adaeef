"""What a set is made from, read once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kpedge.boxes import FACE, HEAD, POINTS, box_of_points, to_convention
from kpedge.datasets.formats import read_format
from kpedge.datasets.labels import TEST_LIST, LabelProblem, LabelRow, Labels, photo_problem, read_photo_list
from kpedge.datasets.negatives import all_unlabelled
from kpedge.datasets.photos import photo_digest
from kpedge.errors import DataError, ImageError
from kpedge.geometry import MIN_SIDE, Box
from kpedge.scheme import KeypointScheme


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of photos with their labels.

    Attributes:
        labels: all that could be read.
        by_photo: photo -> its rows.
        digests: photo -> hash of its content; without photos that cannot be read.
        listed: the photos of a given test split; None where there is none.
        unlabelled: photo -> boxes of faces that nobody labelled.
        problems: rows and photos that cannot be used.
    """

    labels: Labels
    by_photo: dict[str, list[LabelRow]]
    digests: dict[str, str]
    listed: list[str] | None
    unlabelled: dict[str, list[Box]]
    problems: list[LabelProblem]

    def sha256(self, form: int, settings: dict[str, Any]) -> str:
        """Hash of all that a set depends on: the form it is written in, photos, labels and settings."""
        rows = [(row.photo, row.box.tolist(), row.keypoints.tolist()) for row in self.labels.rows]
        broken = [str(problem) for problem in self.problems]
        unlabelled = {photo: [box.tolist() for box in boxes] for photo, boxes in self.unlabelled.items()}
        text = json.dumps([form, rows, broken, self.digests, self.listed, unlabelled, settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def read_source(
    folder: Path,
    scheme: KeypointScheme | None,
    test_list: Path | None,
    label_format: str,
    *,
    kept_test: bool = True,
    only: Collection[str] = (),
) -> Source:
    """Read a folder's labels and the content of its photos.

    Args:
        folder: of the photos.
        scheme: the points that are wanted; the set's own when None.
        test_list: photos of the test split; `test_images.txt` in the folder, where it is there, when None.
        label_format: a key of `kpedge.datasets.formats.FORMATS`, or "auto".
        kept_test: whether photos that the set itself keeps for testing are the test split.
        only: names of the objects that are faces, in formats that name them; all when empty.

    Raises:
        DataError: there is nothing to read, or a list is broken.
    """
    labels = read_format(folder, scheme, label_format, only=only)
    by_photo = labels.by_photo()
    problems = list(labels.problems)
    digests: dict[str, str] = {}
    for photo, rows in by_photo.items():
        try:
            digests[photo] = photo_digest(labels, photo)
        except ImageError as error:
            problems.append(photo_problem(labels.root, photo, rows, error))
    list_file = test_list or labels.root / TEST_LIST
    listed = list(labels.test) if labels.test and kept_test else None
    if test_list or list_file.is_file():
        listed, without_row = read_photo_list(list_file, labels)
        problems += without_row
    if listed is not None:
        listed = [photo for photo in listed if photo in digests]  # a missing photo is a named problem already
    return Source(labels, by_photo, digests, listed, all_unlabelled(labels), problems)


def our_box(row: LabelRow, labels: Labels, kind: str) -> Box:
    """The box of a row in our convention.

    Args:
        row: of the labels.
        labels: tell the scheme, and what the boxes hold where a row has no points.
        kind: what the boxes are taken for, of `kpedge.boxes.CONVENTIONS`. With `POINTS` the box follows from the
            points; where fewer than two are labelled it is the row's own, of a head unless the set says `FACE`.
    """
    if kind == POINTS:
        if row.labelled.sum() >= 2:
            box = box_of_points(row.keypoints, labels.scheme)
            if (box[2:] - box[:2]).min() >= MIN_SIDE:
                return box
        kind = FACE if labels.convention == FACE else HEAD
    return np.ravel(to_convention(row.box[None], kind))


def source_of_crops(read: Source, *, from_points: bool, pointless: bool = False) -> Source:
    """A source as crops are cut from it: faces without any labelled point are neither face nor background.

    Args:
        read: as it was read.
        from_points: boxes follow from the points; else they are those of the labels.
        pointless: faces without any labelled point are faces all the same.
    """
    unlabelled = {photo: list(boxes) for photo, boxes in read.unlabelled.items()}
    by_photo: dict[str, list[LabelRow]] = {}
    for photo, rows in read.by_photo.items():
        by_photo[photo] = [row for row in rows if pointless or row.labelled.any()]
        unknown = [] if pointless else [row.box for row in rows if not row.labelled.any()]
        if unknown:
            unlabelled.setdefault(photo, []).extend(unknown)
        if from_points:
            by_photo[photo] = [replace(row, box=our_box(row, read.labels, POINTS)) for row in by_photo[photo]]
    return replace(read, by_photo=by_photo, unlabelled=unlabelled)


def raise_first(problems: Sequence[LabelProblem]) -> None:
    """Stop at the first problem.

    Raises:
        DataError: there is one.
    """
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}", "list them with: kpedge data check; leave --strict to skip them")
