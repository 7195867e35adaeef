"""`convert.json`: what kpedge records in a folder of labels that it wrote, and what a reader can take from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kpedge.core.boxes import CONVENTIONS
from kpedge.core.files import write_json

RECORD = "convert.json"
"""In the folder that is written: what it was made from. Only a folder that has it is ever replaced."""


def write_record(folder: Path, source: str, target: str, faces: int, dropped: dict[str, int], boxes: str) -> None:
    """Record how a folder was made.

    Args:
        folder: that was written.
        source: the format that was read.
        target: the format that was written.
        faces: how many were written.
        dropped: kind -> how many of what the target does not hold.
        boxes: what the boxes hold, of `kpedge.core.boxes.CONVENTIONS`; "" where the target has no boxes of its own.
    """
    record = {"from": source, "to": target, "faces": faces, "dropped": dropped, **({"boxes": boxes} if boxes else {})}
    write_json(folder / RECORD, record)


def recorded_format(root: Path) -> str:
    """The format in which kpedge wrote a folder, or the folder of a file; "" where it wrote none there."""
    told = _record(root.parent if root.is_file() else root).get("to")
    return told if isinstance(told, str) else ""


def recorded_boxes(folder: Path, label_format: str) -> str:
    """What the boxes hold that kpedge wrote into a folder in that format; "" where nothing tells."""
    record = _record(folder)
    told = record.get("boxes")
    return told if isinstance(told, str) and told in CONVENTIONS and record.get("to") == label_format else ""


def _record(folder: Path) -> dict[str, Any]:
    try:
        document = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
