"""A keypoint scheme: how many points a face has, what they are called, how they mirror, and what follows for others.

A scheme is data: a TOML file (docs/schemes.md), a part of a model's card, or the categories of somebody else's file.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError
from kpedge.core.files import parse_toml, read_text

FloatArray = NDArray[np.floating[Any]]
Group = tuple[int, ...]  # indices of points whose mean is meant
PUPILS = ("left_pupil", "right_pupil")
PARTS = {
    "brow": "brows",
    "eye": "eyes",
    "pupil": "eyes",
    "iris": "eyes",
    "nose": "nose",
    "nostril": "nose",
    "mouth": "mouth",
    "lip": "mouth",
    "jaw": "jaw",
    "chin": "jaw",
    "contour": "jaw",
    "ear": "ears",
}
"""What a word in a point's name begins with -> the facial part that the point belongs to, the first that is found."""
_BEFORE = r"(?:left|right|upper|lower|inner|outer|top|bottom|mid|middle|center|centre|under|over|eye|[lr](?!ear))*"
"""What may stand before it without a gap, as in `eyebrow`, `lefteye` and `upperlip`; but `rear` is no right ear."""
_BEGINS = {word: re.compile(rf"(?<![^\W\d_]){_BEFORE}{word}") for word in PARTS}
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # between two words as in `leftEye` and `LEar`
OTHER_PART = "face"


@dataclass(frozen=True, slots=True)
class KeypointScheme:
    """A set of named keypoints. Left and right are the image's, not the person's.

    Attributes:
        name: the scheme's name, as used in cards and on the command line.
        points: the K point names, in the order of the labels.
        mirror: pairs of indices that swap when an image is mirrored; a point in no pair maps to itself.
        skeleton: pairs of indices to be joined by a line when drawn.
        parts: facial part -> indices of its points; every point belongs to exactly one part.
        pupils: of the left and of the right eye the points whose mean is its centre, for the inter-ocular error; None
            where it has none.
        derived: names of points that the scheme does not have -> its points whose mean they are.
        across: weights (K,) of the points in the vector that joins the left and the right ones.
    """

    name: str
    points: tuple[str, ...]
    mirror: tuple[tuple[int, int], ...]
    skeleton: tuple[tuple[int, int], ...]
    parts: dict[str, tuple[int, ...]] = field(hash=False)
    pupils: tuple[Group, Group] | None
    derived: dict[str, Group] = field(default_factory=dict, hash=False)
    across: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        count = len(self.points)
        pairs: list[Group] = [*self.mirror, *self.skeleton, *(self.pupils or ()), *self.derived.values()]
        if count == 0 or len(set(self.points)) != count:
            raise DataError(f"keypoint scheme {self.name!r}: point names must be present and unique")
        if any(not 0 <= index < count for pair in pairs for index in pair):
            raise DataError(f"keypoint scheme {self.name!r}: an index lies outside 0..{count - 1}")
        if not all(pairs) or set(self.derived) & set(self.points):
            raise DataError(f"keypoint scheme {self.name!r}: a point is derived from none, or is its own already")
        mirrored = [index for pair in self.mirror for index in pair]
        if len(set(mirrored)) != len(mirrored):
            raise DataError(f"keypoint scheme {self.name!r}: a point stands in two mirror pairs")
        if sorted(index for part in self.parts.values() for index in part) != list(range(count)):
            raise DataError(f"keypoint scheme {self.name!r}: every point must belong to exactly one part")
        across = np.zeros(count)
        for left, right in self.mirror:
            across[left], across[right] = -1, 1
        object.__setattr__(self, "across", across)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def mirror_order(self) -> NDArray[np.intp]:
        """Indices (K,) such that `keypoints[order]` names the points of a mirrored image correctly."""
        order = np.arange(len(self))
        for left, right in self.mirror:
            order[left], order[right] = right, left
        return order

    def part_of(self, index: int) -> str:
        """The facial part that a point belongs to."""
        return next(part for part, members in self.parts.items() if index in members)

    @property
    def can_mirror(self) -> bool:
        """Whether mirrored images can be labelled: some pair is known, or there is but one point."""
        return bool(self.mirror) or len(self) == 1

    def pupil_centres(self, keypoints: FloatArray) -> NDArray[np.float64] | None:
        """The centres of the left and the right eye, (..., 2, 2), of keypoints (..., K, 2); None without `pupils`."""
        if self.pupils is None:
            return None
        return np.stack([keypoints[..., list(group), :].mean(axis=-2, dtype=np.float64) for group in self.pupils], -2)

    def roll(self, keypoints: FloatArray) -> NDArray[np.float64]:
        """In-plane rotation of faces, radians, from keypoints (..., K, 2): 0 upright, positive when the image's right
        side hangs lower. It is the direction of the sum of the vectors that join each mirror pair, left to right.
        Pairs with a point that is not labelled (NaN) do not count; a face without any has a roll of NaN.
        """
        if not self.mirror:
            return np.full(keypoints.shape[:-2], np.nan)
        across = self.across @ keypoints
        if np.isfinite(across).all():
            return np.asarray(np.arctan2(across[..., 1], across[..., 0]))
        left, right = np.array(self.mirror).T
        pairs = keypoints[..., right, :] - keypoints[..., left, :]
        known = np.isfinite(pairs).all(axis=-1, keepdims=True)
        across = np.where(known, pairs, 0).sum(axis=-2)
        roll = np.arctan2(across[..., 1], across[..., 0])
        return np.asarray(np.where(np.any(known, axis=-2)[..., 0], roll, np.nan), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """The scheme as plain JSON types."""
        return {
            "name": self.name,
            "points": list(self.points),
            "mirror": [list(pair) for pair in self.mirror],
            "skeleton": [list(pair) for pair in self.skeleton],
            "parts": {part: list(members) for part, members in self.parts.items()},
            "pupils": [_short(group) for group in self.pupils] if self.pupils else None,
            **({"derived": {name: list(group) for name, group in self.derived.items()}} if self.derived else {}),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> KeypointScheme:
        """The inverse of `to_dict`.

        Raises:
            DataError: a field is missing, of the wrong type, or contradicts another.
        """
        try:
            return cls(
                name=str(data["name"]),
                points=tuple(map(str, data["points"])),
                mirror=tuple((int(a), int(b)) for a, b in data["mirror"]),
                skeleton=tuple((int(a), int(b)) for a, b in data["skeleton"]),
                parts={str(part): tuple(map(int, members)) for part, members in data["parts"].items()},
                pupils=(_group(data["pupils"][0]), _group(data["pupils"][1])) if data["pupils"] else None,
                derived={str(name): _group(group) for name, group in data.get("derived", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise DataError(f"not a keypoint scheme: {type(error).__name__}: {error}") from error


def _group(value: Any) -> Group:
    return (int(value),) if isinstance(value, int) else tuple(map(int, value))


def _short(group: Group) -> int | list[int]:
    """A group in JSON: the point itself where it is one."""
    return group[0] if len(group) == 1 else list(group)


def scheme_of_names(
    name: str,
    points: Sequence[str],
    *,
    mirror: Iterable[tuple[int, int]] | None = None,
    skeleton: Iterable[tuple[int, int]] = (),
    parts: Mapping[str, Sequence[int]] | None = None,
    derived: Mapping[str, Group] | None = None,
) -> KeypointScheme:
    """A scheme whose missing parts follow from the names of its points.

    Args:
        name: of the scheme.
        points: names of its points.
        mirror: pairs that swap, left before right; when None, those whose names differ in left and right, or l and r.
        skeleton: pairs to be joined by a line.
        parts: facial part -> points; those in none are found by `PARTS`.
        derived: names of points that follow from these -> those whose mean they are.
    """
    found: dict[str, list[int]] = {part: list(members) for part, members in (parts or {}).items()}
    given = {index for members in found.values() for index in members}
    for index, point in enumerate(points):
        if index not in given:
            found.setdefault(_part(point), []).append(index)
    own = {point: (index,) for index, point in enumerate(points)} | dict(derived or {})
    return KeypointScheme(
        name=name,
        points=tuple(points),
        mirror=tuple(mirror_pairs(points) if mirror is None else mirror),
        skeleton=tuple(skeleton),
        parts={part: tuple(members) for part, members in found.items()},
        pupils=(own[PUPILS[0]], own[PUPILS[1]]) if all(pupil in own for pupil in PUPILS) else None,
        derived=dict(derived or {}),
    )


def _part(point: str) -> str:
    words = _HUMP.sub(" ", point).lower()
    return next((part for word, part in PARTS.items() if _BEGINS[word].search(words)), OTHER_PART)


def mirror_pairs(points: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of points whose names differ in left and right, or l and r as a word of its own, alone; left first."""
    places = {point: index for index, point in enumerate(points)}
    pairs = []
    for index, point in enumerate(points):
        side = _SIDE.search(point)
        other = places.get(_SIDE.sub(_other_side, point))
        if side and side.group()[0] in "lL" and other is not None:
            pairs.append((index, other))
    return pairs


_SIDE = re.compile(r"left|right|(?<![^\W_])[lr](?![^\W_])", re.IGNORECASE)
_OTHER_SIDE = {"left": "right", "right": "left", "l": "r", "r": "l"}


def _other_side(match: re.Match[str]) -> str:
    """Left for right and right for left, in the letters' case."""
    word = match.group()
    other = _OTHER_SIDE[word.lower()]
    if word.islower():
        return other
    return other.upper() if word.isupper() else other.title()


def read_scheme(path: Path) -> KeypointScheme:
    """A scheme from a TOML file (docs/schemes.md).

    Raises:
        DataError: the file is missing, is not TOML, or is no scheme; the message says why.
    """
    try:
        data = parse_toml(read_text(path, DataError))
    except ValueError as error:
        raise DataError(
            f"{path}: not a TOML file: {error}", "mend that line; docs/schemes.md shows how a scheme is written"
        ) from error
    try:
        return _scheme_of_table(data, path.stem)
    except DataError as error:
        raise DataError(f"{path}: {error}", error.advice or "a keypoint scheme: docs/schemes.md") from error


def _scheme_of_table(data: dict[str, Any], stem: str) -> KeypointScheme:
    known = ("name", "points", "skeleton", "mirror", "parts", "derived")
    strange = sorted(set(data) - set(known))
    if strange:
        raise DataError(f"{strange[0]!r} is no field of a keypoint scheme", f"fields: {', '.join(known)}")
    name, points = data.get("name", stem), data.get("points")
    if not isinstance(name, str) or not name or not isinstance(points, list) or not _are_names(points):
        raise DataError("'points' must be a list of names, 'name' a word")

    def indices(names: Any, field_name: str) -> Group:
        if not _are_names(names):
            raise DataError(f"{field_name!r} must hold lists of names of points")
        strangers = [one for one in names if one not in points]
        if strangers:
            raise DataError(f"{field_name!r} names {strangers[0]!r}, which is not among the points")
        return tuple(points.index(one) for one in names)

    def table(field_name: str) -> dict[str, Group]:
        value = data.get(field_name, {})
        if not isinstance(value, dict):
            raise DataError(f"{field_name!r} must be a table")
        return {key: indices(names, field_name) for key, names in value.items()}

    def lists(field_name: str) -> list[Group] | None:
        value = data.get(field_name)
        if value is not None and not isinstance(value, list):
            raise DataError(f"{field_name!r} must be a list of lists of names")
        return None if value is None else [indices(names, field_name) for names in value]

    mirror = lists("mirror")
    if mirror is not None and any(len(pair) != 2 for pair in mirror):
        raise DataError("'mirror' must hold pairs of names, left before right")
    return scheme_of_names(
        name,
        points,
        mirror=None if mirror is None else [(pair[0], pair[1]) for pair in mirror],
        skeleton=[pair for path in lists("skeleton") or [] for pair in itertools.pairwise(path)],
        parts=table("parts"),
        derived=table("derived"),
    )


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) and one for one in value)
