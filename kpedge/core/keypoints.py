"""The keypoint schemes that kpedge knows, and how points of one become those of another.

A scheme is data. Code never assumes a number of points; it asks the scheme of its data set, or the card of its model.
The schemes are the TOML files of `schemes/`, and a user's own is one more (docs/schemes.md). Names join them: points of
one name are the same point, and a scheme says which points of others follow from its own.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import UsageError
from kpedge.core.scheme import FloatArray, Group, KeypointScheme, read_scheme

SCHEMES_FOLDER = Path(__file__).resolve().parent / "schemes"
BUILT_IN = tuple(
    sorted((path.stem for path in SCHEMES_FOLDER.glob("*.toml")), key=lambda name: (int(re.sub(r"\D", "", name)), name))
)
"""The schemes that come with kpedge, each a file in `schemes/` named after its number of points; the fewest first."""


@functools.cache
def _built_in(name: str) -> KeypointScheme:
    return read_scheme(SCHEMES_FOLDER / f"{name}.toml")


def scheme_named(name: str) -> KeypointScheme:
    """A built-in scheme by name, or a user's by the path of its TOML file.

    Raises:
        UsageError: there is none of that name; the advice lists those that exist.
        DataError: the file is no scheme.
    """
    if name in BUILT_IN:
        return _built_in(name)
    if name.endswith(".toml"):
        return read_scheme(Path(name))
    raise UsageError(
        f"no keypoint scheme is called {name!r}", f"known: {', '.join(BUILT_IN)}, or the path of a TOML file"
    )


FACES5 = scheme_named("faces5")  # the five points of a detector, named as in `FACES21`
FACES21 = scheme_named("faces21")
"""The 21 points of the course's photos: brows, eyes, nose and mouth, no jaw line. Points of the face are known by their
names here, and what knows where they lie (boxes, head pose) takes those of another scheme by `conversion`.
"""

FACES21_MEAN: NDArray[np.float64] = np.array(
    [
        *((-0.376, -0.388), (-0.251, -0.416), (-0.120, -0.391), (0.103, -0.392), (0.236, -0.421), (0.360, -0.396)),
        *((-0.316, -0.264), (-0.134, -0.251), (0.120, -0.254), (0.302, -0.271)),
        *((-0.140, 0.012), (-0.002, 0.065), (0.132, 0.010), (0.000, 0.159), (0.002, 0.225), (0.004, 0.295)),
        *((-0.223, -0.265), (0.212, -0.270), (-0.003, -0.015), (-0.175, 0.202), (0.170, 0.196)),
    ]
)
"""The mean face of the course's training photos, (21, 2): from the middle of the box, in sides of the box."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """How points of one scheme become those of another."""

    groups: tuple[Group, ...]  # for each of the M wanted points those whose mean it is; empty where it does not follow

    @property
    def known(self) -> NDArray[np.intp]:
        """Indices of the wanted points that follow."""
        return np.flatnonzero([bool(group) for group in self.groups])

    @property
    def is_whole(self) -> bool:
        """Whether every wanted point follows."""
        return all(self.groups)

    def __call__(self, keypoints: FloatArray) -> NDArray[np.float64]:
        """Keypoints (..., K, 2) as (..., M, 2); NaN where a point does not follow, or one that it follows from is."""
        found = np.full((*keypoints.shape[:-2], len(self.groups), 2), np.nan)
        single = [place for place, group in enumerate(self.groups) if len(group) == 1]
        found[..., single, :] = keypoints[..., [self.groups[place][0] for place in single], :]
        for place, group in enumerate(self.groups):
            if len(group) > 1:
                found[..., place, :] = keypoints[..., list(group), :].mean(axis=-2)
        return found


@functools.lru_cache(maxsize=64)
def conversion(scheme: KeypointScheme, wanted: KeypointScheme) -> Conversion:
    """How points of one scheme become those of another: by name, and by what a scheme derives."""
    own: dict[str, Group] = {point: (index,) for index, point in enumerate(scheme.points)}
    return Conversion(tuple((own | scheme.derived).get(point, ()) for point in wanted.points))


def convert_points(keypoints: FloatArray, scheme: KeypointScheme, wanted: KeypointScheme) -> NDArray[np.float64]:
    """The points of one scheme, (..., K, 2), as those of another, (..., M, 2); NaN for those that do not follow."""
    return conversion(scheme, wanted)(keypoints)
