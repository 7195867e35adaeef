"""What the categories of a COCO file say of keypoints: their names, and the lines between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kpedge.core.errors import DataError
from kpedge.core.keypoints import BUILT_IN, scheme_named
from kpedge.core.scheme import KeypointScheme, scheme_of_names
from kpedge.data.formats.common import generic_scheme, known_scheme

Names = tuple[str, ...]


def names_of(category: dict[str, Any]) -> Names:
    """The names of a category's points; none where it has no list of them."""
    names = category.get("keypoints")
    if not isinstance(names, list):
        return ()
    return tuple(_plain(name) for name in names)


def _plain(name: Any) -> str:
    return str(name).strip() or "point"


def unnamed(count: int) -> Names:
    """Names for points that have none."""
    return generic_scheme(count).points


def scheme_of(root: Path, name: str, names: Names, skeleton: Any) -> tuple[KeypointScheme, list[str]]:
    """The scheme of points that a category names.

    Args:
        root: the data folder; its `scheme.toml` goes before all names.
        name: of the category.
        names: of its points.
        skeleton: pairs, counted from 1, or from 0 where one is 0; whatever the file has.

    Returns:
        The scheme, and remarks.
    """
    count = len(names)
    generic = all(one.isdecimal() for one in names)
    own = known_scheme(root, count, None)
    if own is not None and own.name not in BUILT_IN:
        return own, []
    same = tuple(_simple(one) for one in names)
    for known in map(scheme_named, BUILT_IN):
        if same == known.points:
            return known, []
    ours = {point for known in map(scheme_named, BUILT_IN) for point in (*known.points, *known.derived)}
    if ours & set(same):
        names = same
    remarks = []
    if len(set(names)) != count:
        remarks.append("several points have the same name; numbers are added to them")
        names = _unique(names)
    pairs, strange = _pairs(skeleton, count)
    if strange:
        remarks.append(f"lines of the skeleton that name no point are left out: {strange}")
    try:
        scheme = scheme_of_names(name or f"points{count}", names, skeleton=pairs)
    except DataError:  # names that mirror into each other in a way that pairs cannot hold
        scheme = scheme_of_names(name or f"points{count}", names, mirror=(), skeleton=pairs)
    if generic and own is not None:
        remarks.append(f"the points have numbers for names: --scheme {own.name} takes them, in this order, for its own")
    return scheme, remarks


def _simple(name: str) -> str:
    return "_".join(name.lower().replace("-", " ").replace("_", " ").split())


def _unique(names: Sequence[str]) -> Names:
    found: list[str] = []
    for name in names:
        number, free = 2, name
        while free in found:
            free, number = f"{name}_{number}", number + 1
        found.append(free)
    return tuple(found)


def _pairs(skeleton: Any, count: int) -> tuple[list[tuple[int, int]], int]:
    """The lines of a skeleton as indices from 0, and how many were no lines."""
    given = skeleton if isinstance(skeleton, list) else []
    lines = [
        (pair[0], pair[1])
        for pair in given
        if isinstance(pair, list) and len(pair) == 2 and all(type(end) is int for end in pair)
    ]
    first = 0 if any(0 in line for line in lines) else 1
    moved = [(start - first, end - first) for start, end in lines]
    inside = [line for line in moved if all(0 <= end < count for end in line)]
    return inside, len(given) - len(inside)


def category_of(scheme: KeypointScheme, number: int) -> dict[str, Any]:
    """A category for a scheme, as COCO has it: lines count the points from 1."""
    return {
        "id": number,
        "name": "face",
        "supercategory": "person",
        "keypoints": list(scheme.points),
        "skeleton": [[start + 1, end + 1] for start, end in scheme.skeleton],
    }
