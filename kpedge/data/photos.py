"""The photos that labels name: the one place where their pixels and their content are read."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from kpedge.core.errors import ImageError
from kpedge.core.files import read_bytes
from kpedge.core.geometry import Image
from kpedge.core.images import decode_image, read_image
from kpedge.data.labels import Labels

UPRIGHT = 1
"""The EXIF orientation of a picture that is stored as it is shown."""
ON_ITS_SIDE = (5, 6, 7, 8)
"""Those of pictures whose width and height change places when they are shown (EXIF 2.32, tag 0112)."""
_HEAD = 1 << 18
"""How much of a file is looked at for its size, bytes: EXIF with a thumbnail comes before it."""
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
"""JPEG's start-of-frame markers (ITU T.81, table B.1)."""
_ORIENTATION = 0x0112


def open_photo(labels: Labels, photo: str) -> Image:
    """A photo as it is stored, uint8 (H, W, 3), blue-green-red.

    Raises:
        ImageError: it is missing, unreadable or broken.
    """
    return read_image(labels.root / photo, stored=True) if labels.pixels is None else labels.pixels(photo)


def photo_digest(labels: Labels, photo: str) -> str:
    """SHA-256 of a photo's content.

    Raises:
        ImageError: it is missing or cannot be read.
    """
    if labels.pixels is not None:
        image = labels.pixels(photo)
        return hashlib.sha256(str(image.shape).encode() + image.tobytes()).hexdigest()
    return hashlib.sha256(read_bytes(labels.root / photo, ImageError, "no such photo")).hexdigest()


@dataclass(frozen=True, slots=True)
class PhotoHead:
    """What a picture's file says before its pixels.

    Attributes:
        width, height: as it is stored, pixels.
        orientation: how it is to be turned when it is shown, of EXIF; 1 where it says nothing.
    """

    width: int
    height: int
    orientation: int = UPRIGHT


def photo_head(path: Path) -> PhotoHead:
    """Size and orientation of a picture, without decoding it where it is a JPEG or PNG.

    Raises:
        ImageError: it is missing or no picture.
    """
    data = read_bytes(path, ImageError, "no such photo", limit=_HEAD)
    head = _png_head(data) or _jpeg_head(data)
    if head is None:
        if len(data) == _HEAD:
            data = read_bytes(path, ImageError)
        height, width = decode_image(data, str(path), stored=True).shape[:2]
        head = PhotoHead(width, height)
    return head


def _png_head(data: bytes) -> PhotoHead | None:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 24:
        return None
    return PhotoHead(*struct.unpack(">II", data[16:24]))


def _jpeg_head(data: bytes) -> PhotoHead | None:
    at, orientation = 2, UPRIGHT
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker in _FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return PhotoHead(width, height, orientation) if width and height else None
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _exif_orientation(data[at + 10 : at + 2 + length])
        at += 2 + length
    return None


def _exif_orientation(tiff: bytes) -> int:
    """The orientation that a TIFF header with its first directory names."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return UPRIGHT
    start = struct.unpack(f"{order}I", tiff[4:8])[0]
    if start + 2 > len(tiff):
        return UPRIGHT
    for entry in range(struct.unpack(f"{order}H", tiff[start : start + 2])[0]):
        field = tiff[start + 2 + 12 * entry : start + 14 + 12 * entry]
        if len(field) < 12:
            break
        if struct.unpack(f"{order}H", field[:2])[0] == _ORIENTATION:
            value = int(struct.unpack(f"{order}H", field[8:10])[0])
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT
