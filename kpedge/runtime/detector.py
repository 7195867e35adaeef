"""From an image to the faces in it: preprocess, run, postprocess."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import convention_centre, convention_middle
from kpedge.core.card import BOXES_NAME, POINTS_NAME, SCORES_NAME, DetectorCard, Outputs
from kpedge.core.errors import UsageError
from kpedge.core.faces import Detection
from kpedge.core.geometry import Image, iou, resize_to, transform_points
from kpedge.core.joint_score import LOWEST
from kpedge.core.text import check_whole
from kpedge.runtime.sessions import Model, card_of, not_finite

COARSE = 320
"""Longer side, pixels, of the smallest image that is searched. The network is trained on views of this side: larger
faces than fit into one are found in the smaller image.
"""
ASPECT = 4.0
"""Longer images, in their shorter side, are searched as if they were this long: shrunk to one view, a panorama's faces
would vanish."""
LARGEST_ZOOM = 2.0  # images are enlarged by at most this
TILE = 1280  # longest side, pixels, of what the network sees at once; larger images are seen in tiles
OVERLAP = 192  # of tiles: a face at a seam is whole in one of them, or found in a smaller image
SEAM = 4.0  # a box that comes this near to a seam is that of a face cut in two, pixels
SUPPORT_OVERLAP = 0.6  # intersection over union with the best box of a face from which on boxes support it


class FrameModel(Model, Protocol):
    """A detector in any format, which takes frames."""

    @property
    def card(self) -> DetectorCard:
        """What the model expects and promises."""
        ...


def detector_model(model: Model) -> FrameModel:
    """A model as one that finds faces.

    Raises:
        UsageError: it is none.
    """
    card = card_of(model)
    if not isinstance(card, DetectorCard):
        raise UsageError(f"{card.name} finds {card.task}, no faces in an image", "give a detector")
    return cast(FrameModel, model)


class FaceDetector:
    """Finds faces.

    A face's box and points are means over the best box and those that support it, weighted by their scores (box voting,
    Gidaris & Komodakis 2015): they lie nearer to the face than the best one's.

    Attributes:
        model: what computes.
        threshold: score from which on there is a face.
        side: longer side, pixels, to which images are shrunk or enlarged before they are searched; smaller faces are
            found with a larger one, and it takes longer.
    """

    def __init__(self, model: FrameModel, *, threshold: float | None = None, side: int | None = None) -> None:
        """Take a model in any format, and a threshold and a longer side, pixels, instead of those that its card states.

        Raises:
            UsageError: a threshold beyond 0 to 1, or a side that is too small.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise UsageError(f"the threshold must be from 0 to 1, not {threshold:g}")
        if side is not None:
            check_whole("--max-side", side, model.card.stride)
        self.model = model
        self.threshold = (model.card.threshold or 0.0) if threshold is None else threshold
        self.side = side or model.card.side

    def __call__(self, image: Image) -> tuple[Detection, ...]:
        """The faces of an image, uint8 (H, W, 3), blue-green-red, by falling score.

        Raises:
            ModelError: the model's scores are not finite.
        """
        stride, frame = self.model.card.stride, self.model.card.frame
        parts, sizes = [], 0
        for shown, zoom in self.scaled_images(image):
            sizes += 1
            for tile, (left, top) in _tiles(shown, frame or (TILE, TILE)):
                outputs = self.model(preprocess(tile, stride, frame))
                if not math.isfinite(np.add.reduce(outputs[SCORES_NAME], axis=None, dtype=float)):
                    raise not_finite(self.model.card)
                boxes, scores, points = candidates(outputs, min(self.threshold, LOWEST))
                offset = np.array([left, top])
                whole = _off_seams(boxes, tile.shape, shown.shape, left, top)
                boxes = (boxes[whole].reshape(-1, 2, 2) + offset + 0.5) / zoom - 0.5
                points = (points[whole] + offset + 0.5) / zoom - 0.5
                parts.append((boxes.reshape(-1, 4), scores[whole], points))
        boxes, scores, points = (np.concatenate(column) for column in zip(*parts, strict=True))
        found = np.flatnonzero(scores >= self.threshold)
        kept = found[suppress(boxes[found], scores[found], self.model.card.suppression)]
        shares = np.where((iou(boxes[kept], boxes) >= SUPPORT_OVERLAP) & (scores >= LOWEST), scores, 0.0)
        supports = shares.sum(axis=1)
        shares[supports == 0, kept[supports == 0]] = 1.0
        shares /= shares.sum(axis=1, keepdims=True)
        means = shares @ boxes, np.tensordot(shares, points, axes=1)
        return tuple(
            Detection(box, float(scores[k]), five, float(support) / sizes)
            for k, box, five, support in zip(kept, *means, supports, strict=True)
        )

    def search_rotated(self, image: Image) -> tuple[Detection, ...]:
        """The faces of an image in its copies rotated by 90, 180 and 270 degrees, in pixels of the image itself."""
        height, width = image.shape[:2]
        right, bottom = width - 1.0, height - 1.0
        ways = {
            cv2.ROTATE_90_CLOCKWISE: [[0.0, 1.0, 0.0], [-1.0, 0.0, bottom]],
            cv2.ROTATE_180: [[-1.0, 0.0, right], [0.0, -1.0, bottom]],
            cv2.ROTATE_90_COUNTERCLOCKWISE: [[0.0, -1.0, right], [1.0, 0.0, 0.0]],
        }
        found = []
        for rotation, way in ways.items():
            for face in self(np.asarray(cv2.rotate(image, rotation))):
                back = np.array(way)
                side = face.box[2] - face.box[0]
                middle = convention_centre(transform_points(back, convention_middle(face.box[None])), side[None])[0]
                box = np.concatenate([middle - side / 2, middle + side / 2])
                found.append(replace(face, box=box, points=transform_points(back, face.points)))
        boxes, scores = np.array([one.box for one in found]).reshape(-1, 4), np.array([one.score for one in found])
        return tuple(found[index] for index in suppress(boxes, scores, self.model.card.suppression))

    def scaled_images(self, image: Image) -> Iterator[tuple[Image, NDArray[np.float64]]]:
        """The sizes in which an image is searched, the largest first, each with its zoom along x and y, (2,)."""
        height, width = image.shape[:2]
        longest = max(height, width)
        views = max(1.0, longest / (ASPECT * min(height, width)))
        side = max(self.side, min(int(views * self.side), longest))
        side, coarse = min(side, int(LARGEST_ZOOM * longest)), int(views * COARSE)
        while True:
            yield resize_to(image, side)
            if side <= coarse:
                return
            side = max(coarse, side // 2)


def preprocess(image: Image, stride: int, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """An image as a batch of one frame, uint8 (1, H, W, 3): black is added right and below up to `shape`, where a model
    takes no other, or up to whole strides.
    """
    height, width = image.shape[:2]
    frame = np.zeros((1, *(shape or (-(-height // stride) * stride, -(-width // stride) * stride)), 3), np.uint8)
    frame[0, :height, :width] = image
    return frame


def candidates(
    outputs: Outputs, threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Boxes (D, 4), scores (D,) and points (D, K, 2) of the first frame from a score on, pixels of the frame."""
    scores = outputs[SCORES_NAME][0]
    kept = np.flatnonzero(scores >= threshold)
    return (
        outputs[BOXES_NAME][0][kept].astype(np.float64),
        scores[kept].astype(np.float64),
        outputs[POINTS_NAME][0][kept].astype(np.float64),
    )


def suppress(boxes: NDArray[np.float64], scores: NDArray[np.float64], overlap: float) -> NDArray[np.intp]:
    """Indices of the best of boxes (D, 4) that show the same face: greedy non-maximum suppression, by falling score."""
    corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    return np.ravel(cv2.dnn.NMSBoxes(corners.tolist(), scores.tolist(), 0.0, overlap)).astype(np.intp)


def _tiles(image: Image, size: tuple[int, int]) -> Iterator[tuple[Image, tuple[int, int]]]:
    """Parts of an image, at most `size` high and wide, that overlap by `OVERLAP`, each with its first pixel x, y."""
    height, width = image.shape[:2]
    for top in _starts(height, size[0]):
        for left in _starts(width, size[1]):
            yield image[top : top + size[0], left : left + size[1]], (left, top)


def _starts(length: int, tile: int) -> list[int]:
    if length <= tile:
        return [0]
    overlap = min(OVERLAP, tile // 2)
    count = -(-(length - overlap) // (tile - overlap))
    return [round(step * (length - tile) / (count - 1)) for step in range(count)]


def _off_seams(
    boxes: NDArray[np.float64], tile: tuple[int, ...], whole: tuple[int, ...], left: int, top: int
) -> NDArray[np.bool_]:
    """Which boxes (D, 4) of a tile do not touch a side at which the image continues."""
    kept = np.ones(len(boxes), dtype=bool)
    if left > 0:
        kept &= boxes[:, 0] > SEAM
    if top > 0:
        kept &= boxes[:, 1] > SEAM
    if left + tile[1] < whole[1]:
        kept &= boxes[:, 2] < tile[1] - SEAM
    if top + tile[0] < whole[0]:
        kept &= boxes[:, 3] < tile[0] - SEAM
    return kept
