"""The prepared set: the region around every face and every negative, cut out once: an epoch decodes no photo.

A folder (docs/data-formats.md, `kpedge.data.storage`) with `set.json`, `faces.npz` with a row for each face or
negative, `pixels.bin` with the regions, and interchange lists.

A region holds the photo's own pixels, averaged down by the same whole factor, on the same grid, as
`kpedge.core.geometry.crop` would choose for a crop of the reference size. A crop cut from the region is therefore
equal, to the last bit, to the crop cut from the photo: training sees what the runtime will see.

A negative is a box that shows no face (`kpedge.data.negatives`), cut by the same rule. All faces come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError, UsageError
from kpedge.core.geometry import CropRule, Image, Transform, shrink_transform
from kpedge.core.scheme import KeypointScheme
from kpedge.data.rows import is_file
from kpedge.data.split import SPLITS
from kpedge.data.storage import (
    PIXEL_COLUMNS,
    SET_FILE,
    Layout,
    SetStorage,
    check_info,
    image_at,
    open_pixels,
    read_columns,
    read_kind,
    read_set_info,
    require,
)

LAYOUT = Layout("prepared set", None, 2, "faces.npz")
_COLUMNS = {
    "boxes": "f8",
    "keypoints": "f8",
    "face": "u1",
    "split": "u1",
    "photo": "i4",
    **PIXEL_COLUMNS,
    "origin": "i4",
    "factor": "i4",
}
"""Column of `faces.npz` -> dtype."""


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
        return image_at(self.pixels, int(self.offset[index]), int(self.height[index]), int(self.width[index]))

    def photo_from_region(self, index: int) -> tuple[int, Transform]:
        """The region's averaging factor, and the transform from photo pixels to its pixels."""
        factor = int(self.factor[index])
        return factor, shrink_transform(factor, (int(self.origin[index, 0]), int(self.origin[index, 1])))


def split_number(split: str) -> int:
    """The index of a split in `SPLITS`.

    Raises:
        UsageError: there is no such split.
    """
    if split not in SPLITS:
        raise UsageError(f"no split is called {split!r}", f"known: {', '.join(SPLITS)}")
    return SPLITS.index(split)


def is_prepared(path: Path) -> bool:
    """Whether a folder is a prepared set, of this or another format; a frame set is none."""
    try:
        return read_kind(path) is None
    except DataError:
        return is_file(path / SET_FILE)


def read_info(path: Path) -> dict[str, Any]:
    """The content of `set.json`.

    Raises:
        DataError: the folder is not a prepared set, or one of another format.
    """
    if not is_file(path / SET_FILE):
        raise DataError(f"{path}: not a prepared set", f"make one: kpedge data prepare PHOTOS --out {path}")
    if not is_prepared(path):
        raise DataError(
            f"{path}: a frame set, which trains a detector", "prepare the photos again, without --frames, elsewhere"
        )
    return read_set_info(path, LAYOUT)


def open_set(path: Path) -> PreparedSet:
    """Open a prepared set; its pixels stay on disk until they are used.

    Raises:
        DataError: it is none, or a field of it is damaged.
    """
    info = read_info(path)

    def check(condition: object, what: str) -> None:
        require(condition, path, LAYOUT, what)

    check_info(path, LAYOUT, info)
    photos: Any = info.get("photos")
    settings = info["settings"]
    check(isinstance(photos, list) and all(isinstance(one, str) for one in photos), "'photos' is not a list of names")
    try:
        scheme = KeypointScheme.from_dict(info.get("keypoints", {}))
        CropRule.from_dict(settings.get("rule", {}))
    except (DataError, OverflowError) as error:
        raise DataError(f"{path}: the prepared set is damaged: {error}", "prepare it again with --force") from error
    check(type(settings.get("size")) is int and settings["size"] > 0, "'size' is not a positive number")
    columns = read_columns(path, LAYOUT, _COLUMNS)
    count = columns["boxes"].shape[:1]
    inner = {"boxes": (4,), "keypoints": (len(scheme), 2), "origin": (2,)}
    for name, column in columns.items():
        check(column.shape == (*count, *inner.get(name, ())), f"column {name!r} has another shape")
    boxes, points = columns["boxes"], columns["keypoints"]
    check(np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all(), "a box has no area")
    check(not np.isinf(points).any() and (np.isnan(points[..., 0]) == np.isnan(points[..., 1])).all(), "half a point")
    check((columns["face"] <= 1).all(), "column 'face' is not 0 or 1")
    check((columns["split"] < len(SPLITS)).all(), "column 'split' names no split")
    check(((columns["photo"] >= 0) & (columns["photo"] < len(photos))).all(), "column 'photo' names no photo")
    check((columns["factor"] > 0).all(), "column 'factor' is not positive")
    pixels = open_pixels(path, LAYOUT, columns)
    return PreparedSet(path=path, info=info, scheme=scheme, photos=tuple(photos), pixels=pixels, **columns)


class SetWriter:
    """Writes the files of a prepared set into an existing, empty folder; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._storage = SetStorage(folder, LAYOUT)
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> SetWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._storage.__exit__(*exception)

    def add(self, region: Image, **columns: Any) -> None:
        """Append a face or negative: its region, and its row of `faces.npz` (all but offset, height and width)."""
        self._rows.append({**columns, **self._storage.add(region)})

    def finish(self, info: dict[str, Any]) -> None:
        """Write the table and `set.json`."""
        columns = {name: np.array([row[name] for row in self._rows], dtype=kind) for name, kind in _COLUMNS.items()}
        self._storage.finish(columns, info)
