"""The frame set: whole photos with the boxes of all their faces, packed for training the detector.

A folder with three kinds of file (docs/data-formats.md):

- `set.json`: format, kind, name, terms, settings, hash of the source, counts;
- `frames.npz`: a row a frame (split, place of its pixels, size) and a row a face (frame, box, box as labelled, five
  points, whether it is to be ignored);
- `pixels.bin`: the frames, uint8 blue-green-red, one after the other, opened as a memory map.

Photos are kept at `MAX_SIDE` pixels at most. All coordinates are pixels of the kept frame.
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
from kpedge.core.geometry import Image
from kpedge.core.keypoints import FACES5
from kpedge.data.split import SPLITS

FORMAT = 1
KIND = "frames"
SET_FILE = "set.json"
TABLE_FILE = "frames.npz"
PIXELS_FILE = "pixels.bin"
MAX_SIDE = 640
"""Longer side of a kept frame, pixels; smaller photos stay as they are."""
_FRAME_COLUMNS = {"split": "u1", "offset": "i8", "height": "i4", "width": "i4"}
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
        points: float64 (M, 5, 2), of `FACES5`; NaN where not labelled.
        ignore: bool (M,), a face that nobody labelled as one: neither face nor background.
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
        if split not in SPLITS:
            raise UsageError(f"no split is called {split!r}", f"known: {', '.join(SPLITS)}")
        return np.flatnonzero(self.split == SPLITS.index(split))

    def faces(self, frame: int) -> slice:
        """The faces of a frame."""
        return slice(int(self.first[frame]), int(self.first[frame + 1]))

    def image(self, frame: int) -> Image:
        """The pixels of a frame, uint8 (height, width, 3), a view into the memory map."""
        height, width, start = int(self.height[frame]), int(self.width[frame]), int(self.offset[frame])
        return np.asarray(self.pixels[start : start + height * width * 3].reshape(height, width, 3))


def is_frame_set(path: Path) -> bool:
    """Whether a folder is a frame set."""
    try:
        return bool(json.loads((path / SET_FILE).read_bytes()).get("kind") == KIND)
    except (OSError, ValueError, AttributeError):
        return False


def open_frames(path: Path) -> FrameSet:
    """Open a frame set; its pixels stay on disk until they are used.

    Raises:
        DataError: it is none, of another format, or its files do not fit together.
    """
    again = "prepare it again with --force"
    if not is_frame_set(path):
        raise DataError(f"{path}: not a frame set", f"make one: kpedge data prepare PHOTOS --frames --out {path}")
    try:
        info = json.loads((path / SET_FILE).read_bytes())
        if info["format"] != FORMAT:
            raise DataError(f"format {info['format']}, this kpedge reads {FORMAT}")
        with np.load(io.BytesIO((path / TABLE_FILE).read_bytes()), allow_pickle=False) as table:
            columns = {
                name: np.asarray(table[name], dtype=kind) for name, kind in (_FRAME_COLUMNS | _FACE_COLUMNS).items()
            }
        pixels = np.memmap(path / PIXELS_FILE, dtype=np.uint8, mode="r")
        _ = info["counts"], info["problems"], info["source_sha256"], info["name"], info["terms"]
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, DataError) as error:
        raise DataError(f"{path}: the frame set is damaged: {error}", again) from error
    count, frame = columns["split"].size, columns.pop("frame")
    fits = (
        count
        and all(columns[name].shape == (count,) for name in _FRAME_COLUMNS)
        and frame.ndim == 1
        and all(
            columns[name].shape == (len(frame), *_SHAPES.get(name, ())) for name in _FACE_COLUMNS if name != "frame"
        )
        and (columns["offset"] + columns["height"].astype(np.int64) * columns["width"] * 3).max() == len(pixels)
        and (not len(frame) or (frame.min() >= 0 and frame.max() < count and (np.diff(frame) >= 0).all()))
    )
    if not fits:
        raise DataError(f"{path}: the frame set is damaged: its files do not fit together", again)
    first = np.searchsorted(frame, np.arange(count + 1)).astype(np.intp)
    return FrameSet(path=path, info=info, first=first, pixels=pixels, **columns)


class FrameWriter:
    """Writes the files of a frame set into an existing, empty folder; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stream = (folder / PIXELS_FILE).open("wb")
        self._offset = 0
        self._frames: list[dict[str, Any]] = []
        self._faces: list[dict[str, Any]] = []

    def __enter__(self) -> FrameWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.close()

    def add(self, image: Image, split: str, faces: list[dict[str, Any]]) -> None:
        """Append a frame, uint8 (H, W, 3), and its faces, each with `boxes`, `labelled`, `points` and `ignore`."""
        height, width = image.shape[:2]
        self._stream.write(np.ascontiguousarray(image).tobytes())
        self._faces += [{"frame": len(self._frames), **face} for face in faces]
        self._frames.append({"split": SPLITS.index(split), "offset": self._offset, "height": height, "width": width})
        self._offset += image.size

    def finish(self, info: dict[str, Any]) -> None:
        """Write the table and `set.json`."""
        table: dict[str, Any] = {}
        for columns, rows in ((_FRAME_COLUMNS, self._frames), (_FACE_COLUMNS, self._faces)):
            for name, kind in columns.items():
                table[name] = np.array([row[name] for row in rows], dtype=kind).reshape(-1, *_SHAPES.get(name, ()))
        np.savez(self._folder / TABLE_FILE, **table)
        (self._folder / SET_FILE).write_text(json.dumps({"format": FORMAT, "kind": KIND, **info}, indent=1) + "\n")
