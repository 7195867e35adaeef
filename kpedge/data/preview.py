"""A preview grid of training samples with their points, to check by eye before training."""

from collections.abc import Iterable
from pathlib import PurePath

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.drawing import contact_sheet, draw_keypoints
from kpedge.core.errors import DataError
from kpedge.core.geometry import Image, fractions_to_pixels
from kpedge.data.sampling import CropSampler

TILE = 192  # crops are enlarged by a whole factor to at least this many pixels


def spread(indices: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """At most `count` of some indices, evenly spread over them."""
    if len(indices) <= count:
        return indices
    return indices[np.round(np.linspace(0, len(indices) - 1, count)).astype(np.intp)]


def sample_tile(sampler: CropSampler, index: int, epoch: int) -> Image:
    """One sample as the network gets it, enlarged without smoothing to at least `TILE` pixels, with its points."""
    image, points = sampler.sample(index, epoch)
    factor = -(-TILE // sampler.size)
    tile = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    if tile.shape[2] == 1:
        tile = np.asarray(cv2.cvtColor(tile, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    side = sampler.size * factor
    tile = np.ascontiguousarray(tile)
    draw_keypoints(tile, fractions_to_pixels(points, side), sampler.source.scheme, size=side / 2, skeleton=False)
    return tile


def augmented_preview(
    plain: CropSampler, augmented: CropSampler, indices: NDArray[np.intp], epochs: Iterable[int]
) -> Image:
    """Training samples of some rows of a set, one row each: the undisturbed crop, then the face as each epoch shows it.

    Raises:
        DataError: there is no face to draw.
    """
    if not len(indices):
        raise DataError(f"{plain.source.path}: no face to draw")
    tiles, captions, shown = [], [], list(epochs)
    for index in map(int, indices):
        tiles.append(sample_tile(plain, index, 0))
        captions.append(PurePath(plain.source.photos[plain.source.photo[index]]).name)
        for epoch in shown:
            tiles.append(sample_tile(augmented, index, epoch))
            captions.append(f"epoch {epoch}")
    return contact_sheet(tiles, captions, 1 + len(shown))
