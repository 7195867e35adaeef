"""Label formats by name: what kpedge reads, and what it writes. Each reader gives `Labels` in the set's own points.

Adding one: a module that defines a `LabelFormat`, and a line in `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kpedge.core.registry import Registry

if TYPE_CHECKING:
    from kpedge.core.scheme import KeypointScheme
    from kpedge.data.formats.format import LabelFormat
    from kpedge.data.labels import Labels

AUTO = "auto"
FORMATS: Registry[LabelFormat] = Registry(
    "--format",
    {
        "ibug68-csv": "kpedge.data.formats.ibug68_csv:FORMAT",
        "kaggle-csv": "kpedge.data.formats.kaggle_csv:FORMAT",
        "wflw": "kpedge.data.formats.wflw:FORMAT",
        "wider": "kpedge.data.formats.wider:FORMAT",
        "retinaface": "kpedge.data.formats.retinaface:FORMAT",
        "celeba": "kpedge.data.formats.celeba:FORMAT",
        "mtfl": "kpedge.data.formats.mtfl:FORMAT",
        "label": "kpedge.data.formats.label:FORMAT",
        "coco": "kpedge.data.formats.coco:FORMAT",
        "label-studio": "kpedge.data.formats.label_studio:FORMAT",
        "labelme": "kpedge.data.formats.labelme:FORMAT",
        "imglab": "kpedge.data.formats.imglab:FORMAT",
        "cvat": "kpedge.data.formats.cvat:FORMAT",
        "pts": "kpedge.data.formats.pts:FORMAT",
        "pts0": "kpedge.data.formats.pts:FROM_ZERO",
        "voc": "kpedge.data.formats.voc:FORMAT",
        "yolo": "kpedge.data.formats.yolo:FORMAT",
        "boxes": "kpedge.data.formats.boxes:FORMAT",
        "course-lists": "kpedge.data.formats.course_lists:FORMAT",
        "background": "kpedge.data.formats.background:FORMAT",
    },
)
"""Name -> format, in the order in which a folder is compared with them: those that say most come first."""
READ_ONLY = (
    *("kaggle-csv", "wider", "retinaface", "celeba", "labelme"),
    "background",
)
"""Formats that are not written."""
WRITABLE = tuple(name for name in FORMATS if name not in READ_ONLY)
_SNIFFED = 20  # files of a folder that are looked into


def _label_files(root: Path, form: LabelFormat) -> list[Path]:
    """The label files of a folder, or the one file, that look like a format."""
    files = [root] if root.is_file() else form.find(root)
    return files if any(map(form.sniff, files[:_SNIFFED])) else []


def _check_exists(root: Path) -> None:
    from kpedge.core.errors import DataError
    from kpedge.core.files import nearest_file

    if not root.exists():
        raise DataError(f"{root}: no such folder", nearest_file(root))
    if not (root.is_dir() or root.is_file()):
        raise DataError(f"{root}: neither a folder nor a regular file", "give the folder of the photos")


def matching_formats(root: Path, scheme: KeypointScheme | None = None) -> list[str]:
    """The formats that a folder or a file seems to be of, if not that in which kpedge wrote it (`convert.json`): the
    best first, then those that would read other files. Photos without labels are never taken for background.
    """
    from kpedge.data.formats.record import recorded_format
    from kpedge.data.formats.unknown import unrecognised

    _check_exists(root)
    recorded = recorded_format(root)
    if recorded in FORMATS and _label_files(root, FORMATS[recorded]):
        return [recorded]
    found: dict[str, list[Path]] = {}
    for name, form in FORMATS.items():
        if form.auto and not form.is_explained_by(scheme) and (files := _label_files(root, form)):
            found[name] = files
    names = list(found)
    if not names or (names[0] == "course-lists" and (root / "set.json").is_file()):
        raise unrecognised(root, FORMATS)
    return [name for name in names if name == names[0] or not set(found[name]) <= set(found[names[0]])]


def can_read(root: Path, name: str) -> bool:
    """Whether something in a folder looks like a format."""
    form = FORMATS[name]
    return root.exists() and bool(form.find(root) if name == "background" else _label_files(root, form))


def read_format(
    root: str | Path, scheme: KeypointScheme | None = None, name: str = AUTO, *, only: Collection[str] = ()
) -> Labels:
    """All labels of a data folder: `read_own_points`, in the requested points.

    Raises:
        DataError: there is nothing to read. Broken rows do not raise: they are listed in `problems`.
        UsageError: there is no such format, or it does not hold these points.
    """
    labels = read_own_points(Path(root), scheme, name, only=only)
    return labels if scheme is None else labels.in_scheme(scheme)


def read_own_points(
    root: Path, scheme: KeypointScheme | None = None, name: str = AUTO, *, only: Collection[str] = ()
) -> Labels:
    """All labels of a data folder or a label file, in the set's own points; `scheme` says what points without names
    are, if there are as many. `only` names the objects that are faces, in formats with names; all when empty.

    Raises:
        DataError: there is nothing to read. Broken rows do not raise: they are listed in `problems`.
        UsageError: there is no such format.
    """
    from kpedge.core.errors import DataError, UsageError
    from kpedge.core.files import closed_folders
    from kpedge.data.formats.format import FormatCapabilities
    from kpedge.data.formats.reader import LabelReader
    from kpedge.data.formats.record import recorded_boxes
    from kpedge.data.formats.schemes import is_generic
    from kpedge.data.formats.unknown import check_json

    remarks: list[str] = []
    if name == AUTO:
        name, *others = matching_formats(root, scheme)
        if others:
            remarks.append(f"read as {name}; it could also be {' or '.join(others)}: --format selects one")
    form = FORMATS[name]
    if only and FormatCapabilities.NAMES not in form.capabilities:
        raise UsageError(f"the objects of the format {name} have no names", "leave out --label")
    _check_exists(root)
    files = [root] if root.is_file() else form.find(root)
    if not files:
        check_json(root, name)
        raise DataError(f"{root}: no labels of the format {name}", f"it reads: {form.description}")
    folder = form.data_folder(root) if root.is_file() else root
    labels = replace(form.read(LabelReader(folder, files, scheme, only)), format=name)
    if not labels.boxes_only and labels.rows and (scheme is None or is_generic(scheme)):
        remarks += _missing_in(labels.scheme)
    remarks += [f"{closed}: not read: permission denied" for closed in closed_folders(labels.root)]
    boxes = recorded_boxes(labels.root, name) or labels.convention
    return replace(labels, convention=boxes, remarks=(*remarks, *labels.remarks))


def _missing_in(scheme: KeypointScheme) -> list[str]:
    """Remarks on what a set's own scheme lacks."""
    from kpedge.core.text import format_count
    from kpedge.data.formats.schemes import SCHEME_FILE, is_generic

    if is_generic(scheme):
        last = f" to {len(scheme)}" if len(scheme) > 1 else ""
        return [
            f"the {format_count(len(scheme), 'point')} {'have' if last else 'has'} no names; called 1{last} here: "
            f"name them in {SCHEME_FILE} next to the labels (docs/schemes.md)"
        ]
    if not scheme.can_mirror:
        return [
            f"no mirror pairs are known among the points of {scheme.name}, so training does not mirror faces; "
            f"name them with left and right, or list the pairs in {SCHEME_FILE} (docs/schemes.md)"
        ]
    return []
