"""The error for a folder or a file without recognised labels: what is there, and what to do."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from kpedge.core.errors import DataError
from kpedge.core.files import read_bytes, read_json
from kpedge.core.images import PHOTO_SUFFIXES
from kpedge.core.text import format_count
from kpedge.data.formats.coco import json_files
from kpedge.data.formats.format import LabelFormat
from kpedge.data.formats.label import LABEL_FILE
from kpedge.data.formats.record import RECORD
from kpedge.data.labels import photos_below
from kpedge.data.rows import is_file

_NO_LABELS = (RECORD, "fetched.json", "set.json")  # files of kpedge's own that look like labels and are not
_LABEL_ENDINGS = (
    *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".pts", ".mat", ".yaml", ".yml"),
    *(".npy", ".npz", ".h5", ".hdf5", ".pkl", ".parquet", ".dat", ".lst", ".xlsx"),
)
_PACKED = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".zst", ".7z", ".rar")
_TRIED = 20  # files that are looked into


def unrecognised(root: Path, formats: Mapping[str, LabelFormat]) -> DataError:
    """The error for a folder or a file that exists, if no format fits.

    Raises:
        DataError: a file is damaged or cannot be read.
    """
    _check_readable(root)
    if is_file(root / "set.json"):
        return DataError(
            f"{root} is a prepared set; its photos are elsewhere",
            "give the folder of the photos, or copy the set's lists there and add --format course-lists",
        )
    if root.is_dir() or root.suffix.lower() == ".json":
        raise_for_json(json_files(root))
    known = f"--format selects one: {', '.join(name for name in formats if name != 'background')}"
    background = "photos that show no face: --format background"
    if root.is_file():
        if root.suffix.lower() in PHOTO_SUFFIXES:
            return DataError(f"{root}: this is a photo", "give its folder")
        if root.suffix.lower() in _PACKED:
            return DataError(f"{root}: packed files", "unpack it, and give the folder")
        return DataError(f"{root}: no labels of a format that kpedge knows", known)
    if not any(root.iterdir()):
        return DataError(f"{root}: the folder is empty: no {LABEL_FILE}, no photo", "give the folder of the photos")
    found = photos_below(root)
    photos = format_count(len(found), "photo") if found else ""
    no_labels = f"no {LABEL_FILE} or other labels in this folder or below it"
    others = [path for path in root.rglob("*") if path.suffix.lower() in _LABEL_ENDINGS and path.name not in _NO_LABELS]
    if others and not any(path.stat().st_size for path in others):
        return DataError(f"{others[0]}: the file is empty", "export or copy it again")
    if others:
        for path in others[:_TRIED]:
            name = next((name for name, form in formats.items() if form.auto and form.sniff(path)), None)
            if name is not None:
                what = f"{root}: no label file in a place that is searched; {path.relative_to(root)} looks like {name}"
                return DataError(what, f"give it by itself: {path}")
        return DataError(
            f"{root}: no {LABEL_FILE} in this folder or below it, nor the labels of another format",
            f"{known}; {background}" if photos else known,
        )
    if packed := [path for path in sorted(root.rglob("*")) if path.suffix.lower() in _PACKED]:
        return DataError(f"{root}: {no_labels}, but {packed[0].relative_to(root)}", "unpack it there")
    if photos:
        return DataError(f"{root}: {photos}, and {no_labels}", f"give the folder that also holds labels; {background}")
    return DataError(f"{root}: no photo, and {no_labels}", "give the folder that holds photos and labels")


def check_json(root: Path, name: str) -> None:
    """Stop at JSON files that are not of the format that was asked for, if that is COCO."""
    if name == "coco":
        raise_for_json(json_files(root))


def raise_for_json(paths: Sequence[Path]) -> None:
    """Stop at JSON files that were not recognised: first at one that is not JSON.

    Raises:
        DataError: there is one.
    """
    others: list[Path] = []
    for path in [path for path in paths if path.name not in _NO_LABELS][:_TRIED]:
        document = read_json(path, DataError)
        if not isinstance(document, dict) or not {"images", "annotations"} <= set(document):
            others.append(path)
    if others:
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        raise DataError(
            f"{others[0]}{more}: JSON without images and annotations, so not COCO",
            "export as COCO keypoints (from Label Studio as JSON, not JSON-MIN), or select a format with --format",
        )


def _check_readable(root: Path) -> None:
    """Stop at files that may hold labels and cannot be read: no permission, a pipe, a loop of links."""
    for path in [root, *sorted(root.rglob("*"))] if root.is_dir() else [root]:
        if path.is_dir():
            if not os.access(path, os.R_OK):
                raise DataError(f"{path}: cannot be read: permission denied", "allow it, or give another folder")
        elif path == root or path.suffix.lower() in _LABEL_ENDINGS:
            read_bytes(path, DataError, limit=0)
