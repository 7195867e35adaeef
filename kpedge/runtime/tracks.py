"""Tracks: who is who in a video, by motion and, cheaply, by appearance.

A track that is lost is predicted to move on at constant velocity, and a face that appears near there, of about its size
and looking alike, takes the track up again.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import rotated_box
from kpedge.core.card import ModelCard
from kpedge.core.errors import UsageError
from kpedge.core.faces import Detection
from kpedge.core.geometry import Image, box_size, crop, iou, square_transform
from kpedge.core.joint_score import JointScore
from kpedge.core.text import check_whole
from kpedge.runtime.keypoints import Candidates

Floats = NDArray[np.float64]

KEEP_THRESHOLD = 0.5  # share of the score threshold above which a tracked face stays one
MAX_SCALE_CHANGE = 1.6  # ratio of a face's sides in two consecutive frames, up to which it is the same
SMALLEST = 8.0  # side of the smallest face that is tracked, pixels
MAX_ERROR = 0.04
"""Mean expected error of a face, in its side, above which a search checks it: a crop that is too small shows features
that the model takes for others. In good videos it is about 0.02."""
MAX_ERROR_RATIO = 1.5  # the same in the card's validation error, if that is more: some models are less exact
JOINT_SEARCH = 0.5
"""Share of the detector's threshold from which on the joint score decides: on validation photos at 320 px recall was
93.6 %, with a face in one of 134 background photos; with two thresholds in three."""
BETTER = 0.9  # share of the expected error of a tracked face below which a competing candidate takes its place
SAME = 0.5
"""Part of the smaller of two boxes that both share, from which on they are one face's: a box that has shrunk onto the
middle of a face has little overlap with the face's own, but lies in it.
"""
NEAR = 0.05  # part of the smaller of two boxes that both share, from which on one may hide the other
RETURN_NEAR = 1.0  # how far from its predicted place, or way there, a face may return as itself, in sides of its box
RETURN_SIZE = 1.6  # ratio of its sides up to which it may
PATCH = 6  # pixels along a side of the appearance patch
PATCH_SIDE = 0.75  # side of the patch, in the box's: inside of the face, as its surroundings change with every step
DIFFERENT = 0.17
"""Difference of appearance from which on a face that returns is another person's. After a second, faces of nine real
videos differ from themselves by 0.136 or less in 99 % of cases; 98.7 % of pairs of people of faces21 differ by more.
"""
MOVED_DIFFERENT = 0.6  # the same for a face that returns where a moving one was predicted: it may be partly hidden
HIDDEN_DIFFERENT = 1.0  # the same for one that returns near another face, which hides a part of it
MOVED = 0.4  # how far a face is predicted to have moved, in its side, for that to say who it is
UPDATE = 0.3  # share of the newest patch in a track's appearance
AGREED_IOU = 0.7  # overlap of a found box with a tracked one below which the keypoint model tries both
LOOK_INTERVAL = 0.15  # seconds between measurements of a face's appearance
JUMPED = 0.04  # how far a face may be from its predicted place, in its side, before its appearance is checked
CHANGED = 0.4  # difference of appearance within `LOOK_INTERVAL` from which on a face is another person's
JUMPED_DIFFERENT = 0.2  # the same for a face that is not where it was predicted
SETTLED = 0.3  # seconds that a track has its id before its appearance may end it
CLEAR = 1.4
"""Expected error, in that of a track as it was, up to which a face is taken to be seen as clearly as before, not partly
hidden: only then does a change of its appearance say that it is another person's."""
INCUMBENT = 1.2  # factor of preference for a face that is tracked already, where there are more than are tracked
MAX_AGE = 1.5  # seconds for which a lost face keeps its id
VELOCITY_S = 0.25  # seconds over which a track's velocity is averaged


@dataclass(slots=True, eq=False)
class Track:
    """A face that is tracked, or was until a moment ago."""

    id: int  # number of the person, from 1
    box: Floats  # float64 (4,), pixels of the frame: that of its last points
    seen_s: float  # when it was last seen, seconds
    lost: bool = False  # whether it has not been found since
    side: float = 0.0  # of its box, pixels
    # x, y, free_s: middle of its box when no other face was near, pixels, and the time of that, seconds
    x: float = 0.0
    y: float = 0.0
    free_s: float = -math.inf
    # vx, vy: its velocity then, pixels per second
    vx: float = 0.0
    vy: float = 0.0
    look: Floats | None = None  # its appearance, averaged; None before it was measured
    last_look: Floats | None = None  # the last measurement
    born_s: float = math.inf  # when the first one was, seconds
    look_s: float = -math.inf  # when that was, seconds
    doubt: float = 0.0  # its expected error then, in its side
    near: bool = False  # whether another face was near in the last frame

    def unlike(self, look: Floats) -> float:
        """How far an appearance is from this face's: from its average or its last, whichever is nearer."""
        return min(difference(look, self.look), difference(look, self.last_look))

    def learn(self, look: Floats, doubt: float, time_s: float) -> None:
        """Take a new measurement of its appearance, and its expected error then, into account."""
        if self.look is None:
            self.look, self.doubt, self.born_s = look, doubt, time_s
        self.look = self.look + UPDATE * (look - self.look)
        self.doubt += UPDATE * (doubt - self.doubt)
        self.last_look, self.look_s = look, time_s

    def distance(self, x: float, y: float, time_s: float) -> tuple[float, float]:
        """How far a place is from the way that it is predicted to have taken since it was free, and that way's length,
        pixels.
        """
        passed = max(time_s - self.free_s, 0.0)
        dx, dy = self.vx * passed, self.vy * passed
        way = dx * dx + dy * dy
        at = min(max(((x - self.x) * dx + (y - self.y) * dy) / way, 0.0), 1.0) if way > 0 else 0.0
        return math.hypot(x - self.x - at * dx, y - self.y - at * dy), math.sqrt(way)


def appearance(image: Image, box: Floats, roll: float) -> Floats:
    """A few numbers that describe a face: float64 (3 + `PATCH` ** 2,), compared by `difference`: the mean chroma of the
    upright face, which does not depend on brightness, and the root of the brightness over its mean, pixel by pixel.
    """
    x1, y1, x2, y2 = rotated_box(box, roll).tolist()
    transform = square_transform((x1 + x2) / 2, (y1 + y2) / 2, PATCH_SIDE * (x2 - x1), PATCH, roll=roll)
    patch = crop(image, transform, PATCH).reshape(-1, 3).astype(np.float64)
    mean, total = np.add.reduce(patch, axis=0), np.maximum(np.add.reduce(patch, axis=1), 20.0)
    bright = np.sqrt(total / max(float(_ROUND.dot(total)), 12.0))
    bright = (bright - _ROUND.dot(bright)) * _ROOT
    return np.concatenate([12 * mean / max(float(mean.sum()), 20.0 * len(patch)) - 4, 2 * bright])


def _round_weights() -> Floats:
    """Weights (`PATCH` ** 2,) of a mean over the pixels of the patch that lie in its circle."""
    places = (np.arange(PATCH) - (PATCH - 1) / 2) / (PATCH / 2)
    inside = (np.hypot(places[:, None], places) <= 1).astype(np.float64).reshape(-1)
    return np.asarray(inside / inside.sum())


_ROUND = _round_weights()
_ROOT = np.sqrt(_ROUND)


def difference(look: Floats | None, other: Floats | None) -> float:
    """How far two appearances differ, 0 for the same; 0 where one is not known."""
    if look is None or other is None:
        return 0.0
    away = look - other
    return math.sqrt(away.dot(away))


def shared(boxes: Floats, others: Floats) -> Floats:
    """Part of the smaller box that every box (N, 4) shares with every other (M, 4), (N, M)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    smaller = np.minimum(box_size(boxes)[:, None], box_size(others)) ** 2
    return np.asarray(np.prod(np.clip(high - low, 0, None), axis=2) / np.maximum(smaller, 1e-9))


def match_tracks(boxes: Floats, others: Floats) -> NDArray[np.intp]:
    """For each box (N, 4) the one of others (M, 4) that is the same face's, (N,); -1 where none is."""
    if not len(boxes) or not len(others):
        return np.full(len(boxes), -1)
    part = shared(boxes, others)
    return np.where(part.max(axis=1) >= SAME, part.argmax(axis=1), -1)


def boxes_to_try(boxes: Floats, tracked: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which detected boxes (N, 4) the keypoint model should try: those of no tracked face, (M, 4), and those that
    overlap their own less than they should. With them the tracked face of each, -1 where it is new.
    """
    owners = match_tracks(boxes, tracked)
    agreed = [
        owner >= 0 and iou(box[None], tracked[owner][None])[0, 0] >= AGREED_IOU
        for box, owner in zip(boxes, owners, strict=True)
    ]
    wanted = np.flatnonzero(~np.array(agreed, dtype=bool))
    return wanted, owners[wanted]


def reidentify(
    boxes: Floats, looks: Sequence[Floats | None], lost: Sequence[Track], time_s: float, hidden: Sequence[bool]
) -> list[Track | None]:
    """For each box (N, 4) with its appearance the lost track that it takes up, if any: the most alike and nearest."""
    found: list[Track | None] = [None] * len(boxes)
    pairs = []
    for place, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        side = x2 - x1
        for track in lost:
            away, way = track.distance((x1 + x2) / 2, (y1 + y2) / 2, time_s)
            largest, unlike = max(side, track.side), difference(looks[place], track.look)
            limit = MOVED_DIFFERENT if way > MOVED * track.side else DIFFERENT
            limit = HIDDEN_DIFFERENT if hidden[place] else limit
            if away < RETURN_NEAR * largest and largest <= RETURN_SIZE * min(side, track.side) and unlike < limit:
                pairs.append((unlike + 0.1 * away / largest, place, track.id, track))
    taken: set[int] = set()
    for _, place, id_, track in sorted(pairs, key=lambda pair: pair[:3]):
        if found[place] is None and id_ not in taken:
            found[place] = track
            taken.add(id_)
    return found


def drop_duplicates(
    image: Image,
    rows: Sequence[int],
    found: Candidates,
    doubts: Sequence[float],
    tracked: Sequence[Track],
    time_s: float,
) -> tuple[list[int], set[int], list[int]]:
    """Leave out rows of candidates that show the same face as another row; the first ones are those of the tracks.

    Returns:
        The other rows, those of all rows that have another face near, and those that took what the other one found.
    """
    parts = shared(found.boxes[rows], found.boxes[rows])
    near = {rows[place] for pair in np.argwhere(np.triu(parts > NEAR, 1)).tolist() for place in pair}
    dropped: set[int] = set()
    replaced: list[int] = []
    for one, other in np.argwhere(np.triu(parts >= SAME, 1)).tolist():
        first, second = rows[one], rows[other]
        if first in dropped or second in dropped:
            continue
        if second >= len(tracked):
            dropped.add(second)
            continue
        # Two tracks on one face: it belongs to the one that it looks like and that was on its way there.
        best = min(first, second, key=lambda row: doubts[row])
        look = appearance(image, found.boxes[best], found.rolls[best])
        x1, y1, x2, y2 = found.boxes[best].tolist()
        costs = {}
        for row in (first, second):
            away, _ = tracked[row].distance((x1 + x2) / 2, (y1 + y2) / 2, time_s)
            costs[row] = difference(look, tracked[row].look) + 0.1 * min(away / (x2 - x1), 2.0)
        owner, loser = sorted(costs, key=lambda row: costs[row])
        dropped.add(loser)
        if owner != best:
            found.replace_row(owner, best)
            replaced.append(owner)
    return [row for row in rows if row not in dropped], near, replaced


PREFERENCES: dict[str, Callable[[float, float, float], float]] = {
    "largest": lambda side, _score, _centrality: side,
    "score": lambda _side, score, _centrality: score,
    "centre": lambda _side, _score, centrality: centrality,
}
"""Which faces are tracked where there are more than `max_faces`: name -> what ranks a face with a side, pixels, a
score, and a number that falls with its distance from the middle of the frame.
"""


def choose(
    rows: Sequence[int], found: Candidates, tracked: int, most: int, prefer: str, size: tuple[int, int]
) -> list[int]:
    """The rows of so many candidates that a preference ranks highest; the first `tracked` rows are tracked already."""
    values = {}
    for row in rows:
        x1, y1, x2, y2 = found.boxes[row].tolist()
        centrality = 1 / (0.1 + math.hypot((x1 + x2 - size[0]) / 2, (y1 + y2 - size[1]) / 2) / max(size))
        rank = PREFERENCES[prefer](x2 - x1, float(found.scores[row]), centrality)
        values[row] = rank * (INCUMBENT if row < tracked else 1.0)
    return sorted(sorted(rows, key=lambda row: -values[row])[:most])


def check_tracking(card: ModelCard, gives_size: bool, max_faces: int, prefer: str, interval: float) -> None:
    """Stop if a keypoint model cannot be used for tracking, or a setting of the tracker makes no sense.

    Raises:
        UsageError: the message says which.
    """
    if not card.has_score:
        raise UsageError(f"{card.name} cannot track faces: it has no face score", "use a stage 3")
    if not gives_size:
        raise UsageError(
            f"{card.name} cannot track faces: one point does not determine how large a face is",
            "use a model with two points or more",
        )
    check_whole("--max-faces", max_faces, 1)
    if prefer not in PREFERENCES:
        raise UsageError(f"--prefer must be one of {', '.join(PREFERENCES)}, not {prefer!r}")
    if not interval > 0:
        raise UsageError(f"--detection-interval must be above 0, not {interval:g}")


def take_better(rivals: dict[int, int], found: Candidates, good: list[bool], doubts: list[float]) -> list[int]:
    """Let candidates, row -> row of the tracked face that they overlap, take that row where they are clearly better;
    they are no faces of their own. Gives the rows that were taken.
    """
    taken = []
    for row, place in rivals.items():
        if good[row] and doubts[row] < BETTER * doubts[place]:
            found.replace_row(place, row)
            doubts[place] = doubts[row]
            taken.append(place)
        good[row] = False
    return taken


def score_jointly(joint: JointScore, detections: Sequence[Detection], found: Candidates, longer: int) -> list[float]:
    """The joint scores of candidates in detected boxes of an image with this longer side."""
    centred = found.points - found.points.mean(axis=1, keepdims=True)
    errors = found.errors.mean(axis=1) / np.maximum(np.linalg.norm(centred, axis=2).mean(axis=1), 1e-6)
    sizes = [float(one.box[2] - one.box[0]) / longer for one in detections]
    rows = zip(detections, found.scores.tolist(), errors.tolist(), sizes, strict=True)
    return [
        joint(detector=one.score, keypoints=score, error=error, size=size, support=one.support)
        for one, score, error, size in rows
    ]
