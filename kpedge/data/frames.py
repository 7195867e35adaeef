"""The frame set: whole photos with the boxes of all their faces, packed for training the detector.

A folder (docs/data-formats.md, `kpedge.data.storage`) with `set.json`, `frames.npz` with a row for each frame and one
for each face, and `pixels.bin` with the frames. Photos are kept at `MAX_SIDE` pixels at most. All coordinates are
pixels of the kept frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.geometry import Image
from kpedge.core.keypoints import FACES5
from kpedge.data.storage import PIXEL_COLUMNS, Layout, SetWriter, image_at, is_set, open_columns, split_number

LAYOUT = Layout(
    "frame set",
    "frames",
    1,
    "frames.npz",
    PIXEL_COLUMNS,
    parts={
        "frame": ("i4",),
        "boxes": ("f8", 4),
        "labelled": ("f8", 4),
        "points": ("f8", len(FACES5), 2),
        "ignore": ("?",),
    },
    boxes=("boxes", "labelled"),
    points="points",
    flags=" --frames",
)
MAX_SIDE = 640  # longer side of a kept frame, pixels; smaller photos stay as they are


@dataclass(frozen=True, slots=True, eq=False)
class FrameSet:
    """A frame set, opened for reading."""

    path: Path  # its folder
    info: dict[str, Any]  # the content of `set.json`
    split: NDArray[np.uint8]  # uint8 (N,), index into `SPLITS`, of each frame
    # offset, height, width: int (N,), where its pixels lie, and its size
    offset: NDArray[np.int64]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    first: NDArray[np.intp]  # int (N + 1,): faces `first[i]` to `first[i + 1]` belong to frame i
    boxes: NDArray[np.float64]  # float64 (M, 4), in our convention
    labelled: NDArray[np.float64]  # float64 (M, 4), as the set has them
    points: NDArray[np.float64]  # float64 (M, 5, 2), of `FACES5`; NaN if not labelled
    ignore: NDArray[np.bool_]  # bool (M,), neither face nor background
    pixels: NDArray[np.uint8]  # uint8, all frames, memory-mapped

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
        return image_at(self.pixels, self.offset[frame], self.height[frame], self.width[frame])


def is_frame_set(path: Path) -> bool:
    """Whether a folder is a frame set."""
    return is_set(path, LAYOUT.kind)


def open_frames(path: str | Path) -> FrameSet:
    """Open a frame set; its pixels stay on disk until they are used.

    Raises:
        DataError: it is none, of another format, or a field of it is damaged.
    """
    path = Path(path)
    info, columns = open_columns(path, LAYOUT)
    frame, count = columns.pop("frame"), len(columns["split"])
    LAYOUT.require(count, path, "there is no frame in it")
    ordered = not len(frame) or (frame.min() >= 0 and frame.max() < count and (np.diff(frame) >= 0).all())
    LAYOUT.require(ordered, path, "column 'frame' names no frame, or not in order")
    first = np.searchsorted(frame, np.arange(count + 1)).astype(np.intp)
    return FrameSet(path=path, info=info, first=first, **columns)


def add_frame(writer: SetWriter, image: Image, split: str, faces: Sequence[dict[str, Any]]) -> None:
    """Append a frame, uint8 (H, W, 3), and its faces, each with `boxes`, `labelled`, `points` and `ignore`."""
    writer.add(image, split, tuple({"frame": len(writer), **face} for face in faces))
