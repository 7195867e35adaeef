"""Steady points in a video: the one-euro filter, for all faces of a frame at once.

The filter (Casiez, Roussel, Vogel: 1 EUR filter, CHI 2012) is a first-order low-pass whose cutoff frequency rises with
speed: slow, so steady, at rest, and quick in motion. Here it is applied to two things apart, in units of the face's
size and of real time:

- the *common* motion of all points of a face: the similarity transform (shift, turn, zoom) that takes the smoothed
  points nearest to the new ones. It has four numbers for all points, so its speed is known far better than that of one
  point and may open the filter wide. All points follow it alike: the face keeps its shape in motion.
- the *local* motion that it leaves, point by point: expressions, and what a turn of the head does to the points.

The parameters were chosen with `benchmarks/smoothing.py`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import UsageError
from kpedge.core.geometry import from_complex, mean_weights, to_complex

Complex = NDArray[np.complex128]

LONGEST_GAP = 0.5
"""Seconds without a face's points after which the filter begins anew: what was before says nothing of where it is."""
SHORTEST_STEP = 1e-3
"""Steps of time below this, seconds, come from no camera but from broken time stamps (all equal, or running back)."""
USUAL_STEP = 1 / 30
"""What is taken in their place: a filter that believed them would stand still for ever."""
LONGEST_AHEAD = 0.1
"""Seconds for which a face is taken to go on as it moved."""
SMALLEST = 1e-3
"""Least size of a face, pixels: speeds are divided by it."""
TURN_SHARE = 0.5
"""How much of turn and zoom is believed to go on. They are small and known less well than the shift: all of it makes
crops of a face that only shifts shake, none leaves those of a face that comes nearer behind.
"""


@dataclass(frozen=True, slots=True)
class Smoothing:
    """Parameters of the filter. Speeds are in face sides a second; of the common motion, the root mean square over the
    points.

    Attributes:
        min_cutoff: cutoff frequency at rest, Hz; lower is steadier, and slower to creep along.
        beta: how much the cutoff rises with the common speed, Hz for a face side a second. At a steady speed the
            points are 1 / (2 pi beta) face sides behind at most.
        local_beta: likewise, of each point's local motion with its own speed.
        d_cutoff: cutoff frequency of the speeds, Hz; higher reacts sooner to a start, and to noise.

    Raises:
        UsageError: a value is negative, not finite, or a cutoff of 0.
    """

    min_cutoff: float = 0.4
    beta: float = 80.0
    local_beta: float = 60.0
    d_cutoff: float = 1.5

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not math.isfinite(value) or value < 0 or (value == 0 and one.name.endswith("cutoff")):
                least = "0" if one.name.endswith("beta") else "more than 0"
                raise UsageError(f"smoothing: {one.name} must be a number of {least}, not {value}")


@dataclass(frozen=True, slots=True, eq=False)
class SmoothState:
    """What the filter remembers of F faces of K points; x and y are one complex number.

    Attributes:
        points: complex128 (F, K), the smoothed points, pixels.
        common: complex128 (F, K), speed of each point by the common motion, face sides a second.
        local: complex128 (F, K), local speed of each point, face sides a second.
        moved: complex128 (F, K), how fast the common motion took the smoothed points along in the last step, pixels a
            second.
    """

    points: Complex
    common: Complex
    local: Complex
    moved: Complex

    @classmethod
    def start(cls, points: NDArray[np.float64]) -> SmoothState:
        """The state of faces that are seen for the first time, or again: at rest, at their points (F, K, 2)."""
        at = to_complex(points).copy()
        return cls(at, *(np.zeros_like(at) for _ in range(3)))

    @classmethod
    def joined(cls, states: Sequence[SmoothState]) -> SmoothState:
        """The faces of several states (one at least) after one another; their number of points is the same."""
        return cls(*(np.concatenate([getattr(one, part.name) for one in states]) for part in fields(cls)))

    def take(self, indices: NDArray[np.integer] | Sequence[int]) -> SmoothState:
        """Some of the faces, in the order of `indices`."""
        at = np.asarray(indices, dtype=np.intp)
        return SmoothState(self.points[at], self.common[at], self.local[at], self.moved[at])

    def expected(self, after: float) -> NDArray[np.float64]:
        """Where the points (F, K, 2) will be in `after` seconds, if the faces go on as in the last step: where to cut
        the next crops. It follows from smoothed points, so at rest it shakes no more than they do.
        """
        shift = self.moved.dot(mean_weights(self.moved.shape[1]))[:, None]
        return from_complex(self.points + (after * TURN_SHARE) * self.moved + (after * (1 - TURN_SHARE)) * shift)

    def __len__(self) -> int:
        return len(self.points)


def smooth(
    state: SmoothState,
    points: NDArray[np.float64],
    sizes: NDArray[np.float64],
    dt: float,
    parameters: Smoothing,
) -> tuple[NDArray[np.float64], SmoothState]:
    """One step of the filter for F faces of K points.

    Args:
        state: from the step before, or `SmoothState.start`.
        points: (F, K, 2), as the model found them, pixels; finite.
        sizes: (F,), side of each face's box, pixels.
        dt: seconds since the step before. After more than `LONGEST_GAP` all faces begin anew; less than `SHORTEST_STEP`
            is taken for `USUAL_STEP`.
        parameters: of the filter.

    Returns:
        The smoothed points, float64 (F, K, 2), and the new state, which share no memory; nothing that was given is
        changed.
    """
    if dt > LONGEST_GAP:
        return points.copy(), SmoothState.start(points)
    step = dt if dt >= SHORTEST_STEP else USUAL_STEP
    radians = 2 * math.pi * step
    rate = (1 / step) / np.maximum(sizes, SMALLEST)[:, None]  # pixels to face sides a second

    # A call costs more than what it computes for a few faces: sums are written so that there are few calls.
    count = points.shape[1]
    mean = mean_weights(count)
    old = state.points
    ahead = to_complex(points) - old
    around = old - old.dot(mean)[:, None]
    mirrored = around.conj()
    spread = np.add.reduce((mirrored * around).real, axis=1, keepdims=True)
    turn = np.add.reduce(mirrored * ahead, axis=1, keepdims=True) / (spread + SMALLEST**2)  # of scale, too: one product
    common = ahead.dot(mean)[:, None] + turn * around
    local = ahead - common

    speed_gain = _gain(parameters.d_cutoff * radians)
    speed = state.common + speed_gain * (common * rate - state.common)
    parts = speed.view(np.float64)
    fast = np.sqrt(np.add.reduce(parts * parts, axis=1, keepdims=True) / count)
    local_speed = state.local + speed_gain * (local * rate - state.local)
    least = parameters.min_cutoff * radians
    common_gain = _gain(least + parameters.beta * radians * fast)
    local_gain = _gain(least + parameters.local_beta * radians * np.abs(local_speed))
    moved = common_gain * common
    new = old + moved + local_gain * local
    return from_complex(new).copy(), SmoothState(new, speed, local_speed, moved / step)


Number = TypeVar("Number", float, NDArray[np.float64])


def _gain(radians: Number) -> Number:
    """By how much a first-order low-pass follows in one step; `radians` is 2 pi times cutoff times step."""
    return radians / (1 + radians)


class FaceSmoother:
    """Smooths the points of faces that come and go, each by its number.

    Attributes:
        parameters: of the filter.
    """

    def __init__(self, parameters: Smoothing) -> None:
        self.parameters = parameters
        self._ids: list[int] = []
        self._state: SmoothState | None = None

    def __call__(
        self,
        ids: list[int],
        points: NDArray[np.float64],
        sizes: NDArray[np.float64],
        dt: float,
        anew: Collection[int] = (),
    ) -> NDArray[np.float64]:
        """Smoothed points, float64 (F, K, 2), of the faces of a frame; those that were not in the frame before begin
        anew.

        Args:
            ids: number of each face.
            points: (F, K, 2), as the model found them, pixels.
            sizes: (F,), side of each face's box, pixels.
            dt: seconds since the frame before.
            anew: numbers of faces that begin anew, too.
        """
        if not ids:
            self.reset()
            return points
        state = self._state if self._state is not None else SmoothState.start(points[:0])
        if self._ids != ids or anew:
            known = [one for one in self._ids if one not in anew]
            new = [place for place, one in enumerate(ids) if one not in known]
            state = state.take([self._ids.index(one) for one in known])
            state = SmoothState.joined([state, SmoothState.start(points[new])])
            known += [ids[place] for place in new]
            state = state.take([known.index(one) for one in ids])
        smoothed, self._state = smooth(state, points, sizes, dt, self.parameters)
        self._ids = list(ids)
        return smoothed

    def expected(self, ids: list[int], after: float) -> NDArray[np.float64]:
        """Where the points, float64 (F, K, 2), of faces of the last frame will be `after` seconds later.

        Raises:
            KeyError: a face was not in it.
        """
        if self._state is None or not set(ids) <= set(self._ids):
            raise KeyError(f"of the faces {ids}, only {self._ids} were in the last frame")
        found = self._state.expected(min(max(after, 0.0), LONGEST_AHEAD))
        return found if ids == self._ids else found[[self._ids.index(one) for one in ids]]

    def reset(self) -> None:
        """Forget every face."""
        self._ids, self._state = [], None
