"""How prepared sets are stored: `set.json`, a table of NumPy columns, and the pixels of all rows in one file.

`pixels.bin` holds images, uint8 blue-green-red, one after the other, and is opened as a memory map; three columns of
the table, `offset`, `height` and `width`, say where each of them is.
"""

from __future__ import annotations

import io
import json
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError
from kpedge.core.files import read_bytes, read_json
from kpedge.core.geometry import Image

SET_FILE = "set.json"
PIXELS_FILE = "pixels.bin"
AGAIN = "prepare it again with --force"
PIXEL_COLUMNS = {"offset": "i8", "height": "i4", "width": "i4"}


@dataclass(frozen=True, slots=True)
class Layout:
    """A kind of prepared set.

    Attributes:
        noun: in messages.
        kind: in `set.json`; None where it is not written.
        version: of the format.
        table: name of the file with the columns.
    """

    noun: str
    kind: str | None
    version: int
    table: str


def read_kind(path: Path) -> str | None:
    """The kind of a prepared set, None for crops.

    Raises:
        DataError: the folder is not a prepared set.
    """
    info = read_json(path / SET_FILE, DataError)
    kind = info.get("kind") if isinstance(info, dict) else None
    return kind if isinstance(kind, str) else None


def require(condition: object, path: Path, layout: Layout, what: str) -> None:
    """Stop at a damaged set.

    Raises:
        DataError: the condition does not hold.
    """
    if not condition:
        raise DataError(f"{path}: the {layout.noun} is damaged: {what}", AGAIN)


def read_set_info(path: Path, layout: Layout) -> dict[str, Any]:
    """The content of `set.json`.

    Raises:
        DataError: it cannot be read, or is of another format.
    """
    info = read_json(path / SET_FILE, DataError)
    if not isinstance(info, dict) or info.get("format") != layout.version:
        raise DataError(f"{path}: the {layout.noun} has another format than {layout.version}, this kpedge's", AGAIN)
    return info


def check_info(path: Path, layout: Layout, info: dict[str, Any]) -> None:
    """Check what both kinds of set say about themselves.

    Raises:
        DataError: a field is missing or of another type.
    """
    texts = ("name", "terms", "source_sha256")
    wrong = next((key for key in texts if not isinstance(info.get(key), str)), None)
    require(wrong is None, path, layout, f"{wrong!r} is missing or not a text")
    counts, problems = info.get("counts"), info.get("problems")
    require(
        isinstance(counts, dict)
        and all(isinstance(one, dict) and all(type(n) is int for n in one.values()) for one in counts.values()),
        path,
        layout,
        "'counts' are not numbers for each split",
    )
    keys = {"kind", "where", "message", "photo"}
    require(
        isinstance(problems, list)
        and all(
            isinstance(one, dict) and set(one) <= keys and {"kind", "where", "message"} <= set(one) for one in problems
        ),
        path,
        layout,
        "'problems' are not rows with their place",
    )
    require(isinstance(info.get("settings"), dict), path, layout, "'settings' is missing or not a table")


def read_columns(path: Path, layout: Layout, kinds: dict[str, str]) -> dict[str, NDArray[Any]]:
    """The columns of the table.

    Raises:
        DataError: one is missing or of another type, or the file cannot be read.
    """
    try:
        data = read_bytes(path / layout.table, DataError)
        with np.load(io.BytesIO(data), allow_pickle=False) as table:
            columns = {name: table[name] for name in kinds}
    except (
        *(OSError, EOFError, KeyError, TypeError, ValueError, MemoryError, RuntimeError, SyntaxError, OverflowError),
        *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, DataError),
    ) as error:
        raise DataError(f"{path}: the {layout.noun} is damaged: {error}", AGAIN) from error
    for name, kind in kinds.items():
        require(columns[name].dtype == np.dtype(kind), path, layout, f"column {name!r} is not of type {kind}")
    return columns


def open_pixels(path: Path, layout: Layout, columns: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """The pixels, memory-mapped, whose places are checked.

    Raises:
        DataError: an image lies outside the file.
    """
    offset, height, width = (columns[name].astype(np.int64) for name in PIXEL_COLUMNS)
    size = height * width * 3
    require((height > 0).all() and (width > 0).all() and (offset >= 0).all(), path, layout, "a size is not positive")
    try:
        if not len(offset):
            return np.zeros(0, np.uint8)
        pixels = np.memmap(path / PIXELS_FILE, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the {layout.noun} is damaged: {error}", AGAIN) from error
    require((offset + size).max() == len(pixels), path, layout, f"{PIXELS_FILE} has another length")
    return pixels


def image_at(pixels: NDArray[np.uint8], start: int, height: int, width: int) -> Image:
    """One of the images, uint8 (height, width, 3), a view into the memory map."""
    return np.asarray(pixels[start : start + height * width * 3].reshape(height, width, 3))


class SetStorage:
    """Writes the files of a prepared set into an existing, empty folder; use it as a context manager."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder, self._layout = folder, layout
        self._stream = (folder / PIXELS_FILE).open("wb")
        self._offset = 0

    def __enter__(self) -> SetStorage:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.close()

    def add(self, image: Image) -> dict[str, int]:
        """Append an image, uint8 (H, W, 3); its `offset`, `height` and `width`."""
        place = {"offset": self._offset, "height": image.shape[0], "width": image.shape[1]}
        self._stream.write(np.ascontiguousarray(image).tobytes())
        self._offset += image.size
        return place

    def finish(self, columns: dict[str, NDArray[Any]], info: dict[str, Any]) -> None:
        """Write the table and, last, `set.json`, without which the folder is not a prepared set."""
        self._stream.flush()
        np.savez(self._folder / self._layout.table, **columns)  # type: ignore[arg-type]
        kind = {} if self._layout.kind is None else {"kind": self._layout.kind}
        document = {"format": self._layout.version, **kind, **info}
        (self._folder / SET_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
