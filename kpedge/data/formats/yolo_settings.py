"""What `data.yaml`, `classes.txt` and Label Studio's `notes.json` say about YOLO's labels."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpedge.core.errors import DataError
from kpedge.core.extras import importable
from kpedge.core.files import read_json, read_text
from kpedge.core.scheme import KeypointScheme
from kpedge.data.rows import glob_any_case, is_file

SETTINGS = "data.yaml"
_USUAL = (SETTINGS, "data.yml", "dataset.yaml", "dataset.yml")
_KEYS = {"names", "kpt_shape", "nc", "train"}  # a YAML file with one of these keys is the settings
_CLASSES = ("classes.txt", "labels/classes.txt", "obj.names")
_NOTES = "notes.json"
_TEST_LISTS = ("test.txt", "labels/test.txt", "data/test.txt")
_MOST_POINTS, _MOST_CLASSES = 1000, 100_000


@dataclass(frozen=True, slots=True)
class Settings:
    """What the rows hold."""

    names: dict[str, str]  # number of a class, as in the rows -> its name
    shape: tuple[int, int] = (0, 0)  # how many points a row has, and how many numbers each; (0, 0) for boxes alone
    points: tuple[str, ...] = ()  # names of the points; empty if nothing names them


def read_settings(root: Path) -> Settings:
    """The settings of a folder, or of the one above; all are optional.

    Raises:
        DataError: a file cannot be read, or `kpt_shape` is impossible.
    """
    for path, content in _yaml_files(root):
        shape = content.get("kpt_shape") or (0, 0)
        try:
            count, step = (int(value) for value in shape)
        except (TypeError, ValueError, OverflowError):
            count, step = -1, 0
        if not 0 <= count <= _MOST_POINTS or (count and step not in (2, 3)):
            raise DataError(f"{path}: kpt_shape must be [points, 2 or 3]", "2 numbers a point are x y, 3 are x y v")
        points = _point_names(content.get("kpt_names"))
        return Settings(_class_names(content), (count, step), points if len(points) == count else ())
    return _from_notes(root) or Settings(_from_list(root))


def _yaml_files(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The settings of a folder, or of the one above: usual names first, then any YAML file with the right keys."""
    for folder in (root, root.parent):
        usual = [folder / name for name in _USUAL if is_file(folder / name)]
        others = () if usual else sorted(path for end in ("*.yaml", "*.yml") for path in glob_any_case(folder, end))
        for path in (*usual, *others):
            content = _read_yaml(path)
            if isinstance(content, dict) and _KEYS & set(map(str, content)):
                yield path, content


def _read_yaml(path: Path) -> Any:
    yaml = importable("yaml", "data")
    text = read_text(path, DataError)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        why = getattr(error, "problem", "") or "too deeply nested"
        raise DataError(f"{where}: not YAML: {why}", "correct that line") from error


def _class_names(content: dict[str, Any]) -> dict[str, str]:
    """Number of a class -> its name, of a list or a table, or its number if only `nc` counts the classes."""
    names, count = content.get("names"), content.get("nc")
    pairs = enumerate(names) if isinstance(names, list) else names.items() if isinstance(names, dict) else ()
    numbers = range(min(count, _MOST_CLASSES)) if isinstance(count, int) else ()
    return {str(number): str(number) for number in numbers} | {str(number): str(name) for number, name in pairs}


def _point_names(names: Any) -> tuple[str, ...]:
    """The names of the points of the first class."""
    if isinstance(names, dict):
        names = next(iter(names.values()), None)
    if isinstance(names, list) and names and isinstance(names[0], list):
        names = names[0]
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _from_list(root: Path) -> dict[str, str]:
    """Names of classes from a list, a line each."""
    lists = [root / name for name in _CLASSES if is_file(root / name)]
    lines = read_text(lists[0], DataError).split("\n") if lists else []
    return {str(number): line.strip() for number, line in enumerate(lines) if line.strip()}


def _from_notes(root: Path) -> Settings | None:
    """What Label Studio leaves next to the rows, which have x y v of each point; None if it is not there."""
    if not is_file(root / _NOTES):
        return None
    try:
        categories = read_json(root / _NOTES, DataError)["categories"]
        names = {str(int(category["id"])): str(category["name"]) for category in categories}
        points = [tuple(map(str, category.get("keypoints") or ())) for category in categories]
    except (DataError, ValueError, LookupError, TypeError, AttributeError, OverflowError):  # notes of another kind
        return None
    longest = max(points, key=len, default=())
    if len(longest) > _MOST_POINTS:
        return None
    return Settings(names, (len(longest), 3 if longest else 0), longest)


def listed_tests(root: Path) -> tuple[str, ...]:
    """The photos that a list of the test split names, as they are written; none if there is no list."""
    path = next((root / name for name in _TEST_LISTS if is_file(root / name)), None)
    if path is None:
        return ()
    return tuple(line.strip().replace("\\", "/") for line in read_text(path, DataError).split("\n") if line.strip())


def settings_lines(scheme: KeypointScheme | None, has_test: bool) -> list[str]:
    """The lines of `data.yaml`."""
    # no `path`: it would be relative to where the program runs; without it the folder is that of this file
    lines = ["train: images/train", "val: images/train", *(["test: images/test"] if has_test else [])]
    lines += ["names:", "  0: face"]
    if scheme is not None:
        flipped = ", ".join(map(str, scheme.mirror_order.tolist()))
        lines += [f"kpt_shape: [{len(scheme)}, 3]", f"flip_idx: [{flipped}]"]
        lines += ["kpt_names:", "  0:", *(f"    - {json.dumps(point)}" for point in scheme.points)]
    return lines
