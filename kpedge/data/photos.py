"""The photos that labels name: the one place where their pixels, headers and content are read."""

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from kpedge.core.errors import ImageError
from kpedge.core.extras import importable
from kpedge.core.files import read_bytes
from kpedge.core.geometry import Image
from kpedge.core.images import MAX_BYTES, decode_image, read_image
from kpedge.data.labels import Labels

UPRIGHT = 1  # the EXIF orientation of an image that is stored as it is shown
ON_ITS_SIDE = (5, 6, 7, 8)
"""Those of images whose width and height change places when they are shown (EXIF 2.32, tag 0112)."""
_ORIENTATION = 0x0112
_PNG_EXIF = (b"eXIf", b"exif", b"XML:com.adobe.xmp")  # in a PNG that says how viewers turn it


@dataclass(frozen=True, slots=True)
class PhotoHead:
    """What an image file says before its pixels."""

    # width, height: as it is stored, pixels
    width: int
    height: int
    orientation: int = UPRIGHT  # how viewers turn it, of EXIF; 1 if it does not say


def open_photo(labels: Labels, photo: str) -> Image:
    """A photo as it is stored, uint8 (H, W, 3), blue-green-red."""
    return read_image(labels.root / photo, stored=True) if labels.pixels is None else labels.pixels(photo)


def read_photo(labels: Labels, photo: str) -> tuple[str, PhotoHead]:
    """SHA-256 of a photo's content, and its head.

    Raises:
        ImageError: it is missing or cannot be read.
    """
    if labels.pixels is not None:
        image = labels.pixels(photo)
        digest = hashlib.sha256(str(image.shape).encode() + image.tobytes())
        return digest.hexdigest(), PhotoHead(image.shape[1], image.shape[0])
    path = labels.root / photo
    data = read_bytes(path, ImageError, "no such photo", largest=MAX_BYTES)
    return hashlib.sha256(data).hexdigest(), parse_head(data, str(path))


def read_head(path: Path) -> PhotoHead:
    """Size and orientation of an image, in general without decoding it.

    Raises:
        ImageError: it is missing or not an image.
    """
    return parse_head(read_bytes(path, ImageError, "no such photo", largest=MAX_BYTES), str(path))


def parse_head(data: bytes, name: str) -> PhotoHead:
    """`read_head` of a file's content; `name` is what to call it in an error."""
    pillow = importable("PIL.Image", "data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images and of damaged EXIF
        try:
            with pillow.open(io.BytesIO(data)) as image:
                (width, height), orientation = image.size, UPRIGHT
                if image.format != "PNG" or any(word in data for word in _PNG_EXIF):  # Pillow decodes PNGs to find it
                    orientation = image.getexif().get(_ORIENTATION, UPRIGHT)
                if image.format == "AVIF":  # Pillow takes it from the container, as `decode_image` does at once
                    width, height = (height, width) if orientation in ON_ITS_SIDE else (width, height)
                    orientation = UPRIGHT
        except Exception:  # noqa: BLE001  what Pillow raises on damaged files is not documented
            height, width = decode_image(data, name, stored=True).shape[:2]
            orientation = UPRIGHT
    return PhotoHead(width, height, orientation if orientation in range(1, 9) else UPRIGHT)
