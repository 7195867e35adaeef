"""Label formats by name: what kpedge reads, and what it writes. Each reader gives `Labels` in the set's own points."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from kpedge.core.errors import DataError, UsageError
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.formats import (
    background,
    boxes_csv,
    coco,
    coco_write,
    course_lists,
    ibug68_csv,
    kaggle_csv,
    label,
    mtfl,
    pts,
    voc,
    wflw,
    wider,
    yolo,
)
from kpedge.data.formats.boxes_csv import read as read_boxes_csv
from kpedge.data.formats.common import SCHEME_FILE, is_generic, refuse_unreadable
from kpedge.data.formats.record import recorded_boxes, recorded_format
from kpedge.data.formats.target import Target
from kpedge.data.formats.unknown import refuse_json, refuse_unknown
from kpedge.data.labels import Labels, photos_below

__all__ = [
    "AUTO",
    "FORMATS",
    "TARGETS",
    "Format",
    "Target",
    "guess_format",
    "may_read",
    "read_boxes_csv",
    "read_format",
]

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Format:
    """A label format.

    Attributes:
        holds: what a folder of it holds, in one line.
        read: reads a folder or a file, for a scheme that is wanted, or none.
        looks_like: whether a folder or a file seems to be of it.
        told: it cannot be told by what lies there: only kpedge's own record names it.
        named: whether its objects have names, among which `only` chooses.
        target: how it is written; None where it is not.
    """

    holds: str
    read: Callable[..., Labels]
    looks_like: Callable[[Path], bool]
    named: bool = False
    told: bool = False
    target: Target | None = None


FORMATS: dict[str, Format] = {
    "ibug68-csv": Format(
        ibug68_csv.HOLDS,
        ibug68_csv.read,
        ibug68_csv.looks_like,
        target=Target(ibug68_csv.write, ibug68_csv.place, scheme=ibug68_csv.SCHEME, own_test=True),
    ),
    "kaggle-csv": Format(kaggle_csv.HOLDS, kaggle_csv.read, kaggle_csv.looks_like),
    "wflw": Format(
        wflw.HOLDS,
        wflw.read,
        wflw.looks_like,
        target=Target(wflw.write, wflw.place, scheme=wflw.SCHEME, boxes=True, own_test=True, words=True),
    ),
    "wider": Format(wider.HOLDS, wider.read, wider.looks_like),
    "mtfl": Format(
        mtfl.HOLDS,
        mtfl.read,
        mtfl.looks_like,
        target=Target(mtfl.write, mtfl.place, scheme=mtfl.SCHEME, words=True),
    ),
    "label": Format(
        label.HOLDS,
        label.read,
        label.looks_like,
        target=Target(label.write, label.place, boxes=True, gaps=True, words=True),
    ),
    "coco": Format(
        coco.HOLDS,
        coco.read,
        coco.looks_like,
        named=True,
        target=Target(
            coco_write.write,
            coco_write.place,
            boxes=True,
            gaps=True,
            visible=True,
            boxes_only=True,
            unlabelled=True,
            own_test=True,
            sizes=True,
        ),
    ),
    "pts": Format(pts.HOLDS, pts.read, pts.looks_like, target=Target(pts.write, pts.place, several=False, stems=True)),
    "pts0": Format(
        pts.HOLDS0,
        pts.read0,
        pts.looks_like,
        told=True,
        target=Target(pts.write0, pts.place, several=False, stems=True),
    ),
    "voc": Format(
        voc.HOLDS,
        voc.read,
        voc.looks_like,
        named=True,
        target=Target(
            voc.write,
            voc.place,
            boxes=True,
            points=False,
            boxes_only=True,
            unlabelled=True,
            background=True,
            own_test=True,
            sizes=True,
            stems=True,
        ),
    ),
    "yolo": Format(
        yolo.HOLDS,
        yolo.read,
        yolo.looks_like,
        named=True,
        target=Target(
            yolo.write,
            yolo.place,
            boxes=True,
            gaps=True,
            visible=True,
            boxes_only=True,
            background=True,
            own_test=True,
            sizes=True,
            stems=True,
        ),
    ),
    "boxes": Format(
        boxes_csv.HOLDS,
        boxes_csv.read,
        boxes_csv.looks_like,
        target=Target(boxes_csv.write, boxes_csv.place, boxes=True, points=False, boxes_only=True),
    ),
    "course-lists": Format(
        course_lists.HOLDS,
        course_lists.read,
        course_lists.looks_like,
        target=Target(course_lists.write, course_lists.place, boxes=True, gaps=True, own_test=True, words=True),
    ),
    "background": Format(background.HOLDS, background.read, background.looks_like),
}
"""Name -> format, in the order in which a folder is held against them: those that say most come first."""
TARGETS = {name: form.target for name, form in FORMATS.items() if form.target is not None}
"""Formats that are written."""


def _fitting(root: Path, scheme: KeypointScheme | None) -> list[str]:
    """The formats that a folder or a file seems to be of."""
    recorded = FORMATS.get(name := recorded_format(root))
    if recorded and recorded.looks_like(root):
        return [name]
    found = [name for name, form in FORMATS.items() if not form.told and form.looks_like(root)]
    if "mtfl" in found and not mtfl.looks_like(root, scheme):
        found.remove("mtfl")
    if "mtfl" in found and "label" in found:
        found.remove("label")  # the same file
    return found


def guess_format(root: Path, scheme: KeypointScheme | None = None) -> str:
    """The format of a folder's labels: the one in which kpedge wrote it (`convert.json`), else from what lies in it;
    photos without labels are never taken for background.

    Raises:
        DataError: none fits, or it is a prepared set.
    """
    return _guess(root, scheme)[0]


def _guess(root: Path, scheme: KeypointScheme | None) -> list[str]:
    if not root.exists():
        raise DataError(f"{root}: no such folder")
    found = _fitting(root, scheme)
    if not found or found[0] == "course-lists":
        course_lists.refuse_prepared(root)
    if not found:
        refuse_unreadable(root)
        if root.is_dir() or root.suffix.lower() == ".json":
            refuse_json(coco.json_files(root))
        refuse_unknown(root, FORMATS)
    return found


def may_read(root: Path, name: str) -> bool:
    """Whether something in a folder looks like a format of `FORMATS`."""
    return root.exists() and (bool(photos_below(root)) if name == "background" else FORMATS[name].looks_like(root))


def read_format(
    root: Path, scheme: KeypointScheme | None = None, name: str = AUTO, *, only: Collection[str] = ()
) -> Labels:
    """All labels of a data folder, in a format known by name.

    Args:
        root: the folder, or a label file.
        scheme: the points that are wanted; the set's own when None.
        name: a key of `FORMATS`, or "auto" for the one that the folder's content tells.
        only: names of the objects that are faces, in formats that name them; all when empty.

    Raises:
        DataError: there is nothing to read. Broken rows do not raise: they are listed in `problems`.
        UsageError: there is no such format, or it cannot give these points.
    """
    remarks = []
    if name == AUTO:
        name, *others = _guess(root, scheme)
        if others:
            remarks.append(f"read as {name}; it could be {' or '.join(others)} as well: --format chooses")
    if name not in FORMATS:
        raise UsageError(f"no label format is called {name!r}", f"known: {', '.join((AUTO, *FORMATS))}")
    form = FORMATS[name]
    if only and not form.named:
        raise UsageError(f"the objects of the format {name} have no names", "leave --label out")
    labels = form.read(root, scheme, only=only) if form.named else form.read(root, scheme)
    if not labels.boxes_only and labels.rows and (scheme is None or is_generic(scheme)):
        remarks += _about(labels.scheme)
    boxes = recorded_boxes(labels.root, name) or labels.convention
    labels = replace(labels, convention=boxes, remarks=(*remarks, *labels.remarks))
    return labels if scheme is None else labels.converted(scheme)


def _about(scheme: KeypointScheme) -> list[str]:
    """What is missing in a set's own scheme."""
    if is_generic(scheme):
        last = f" to {len(scheme)}" if len(scheme) > 1 else ""
        return [
            f"nobody named the {format_count(len(scheme), 'point')}, called 1{last} here: "
            f"give names in {SCHEME_FILE} beside the labels (docs/schemes.md)"
        ]
    if not scheme.can_mirror:
        return [
            f"no mirror pairs are known among the points of {scheme.name}: training shows no mirrored faces; "
            f"name them with left and right, or list the pairs in {SCHEME_FILE} (docs/schemes.md)"
        ]
    return []
