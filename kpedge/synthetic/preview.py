"""An image of synthetic faces with their points."""

from __future__ import annotations

import numpy as np

from kpedge.core.drawing import contact_sheet, draw_keypoints
from kpedge.core.errors import DataError
from kpedge.core.geometry import CropRule, Image, crop, crop_transform, transform_points
from kpedge.core.keypoints import FACES21
from kpedge.synthetic.scene import render_photo

_TILE = 160


def synthetic_preview(
    seed: int, count: int, *, photos: int | None = None, frames: bool = False, wild: bool = False, columns: int = 8
) -> Image:
    """The largest face of each of the first photos of a set, cropped as for training, every other one with its points;
    under each its seed and its photo's number. The set has so many photos, None for as many as it takes.

    Raises:
        DataError: no photo shows a face.
    """
    tiles: list[Image] = []
    captions: list[str] = []
    number = 0
    while len(tiles) < count and (photos is None or number < photos):
        photo = render_photo(seed, number, frame=frames, wild=wild)
        caption, number = f"{seed}/{number}", number + 1
        if not photo.faces:
            continue
        face = photo.faces[-1]
        matrix = crop_transform(face.box, _TILE, CropRule())
        tile = np.ascontiguousarray(crop(photo.image, matrix, _TILE))
        if len(tiles) % 2:
            draw_keypoints(tile, transform_points(matrix, face.points), FACES21, size=_TILE / 1.5, skeleton=False)
        tiles.append(tile)
        captions.append(caption)
    if not tiles:
        raise DataError(f"none of the {photos} frames shows a face", "ask for more")
    return contact_sheet(tiles, captions, columns)
