"""Keypoint schemes: how many points a face has, what they are called, and how they mirror.

A scheme is data. Code never assumes a number of points; it asks the scheme of its data set, or the card of its model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.errors import DataError, UsageError
from kpedge.geometry import to_complex

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class KeypointScheme:
    """A set of named keypoints. Left and right are the picture's, not the person's.

    Attributes:
        name: the scheme's name, as used in cards and on the command line.
        points: the K point names, in the order of the labels.
        mirror: pairs of indices that swap when a picture is mirrored; a point in no pair maps to itself.
        skeleton: pairs of indices to be joined by a line when drawn.
        parts: facial part -> indices of its points; every point belongs to exactly one part.
        pupils: indices of the left and the right eye's centre, for the inter-ocular error; None where it has none.
    """

    name: str
    points: tuple[str, ...]
    mirror: tuple[tuple[int, int], ...]
    skeleton: tuple[tuple[int, int], ...]
    parts: dict[str, tuple[int, ...]] = field(hash=False)
    pupils: tuple[int, int] | None
    _across: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        count = len(self.points)
        pairs = [*self.mirror, *self.skeleton, *([self.pupils] if self.pupils else [])]
        if count == 0 or len(set(self.points)) != count:
            raise DataError(f"keypoint scheme {self.name!r}: point names must be present and unique")
        if any(not 0 <= index < count for pair in pairs for index in pair):
            raise DataError(f"keypoint scheme {self.name!r}: an index lies outside 0..{count - 1}")
        mirrored = [index for pair in self.mirror for index in pair]
        if len(set(mirrored)) != len(mirrored):
            raise DataError(f"keypoint scheme {self.name!r}: a point stands in two mirror pairs")
        if sorted(index for part in self.parts.values() for index in part) != list(range(count)):
            raise DataError(f"keypoint scheme {self.name!r}: every point must belong to exactly one part")
        across = np.zeros(count)
        for left, right in self.mirror:
            across[left], across[right] = -1, 1
        object.__setattr__(self, "_across", across)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def mirror_order(self) -> NDArray[np.intp]:
        """Indices (K,) such that `keypoints[order]` names the points of a mirrored picture correctly."""
        order = np.arange(len(self))
        for left, right in self.mirror:
            order[left], order[right] = right, left
        return order

    def part_of(self, index: int) -> str:
        """The facial part that a point belongs to."""
        return next(part for part, members in self.parts.items() if index in members)

    def roll(self, keypoints: FloatArray) -> NDArray[np.float64]:
        """In-plane rotation of faces, radians, from keypoints (..., K, 2): 0 upright, positive when the picture's right
        side hangs lower. It is the direction of the sum of the vectors that join each mirror pair, left to right.
        Pairs with a point that is not labelled (NaN) do not count; a face without any has a roll of NaN.
        """
        direction = np.angle(to_complex(keypoints).dot(self._across))
        if np.isfinite(direction).all():
            return np.asarray(direction)
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
            "pupils": list(self.pupils) if self.pupils else None,
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
                pupils=(int(data["pupils"][0]), int(data["pupils"][1])) if data["pupils"] else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError(f"not a keypoint scheme: {type(error).__name__}: {error}") from error


FACES21 = KeypointScheme(
    name="faces21",
    points=(
        "left_brow_outer",
        "left_brow_middle",
        "left_brow_inner",
        "right_brow_inner",
        "right_brow_middle",
        "right_brow_outer",
        "left_eye_outer",
        "left_eye_inner",
        "right_eye_inner",
        "right_eye_outer",
        "nose_left_wing",
        "nose_base",
        "nose_right_wing",
        "upper_lip_top",
        "mouth_centre",
        "lower_lip_bottom",
        "left_pupil",
        "right_pupil",
        "nose_tip",
        "mouth_left_corner",
        "mouth_right_corner",
    ),
    mirror=((0, 5), (1, 4), (2, 3), (6, 9), (7, 8), (10, 12), (16, 17), (19, 20)),
    skeleton=(
        *((0, 1), (1, 2), (3, 4), (4, 5)),
        *((6, 16), (16, 7), (8, 17), (17, 9)),
        *((10, 11), (11, 12), (18, 11)),
        *((19, 13), (13, 20), (20, 15), (15, 19)),
    ),
    parts={
        "brows": (0, 1, 2, 3, 4, 5),
        "eyes": (6, 7, 8, 9, 16, 17),
        "nose": (10, 11, 12, 18),
        "mouth": (13, 14, 15, 19, 20),
    },
    pupils=(16, 17),
)
"""The 21 points of the course's photos: brows, eyes, nose and mouth, no jaw line."""

FROM_IBUG68: tuple[tuple[int, ...], ...] = (
    *((17,), (19,), (21,), (22,), (24,), (26,)),
    *((36,), (39,), (42,), (45,)),
    *((31,), (33,), (35,), (51,), (62, 66), (57,)),
    *((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47)),
    *((30,), (48,), (54,)),
)
"""For each point of `FACES21`, the points of the 68 of iBUG, counted from 0, whose mean it is."""

FACES21_MEAN: NDArray[np.float64] = np.array(
    [
        *((-0.376, -0.388), (-0.251, -0.416), (-0.120, -0.391), (0.103, -0.392), (0.236, -0.421), (0.360, -0.396)),
        *((-0.316, -0.264), (-0.134, -0.251), (0.120, -0.254), (0.302, -0.271)),
        *((-0.140, 0.012), (-0.002, 0.065), (0.132, 0.010), (0.000, 0.159), (0.002, 0.225), (0.004, 0.295)),
        *((-0.223, -0.265), (0.212, -0.270), (-0.003, -0.015), (-0.175, 0.202), (0.170, 0.196)),
    ]
)
"""The mean face of the course's training photos, (21, 2): from the middle of the box, in sides of the box."""

FACES5 = KeypointScheme(
    name="faces5",
    points=("left_pupil", "right_pupil", "nose_tip", "mouth_left_corner", "mouth_right_corner"),
    mirror=((0, 1), (3, 4)),
    skeleton=((3, 4),),
    parts={"eyes": (0, 1), "nose": (2,), "mouth": (3, 4)},
    pupils=(0, 1),
)
"""The five points of a detector, named as in `FACES21`."""


def points_by_name(keypoints: FloatArray, scheme: KeypointScheme, wanted: KeypointScheme) -> NDArray[np.float64]:
    """The points of one scheme, (..., K, 2), that another has under the same name, (..., M, 2); NaN for the rest."""
    found = np.full((*keypoints.shape[:-2], len(wanted), 2), np.nan)
    for place, name in enumerate(wanted.points):
        if name in scheme.points:
            found[..., place, :] = keypoints[..., scheme.points.index(name), :]
    return found


SCHEMES: dict[str, KeypointScheme] = {scheme.name: scheme for scheme in (FACES21, FACES5)}


def scheme_named(name: str) -> KeypointScheme:
    """Look a built-in scheme up by name.

    Raises:
        UsageError: there is none of that name; the advice lists those that exist.
    """
    try:
        return SCHEMES[name]
    except KeyError:
        raise UsageError(f"no keypoint scheme is called {name!r}", f"known: {', '.join(sorted(SCHEMES))}") from None
