"""`convert.json`: what kpedge records in a folder of labels that it wrote, and what a reader takes from it."""

from pathlib import Path
from typing import Any

from kpedge.core.boxes import CONVENTIONS
from kpedge.core.errors import DataError
from kpedge.core.files import read_json

RECORD = "convert.json"
"""In the folder that is written: what it was made from. Only a folder that has it is ever replaced."""


def recorded_format(root: Path) -> str:
    """The format in which kpedge wrote a folder, or the folder of a file; "" if it wrote none there."""
    name = _record(root.parent if root.is_file() else root).get("to")
    return name if isinstance(name, str) else ""


def recorded_boxes(folder: Path, label_format: str) -> str:
    """What the boxes hold that kpedge wrote into a folder in that format; "" if unknown."""
    record = _record(folder)
    kind = record.get("boxes")
    return kind if isinstance(kind, str) and kind in CONVENTIONS and record.get("to") == label_format else ""


def _record(folder: Path) -> dict[str, Any]:
    try:
        document = read_json(folder / RECORD, DataError)
    except DataError:
        return {}
    return document if isinstance(document, dict) else {}
