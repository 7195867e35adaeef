"""Drawing faces on pictures, and laying pictures out on a sheet. OpenCV only, no display needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.faces import Face
from kpedge.geometry import Image, box_size, fractions_to_pixels
from kpedge.keypoints import KeypointScheme

Colour = tuple[int, int, int]

PALETTE: tuple[Colour, ...] = ((60, 200, 255), (120, 255, 120), (255, 190, 60), (190, 110, 255), (255, 255, 110))
"""Colours of facial parts, blue-green-red, told apart by people who see red and green alike."""
WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
_SHIFT = 4
"""Bits of sub-pixel position that OpenCV's drawing takes."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def part_colours(scheme: KeypointScheme) -> dict[str, Colour]:
    """The colour of each facial part; it depends on the parts' names alone."""
    return {part: PALETTE[index % len(PALETTE)] for index, part in enumerate(sorted(scheme.parts))}


def _fixed(point: Sequence[float] | NDArray[np.floating[Any]]) -> tuple[int, int]:
    scaled = np.clip(np.asarray(point, dtype=np.float64) * 2**_SHIFT, -(2**30), 2**30)
    return round(float(scaled[0])), round(float(scaled[1]))


def draw_keypoints(
    image: Image,
    keypoints: NDArray[np.floating[Any]],
    scheme: KeypointScheme,
    *,
    size: float | None = None,
    skeleton: bool = True,
    numbers: bool = False,
) -> None:
    """Draw keypoints into an image: a dot each in the colour of its part, with a dark rim.

    Args:
        image: uint8 (H, W, 3), blue-green-red; drawn into.
        keypoints: (K, 2), pixels of the image; those that are NaN are not drawn.
        scheme: names the parts and the skeleton.
        size: size of the face in pixels, which sets that of the dots; the extent of the points when None.
        skeleton: join the points.
        numbers: write each point's index beside it.
    """
    known = np.isfinite(keypoints).all(axis=1)
    if not known.any():
        return
    extent = float(np.ptp(keypoints[known], axis=0).max()) * 1.3 if size is None else size
    radius = max(1.0, min(extent / 60, 12.0))
    colours = part_colours(scheme)
    if skeleton:
        width = max(1, round(radius / 2))
        for first, second in scheme.skeleton:
            if not (known[first] and known[second]):
                continue
            colour = colours[scheme.part_of(first)]
            ends = (_fixed(keypoints[first]), _fixed(keypoints[second]))
            cv2.line(image, *ends, BLACK, width + 2, cv2.LINE_AA, _SHIFT)
            cv2.line(image, *ends, colour, width, cv2.LINE_AA, _SHIFT)
    for index, point in enumerate(keypoints):
        if not known[index]:
            continue
        centre = _fixed(point)
        cv2.circle(image, centre, round((radius + 1) * 2**_SHIFT), BLACK, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(image, centre, round(radius * 2**_SHIFT), colours[scheme.part_of(index)], -1, cv2.LINE_AA, _SHIFT)
        if numbers:
            at = (round(float(point[0]) + radius + 1), round(float(point[1]) - radius))
            write(image, str(index), at, max(0.3, radius / 6))


def draw_box(image: Image, box: NDArray[np.floating[Any]]) -> None:
    """Draw a box (4,), pixels of the image: white with a dark rim."""
    width = max(1, round(float(max(box[2] - box[0], box[3] - box[1])) / 120))
    for colour, line in ((BLACK, width + 2), (WHITE, width)):
        cv2.rectangle(image, _fixed(box[:2]), _fixed(box[2:]), colour, line, cv2.LINE_AA, _SHIFT)


def draw_face(image: Image, face: Face, scheme: KeypointScheme) -> None:
    """Draw a face's box, points and score; a box that shows no face has no points and says so."""
    draw_box(image, face.box)
    size = float(box_size(face.box))
    draw_keypoints(image, face.keypoints, scheme, size=size)
    if face.score is not None:
        text = f"{face.score:.2f}" if len(face.keypoints) else f"no face {face.score:.2f}"
        at = (max(0, round(float(face.box[0]))), max(14, round(float(face.box[1])) - 4))
        write(image, text, at, min(max(size / 200, 0.4), 1.5))


def write(image: Image, text: str, at: tuple[int, int], scale: float) -> None:
    """Write text into an image, white on a dark rim, its lower left corner at `at`."""
    width = max(1, round(scale * 1.5))
    # The rim is the same text moved around: thicker text has wider letters in OpenCV 5, and would not lie under it.
    around = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y]
    for x, y in around:
        cv2.putText(image, text, (at[0] + x, at[1] + y), _FONT, scale, BLACK, width, cv2.LINE_AA)
    cv2.putText(image, text, at, _FONT, scale, WHITE, width, cv2.LINE_AA)


def contact_sheet(tiles: Sequence[Image], captions: Sequence[str], columns: int) -> Image:
    """Lay tiles of one size out in rows, each with a caption under it.

    Args:
        tiles: uint8 (S, S, 3) each.
        captions: one a tile; cut to fit.
        columns: tiles in a row.

    Returns:
        uint8 (H, W, 3).
    """
    side, gap, line = tiles[0].shape[0], 6, 16
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full((gap + rows * (side + line + gap), gap + columns * (side + gap), 3), 32, np.uint8)
    letters = max(4, side // 7)
    for index, (picture, caption) in enumerate(zip(tiles, captions, strict=True)):
        row, column = divmod(index, columns)
        y, x = gap + row * (side + line + gap), gap + column * (side + gap)
        sheet[y : y + side, x : x + side] = picture
        shown = caption if len(caption) <= letters else "~" + caption[1 - letters :]
        cv2.putText(sheet, shown, (x, y + side + line - 5), _FONT, 0.36, (210, 210, 210), 1, cv2.LINE_AA)
    return sheet


def face_pictures(
    crops: NDArray[np.uint8],
    truth: NDArray[np.floating[Any]],
    predicted: NDArray[np.floating[Any]],
    scheme: KeypointScheme,
    captions: list[str],
    *,
    columns: int,
    side: int,
) -> Image:
    """A sheet of crops: predicted points in colour, labelled points as white rings.

    Args:
        crops: uint8 (N, H, W, C).
        truth: (N, K, 2), fractions of the crop; NaN is not drawn.
        predicted: (N, K, 2), fractions of the crop.
        scheme: of the keypoints.
        captions: one a crop.
        columns: crops in a row.
        side: of a crop on the sheet, pixels.
    """
    tiles = []
    for crop, labelled, found in zip(crops, truth, predicted, strict=True):
        colour = cv2.cvtColor(crop, cv2.COLOR_GRAY2BGR) if crop.shape[2] == 1 else crop
        picture = np.asarray(cv2.resize(colour, (side, side), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
        for point in fractions_to_pixels(labelled[np.isfinite(labelled).all(axis=1)], side):
            cv2.circle(picture, (round(float(point[0])), round(float(point[1]))), 4, WHITE, 1, cv2.LINE_AA)
        draw_keypoints(
            picture, fractions_to_pixels(found.astype(np.float64), side), scheme, size=side / 2, skeleton=False
        )
        tiles.append(picture)
    return contact_sheet(tiles, captions, columns)
