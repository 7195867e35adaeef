"""A folder of labelled photos, read once: what `check`, `convert` and `prepare` start from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kpedge.core.boxes import FACE, HEAD, POINTS, box_of_points, to_convention
from kpedge.core.errors import DataError, ImageError
from kpedge.core.geometry import MIN_SIDE, Box
from kpedge.core.model_zoo import RENDERED_TERMS
from kpedge.core.scheme import KeypointScheme
from kpedge.data.face_shape import Finding
from kpedge.data.findings import find_implausible
from kpedge.data.formats import AUTO, read_format
from kpedge.data.labels import TEST_LIST, LabelProblem, LabelRow, Labels, photo_problem, read_photo_list, usable_rows
from kpedge.data.negatives import ignored_boxes
from kpedge.data.photos import PhotoHead, read_photo
from kpedge.data.rows import is_file

NOT_STATED = "not stated"  # terms of photos if none are stated
RECORD = "synthetic.json"  # file in a folder of photos that kpedge rendered
BACKGROUND_FOLDER = "background"  # folder of rendered photos without a face, in a folder of rendered photos
Progress = Callable[[int, int], None]  # called with (photos done, photos in all)


def terms_of(source: Path, terms: str) -> str:
    """The terms of a folder's photos: those given, or for photos that kpedge rendered its own."""
    root = source.parent if source.name == BACKGROUND_FOLDER else source
    return RENDERED_TERMS if terms == NOT_STATED and (root / RECORD).is_file() else terms


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of photos with their labels."""

    labels: Labels  # all that could be read
    by_photo: dict[str, list[LabelRow]]  # photo -> its rows
    digests: dict[str, str]  # photo -> hash of its content; without photos that cannot be read
    heads: dict[str, PhotoHead]  # photo -> its size and orientation, of the same photos
    listed: list[str] | None  # the photos of the test split, if a list or the set itself says which
    ignored: dict[str, list[Box]]  # photo -> boxes of faces that are neither face nor background
    problems: list[LabelProblem]  # rows and photos that cannot be used
    findings: list[Finding]  # what is implausible about the set as a whole
    odd_faces: list[LabelProblem]  # a remark for each face that is unlike the others

    def sha256(self, form: int, settings: dict[str, Any]) -> str:
        """Hash of all that a set depends on: the format it is written in, photos, labels and settings."""
        rows = [(row.photo, row.box.tolist(), row.keypoints.tolist()) for row in self.labels.rows]
        broken = [str(problem) for problem in self.problems]
        ignored = {photo: [box.tolist() for box in boxes] for photo, boxes in self.ignored.items()}
        text = json.dumps([form, rows, broken, self.digests, self.listed, ignored, settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def check(self, *, force: bool = False) -> None:
        """Stop at labels that are certainly wrong.

        Raises:
            DataError: they are, and `force` is off; or not one of them can be used.
        """
        wrong = [finding for finding in self.findings if finding.certain]
        if wrong and not force:
            advice = f"{wrong[0].advice}; add --force to use the labels as they are"
            raise DataError(f"{self.labels.root}: {wrong[0].message}", advice)
        raise_if_unusable(self.labels.root, self.problems, sum(photo in self.digests for photo in self.by_photo))


def raise_if_unusable(root: Path, problems: Sequence[LabelProblem], usable: int) -> None:
    """Stop if nothing is left of a set but problems.

    Raises:
        DataError: nothing is usable.
    """
    if problems and not usable:
        rest = f" (and {len(problems) - 1:,} more)" if len(problems) > 1 else ""
        raise DataError(f"{root}: nothing in it can be used: {problems[0]}{rest}", "see: kpedge data check")


def read_source(
    folder: Path,
    scheme: KeypointScheme | None = None,
    test_list: Path | None = None,
    label_format: str = AUTO,
    *,
    kept_test: bool = True,
    only: Collection[str] = (),
    progress: Progress | None = None,
) -> Source:
    """Read the labels of a folder (or a label file), the content of its photos, and compare the two.

    Args:
        folder: of the photos, or a label file.
        scheme: the requested points; the set's own when None.
        test_list: photos of the test split; `test_images.txt` in the folder, if it exists, when None.
        label_format: a key of `kpedge.data.formats.FORMATS`, or "auto".
        kept_test: whether photos that the set itself keeps for testing are the test split.
        only: names of the objects that are faces, in formats with names; all when empty.
        progress: called with the number of photos read, and of all.
    """
    labels = read_format(folder, scheme, label_format, only=only)
    by_photo = labels.by_photo()
    problems, outside = list(labels.problems), []
    digests: dict[str, str] = {}
    heads: dict[str, PhotoHead] = {}
    usable: list[LabelRow] = []
    for done, (photo, rows) in enumerate(by_photo.items(), 1):
        try:
            digests[photo], heads[photo] = read_photo(labels, photo)
        except ImageError as error:
            problems.append(photo_problem(labels.root, photo, rows, error))
        else:
            inside, beyond = usable_rows(rows, heads[photo].width, heads[photo].height)
            usable += inside
            outside += beyond
        if progress:
            progress(done, len(by_photo))
    listed = list(labels.test) if labels.test and kept_test else None
    if test_list or is_file(labels.root / TEST_LIST):
        listed, without_row = read_photo_list(test_list or labels.root / TEST_LIST, labels)
        problems += without_row
    findings, odd = find_implausible(labels, usable, heads, [*problems, *outside])
    return Source(labels, by_photo, digests, heads, listed, ignored_boxes(labels), problems, findings, odd)


def our_box(row: LabelRow, labels: Labels, kind: str) -> Box:
    """The box of a row in our convention, if the labels' boxes are of `kind` (`kpedge.core.boxes.CONVENTIONS`). With
    `POINTS` it follows from the points; if fewer than two are labelled it is the row's own, of a head unless the set
    says `FACE`.
    """
    if kind == POINTS:
        if row.labelled.sum() >= 2:
            box = box_of_points(row.keypoints, labels.scheme)
            if (box[2:] - box[:2]).min() >= MIN_SIDE:
                return box
        kind = FACE if labels.convention == FACE else HEAD
    return np.ravel(to_convention(row.box[None], kind))


def source_of_crops(read: Source, *, from_points: bool, pointless: bool) -> Source:
    """A source as crops are cut from it: faces without points are ignored unless `pointless`; boxes may be
    `from_points`.
    """
    ignored = {photo: list(boxes) for photo, boxes in read.ignored.items()}
    by_photo: dict[str, list[LabelRow]] = {}
    for photo, rows in read.by_photo.items():
        by_photo[photo] = [row for row in rows if pointless or row.labelled.any()]
        if left_out := [row.box for row in rows if not (pointless or row.labelled.any())]:
            ignored.setdefault(photo, []).extend(left_out)
        if from_points:
            by_photo[photo] = [replace(row, box=our_box(row, read.labels, POINTS)) for row in by_photo[photo]]
    return replace(read, by_photo=by_photo, ignored=ignored)


def raise_first(problems: Sequence[LabelProblem]) -> None:
    """Stop at the first problem.

    Raises:
        DataError: there is one.
    """
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}", "list them with: kpedge data check; leave out --strict to skip them")
