"""What `data.yaml` and `classes.txt` say of YOLO's labels; the few lines that matter are read without a library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kpedge.datasets.rows import is_file, read_text
from kpedge.errors import DataError
from kpedge.scheme import KeypointScheme

SETTINGS = "data.yaml"
_FILES = (SETTINGS, "data.yml", "dataset.yaml", "dataset.yml")
_CLASSES = ("classes.txt", "labels/classes.txt", "obj.names")
_SHAPE = re.compile(r"^kpt_shape\s*:\s*[\[(]?\s*(\d+)\s*,\s*(\d+)", re.MULTILINE)
_SHAPE_LINES = re.compile(r"^kpt_shape\s*:\s*\n\s*-\s*(\d+)\s*\n\s*-\s*(\d+)", re.MULTILINE)
_NAMES = re.compile(r"^names\s*:(.*(?:\n(?:[ \t]+.*|-.*|[ \t]*))*)", re.MULTILINE)
_MOST_POINTS = 1000


@dataclass(frozen=True, slots=True)
class Settings:
    """What the rows hold.

    Attributes:
        names: number of a class, as the rows have it -> its name.
        shape: how many points a row has, and how many numbers each; (0, 0) for boxes alone.
    """

    names: dict[str, str]
    shape: tuple[int, int]


def read_settings(root: Path) -> Settings:
    """The settings of a folder, or of the one above; nothing is needed.

    Raises:
        DataError: `kpt_shape` is nothing that can be.
    """
    path = next((folder / name for folder in (root, root.parent) for name in _FILES if is_file(folder / name)), None)
    if path is None:
        lists = [root / name for name in _CLASSES if is_file(root / name)]
        lines = read_text(lists[0]).split("\n") if lists else []
        return Settings({str(number): line.strip() for number, line in enumerate(lines) if line.strip()}, (0, 0))
    text = "\n".join(_without_comment(line) for line in read_text(path).replace("\r", "").split("\n"))
    shape = _SHAPE.search(text) or _SHAPE_LINES.search(text)
    count, step = (int(shape[1]), int(shape[2])) if shape and len(shape[1] + shape[2]) < 8 else (0, 0)
    if (shape and step not in (2, 3)) or count > _MOST_POINTS:
        raise DataError(f"{path}: kpt_shape is to be [points, 2 or 3]", "2 numbers a point are x y, 3 are x y v")
    names = _NAMES.search(text)
    return Settings(_names(names[1]) if names else {}, (count, step))


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*$", "", line).rstrip()


def _names(text: str) -> dict[str, str]:
    """`[a, b]`, `{0: a, 1: b}`, `- a`, or `0: a`, in one line or one each."""
    text = text.strip()
    inline = text[:1] in ("[", "{")
    entries = re.split(r",", text.strip("[]{}")) if inline else text.split("\n")
    found = {}
    for number, entry in enumerate(entry.strip() for entry in entries if entry.strip()):
        keyed = re.fullmatch(r"['\"]?(\d+)['\"]?\s*:\s*(.*)", entry)
        key, name = (keyed[1], keyed[2]) if keyed else (str(number), entry.removeprefix("-"))
        found[key] = name.strip().strip("'\"")
    return found


def settings_text(scheme: KeypointScheme | None, has_test: bool) -> str:
    """The content of `data.yaml`."""
    lines = ["path: .", "train: images/train", "val: images/train", *(["test: images/test"] if has_test else [])]
    lines += ["names:", "  0: face"]
    if scheme is not None:
        flipped = ", ".join(map(str, scheme.mirror_order.tolist()))
        lines += [f"kpt_shape: [{len(scheme)}, 3]", f"flip_idx: [{flipped}]"]
    return "\n".join(lines) + "\n"
