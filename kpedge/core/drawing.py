"""Drawing faces on images, and laying images out on a preview. OpenCV only, no display needed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from kpedge.core.faces import Face
from kpedge.core.geometry import Image, box_size, fractions_to_pixels
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import escape_bytes, shorten

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]  # x1 y1 x2 y2, pixels

PART_COLOURS: dict[str, Colour] = {
    "brows": (60, 200, 255),
    "eyes": (120, 255, 120),
    "mouth": (255, 190, 60),
    "nose": (190, 110, 255),
    "jaw": (255, 255, 110),
    "ears": (110, 130, 255),
    "face": (215, 215, 215),
}
"""Colours of facial parts, blue-green-red, distinguished by people who see red and green alike."""
MANY = 30  # points of a face from which on their dots become smaller: the lines between them show the shape
WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
GREY: Colour = (170, 170, 170)
CHIP: Colour = (28, 26, 24)  # what text stands on
SHIFT = 4  # bits of sub-pixel position: OpenCV's `shift` argument for coordinates of `fixed_point`
_FAR = 2.0**20  # coordinates beyond this, pixels, are drawn there: a labelled one ends at a million
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_THIN_RIM = 0.6  # under this, a rim of lines is left out: the thinnest is one pixel, and would cover a small face
_CAPITAL = 22.0  # height of a capital at a font scale of 1, pixels
_LEADING = 1.75  # from one line of text to the next, in capitals
_QUARTER = np.array([(1 - math.sin(a), 1 - math.cos(a)) for a in np.linspace(0, math.pi / 2, 6)])
"""The rounded upper left corner of a box, from the top edge to the left one, in radii."""
_CIRCLE = np.array([(math.cos(a), math.sin(a)) for a in np.arange(16) * math.pi / 8])
"""A dot, in radii: OpenCV's own small circles are diamonds."""


@dataclass(frozen=True, slots=True)
class Pens:
    """Sizes in pixels with which a face is drawn: they follow the face, within what the image can show."""

    dot: float  # radius of a keypoint
    line: int  # width of a line
    rim: float  # how far the dark rim reaches beyond both; thin ones are left out of lines
    text: float  # height of a capital


def pens(image: Image, size: float, points: int = 0) -> Pens:
    """The pens for a face of `size` pixels and so many points in an image.

    Small faces, and those of many points, get dots that leave the face visible; in a large image, which is shown
    smaller, nothing gets thinner than can be seen then.
    """
    short = float(min(image.shape[:2]))
    dot = _between(size / 70, max(0.9, min(short / 500, size / 40)), max(2.0, short / 110))
    dot *= min(1.0, math.sqrt(MANY / max(points, 1)))
    text = _between(size / 9, max(8.5, short / 60), max(9.5, short / 34))
    return Pens(dot=dot, line=max(1, round(dot * 0.55)), rim=max(0.5, dot * 0.3), text=text)


def _between(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def part_colours(scheme: KeypointScheme) -> dict[str, Colour]:
    """The colour of each facial part, by the parts' names alone; unknown ones get what the others leave over."""
    own = {part: PART_COLOURS[part] for part in scheme.parts if part in PART_COLOURS}
    rest = [colour for part, colour in PART_COLOURS.items() if part not in own] or list(PART_COLOURS.values())
    strange = sorted(part for part in scheme.parts if part not in own)
    return own | {part: rest[index % len(rest)] for index, part in enumerate(strange)}


@lru_cache(maxsize=16)
def _point_colours(scheme: KeypointScheme) -> tuple[Colour, ...]:
    colours = part_colours(scheme)
    return tuple(colours[scheme.part_of(index)] for index in range(len(scheme)))


def fixed_point(values: ArrayLike) -> NDArray[np.int32]:
    """Coordinates or lengths in pixels as OpenCV's drawing takes them with `SHIFT`, in an array of the same shape."""
    return np.asarray(np.round(np.asarray(values, dtype=np.float64) * 2**SHIFT), dtype=np.int32)


def _fixed(points: Sequence[Any] | NDArray[np.floating[Any]]) -> NDArray[np.int32]:
    """`fixed_point` of points (..., 2) that may lie anywhere."""
    return fixed_point(np.clip(np.asarray(points, dtype=np.float64), -_FAR, _FAR))


def draw_dots(image: Image, points: NDArray[np.floating[Any]], radius: float, colours: Sequence[Colour]) -> None:
    """Draw filled circles with centres (N, 2) and a radius in pixels, each in its colour, into an image."""
    for outline, colour in zip(_fixed(points[:, None] + radius * _CIRCLE), colours, strict=True):
        cv2.fillConvexPoly(image, outline, colour, cv2.LINE_AA, SHIFT)


def draw_lines(image: Image, lines: Sequence[Any], colours: Sequence[Colour], width: int, rim: float) -> None:
    """Draw lines through points (N, 2), pixels, over a dark rim that reaches `rim` pixels beyond them."""
    if not len(lines):
        return
    fixed = [_fixed(line) for line in lines]
    if rim >= _THIN_RIM:
        cv2.polylines(image, fixed, False, BLACK, width + 2 * max(1, round(rim)), cv2.LINE_AA, SHIFT)
    for colour in dict.fromkeys(colours):
        same = [line for line, own in zip(fixed, colours, strict=True) if own == colour]
        cv2.polylines(image, same, False, colour, width, cv2.LINE_AA, SHIFT)


def draw_keypoints(
    image: Image,
    keypoints: NDArray[np.floating[Any]],
    scheme: KeypointScheme,
    *,
    size: float | None = None,
    skeleton: bool = True,
    numbers: bool = False,
) -> None:
    """Draw keypoints (K, 2), pixels, into an image: a dot each in the colour of its part, with a dark rim; none for
    NaN. The size of the dots follows the face's, `size` pixels; the extent of the points when None.
    """
    known = np.isfinite(keypoints).all(axis=1)
    if not known.any():
        return
    extent = float(np.ptp(keypoints[known], axis=0).max()) * 1.3 if size is None else size
    pen, colours = pens(image, extent, len(scheme)), _point_colours(scheme)
    if skeleton:
        pairs = [pair for pair in scheme.skeleton if known[pair[0]] and known[pair[1]]]
        ends = [keypoints[list(pair)] for pair in pairs]
        draw_lines(image, ends, [colours[first] for first, _ in pairs], pen.line, pen.rim)
    shown = np.flatnonzero(known).tolist()
    draw_dots(image, keypoints[shown], pen.dot + pen.rim, [BLACK] * len(shown))
    draw_dots(image, keypoints[shown], pen.dot, [colours[index] for index in shown])
    if numbers:
        for index in shown:
            x, y = keypoints[index].tolist()
            write(image, str(index), (round(x + pen.dot + 1), round(y - pen.dot)), max(0.3, pen.dot / 6))


def draw_box(image: Image, box: NDArray[np.floating[Any]], colour: Colour = WHITE) -> None:
    """Draw the corners of a box (4,), pixels of the image, with a dark rim: the face's outline stays free."""
    x1, y1, x2, y2 = (float(value) for value in box)
    side = min(x2 - x1, y2 - y1)
    pen = pens(image, math.sqrt((x2 - x1) * (y2 - y1)))
    radius, arm = 0.07 * side, 0.2 * side
    corner = np.concatenate([[(arm, 0.0)], _QUARTER * radius, [(0.0, arm)]])
    corners = [
        (x + sign_x * corner[:, 0], y + sign_y * corner[:, 1])
        for x, sign_x in ((x1, 1), (x2, -1))
        for y, sign_y in ((y1, 1), (y2, -1))
    ]
    lines = [np.stack(line, axis=1) for line in corners]
    draw_lines(image, lines, [colour] * 4, max(1, round(pen.dot * 0.8)), max(pen.rim, _THIN_RIM))


def label_of(face: Face) -> str:
    """What is written next to a face: its id and score, or nothing; a box that shows no face says so."""
    words = [] if face.id is None else [f"#{face.id}"]
    if not len(face.keypoints):
        words.append("no face")
    if face.score is not None:
        words.append(f"{face.score:.2f}")
    return "  ".join(words)


def draw_label(image: Image, text: str, box: NDArray[np.floating[Any]], capital: float, taken: list[Rectangle]) -> None:
    """Write a line of text on a dark chip above a box, or where there is room below or in it, and never beyond the
    image. Capitals are `capital` pixels high, less where the text would be wider than the image. The label avoids
    the places `taken` if it can, and adds its own.
    """
    if not text:
        return
    height, width = image.shape[:2]
    wide, high = chip_size(text, capital)
    while (wide > width or high > height) and capital > 1:
        capital *= min(width / wide, height / high, 0.95)  # a little at least: sizes of text are whole pixels
        wide, high = chip_size(text, capital)
    gap = max(2.0, capital / 4)
    x1, y1, _, y2 = (_between(float(value), -_FAR, _FAR) for value in box)
    x, lowest = _between(x1, 0, width - wide), height - high
    ways = [_between(y, 0, lowest) for y in (y1 - gap - high, y2 + gap, y1 + gap, y2 - gap - high)]
    inside = [y for y in ways if y in (y1 - gap - high, y2 + gap)]
    places = [(x, y, x + wide, y + high) for y in inside + ways]
    place = next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])
    taken.append(place)
    draw_chip(image, text, place[:2], capital)


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _weight(capital: float) -> int:
    return max(1, round(capital / 11))


def chip_size(text: str, capital: float) -> tuple[int, int]:
    """Width and height of a chip with that text, pixels."""
    lines = text.split("\n")
    wide = max(cv2.getTextSize(line, _FONT, capital / _CAPITAL, _weight(capital))[0][0] for line in lines)
    return math.ceil(wide + 1.1 * capital), math.ceil(1.8 * capital + _LEADING * capital * (len(lines) - 1))


def draw_chip(image: Image, text: str, at: tuple[float, float], capital: float, colour: Colour = WHITE) -> None:
    """Write lines of text, capitals of so many pixels, on a dark chip with rounded corners, its upper left one `at`."""
    x, y = (round(value) for value in at)
    wide, high = chip_size(text, capital)
    radius = 0.6 * capital
    right, low = wide - 1.0, high - 1.0
    quarter = _QUARTER * radius
    outline = np.concatenate(
        [
            quarter,
            quarter[::-1] * (1, -1) + (0, low),
            quarter * (-1, -1) + (right, low),
            quarter[::-1] * (-1, 1) + (right, 0),
        ]
    )
    cv2.fillConvexPoly(image, _fixed(outline + np.array([x, y])), CHIP, cv2.LINE_AA, SHIFT)
    for number, line in enumerate(text.split("\n")):
        foot = x + round(0.55 * capital), y + round((1.4 + _LEADING * number) * capital)
        cv2.putText(image, line, foot, _FONT, capital / _CAPITAL, colour, _weight(capital), cv2.LINE_AA)


def draw_face(
    image: Image, face: Face, scheme: KeypointScheme, *, box: bool = True, points: bool = True, label: bool = True
) -> None:
    """Draw a face into an image, uint8 (H, W, 3); a box that shows no face is grey, has no points, and says so."""
    size = float(box_size(face.box))
    if box:
        draw_box(image, face.box, WHITE if len(face.keypoints) else GREY)
    if points:
        draw_keypoints(image, face.keypoints, scheme, size=size)
    if label:
        draw_labels(image, [face])


def draw_faces(image: Image, faces: Sequence[Face], scheme: KeypointScheme) -> None:
    """Draw all faces of an image into it, uint8 (H, W, 3)."""
    for face in faces:
        draw_face(image, face, scheme, label=False)
    draw_labels(image, faces)


def draw_labels(image: Image, faces: Sequence[Face]) -> None:
    """Write the labels of all faces of an image, after the faces, so that none lies under another face; they avoid each
    other where there is room.
    """
    taken: list[Rectangle] = []
    for face in faces:
        draw_label(image, label_of(face), face.box, pens(image, float(box_size(face.box))).text, taken)


def write(image: Image, text: str, at: tuple[int, int], scale: float) -> None:
    """Write text into an image, white on a dark rim, its lower left corner at `at`."""
    width = max(1, round(scale * 1.5))
    # The rim is the same text moved around: thicker text has wider letters in OpenCV 5, and would not lie under it.
    around = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y]
    for x, y in around:
        cv2.putText(image, text, (at[0] + x, at[1] + y), _FONT, scale, BLACK, width, cv2.LINE_AA)
    cv2.putText(image, text, at, _FONT, scale, WHITE, width, cv2.LINE_AA)


def contact_sheet(tiles: Sequence[Image], captions: Sequence[str], columns: int) -> Image:
    """Lay tiles of one size out in rows, each with a caption under it, shortened to fit."""
    (height, width), gap, line = tiles[0].shape[:2], 6, 16
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    preview = np.full((gap + rows * (height + line + gap), gap + columns * (width + gap), 3), 32, np.uint8)
    letters = max(4, width // 7)
    for index, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        row, column = divmod(index, columns)
        y, x = gap + row * (height + line + gap), gap + column * (width + gap)
        preview[y : y + height, x : x + width] = tile
        shown = shorten(escape_bytes(caption), letters)  # OpenCV ends the process at other bytes
        cv2.putText(preview, shown, (x, y + height + line - 5), _FONT, 0.36, (210, 210, 210), 1, cv2.LINE_AA)
    return preview


def face_grid(
    crops: NDArray[np.uint8],
    truth: NDArray[np.floating[Any]],
    predicted: NDArray[np.floating[Any]],
    scheme: KeypointScheme,
    captions: list[str],
    *,
    columns: int,
    side: int,
) -> Image:
    """A preview of crops (N, H, W, C), `side` pixels each: predicted points in colour, labelled points as white rings;
    both (N, K, 2), fractions of the crop, NaN where not labelled.
    """
    tiles, ring = [], max(2, round(4 * min(1.0, math.sqrt(MANY / len(scheme)))))
    for crop, labelled, found in zip(crops, truth, predicted, strict=True):
        colour = cv2.cvtColor(crop, cv2.COLOR_GRAY2BGR) if crop.shape[2] == 1 else crop
        tile = np.asarray(cv2.resize(colour, (side, side), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
        for point in fractions_to_pixels(labelled[np.isfinite(labelled).all(axis=1)], side):
            cv2.circle(tile, (round(float(point[0])), round(float(point[1]))), ring, WHITE, 1, cv2.LINE_AA)
        draw_keypoints(tile, fractions_to_pixels(found.astype(np.float64), side), scheme, size=side / 2, skeleton=False)
        tiles.append(tile)
    return contact_sheet(tiles, captions, columns)
