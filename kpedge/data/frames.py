"""The frame set: whole photos with the boxes of all their faces, packed for training the detector.

A folder (docs/data-formats.md, `kpedge.data.storage`) with `set.json`, `frames.npz` with a row for each frame and one
for each face, and `pixels.bin` with the frames. Photos are kept at `MAX_SIDE` pixels at most. All coordinates are
pixels of the kept frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError
from kpedge.core.geometry import Image
from kpedge.core.keypoints import FACES5
from kpedge.data.packed import split_number
from kpedge.data.split import SPLITS
from kpedge.data.storage import (
    PIXEL_COLUMNS,
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

KIND = "frames"
LAYOUT = Layout("frame set", KIND, 1, "frames.npz")
MAX_SIDE = 640
"""Longer side of a kept frame, pixels; smaller photos stay as they are."""
_FRAME_COLUMNS = {"split": "u1", **PIXEL_COLUMNS}
_FACE_COLUMNS = {"frame": "i4", "boxes": "f8", "labelled": "f8", "points": "f8", "ignore": "?"}
_SHAPES = {"boxes": (4,), "labelled": (4,), "points": (len(FACES5), 2)}


@dataclass(frozen=True, slots=True, eq=False)
class FrameSet:
    """A frame set, opened for reading.

    Attributes:
        path: its folder.
        info: the content of `set.json`.
        split: uint8 (N,), index into `SPLITS`, of each frame.
        offset, height, width: int (N,), where its pixels lie, and its size.
        first: int (N + 1,): faces `first[i]` to `first[i + 1]` belong to frame i.
        boxes: float64 (M, 4), in our convention.
        labelled: float64 (M, 4), as the set has them.
        points: float64 (M, 5, 2), of `FACES5`; NaN if not labelled.
        ignore: bool (M,), neither face nor background.
        pixels: uint8, all frames, memory-mapped.
    """

    path: Path
    info: dict[str, Any]
    split: NDArray[np.uint8]
    offset: NDArray[np.int64]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    first: NDArray[np.intp]
    boxes: NDArray[np.float64]
    labelled: NDArray[np.float64]
    points: NDArray[np.float64]
    ignore: NDArray[np.bool_]
    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        """Frames."""
        return len(self.split)

    def frames(self, split: str) -> NDArray[np.intp]:
        """The frames of a split.

        Raises:
            UsageError: there is no such split.
        """
        return np.flatnonzero(self.split == split_number(split))

    def faces(self, frame: int) -> slice:
        """The faces of a frame."""
        return slice(int(self.first[frame]), int(self.first[frame + 1]))

    def image(self, frame: int) -> Image:
        """The pixels of a frame, uint8 (height, width, 3), a view into the memory map."""
        return image_at(self.pixels, int(self.offset[frame]), int(self.height[frame]), int(self.width[frame]))


def is_frame_set(path: Path) -> bool:
    """Whether a folder is a frame set."""
    try:
        return read_kind(path) == KIND
    except DataError:
        return False


def open_frames(path: Path) -> FrameSet:
    """Open a frame set; its pixels stay on disk until they are used.

    Raises:
        DataError: it is none, of another format, or a field of it is damaged.
    """
    if not is_frame_set(path):
        raise DataError(f"{path}: not a frame set", f"make one: kpedge data prepare PHOTOS --frames --out {path}")

    def check(condition: object, what: str) -> None:
        require(condition, path, LAYOUT, what)

    info = read_set_info(path, LAYOUT)
    check_info(path, LAYOUT, info)
    columns = read_columns(path, LAYOUT, {**_FRAME_COLUMNS, **_FACE_COLUMNS})
    count, faces = columns["split"].shape[:1], columns["frame"].shape[:1]
    for name, column in columns.items():
        shape = count if name in _FRAME_COLUMNS else (*faces, *_SHAPES.get(name, ()))
        check(column.shape == shape, f"column {name!r} has another shape")
    check(len(columns["split"]), "there is no frame in it")
    check((columns["split"] < len(SPLITS)).all(), "column 'split' names no split")
    frame = columns.pop("frame")
    check(
        not len(frame) or (frame.min() >= 0 and frame.max() < count[0] and (np.diff(frame) >= 0).all()),
        "column 'frame' names no frame, or not in order",
    )
    for name in ("boxes", "labelled"):
        boxes = columns[name]
        check(np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all(), f"a box of {name!r} has no area")
    check(not np.isinf(columns["points"]).any(), "a point is infinite")
    pixels = open_pixels(path, LAYOUT, columns)
    first = np.searchsorted(frame, np.arange(count[0] + 1)).astype(np.intp)
    return FrameSet(path=path, info=info, first=first, pixels=pixels, **columns)


class FrameWriter:
    """Writes the files of a frame set into an existing, empty folder; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._storage = SetStorage(folder, LAYOUT)
        self._frames: list[dict[str, Any]] = []
        self._faces: list[dict[str, Any]] = []

    def __enter__(self) -> FrameWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._storage.__exit__(*exception)

    def add(self, image: Image, split: str, faces: list[dict[str, Any]]) -> None:
        """Append a frame, uint8 (H, W, 3), and its faces, each with `boxes`, `labelled`, `points` and `ignore`."""
        self._faces += [{"frame": len(self._frames), **face} for face in faces]
        self._frames.append({"split": SPLITS.index(split), **self._storage.add(image)})

    def finish(self, info: dict[str, Any]) -> None:
        """Write the table and `set.json`."""
        columns = {
            name: np.array([row[name] for row in rows], dtype=kind).reshape(-1, *_SHAPES.get(name, ()))
            for kinds, rows in ((_FRAME_COLUMNS, self._frames), (_FACE_COLUMNS, self._faces))
            for name, kind in kinds.items()
        }
        self._storage.finish(columns, info)
