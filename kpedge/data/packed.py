"""The prepared set: the region around every face and every negative, cut out once: an epoch decodes no photo.

A folder with four kinds of file (docs/data-formats.md):

- `set.json`: format, name, terms, keypoint scheme, settings, hash of the source, counts;
- `faces.npz`: one row a face or negative: which of both, box, keypoints, split, photo, and where its pixels are;
- `pixels.bin`: the regions, uint8 blue-green-red, one after the other, opened as a memory map;
- `train.txt`, `validation.txt`, `test.txt`: interchange lists.

A region holds the photo's own pixels, averaged down by the same whole factor, on the same grid, as
`kpedge.core.geometry.crop` would choose for a crop of the reference size. A crop cut from the region is therefore
equal, to the last bit, to the crop cut from the photo: training sees what the runtime will see.

A negative is a box that shows no face (`kpedge.data.negatives`), cut by the same rule. All faces come first.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError, UsageError
from kpedge.core.geometry import Image, Transform, shrink_transform
from kpedge.core.scheme import KeypointScheme
from kpedge.data.frames import is_frame_set
from kpedge.data.split import SPLITS

FORMAT = 2
SET_FILE = "set.json"
FACES_FILE = "faces.npz"
PIXELS_FILE = "pixels.bin"

_COLUMNS: dict[str, tuple[str, int]] = {
    "boxes": ("f8", 2),
    "keypoints": ("f8", 3),
    "face": ("u1", 1),
    "split": ("u1", 1),
    "photo": ("i4", 1),
    "offset": ("i8", 1),
    "height": ("i4", 1),
    "width": ("i4", 1),
    "origin": ("i4", 2),
    "factor": ("i4", 1),
}
"""Column of `faces.npz` -> dtype, number of dimensions."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSet:
    """A prepared set, opened for reading.

    Attributes:
        path: its folder.
        info: the content of `set.json`.
        scheme: the keypoint scheme.
        boxes: float64 (N, 4), pixels of the photo.
        keypoints: float64 (N, K, 2), pixels of the photo; NaN where a face's point is not labelled, and all of a
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
        if split not in SPLITS:
            raise UsageError(f"no split is called {split!r}", f"known: {', '.join(SPLITS)}")
        return np.flatnonzero((self.split == SPLITS.index(split)) & (self.face == face))

    def region(self, index: int) -> Image:
        """The pixels around one face or negative, uint8 (height, width, 3), a view into the memory map."""
        height, width, start = int(self.height[index]), int(self.width[index]), int(self.offset[index])
        return np.asarray(self.pixels[start : start + height * width * 3].reshape(height, width, 3))

    def photo_from_region(self, index: int) -> tuple[int, Transform]:
        """The region's averaging factor, and the transform from photo pixels to its pixels."""
        factor = int(self.factor[index])
        return factor, shrink_transform(factor, (int(self.origin[index, 0]), int(self.origin[index, 1])))


def is_prepared(path: Path) -> bool:
    """Whether a folder is a prepared set, of this or another format; a frame set is none."""
    return (path / SET_FILE).is_file() and not is_frame_set(path)


def read_info(path: Path) -> dict[str, Any]:
    """The content of `set.json`.

    Raises:
        DataError: the folder is no prepared set, or one of another format.
    """
    if is_frame_set(path):
        raise DataError(
            f"{path}: a frame set, which trains a detector", "prepare the photos again, without --frames, elsewhere"
        )
    try:
        info = json.loads((path / SET_FILE).read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: not a prepared set", f"make one: kpedge data prepare PHOTOS --out {path}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path / SET_FILE}: cannot be read: {error}") from error
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise DataError(
            f"{path}: the prepared set has another format than {FORMAT}, this kpedge's", "prepare it again with --force"
        )
    return info


def open_set(path: Path) -> PreparedSet:
    """Open a prepared set; its pixels stay on disk until they are used.

    Raises:
        DataError: it is none, or its files do not fit together.
    """
    info = read_info(path)
    again = "prepare it again with --force"
    try:
        scheme = KeypointScheme.from_dict(info["keypoints"])
        photos = tuple(map(str, info["photos"]))
        _ = info["counts"], info["problems"], info["source_sha256"], info["name"], info["terms"]
        with np.load(io.BytesIO((path / FACES_FILE).read_bytes()), allow_pickle=False) as table:
            columns = {name: np.asarray(table[name], dtype=kind) for name, (kind, _) in _COLUMNS.items()}
        pixels = np.memmap(path / PIXELS_FILE, dtype=np.uint8, mode="r")
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, DataError) as error:
        raise DataError(f"{path}: the prepared set is damaged: {error}", again) from error
    count = len(columns["boxes"])
    ends = columns["offset"] + columns["height"].astype(np.int64) * columns["width"] * 3
    if (
        any(columns[name].ndim != ndim or len(columns[name]) != count for name, (_, ndim) in _COLUMNS.items())
        or columns["keypoints"].shape[1:] != (len(scheme), 2)
        or (count and columns["face"].max() > 1)
        or (count and (ends.max() != len(pixels) or columns["photo"].max() >= len(photos)))
    ):
        raise DataError(f"{path}: the prepared set is damaged: its files do not fit together", again)
    return PreparedSet(path=path, info=info, scheme=scheme, photos=photos, pixels=pixels, **columns)


class SetWriter:
    """Writes the files of a prepared set into an existing, empty folder; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stream = (folder / PIXELS_FILE).open("wb")
        self._offset = 0
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> SetWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.close()

    def add(self, region: Image, **columns: Any) -> None:
        """Append a face or negative: its region, and its row of `faces.npz` (all but offset, height and width)."""
        height, width = region.shape[:2]
        self._rows.append({**columns, "offset": self._offset, "height": height, "width": width})
        self._stream.write(region.tobytes())
        self._offset += height * width * 3

    def finish(self, info: dict[str, Any]) -> None:
        """Write the table and, last, `set.json`, without which the folder is no prepared set."""
        self._stream.flush()
        columns = {
            name: np.array([row[name] for row in self._rows], dtype=kind) for name, (kind, _) in _COLUMNS.items()
        }
        np.savez(self._folder / FACES_FILE, **columns)  # type: ignore[arg-type]
        (self._folder / SET_FILE).write_text(json.dumps({"format": FORMAT, **info}, indent=1) + "\n", encoding="utf-8")
