"""Reading and writing pictures: every pixel that enters kpedge from a file passes through here."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from kpedge.errors import ImageError
from kpedge.files import read_bytes, write_bytes
from kpedge.geometry import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
"""File name endings that are taken for photos when a folder is searched."""


def is_cut_off(data: bytes) -> bool:
    """Whether a JPEG or PNG ends before its picture does; decoders fill the rest with grey and say nothing."""
    if data[:2] == b"\xff\xd8":
        at = 2
        while at + 4 <= len(data) and data[at] == 0xFF:
            marker = data[at + 1]
            if marker == 0xDA:  # start of scan: entropy-coded data holds no end marker by accident
                return data.find(b"\xff\xd9", at) < 0
            if marker == 0xFF or 0xD0 <= marker <= 0xD9 or marker == 0x01:  # fill bytes and markers without a length
                at += 1 if marker == 0xFF else 2
                continue
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        return True
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return b"IEND" not in data[-64:]
    return False


def decode_image(data: bytes, name: str, *, stored: bool = False) -> Image:
    """Decode a picture.

    Args:
        data: the content of the file.
        name: what to call it in an error.
        stored: keep the pixels as they are stored, as labels count them; otherwise the EXIF orientation is applied,
            as every viewer does.

    Returns:
        uint8 (H, W, 3), blue-green-red.

    Raises:
        ImageError: empty, cut off, or no picture.
    """
    if not data:
        raise ImageError(f"{name}: the file is empty")
    if is_cut_off(data):
        raise ImageError(f"{name}: the picture is cut off", "copy or download it again")
    flags = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if stored else 0)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"{name}: cannot be decoded: {error.err}") from error
    if image is None:
        raise ImageError(f"{name}: not a picture that OpenCV can decode")
    return np.asarray(image, dtype=np.uint8)


def read_image(path: Path, *, stored: bool = False) -> Image:
    """`decode_image` for a file.

    Raises:
        ImageError: as `decode_image`, or the file cannot be read.
    """
    return decode_image(read_bytes(path, ImageError, "no such photo"), str(path), stored=stored)


def check_format(path: Path) -> None:
    """Stop before work is done whose picture could not be written.

    Raises:
        ImageError: OpenCV cannot write the format that the name asks for.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ImageError(f"{path}: no such picture format", f"end the name in one of {', '.join(sorted(SUFFIXES))}")


def write_image(path: Path, image: Image) -> None:
    """Write a picture atomically, in the format that its name asks for.

    Raises:
        ImageError: OpenCV cannot write that format.
        OutputError: the file cannot be written.
    """
    check_format(path)
    done, data = cv2.imencode(path.suffix, image)
    if not done:
        raise ImageError(f"{path}: OpenCV cannot encode this picture")
    write_bytes(path, data.tobytes())
