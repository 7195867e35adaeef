"""How prepared sets are stored: `set.json`, a table of NumPy columns, and the pixels of all rows in one file.

`pixels.bin` holds images, uint8 blue-green-red, one after the other, and is opened as a memory map; three columns of
the table, `offset`, `height` and `width`, say where each of them is.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import os
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError, UsageError
from kpedge.core.files import read_bytes, read_json
from kpedge.core.geometry import Image
from kpedge.core.text import quote
from kpedge.data.rows import is_file
from kpedge.data.split import SPLITS

SET_FILE = "set.json"
PIXELS_FILE = "pixels.bin"
Columns = dict[str, tuple[Any, ...]]  # name -> dtype, then the shape of a row's entry; None where any size is right
PIXEL_COLUMNS: Columns = {"split": ("u1",), "offset": ("i8",), "height": ("i4",), "width": ("i4",)}
"""What every row with an image has: the index of its split in `SPLITS`, and where its pixels are."""
_ADVICE = hasattr(mmap, "MADV_WILLNEED")
LARGE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2 if _ADVICE else math.inf
"""Bytes of pixels from which on each image is read by itself: half of the memory. By default, the system reads
megabytes around a page that is missing, which helps only where all of them stay in memory."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A kind of prepared set."""

    noun: str  # in messages
    kind: str | None  # in `set.json`; None where it is not written
    version: int  # of the format
    table: str  # name of the file with the columns
    images: Columns  # columns with an entry for each image
    points: str  # name of the column (N, K, 2) with points
    boxes: tuple[str, ...] = ("boxes",)  # names of the columns (N, 4) with boxes
    # columns with an entry for each part of an image, such as the faces of a frame
    parts: Columns = field(default_factory=dict)
    flags: str = ""  # of the command that makes one

    def require(self, condition: object, path: Path, what: str) -> None:
        """Stop at a damaged set.

        Raises:
            DataError: the condition does not hold.
        """
        if not condition:
            raise DataError(f"{path}: the {self.noun} is damaged: {what}", "prepare it again with --force")


def is_set(path: Path, kind: str | None) -> bool:
    """Whether a folder is a prepared set of a kind, in this or another version of its format."""
    if not is_file(path / SET_FILE):
        return False
    try:
        info = read_json(path / SET_FILE, DataError)
    except DataError:
        return kind is None
    return (info.get("kind") if isinstance(info, dict) else None) == kind


def read_set_info(path: Path, layout: Layout) -> dict[str, Any]:
    """The content of `set.json`.

    Raises:
        DataError: the folder is not such a set, or one of another version.
    """
    if not is_set(path, layout.kind):
        if is_file(path / SET_FILE):
            raise DataError(
                f"{path}: not a {layout.noun} but a set of another kind",
                f"make one: kpedge data prepare PHOTOS{layout.flags} --out ANOTHER",
            )
        photos, out = (path, f"data/{path.name}") if path.is_dir() else ("PHOTOS", path)
        advice = f"make one: kpedge data prepare {quote(photos)}{layout.flags} --out {quote(out)}"
        raise DataError(f"{path}: not a {layout.noun}", advice)
    info = read_json(path / SET_FILE, DataError)
    if not isinstance(info, dict) or info.get("format") != layout.version:
        raise DataError(
            f"{path}: the {layout.noun} has another format than {layout.version}, this kpedge's",
            "prepare it again with --force",
        )
    return info


def open_columns(path: Path, layout: Layout) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The content of `set.json`, and the columns with `pixels`, the memory map of all images; all of it checked.

    Raises:
        DataError: the folder is not such a set, or a field of it is damaged.
    """
    info = read_set_info(path, layout)
    _check_info(path, layout, info)
    columns = read_columns(path, layout)

    def check(condition: object, what: str) -> None:
        layout.require(condition, path, what)

    for group in (layout.images, layout.parts):
        count = columns[next(iter(group))].shape[:1] if group else ()
        for name, (kind, *shape) in group.items():
            column = columns[name]
            check(column.dtype == np.dtype(kind), f"column {name!r} is not of type {kind}")
            wanted = (
                *count,
                *(own if size is None else size for size, own in zip(shape, column.shape[1:], strict=False)),
            )
            check(count and column.shape == wanted, f"column {name!r} has another shape")
    check((columns["split"] < len(SPLITS)).all(), "column 'split' names no split")
    for name in layout.boxes:
        boxes = columns[name]
        check(np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all(), f"a box of {name!r} has no area")
    points = columns[layout.points]
    check(not np.isinf(points).any() and (np.isnan(points[..., 0]) == np.isnan(points[..., 1])).all(), "half a point")
    return info, {**columns, "pixels": _open_pixels(path, layout, columns)}


def _check_info(path: Path, layout: Layout, info: dict[str, Any]) -> None:
    wrong = next((key for key in ("name", "terms", "source_sha256") if not isinstance(info.get(key), str)), None)
    layout.require(wrong is None, path, f"{wrong!r} is missing or not a text")
    counts, problems = info.get("counts"), info.get("problems")
    numbers = isinstance(counts, dict) and all(
        isinstance(one, dict) and all(type(n) is int for n in one.values()) for one in counts.values()
    )
    layout.require(numbers, path, "'counts' are not numbers for each split")
    keys, optional = {"kind", "where", "message"}, {"photo"}
    rows = isinstance(problems, list) and all(isinstance(one, dict) and set(one) - optional == keys for one in problems)
    layout.require(rows, path, "'problems' are not rows with their place")
    layout.require(isinstance(info.get("settings"), dict), path, "'settings' is missing or not a table")


def read_columns(path: Path, layout: Layout) -> dict[str, NDArray[Any]]:
    """The arrays of a set's table, as they stand in the file.

    Raises:
        DataError: the table is damaged, or holds anything but numbers.
    """
    try:
        data = read_bytes(path / layout.table, DataError)
        with np.load(io.BytesIO(data), allow_pickle=False) as table:
            return {name: table[name] for name in (*layout.images, *layout.parts)}
    except (
        *(OSError, EOFError, KeyError, TypeError, ValueError, MemoryError, RuntimeError, SyntaxError, OverflowError),
        *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, DataError),
    ) as error:
        layout.require(False, path, str(error))
        raise


def _open_pixels(path: Path, layout: Layout, columns: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """The pixels, memory-mapped; an image outside the file is an error."""
    offset, height, width = (columns[name].astype(np.int64) for name in ("offset", "height", "width"))
    layout.require((height > 0).all() and (width > 0).all() and (offset >= 0).all(), path, "a size is not positive")
    if not len(offset):
        return np.zeros(0, np.uint8)
    try:
        pixels = np.memmap(path / PIXELS_FILE, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        layout.require(False, path, str(error))
        raise
    layout.require((offset + height * width * 3).max() == len(pixels), path, f"{PIXELS_FILE} has another length")
    if (large := _large_map(pixels)) is not None:
        large.madvise(mmap.MADV_RANDOM)
    return pixels


def _large_map(pixels: NDArray[np.uint8]) -> mmap.mmap | None:
    """The memory map of a set that may not stay in memory."""
    base: object = pixels.base
    return base if isinstance(base, mmap.mmap) and len(base) > LARGE else None


def image_at(pixels: NDArray[np.uint8], offset: Any, height: Any, width: Any) -> Image:
    """One of the images, uint8 (height, width, 3), a view into the memory map."""
    start, height, width = int(offset), int(height), int(width)
    if (large := _large_map(pixels)) is not None:  # in one read, not page by page
        page = start // mmap.PAGESIZE * mmap.PAGESIZE
        large.madvise(mmap.MADV_WILLNEED, page, start + height * width * 3 - page)
    return np.asarray(pixels[start : start + height * width * 3].reshape(height, width, 3))


def split_number(split: str) -> int:
    """The index of a split in `SPLITS`.

    Raises:
        UsageError: there is no such split.
    """
    if split not in SPLITS:
        raise UsageError(f"no split is called {split!r}", f"known: {', '.join(SPLITS)}")
    return SPLITS.index(split)


class SetWriter:
    """Writes the files of a prepared set into an existing, empty folder; use it as a context manager."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder, self._layout = folder, layout
        self._stream = (folder / PIXELS_FILE).open("wb")
        self._images: list[dict[str, Any]] = []
        self._parts: list[dict[str, Any]] = []

    def __enter__(self) -> SetWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.close()

    def add(self, image: Image, split: str, parts: tuple[dict[str, Any], ...] = (), **columns: Any) -> None:
        """Append an image, uint8 (H, W, 3), the other columns of its row, and the columns of its parts."""
        height, width = image.shape[:2]
        place = {"offset": self._stream.tell(), "height": height, "width": width}
        self._images.append({"split": SPLITS.index(split), **place, **columns})
        self._parts += parts
        self._stream.write(np.ascontiguousarray(image).tobytes())

    def __len__(self) -> int:
        """Images so far."""
        return len(self._images)

    def finish(self, info: dict[str, Any]) -> None:
        """Write the table and, last, `set.json`, without which the folder is not a prepared set."""
        self._stream.flush()
        columns = {}
        for group, rows in ((self._layout.images, self._images), (self._layout.parts, self._parts)):
            for name, (kind, *shape) in group.items():
                values = np.array([row[name] for row in rows], dtype=kind)
                columns[name] = values if rows else values.reshape(0, *(size or 0 for size in shape))
        np.savez(self._folder / self._layout.table, **columns)  # type: ignore[arg-type]
        kind = {} if self._layout.kind is None else {"kind": self._layout.kind}
        document = {"format": self._layout.version, **kind, **info}
        (self._folder / SET_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
