"""Which keypoint scheme the points of a label file have: by `scheme.toml`, by their number, or by their names."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kpedge.core.errors import DataError
from kpedge.core.keypoints import BUILT_IN, scheme_named
from kpedge.core.scheme import KeypointScheme, read_scheme, scheme_of_names
from kpedge.core.text import format_count
from kpedge.data.rows import is_file

SCHEME_FILE = "scheme.toml"  # in a data folder: what the points of its labels are, in formats without names for them
Names = tuple[str, ...]


def generic_scheme(count: int) -> KeypointScheme:
    """A scheme of points without names."""
    return scheme_of_names(f"points{count}", [str(number) for number in range(1, count + 1)])


def is_generic(scheme: KeypointScheme) -> bool:
    """Whether the names of the points are numbers."""
    return all(point.isdecimal() for point in scheme.points)


def known_scheme(root: Path, count: int, requested: KeypointScheme | None) -> KeypointScheme | None:
    """The scheme of labels with that many points a face: the folder's `scheme.toml`, the requested one, or one that
    comes with kpedge; None if none of them has as many.

    Raises:
        DataError: `scheme.toml` is broken, or has another number of points.
    """
    if is_file(root / SCHEME_FILE):
        own = read_scheme(root / SCHEME_FILE)
        if len(own) != count:
            raise DataError(
                f"{root / SCHEME_FILE} names {format_count(len(own), 'point')}, the labels have {count} a face",
                "list the names of all points, in the order of the labels",
            )
        return own
    if requested is not None and len(requested) == count:
        return requested
    return next((scheme for scheme in map(scheme_named, BUILT_IN) if len(scheme) == count), None)


def numeric_order(names: Sequence[str]) -> list[int]:
    """The order of names that are all different numbers; otherwise the order in which they stand. Tools that sort
    names as text write 1, 10, 11, …, 2.
    """
    numbered = all(name.isdecimal() and len(name) < 10 for name in names)
    numbered = numbered and len({int(name) for name in names}) == len(names)
    return sorted(range(len(names)), key=lambda index: int(names[index])) if numbered else list(range(len(names)))


def scheme_of_points(root: Path, name: str, names: Names, skeleton: Any) -> tuple[KeypointScheme, list[str]]:
    """The scheme of points with names, and remarks. The `scheme.toml` of the folder overrides all names; `name` is that
    of a scheme that is not known. The skeleton is whatever the file has: pairs, counted from 1, or from 0 if one is
    0.
    """
    count = len(names)
    generic = all(one.isdecimal() for one in names)
    own = known_scheme(root, count, None)
    if own is not None and own.name not in BUILT_IN:
        return own, []
    same = tuple(_simplify(one) for one in names)
    for known in map(scheme_named, BUILT_IN):
        if same == known.points:
            return known, []
    ours = {point for known in map(scheme_named, BUILT_IN) for point in (*known.points, *known.derived)}
    if ours & set(same):
        names = same
    remarks = []
    if len(set(names)) != count:
        remarks.append("several points have the same name; numbers are added to them")
        names = _make_unique(names)
    pairs, strange = _parse_skeleton(skeleton, count)
    if strange:
        remarks.append(f"lines of the skeleton that name no point are left out: {strange}")
    try:
        scheme = scheme_of_names(name or f"points{count}", names, skeleton=pairs)
    except DataError:  # names that mirror into each other in a way that pairs cannot hold
        scheme = scheme_of_names(name or f"points{count}", names, mirror=(), skeleton=pairs)
    if generic and own is not None:
        remarks.append(f"the names of the points are numbers: --scheme {own.name} takes them in this order")
    return scheme, remarks


def _simplify(name: str) -> str:
    return "_".join(name.lower().replace("-", " ").replace("_", " ").split())


def _make_unique(names: Sequence[str]) -> Names:
    unique: list[str] = []
    for name in names:
        number, free = 2, name
        while free in unique:
            free, number = f"{name}_{number}", number + 1
        unique.append(free)
    return tuple(unique)


def _parse_skeleton(skeleton: Any, count: int) -> tuple[list[tuple[int, int]], int]:
    """The lines of a skeleton as indices from 0, and how many were not lines."""
    entries = skeleton if isinstance(skeleton, list) else []
    lines = [
        (pair[0], pair[1])
        for pair in entries
        if isinstance(pair, list) and len(pair) == 2 and all(type(end) is int for end in pair)
    ]
    first = 0 if any(0 in line for line in lines) else 1
    shifted = [(start - first, end - first) for start, end in lines]
    inside = [line for line in shifted if all(0 <= end < count for end in line)]
    return inside, len(entries) - len(inside)


def write_scheme(folder: Path, scheme: KeypointScheme) -> None:
    """Write `scheme.toml` next to labels whose format has no names, unless the number of points is enough."""
    if known_scheme(folder, len(scheme), None) != scheme:
        (folder / SCHEME_FILE).write_text(scheme_toml(scheme), encoding="utf-8")


def scheme_toml(scheme: KeypointScheme) -> str:
    """A scheme as the TOML that `kpedge.core.scheme.read_scheme` reads."""

    def text(value: str) -> str:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in escaped) + '"'

    def names(indices: Iterable[int]) -> str:
        return "[" + ", ".join(text(scheme.points[index]) for index in indices) + "]"

    def lists(pairs: Iterable[Iterable[int]]) -> str:
        return "[" + "".join(f"\n    {names(pair)}," for pair in pairs) + "\n]"

    lines = [f"name = {text(scheme.name)}", f"points = {names(range(len(scheme)))}"]
    lines.append(f"mirror = {lists(scheme.mirror)}")
    if scheme.skeleton:
        lines.append(f"skeleton = {lists(scheme.skeleton)}")
    for table, content in (("parts", scheme.parts), ("derived", scheme.derived)):
        if content:
            lines += ["", f"[{table}]", *(f"{text(key)} = {names(group)}" for key, group in content.items())]
    return "\n".join(lines) + "\n"
