"""Images as people have them, as the one form that models take: uint8 (H, W, 3), blue-green-red."""

import os
from typing import Any

import cv2
import numpy as np

from kpedge.core.errors import ImageError, UsageError
from kpedge.core.geometry import Image
from kpedge.core.images import decode_image, read_image, to_8_bits

COLOURS = ("bgr", "rgb")  # order of the channels of arrays


def to_image(image: Any, colour: str = "bgr") -> Image:
    """An image as uint8 (H, W, 3), blue-green-red.

    Args:
        image: a path, the content of an image file as bytes, a PIL image, or an array: uint8 (H, W) or (H, W, 1) in
            grey, (H, W, 3), or (H, W, 4), whose last channel is left out.
        colour: order of an array's channels, a name of `COLOURS`; OpenCV reads images as "bgr", most others as "rgb".

    Raises:
        ImageError: the file cannot be read.
        UsageError: it is no image; the message says what it is and how to convert it.
    """
    if colour not in COLOURS:
        raise UsageError(f"colour must be one of {', '.join(COLOURS)}, not {colour!r}")
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image), "image")
    if image is None:
        raise UsageError("the image is None", "cv2.imread returns None for a file that it cannot read: check the path")
    if hasattr(image, "getexif") and hasattr(image, "convert"):
        image, colour = _pil_pixels(image), "rgb"
    if not isinstance(image, np.ndarray):
        raise UsageError(
            f"not an image: {type(image).__name__}",
            "give a path, bytes, a NumPy array, a PIL image, or a list of these",
        )
    if image.dtype != np.uint8:
        raise UsageError(f"images are uint8, from 0 to 255; this one is {image.dtype}", _conversion(image))
    if image.ndim == 4:
        raise UsageError(f"an array of {len(image)} images", "give a list of images: list(array)")
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4):
        what = "it has the channels first" if image.ndim == 3 and image.shape[0] in (1, 3, 4) else "not an image"
        advice = "array.transpose(1, 2, 0)" if what.startswith("it has") else "give (H, W), (H, W, 3) or (H, W, 4)"
        raise UsageError(f"an array of shape {image.shape}: {what}", advice)
    if not image.size:
        raise ImageError(f"the image is empty: shape {image.shape}")
    if channels == 3 and colour == "bgr":
        return np.asarray(image)
    code = {
        (1, "bgr"): cv2.COLOR_GRAY2BGR,
        (1, "rgb"): cv2.COLOR_GRAY2BGR,
        (3, "rgb"): cv2.COLOR_RGB2BGR,
        (4, "bgr"): cv2.COLOR_BGRA2BGR,
        (4, "rgb"): cv2.COLOR_RGBA2BGR,
    }[channels, colour]
    return np.asarray(cv2.cvtColor(image, code), dtype=np.uint8)


def _pil_pixels(image: Any) -> np.ndarray[Any, Any]:
    """A PIL image, upright, as uint8 (H, W, 3), red-green-blue, or (H, W) if it is grey of more than 8 bits."""
    from PIL import ImageOps

    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # `convert` would clip 16 bits to 255
            return to_8_bits(np.asarray(upright).clip(0, 65535).astype(np.uint16))
        return np.asarray(upright.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:  # PIL decodes only now
        raise ImageError(f"the PIL image cannot be decoded: {error}") from error


def _conversion(image: np.ndarray[Any, Any]) -> str:
    """How to make an array uint8."""
    if image.dtype.kind == "f":
        return "image.clip(0, 255).astype('uint8')" if (image > 1).any() else "(image.clip(0, 1) * 255).astype('uint8')"
    if image.dtype == np.uint16:
        return "divide by its largest value first: (image / image.max() * 255).astype('uint8')"
    return "convert it with .astype('uint8') after scaling to 0..255"
