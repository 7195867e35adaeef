"""What `data.yaml`, `classes.txt` and Label Studio's `notes.json` say of YOLO's labels.

The few lines of YAML that matter are read without a library.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from kpedge.core.errors import DataError
from kpedge.core.scheme import KeypointScheme
from kpedge.data.rows import is_file, read_text

SETTINGS = "data.yaml"
_FILES = (SETTINGS, "data.yml", "dataset.yaml", "dataset.yml")
_CLASSES = ("classes.txt", "labels/classes.txt", "obj.names")
_SHAPE = re.compile(r"^kpt_shape\s*:\s*[\[(]?\s*(\d+)\s*,\s*(\d+)", re.MULTILINE)
_SHAPE_LINES = re.compile(r"^kpt_shape\s*:\s*\n\s*-\s*(\d+)\s*\n\s*-\s*(\d+)", re.MULTILINE)
_BLOCK = re.compile(r"^(names|kpt_names)\s*:(.*(?:\n(?:[ \t]+.*|-.*|[ \t]*))*)", re.MULTILINE)
"""A key and what belongs to it: the rest of its line, and the lines below that are indented or items of a list."""
_NOTES = "notes.json"
_TEST_LISTS = ("test.txt", "labels/test.txt", "data/test.txt")
_MOST_POINTS = 1000


@dataclass(frozen=True, slots=True)
class Settings:
    """What the rows hold.

    Attributes:
        names: number of a class, as the rows have it -> its name.
        shape: how many points a row has, and how many numbers each; (0, 0) for boxes alone.
        points: names of the points; empty where nothing names them.
    """

    names: dict[str, str]
    shape: tuple[int, int]
    points: tuple[str, ...] = ()


def read_settings(root: Path) -> Settings:
    """The settings of a folder, or of the one above; nothing is needed.

    Raises:
        DataError: `kpt_shape` is nothing that can be.
    """
    path = next((folder / name for folder in (root, root.parent) for name in _FILES if is_file(folder / name)), None)
    if path is None:
        return _from_notes(root) or Settings(_from_list(root), (0, 0))
    text = "\n".join(_without_comment(line) for line in read_text(path).replace("\r", "").split("\n"))
    shape = _SHAPE.search(text) or _SHAPE_LINES.search(text)
    count, step = (int(shape[1]), int(shape[2])) if shape and len(shape[1] + shape[2]) < 8 else (0, 0)
    if (shape and step not in (2, 3)) or count > _MOST_POINTS:
        raise DataError(f"{path}: kpt_shape is to be [points, 2 or 3]", "2 numbers a point are x y, 3 are x y v")
    blocks = dict(reversed(_BLOCK.findall(text)))  # of a key that is there twice the first
    points = _point_names(blocks.get("kpt_names", ""))
    return Settings(_names(blocks.get("names", "")), (count, step), points if len(points) == count else ())


def _from_list(root: Path) -> dict[str, str]:
    """Names of classes from a list, a line each."""
    lists = [root / name for name in _CLASSES if is_file(root / name)]
    lines = read_text(lists[0]).split("\n") if lists else []
    return {str(number): line.strip() for number, line in enumerate(lines) if line.strip()}


def _from_notes(root: Path) -> Settings | None:
    """What Label Studio leaves beside the rows, which have x y v of each point; None where it is not there."""
    if not is_file(root / _NOTES):
        return None
    try:
        categories = json.loads(read_text(root / _NOTES))["categories"]
        names = {str(int(category["id"])): str(category["name"]) for category in categories}
        points = [tuple(map(str, category.get("keypoints") or ())) for category in categories]
    except (ValueError, LookupError, TypeError, AttributeError):  # notes of another kind
        return None
    longest = max(points, key=len, default=())
    if len(longest) > _MOST_POINTS:
        return None
    return Settings(names, (len(longest), 3 if longest else 0), longest)


def _point_names(text: str) -> tuple[str, ...]:
    """The names in the block of `kpt_names`: those of the first class, as `- a` a line or `[a, b]`."""
    of_first = re.split(r"^[ \t]*1[ \t]*:", text, maxsplit=1, flags=re.MULTILINE)[0]
    inline = re.search(r"\[([^\]]*)\]", of_first)
    entries = inline[1].split(",") if inline else re.findall(r"^[ \t]*-(.*)$", of_first, re.MULTILINE)
    return tuple(name for name in (entry.strip().strip("'\"") for entry in entries) if name)


def listed_tests(root: Path) -> tuple[str, ...]:
    """The photos that a list of the test split names, as its lines have them; none where there is no list."""
    path = next((root / name for name in _TEST_LISTS if is_file(root / name)), None)
    if path is None:
        return ()
    return tuple(line.strip().replace("\\", "/") for line in read_text(path).split("\n") if line.strip())


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
    # no `path`: it would be taken from where the program runs; without it the folder is that of this file
    lines = ["train: images/train", "val: images/train", *(["test: images/test"] if has_test else [])]
    lines += ["names:", "  0: face"]
    if scheme is not None:
        flipped = ", ".join(map(str, scheme.mirror_order.tolist()))
        lines += [f"kpt_shape: [{len(scheme)}, 3]", f"flip_idx: [{flipped}]"]
        lines += ["kpt_names:", "  0:", *(f"    - {json.dumps(point)}" for point in scheme.points)]
    return "\n".join(lines) + "\n"
