"""Choosing negatives: boxes of a photo that show no face, cut by the same rule as a face's box.

A negative's crop overlaps no face's crop by an IoU of `MAX_IOU` or more; parts of faces, and crops in which a face is
far too small, are negatives. An ignored face is neither face nor background: no negative shows its middle.

What lies beyond a photo must not give the answer away. Each negative is therefore given the overhang of a face drawn
at random: it leaves the photo at the same sides, by the same fractions of the crop, or not at all.
"""

import math
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError
from kpedge.core.geometry import Box, CropRule, crop_square, iou
from kpedge.data.labels import Labels
from kpedge.data.rows import check_box, parse_csv_row, parse_numbers, text_lines

UNLABELLED_LIST = "unlabelled_faces.csv"  # in a data folder: `image,x1,y1,x2,y2,score`, faces to ignore
MAX_IOU = 0.3  # crops that overlap by this, or more, show the same thing
MIN_SIDE = 16.0  # side of the smallest crop, pixels of the photo
MAX_SIDE = 0.95  # side of the largest crop of background, in the photo's shorter side
TRIES = 50  # attempts to place a negative before it is skipped
NEAR_SHIFT = (0.5, 1.2)  # how far a near miss is moved away from its face, in sides of the face's box
NEAR_SMALLER, NEAR_LARGER = (0.3, 0.55), (1.9, 3.5)  # side of a near miss, in that of its face
SNAP = 0.25  # how far a near miss is moved, in sides of its crop, to get the overhang that was drawn
LEAVE, LEAVE_BY = 0.18, 0.25
"""Where a set has no face to take overhangs from: the share of crops that leave the photo, at one side, and by how much
of their side at most. Of faces21's faces about as many do."""

Overhang = tuple[float, float, float, float]
"""How far a crop leaves the photo left, above, right and below, in sides of the crop; 0 where it does not."""
Square = tuple[float, float, float]  # left edge, upper edge and side of a crop, pixels


def overhang(box: Box, rule: CropRule, width: int, height: int) -> Overhang:
    """How far the crop of a box leaves a photo of that size."""
    x, y, side = crop_square(box, rule)
    beyond = (
        -0.5 - (x - side / 2),
        -0.5 - (y - side / 2),
        x + side / 2 - (width - 0.5),
        y + side / 2 - (height - 0.5),
    )
    left, above, right, below = (value / side if value > 1e-6 * side else 0.0 for value in beyond)
    return left, above, right, below


def read_unlabelled(root: Path) -> dict[str, list[Box]]:
    """Photo, relative to a data folder -> boxes, each (4,), of the faces to ignore, as its `unlabelled_faces.csv` lists
    them; empty where there is none.

    Raises:
        DataError: a row is broken; the message names its line.
    """
    path = root / UNLABELLED_LIST
    boxes: dict[str, list[Box]] = {}
    for line, content in list(text_lines(path))[1:] if path.is_file() else ():
        try:
            cells = parse_csv_row(content)
            if len(cells) < 5:
                raise DataError(f"{len(cells)} columns, expected image,x1,y1,x2,y2,score")
            box = check_box(parse_numbers(cells[1:5], 2))
        except DataError as error:
            raise DataError(f"{path}:{line}: {error}", "mend or remove the row") from error
        boxes.setdefault(posixpath.normpath(cells[0]), []).append(box)
    return boxes


def ignored_boxes(labels: Labels) -> dict[str, list[Box]]:
    """What is neither face nor background, as `read_unlabelled` gives it: its boxes, then the labels' own."""
    boxes = read_unlabelled(labels.root)
    for photo, own in labels.ignored.items():
        boxes.setdefault(photo, []).extend(own)
    return boxes


def draw_overhang(rng: np.random.Generator, known: Sequence[Overhang]) -> Overhang:
    """The overhang of a face drawn at random, or where there is none of the fixed distribution (`LEAVE`)."""
    if known:
        return known[int(rng.integers(len(known)))]
    drawn = [0.0, 0.0, 0.0, 0.0]
    if rng.random() < LEAVE:
        drawn[int(rng.integers(4))] = float(rng.uniform(0, LEAVE_BY))
    return drawn[0], drawn[1], drawn[2], drawn[3]


@dataclass(frozen=True, slots=True, eq=False)
class _Photo:
    """What a photo's negatives have to respect."""

    width: int
    height: int
    faces: NDArray[np.float64]  # crops (N, 4) of all faces, ignored ones last
    middles: NDArray[np.float64]  # middles (M, 2) of faces to ignore: neither face nor background

    def allows(self, square: Square) -> bool:
        """Whether a crop shows no face."""
        low = np.array(square[:2])
        high = low + square[2]
        if len(self.faces) and iou(np.concatenate([low, high])[None], self.faces).max() >= MAX_IOU:
            return False
        return not ((self.middles > low) & (self.middles < high)).all(axis=1).any()

    def find(self, rng: np.random.Generator, drawn: Overhang, faces: Sequence[Box], rule: CropRule) -> Square | None:
        """A crop that shows no face: a near miss of one of these faces; background where that has no room."""
        for near in [True] * (TRIES if faces else 0) + [False] * TRIES:
            square = self.near_miss(rng, drawn, faces, rule) if near else self.background(rng, drawn)
            if square is not None and self.allows(square):
                return square
        return None

    def background(self, rng: np.random.Generator, drawn: Overhang) -> Square | None:
        """A crop of any size, anywhere, with the overhang that was drawn."""
        left, above, right, below = drawn
        largest = MAX_SIDE * min(self.width, self.height)
        if largest < MIN_SIDE:
            return None
        side = math.exp(rng.uniform(math.log(MIN_SIDE), math.log(largest)))
        if left and right:
            side = self.width / (1 - left - right)
        elif above and below:
            side = self.height / (1 - above - below)
        x = _place(rng, side, self.width, left, right)
        y = _place(rng, side, self.height, above, below)
        return None if x is None or y is None else (x, y, side)

    def near_miss(
        self, rng: np.random.Generator, drawn: Overhang, boxes: Sequence[Box], rule: CropRule
    ) -> Square | None:
        """A crop around one of the faces, moved away, or far too small or large, with the overhang that was drawn."""
        box = boxes[int(rng.integers(len(boxes)))]
        x, y, side = crop_square(box, rule)
        moved, resized = ((True, False), (False, True), (True, True))[int(rng.integers(3))]
        angle, distance = (
            float(rng.uniform(0, 2 * math.pi)),
            float(rng.uniform(*NEAR_SHIFT)) * side / (1 + 2 * rule.widen),
        )
        if moved:
            x, y = x + distance * math.cos(angle), y + distance * math.sin(angle)
        if resized:
            side *= float(rng.uniform(*(NEAR_SMALLER if rng.random() < 0.5 else NEAR_LARGER)))
        left, above, right, below = drawn
        start = _snap(x - side / 2, side, self.width, left, right)
        top = _snap(y - side / 2, side, self.height, above, below)
        return None if start is None or top is None or side < MIN_SIDE else (start, top, side)


def choose_negatives(
    rng: np.random.Generator,
    size: tuple[int, int],
    faces: Sequence[Box],
    ignored: Sequence[Box],
    overhangs: Sequence[Overhang],
    owed: list[Overhang],
    count: int,
    rule: CropRule,
) -> list[Box]:
    """Boxes (4,) of a photo that show no face, squares: half background at all scales, half near misses of its faces;
    fewer than `count` where there is no room. A function of its arguments and the generator's state.

    Overhangs are those of the set's faces, none for the fixed distribution. Those that earlier photos had no room for
    (`owed`) come first, and what finds no room is added to them.
    """
    squares = [crop_square(box, rule) for box in (*faces, *ignored)]
    photo = _Photo(
        width=size[0],
        height=size[1],
        faces=np.array([(x - s / 2, y - s / 2, x + s / 2, y + s / 2) for x, y, s in squares]).reshape(-1, 4),
        middles=np.array([(x, y) for x, y, _ in squares[len(faces) :]]).reshape(-1, 2),
    )
    chosen: list[Box] = []
    for _ in range(count):
        near = len(faces) > 0 and rng.random() < 0.5
        first = [owed.pop(0)] if owed else []
        for drawn in (*first, draw_overhang(rng, overhangs)):
            square = photo.find(rng, drawn, faces if near else (), rule)
            if square is not None:
                x, y, side = square
                margin = side * rule.widen / (1 + 2 * rule.widen)
                chosen.append(np.array([x + margin, y + margin, x + side - margin, y + side - margin]))
                break
            owed.append(drawn)
    return chosen


def _snap(start: float, side: float, extent: int, before: float, behind: float) -> float | None:
    """`_place` for a crop that has its place along an axis: where the overhang moves it to, None if that is far."""
    first, last = -0.5, extent - 0.5 - side
    if last < first or (before and behind):
        return None
    if not (before or behind):
        return start if first <= start <= last else None
    moved = first - before * side if before else last + behind * side
    return moved if abs(moved - start) <= SNAP * side else None


def _place(rng: np.random.Generator, side: float, extent: int, before: float, behind: float) -> float | None:
    """Where a crop begins along one axis of a photo, so that it leaves it by these fractions of its side."""
    if before and behind:
        beyond = side - extent
        return None if beyond <= 0 else -0.5 - beyond * before / (before + behind)
    start, last = -0.5, extent - 0.5 - side
    if last < start:
        return None
    if before:
        return start - before * side
    if behind:
        return last + behind * side
    return float(rng.uniform(start, last))
