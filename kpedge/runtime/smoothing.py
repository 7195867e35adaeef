"""Temporal smoothing of keypoints: the one-euro filter, for all faces of a frame at once.

The filter (Casiez, Roussel, Vogel: 1 EUR filter, CHI 2012) is a first-order low-pass whose cutoff frequency rises with
speed: it removes jitter at rest and follows motion closely. It is applied separately to two parts of the motion, in
units of the face's size and of real time:

- the *common* motion of all points of a face: the similarity transform (shift, rotation, scale) that takes the smoothed
  points nearest to the new ones. It has four parameters for all points, so its speed is known far better than that of
  one point and may raise the cutoff far. All points share it: a moving face keeps its shape.
- the remaining *local* motion of each point: expressions, and what a rotation of the head in depth does to the points.

Before each step the points move on by a part of their last common motion (a damped trend: Gardner & McKenzie 1985), so
that what is filtered is only what the motion changed by: a moving face lags less. Speeds well below `rest` are taken
for noise.

The parameters were chosen with `benchmarks/smoothing.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import UsageError
from kpedge.core.geometry import mean_weights

Floats = NDArray[np.float64]

MAX_GAP = 0.5  # seconds without points after which the filter restarts: what was before predicts nothing
MIN_STEP = 1e-3  # seconds; time steps below this come from broken time stamps (all equal, or running backwards)
DEFAULT_STEP = 1 / 30  # replaces a step below `MIN_STEP`; with the step as given the filter would never move
MAX_AHEAD = 0.1  # seconds for which a face is predicted to move on as before
SMALLEST = 1e-3  # least size of a face, pixels: speeds are divided by it
TURN_SHARE = 0.5
"""Share of rotation and scale in the prediction. They are small and known less well than the shift: with all of it the
crops of a face that only shifts shake, without it those of a face that comes nearer lag behind.
"""


@dataclass(frozen=True, slots=True)
class Smoothing:
    """Parameters of the filter. Speeds are in face sides per second; of the common motion, the root mean square over
    the points.

    Raises:
        UsageError: a value is negative, not finite, or a cutoff of 0.
    """

    min_cutoff: float = 0.4  # cutoff frequency at rest, Hz; lower gives less jitter and a slower approach
    beta: float = 80.0  # how much the cutoff rises with the common speed, Hz for one face side per second
    local_beta: float = 90.0  # the same for each point's local motion and its own speed
    d_cutoff: float = 1.5  # cutoff frequency of the speeds, Hz; higher reacts sooner to a start, and to noise
    rest: float = 0.3  # speed at which the cutoffs rise by half of that; below, they rise with its square
    trend: float = 0.12  # seconds in which a predicted motion falls to 1 / e; 0: none is predicted

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not math.isfinite(value) or value < 0 or (value == 0 and one.name.endswith("cutoff")):
                least = "0" if one.name.endswith("beta") else "more than 0"
                raise UsageError(f"smoothing: {one.name} must be a number of {least}, not {value}")


@dataclass(frozen=True, slots=True, eq=False)
class SmoothState:
    """What the filter remembers of F faces of K points."""

    points: Floats  # float64 (F, K, 2), the smoothed points, pixels
    # float64 (2, F, K, 2), of each point by the common motion and by its local one, face sides per second
    speeds: Floats
    velocity: Floats  # float64 (F, K, 2), by which the points are predicted to move on, pixels per second

    @classmethod
    def start(cls, points: Floats) -> SmoothState:
        """The state of faces seen for the first time: at rest, at their points (F, K, 2)."""
        return cls(points.copy(), np.zeros((2, *points.shape)), np.zeros(points.shape))

    def select(self, rows: list[int], points: Floats) -> SmoothState:
        """The state of other faces at points (F, K, 2): each takes over a row of this one, or starts if it is -1."""
        if rows == list(range(len(self.points))):
            return self
        state = SmoothState.start(points)
        new = [place for place, row in enumerate(rows) if row >= 0]
        old = [row for row in rows if row >= 0]
        state.points[new], state.velocity[new] = self.points[old], self.velocity[old]
        state.speeds[:, new] = self.speeds[:, old]
        return state

    def predict(self, after: float) -> Floats:
        """Where the points (F, K, 2) will be in `after` seconds if the faces move on as in the last step: where to cut
        the next crops. It follows from smoothed points, so at rest it shakes no more than they do.
        """
        return self.points + min(max(after, 0.0), MAX_AHEAD) * self.velocity


def smooth(
    state: SmoothState, points: Floats, sizes: Floats, dt: float, parameters: Smoothing
) -> tuple[Floats, SmoothState]:
    """One step of the filter for F faces of K points.

    Args:
        state: from the step before, or `SmoothState.start`.
        points: (F, K, 2), as the model found them, pixels; finite.
        sizes: (F,), side of each face's box, pixels.
        dt: seconds since the step before. After more than `MAX_GAP` all faces restart; less than `MIN_STEP` is replaced
            by `DEFAULT_STEP`.
        parameters: of the filter.

    Returns:
        The smoothed points, float64 (F, K, 2), and the new state, which share no memory. The arguments are not changed.
    """
    if dt > MAX_GAP:
        return points.copy(), SmoothState.start(points)
    step = dt if dt >= MIN_STEP else DEFAULT_STEP
    radians = 2 * math.pi * step
    mean = mean_weights(points.shape[1])
    trend = math.exp(-step / parameters.trend) if parameters.trend else 0.0
    predicted = (trend * min(step, MAX_AHEAD)) * state.velocity
    before = state.points + predicted

    # The similarity transform that takes the predicted points nearest to the new ones (least squares).
    ahead = points - before
    around = before - mean.dot(before)[:, None]
    shift = mean.dot(ahead)[:, None]
    turns = []
    for old, moved in zip(around, ahead, strict=True):
        (xx, xy), (yx, yy) = old.T.dot(moved).tolist()
        flat = old.reshape(-1)
        size = float(flat.dot(flat)) + SMALLEST**2
        cos, sin = (xx + yy) / size, (xy - yx) / size
        turns.append(((cos, sin), (-sin, cos)))
    turned = around @ np.array(turns).reshape(-1, 2, 2)
    motion = np.empty(state.speeds.shape)
    np.add(shift, turned, out=motion[0])
    np.subtract(ahead, motion[0], out=motion[1])

    gain = parameters.d_cutoff * radians / (1 + parameters.d_cutoff * radians)
    to_sides = (gain / step) / np.maximum(sizes, SMALLEST)
    speeds = (1 - gain) * state.speeds
    speeds += to_sides[:, None, None] * motion
    speeds[0] += to_sides[:, None, None] * predicted
    squares = np.add.reduce(speeds * speeds, axis=3)
    squares[0] = squares[0].dot(mean)[:, None]
    shares = squares / (np.sqrt(squares) + parameters.rest + SMALLEST)  # followed: the cutoffs rise with speed
    shares *= np.array([parameters.beta * radians, parameters.local_beta * radians])[:, None, None]
    shares += parameters.min_cutoff * radians
    shares /= 1 + shares
    motion *= shares[..., None]
    new = before + motion[0]
    new += motion[1]
    velocity = shift + TURN_SHARE * turned
    velocity *= shares[0, :, :1, None] / step
    velocity += trend * state.velocity
    return new.copy(), SmoothState(new, speeds, velocity)
