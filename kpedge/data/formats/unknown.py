"""What to say of a folder or a file in which no labels are recognised: what is there, and what to do."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from kpedge.core.errors import DataError
from kpedge.core.images import SUFFIXES
from kpedge.core.text import format_count
from kpedge.data.formats.record import RECORD
from kpedge.data.labels import LABEL_FILE, photos_below
from kpedge.data.rows import read_text

NO_LABELS = (RECORD, "fetched.json", "set.json")
"""Files of kpedge's own that look like labels and are none."""
LABEL_ENDINGS = (
    *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".pts", ".mat", ".yaml", ".yml"),
    *(".npy", ".npz", ".h5", ".hdf5", ".pkl", ".parquet", ".dat", ".lst", ".xlsx"),
)
"""Endings of files in which labels may be."""
TRIED = 20
"""JSON files that are looked into for what is wrong with them."""


def refuse_json(paths: Sequence[Path]) -> None:
    """Say what is wrong with JSON files that were not recognised as COCO: one that is not JSON before all others.

    Raises:
        DataError: one of them is at fault.
    """
    others: list[Path] = []
    for path in [path for path in paths if path.name not in NO_LABELS][:TRIED]:
        text = read_text(path)
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
            why = " (cut off?)" if cut else f": {error.msg} (column {error.colno})"
            raise DataError(f"{path}:{error.lineno}: not JSON{why}", "export or copy the file again") from error
        except (RecursionError, ValueError) as error:
            raise DataError(f"{path}: not JSON that can be read: {error}", "export or copy the file again") from error
        if not isinstance(document, dict) or not {"images", "annotations"} <= set(document):
            others.append(path)
    if others:
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        raise DataError(
            f"{others[0]}{more}: JSON without images and annotations, so not COCO",
            "export the labels as COCO keypoints, or name another format with --format",
        )


def refuse_unknown(root: Path, formats: Collection[str]) -> None:
    """Say what lies there instead of labels of a known format.

    Args:
        root: a folder or a file, which is there.
        formats: names of those that can be asked for.

    Raises:
        DataError: always.
    """
    known = f"--format names it: {', '.join(name for name in formats if name != 'background')}"
    photos_of_none = "photos that show no face: --format background"
    if root.is_file():
        if root.suffix.lower() in SUFFIXES:
            raise DataError(f"{root}: this is a photo", "give its folder")
        raise DataError(f"{root}: no labels of a format that kpedge knows", known)
    if not any(root.iterdir()):
        raise DataError(f"{root}: the folder is empty: no {LABEL_FILE}, no photo", "give the folder of the photos")
    photos = format_count(len(found), "photo") if (found := photos_below(root)) else ""
    no_labels = f"no {LABEL_FILE} or other labels in this folder or below it"
    if any(path.suffix.lower() in LABEL_ENDINGS and path.name not in NO_LABELS for path in root.rglob("*")):
        raise DataError(
            f"{root}: no {LABEL_FILE} in this folder or below it, nor the labels of another format",
            f"{known}; {photos_of_none}" if photos else known,
        )
    if photos:
        raise DataError(
            f"{root}: {photos}, and {no_labels}", f"give the folder that holds the labels, too; {photos_of_none}"
        )
    raise DataError(f"{root}: no photo, and {no_labels}", "give the folder that holds photos and labels")
