"""Pixels as they are seen: depths other than 8 bits, and transparency."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.geometry import Image


def to_8_bits(image: NDArray[Any]) -> Image:
    """An image of any depth as uint8. Of 16 bits, those that are used count: sensors of 10, 12 or 14 bits leave the
    upper ones empty, which would give a black image.
    """
    if image.dtype == np.uint8:
        return np.asarray(image, dtype=np.uint8)
    if image.dtype == np.uint16:
        bits = max(8, int(image.max()).bit_length())
        return np.asarray(image >> (bits - 8), dtype=np.uint8)
    finite = np.nan_to_num(image.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    return np.asarray(np.clip(finite / max(1.0, float(finite.max())) * 255, 0, 255), dtype=np.uint8)


def transparent_pixels(data: bytes) -> NDArray[np.bool_] | None:
    """Which pixels of a PNG or WebP cannot be seen at all, (H, W); None if it has no transparency."""
    png = data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 25 and data[25] in (4, 6)  # grey or colour, with alpha
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP" and (data[12:16] == b"VP8L" or data[20:21] >= b"\x10")
    if not (png or webp):
        return None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim < 3 or image.shape[2] != 4:
        return None
    hidden = image[..., 3] == 0
    return hidden if hidden.any() else None
