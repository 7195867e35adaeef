"""Boxes, and the one crop that training, export checks and runtime share.

Frames of reference (docs/coordinates.md derives every formula here):

- *image*: pixels, (0, 0) is the centre of the first pixel; an image W wide spans x from -0.5 to W - 0.5.
- *box*: (x1, y1, x2, y2) in that frame, x2 > x1 and y2 > y1.
- *crop*: pixels of the square crop of S x S, same convention.
- *fractions*: a point of the crop divided by its side: the crop's left edge (pixel -0.5) is 0, its right edge
  (pixel S - 0.5) is 1. They do not depend on S.

A transform is a float64 matrix of shape (2, 3) that takes (x, y, 1) of one frame to (x, y) of another.
"""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from kpedge.core.errors import DataError

Transform = NDArray[np.float64]
Points = NDArray[np.float64]
Image = NDArray[np.uint8]
Box = NDArray[np.float64]  # x1 y1 x2 y2, (4,), pixels

BORDERS = {"replicate": cv2.BORDER_REPLICATE, "black": cv2.BORDER_CONSTANT}  # beyond the photo: edge pixels, or black


MAX_COORDINATE = 1e6  # coordinates beyond this, in pixels, are an error in a label, not a position in a photo
MIN_SIDE = 1e-3  # a box narrower than this, in pixels, has no area worth cutting
GRID = 2**24  # steps in a pixel to which a crop's transform is rounded


@dataclass(frozen=True, slots=True)
class CropRule:
    """How a face's box becomes a square crop: part of what a model was trained on, so part of its card."""

    # how much is added on each side, as a fraction of the box's longer side; 0.25 gives a crop 1.5 boxes wide
    widen: float = 0.25
    border: str = "replicate"  # what lies beyond the photo, a key of `BORDERS`

    def __post_init__(self) -> None:
        if not (math.isfinite(self.widen) and 0 <= self.widen <= 10):
            raise DataError(f"crop rule: widen must be from 0 to 10, not {self.widen}")
        if self.border not in BORDERS:
            raise DataError(f"crop rule: border must be one of {', '.join(BORDERS)}, not {self.border!r}")

    def to_dict(self) -> dict[str, Any]:
        """The rule as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CropRule:
        """The inverse of `to_dict`.

        Raises:
            DataError: a field is missing or out of range.
        """
        try:
            return cls(widen=float(data["widen"]), border=str(data["border"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a crop rule: {type(error).__name__}: {error}") from error


def as_box(values: ArrayLike) -> NDArray[np.float64]:
    """A box as float64 (4,), checked.

    Raises:
        DataError: not four finite numbers, or a box without area.
    """
    try:
        box = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):  # text, or rows of different lengths
        box = np.empty(0)
    if box.shape != (4,) or not np.isfinite(box).all():
        shown = " ".join(repr(box.tolist() if box.size else values).split())[:120]
        advice = "give the first four numbers of each: boxes[:, :4]" if box.ndim == 1 and len(box) > 4 else ""
        raise DataError(f"a box is four finite numbers x1,y1,x2,y2, not {shown}", advice)
    if np.abs(box).max() > MAX_COORDINATE:
        raise DataError(f"box {','.join(f'{v:g}' for v in box)} reaches beyond {MAX_COORDINATE:g} px")
    if box[2] - box[0] < MIN_SIDE or box[3] - box[1] < MIN_SIDE:
        raise DataError(
            f"box {','.join(f'{v:g}' for v in box)} has no area",
            "give x1,y1,x2,y2 with x1 < x2 and y1 < y2: corners, not a width and height",
        )
    return box


def box_size(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Square root of the area of boxes (..., 4), in pixels: the size by which keypoint errors are normalised."""
    return np.asarray(np.sqrt((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])))


def widen_box(box: NDArray[np.float64], fraction: float) -> NDArray[np.float64]:
    """A box with `fraction` of its width added left and right, and of its height above and below."""
    margin = fraction * np.array([box[2] - box[0], box[3] - box[1]])
    return np.concatenate([box[:2] - margin, box[2:] + margin])


def iou(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of every box (N, 4) with every other (M, 4), as (N, M)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)[:, None] + np.prod(others[:, 2:] - others[:, :2], axis=1)
    return np.asarray(shared / (area - shared))


def box_overlaps_image(box: NDArray[np.float64], width: int, height: int) -> bool:
    """Whether any part of the box lies within an image of that size."""
    return bool(box[0] < width - 0.5 and box[1] < height - 0.5 and box[2] > -0.5 and box[3] > -0.5)


def crop_square(box: NDArray[np.float64], rule: CropRule) -> tuple[float, float, float]:
    """Centre x, centre y and side of the square that the rule cuts for a box, in image pixels."""
    side = (1 + 2 * rule.widen) * max(box[2] - box[0], box[3] - box[1])
    return float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2, float(side)


def crop_transform(
    box: NDArray[np.float64],
    size: int,
    rule: CropRule,
    *,
    roll: float = 0.0,
    scale: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
    mirror: bool = False,
) -> Transform:
    """The transform from image pixels to the pixels of a crop.

    Args:
        box: the face's box (4,), image pixels.
        size: side of the crop, pixels.
        rule: how far the crop reaches beyond the box.
        roll: the in-plane angle, radians, that is taken out of the image: a face whose right eye (the image's)
            hangs lower by this angle comes out upright.
        scale: the side of the square that is cut, relative to the rule's; 1.1 shows the face 10 % smaller.
        shift: how far the square is moved (x, y), as a fraction of its side, before it is turned.
        mirror: whether left and right are swapped (the caller reorders points with the scheme's `mirror_order`).
    """
    x, y, side = crop_square(box, rule)
    return square_transform(x + shift[0] * side, y + shift[1] * side, side * scale, size, roll=roll, mirror=mirror)


def square_transform(
    x: float, y: float, side: float, size: int, *, roll: float = 0.0, mirror: bool = False
) -> Transform:
    """`crop_transform` for the square of a side around (x, y), image pixels."""
    zoom = size / side
    cos, sin = zoom * math.cos(roll), zoom * math.sin(roll)
    middle = (size - 1) / 2
    flip = -1.0 if mirror else 1.0
    return np.array(
        [
            [flip * cos, flip * sin, middle - flip * (cos * x + sin * y)],
            [-sin, cos, middle - (-sin * x + cos * y)],
        ]
    )


def invert(transform: Transform) -> Transform:
    """The transform that undoes another."""
    a, b, x, c, d, y = inverse_numbers(transform)
    return np.array([[a, b, x], [c, d, y]])


def inverse_numbers(transform: Transform) -> tuple[float, float, float, float, float, float]:
    """The six numbers of `invert`, row by row: plain floats are faster than NumPy's calls."""
    (a, b, x), (c, d, y) = transform.tolist()
    determinant = a * d - b * c
    a, b, c, d = d / determinant, -b / determinant, -c / determinant, a / determinant
    return a, b, -(a * x + b * y), c, d, -(c * x + d * y)


def compose(second: Transform, first: Transform) -> Transform:
    """The transform that applies `first`, then `second`."""
    (a, b, x), (c, d, y) = second.tolist()
    (e, f, u), (g, h, v) = first.tolist()
    return np.array(
        [
            [a * e + b * g, a * f + b * h, a * u + b * v + x],
            [c * e + d * g, c * f + d * h, c * u + d * v + y],
        ]
    )


def transform_points(transform: Transform, points: NDArray[np.floating[Any]]) -> Points:
    """Points (..., 2) taken through a transform, float64."""
    return np.asarray(points @ transform[:, :2].T + transform[:, 2], dtype=np.float64)


@functools.lru_cache(maxsize=8)
def mean_weights(count: int) -> NDArray[np.float64]:
    """Weights (count,) with which a dot product is a mean: of a few numbers, at a fraction of the cost of `mean`."""
    return np.full(count, 1 / count)


def pixels_to_fractions(points: NDArray[np.floating[Any]], size: int) -> NDArray[np.floating[Any]]:
    """Crop pixels (..., 2) to fractions of the crop."""
    return np.asarray((points + 0.5) / size)


def fractions_to_pixels(points: NDArray[np.floating[Any]], size: int) -> NDArray[np.floating[Any]]:
    """Fractions of the crop (..., 2) to crop pixels."""
    return np.asarray(points * size - 0.5)


def shrink_factor(transform: Transform, image: Image) -> int:
    """The whole number by which an image is averaged down before a transform samples it bilinearly.

    Bilinear sampling aliases when it shrinks; averaging by the nearest whole factor first leaves it a scale between
    0.67 and 1.5. The factor is at most the image's longer side: one cell holds all of it.
    """
    (a, b, _), (c, d, _) = transform.tolist()
    zoom = math.sqrt(abs(a * d - b * c))
    height, width = image.shape[:2]
    return min(max(1, round(1 / zoom)), int(max(height, width)))


def shrink_transform(factor: int, origin: tuple[int, int] = (0, 0)) -> Transform:
    """From image pixels to the cells of an image averaged down by `factor`, counted from the cell `origin` (x, y)."""
    offset = (factor - 1) / 2 / factor
    return np.array([[1 / factor, 0, -offset - origin[0]], [0, 1 / factor, -offset - origin[1]]])


def shrunk_region(
    image: Image, low: tuple[int, int], high: tuple[int, int], factor: int
) -> tuple[Image, tuple[int, int]]:
    """The cells from `low` up to `high` (x, y), clipped to the image, of an image averaged down by `factor`, and the
    first cell.

    A cell at the right or lower edge that the image does not fill is filled by repeating the last pixels, so every cell
    equals that of the whole image averaged down, whatever part is asked for. At least one cell is kept.
    """
    across, down = -(-image.shape[1] // factor), -(-image.shape[0] // factor)
    x1, y1 = min(max(low[0], 0), across - 1), min(max(low[1], 0), down - 1)
    x2, y2 = min(max(high[0], x1 + 1), across), min(max(high[1], y1 + 1), down)
    region: NDArray[Any] = image[y1 * factor : y2 * factor, x1 * factor : x2 * factor]
    if factor > 1:
        columns, rows = x2 - x1, y2 - y1
        right, below = columns * factor - region.shape[1], rows * factor - region.shape[0]
        if right or below:
            region = cv2.copyMakeBorder(region, 0, below, 0, right, cv2.BORDER_REPLICATE)
        region = cv2.resize(region, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(region, dtype=np.uint8), (x1, y1)


def resize_to(image: Image, side: int) -> tuple[Image, NDArray[np.float64]]:
    """An image with a longer side of `side` pixels, and its zoom along x and y, (2,)."""
    height, width = image.shape[:2]
    factor = side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if size == (width, height):
        return image, np.ones(2)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=how), dtype=np.uint8), np.array(size) / (width, height)


def fit_frame(image: Image, shape: tuple[int, int, int]) -> Image:
    """An image scaled into a frame of a shape (H, W, 3), black right and below."""
    frame = np.zeros(shape, np.uint8)
    shown, _ = resize_to(image, min(shape[:2]))
    frame[: shown.shape[0], : shown.shape[1]] = shown
    return frame


def crop(image: Image, transform: Transform, size: int, *, border: str = "replicate", colour: str = "bgr") -> Image:
    """Cut a crop out of an image: the one place where pixels are resampled.

    Args:
        image: uint8 (H, W, 3), blue-green-red.
        transform: image pixels to crop pixels, as `crop_transform` gives it.
        size: side of the crop, pixels.
        border: what lies beyond the image, a key of `BORDERS`.
        colour: "bgr", or "grey".

    Returns:
        uint8 (size, size, 3) or, in grey, (size, size, 1).
    """
    factor = shrink_factor(transform, image)
    a, b, x, c, d, y = inverse_numbers(transform)
    if factor > 1:  # from the crop to cells: `compose` with `shrink_transform`
        part, offset = 1 / factor, (factor - 1) / 2 / factor
        a, b, x, c, d, y = part * a, part * b, part * x - offset, part * c, part * d, part * y - offset
    # On a grid of 2^-24 cells all that follows is exact in float64 when the origin moves by whole cells, and OpenCV
    # gets the same numbers: a crop is the same, to the last bit, from the photo and from a region cut out of it.
    a, b, x = round(a * GRID) / GRID, round(b * GRID) / GRID, round(x * GRID) / GRID
    c, d, y = round(c * GRID) / GRID, round(d * GRID) / GRID, round(y * GRID) / GRID
    half, middle_x, middle_y = size / 2, x + (a + b) * (size - 1) / 2, y + (c + d) * (size - 1) / 2
    reach_x, reach_y = (abs(a) + abs(b)) * half, (abs(c) + abs(d)) * half
    region, (left, top) = shrunk_region(
        image,
        (math.floor(middle_x - reach_x) - 1, math.floor(middle_y - reach_y) - 1),
        (math.floor(middle_x + reach_x) + 3, math.floor(middle_y + reach_y) + 3),
        factor,
    )
    if colour == "grey":
        region = cv2.cvtColor(region, cv2.COLOR_BGR2GRAY)  # type: ignore[assignment]
    warped = cv2.warpAffine(
        region,
        np.array([[a, b, x - left], [c, d, y - top]]),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=BORDERS[border],
    )
    return warped.reshape(size, size, -1)  # type: ignore[return-value]


def similarity(points: Points, targets: Points) -> Transform:
    """The rotation, scale and shift, (2, 3), that takes points (N, 2) nearest to targets (Umeyama 1991)."""
    start, end = points.mean(axis=0), targets.mean(axis=0)
    around, goal = points - start, targets - end
    size = float((around * around).sum())
    cos = float((around * goal).sum()) / size
    sin = float((around[:, 0] * goal[:, 1] - around[:, 1] * goal[:, 0]).sum()) / size
    turn = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([turn, end - turn @ start])
