"""The prepared set: the region around every face and every negative, cut out once: an epoch decodes no photo.

A folder (docs/data-formats.md, `kpedge.data.storage`) with `set.json`, `faces.npz` with a row for each face or
negative, `pixels.bin` with the regions, and interchange lists.

A region holds the photo's own pixels, averaged down by the same whole factor, on the same grid, as
`kpedge.core.geometry.crop` would choose for a crop of the reference size. A crop cut from the region is therefore
equal, to the last bit, to the crop cut from the photo: training sees what the runtime will see.

A negative is a box that shows no face (`kpedge.data.negatives`), cut by the same rule. All faces come first.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError
from kpedge.core.geometry import CropRule, Image, Transform, shrink_transform
from kpedge.core.scheme import KeypointScheme
from kpedge.data.storage import PIXEL_COLUMNS, Layout, image_at, is_set, open_columns, split_number

LAYOUT = Layout(
    "prepared set",
    None,
    2,
    "faces.npz",
    {
        "boxes": ("f8", 4),
        "keypoints": ("f8", None, 2),
        "face": ("u1",),
        "photo": ("i4",),
        **PIXEL_COLUMNS,
        "origin": ("i4", 2),
        "factor": ("i4",),
    },
    points="keypoints",
)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSet:
    """A prepared set, opened for reading.

    Attributes:
        path: its folder.
        info: the content of `set.json`.
        scheme: the keypoint scheme.
        boxes: float64 (N, 4), pixels of the photo.
        keypoints: float64 (N, K, 2), pixels of the photo; NaN for a face's point that is not labelled, and all of a
            negative's.
        face: uint8 (N,), 1 for a face, 0 for a negative.
        split: uint8 (N,), index into `SPLITS`.
        photo: int32 (N,), index into `photos`.
        photos: paths of the photos, relative to the source folder.
        offset, height, width: int (N,), where a face's region lies in `pixels`, and its size.
        origin: int32 (N, 2), x y of the region's first cell, in cells of `factor` photo pixels.
        factor: int32 (N,), by how much the region is averaged down.
        pixels: uint8, all regions, memory-mapped.
    """

    path: Path
    info: dict[str, Any]
    scheme: KeypointScheme
    boxes: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    face: NDArray[np.uint8]
    split: NDArray[np.uint8]
    photo: NDArray[np.int32]
    photos: tuple[str, ...]
    offset: NDArray[np.int64]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    origin: NDArray[np.int32]
    factor: NDArray[np.int32]
    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        """Faces and negatives together."""
        return len(self.boxes)

    @property
    def source_sha256(self) -> str:
        """Hash of the photos, labels and settings that the set was made from."""
        return str(self.info["source_sha256"])

    def indices(self, split: str) -> NDArray[np.intp]:
        """The faces of a split, in the order of the labels.

        Raises:
            UsageError: there is no such split.
        """
        return self._rows(split, 1)

    def negatives(self, split: str) -> NDArray[np.intp]:
        """The negatives of a split: crops that show no face.

        Raises:
            UsageError: there is no such split.
        """
        return self._rows(split, 0)

    def _rows(self, split: str, face: int) -> NDArray[np.intp]:
        return np.flatnonzero((self.split == split_number(split)) & (self.face == face))

    def region(self, index: int) -> Image:
        """The pixels around one face or negative, uint8 (height, width, 3), a view into the memory map."""
        return image_at(self.pixels, self.offset[index], self.height[index], self.width[index])

    def photo_from_region(self, index: int) -> tuple[int, Transform]:
        """The region's averaging factor, and the transform from photo pixels to its pixels."""
        factor = int(self.factor[index])
        return factor, shrink_transform(factor, (int(self.origin[index, 0]), int(self.origin[index, 1])))


def is_prepared(path: Path) -> bool:
    """Whether a folder is a prepared set, of this or another format; a frame set is none."""
    return is_set(path, LAYOUT.kind)


def open_set(path: str | Path) -> PreparedSet:
    """Open a prepared set; its pixels stay on disk until they are used.

    Raises:
        DataError: it is none, or a field of it is damaged.
    """
    path = Path(path)
    info, columns = open_columns(path, LAYOUT)

    def check(condition: object, what: str) -> None:
        LAYOUT.require(condition, path, what)

    photos, settings = info.get("photos"), info["settings"]
    names = photos if isinstance(photos, list) and all(isinstance(one, str) for one in photos) else None
    check(names is not None, "'photos' is not a list of names")
    check(type(settings.get("size")) is int and settings["size"] > 0, "'size' is not a positive number")
    try:
        scheme = KeypointScheme.from_dict(info.get("keypoints", {}))
        CropRule.from_dict(settings.get("rule", {}))
    except (DataError, OverflowError) as error:
        check(False, str(error))
        raise
    check(columns["keypoints"].shape[1] == len(scheme), "column 'keypoints' has another shape")
    check((columns["face"] <= 1).all(), "column 'face' is not 0 or 1")
    check(((columns["photo"] >= 0) & (columns["photo"] < len(names or ()))).all(), "column 'photo' names no photo")
    check((columns["factor"] > 0).all(), "column 'factor' is not positive")
    return PreparedSet(path=path, info=info, scheme=scheme, photos=tuple(names or ()), **columns)
