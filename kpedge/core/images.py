"""Reading and writing images: every pixel that enters kpedge from a file passes through here."""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge import PIXEL_LIMIT
from kpedge.core.animation import decode_animation, decode_pages, has_pages, kind_of, read_gif
from kpedge.core.errors import ImageError, MissingExtraError
from kpedge.core.extras import importable
from kpedge.core.files import read_bytes, write_bytes
from kpedge.core.geometry import Image
from kpedge.core.heif import show_upright
from kpedge.core.silence import silence_opencv

_limit = os.environ.get(PIXEL_LIMIT, "")
MAX_PIXELS = int(_limit) if _limit.isdecimal() else 1 << 30
"""Pixels of the largest image that OpenCV decodes; `kpedge/__init__.py` sets it where the user has not."""
MAX_BYTES = 4 * MAX_PIXELS  # bytes of the largest image file that is read
ANIMATED = frozenset({".gif"})  # file name endings of animated images
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm"}
)
"""File name endings of the images that OpenCV reads."""
HEIC = frozenset({".heic", ".heif"})  # those of an iPhone's photos, which the extra `heic` reads
PHOTO_SUFFIXES = SUFFIXES | ANIMATED | HEIC  # file name endings that are taken for photos when a folder is searched
OTHER_IMAGES = frozenset({".jxl", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".psd", ".svg"})
"""Names of images that are not read end in these."""
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")


def is_cut_off(data: bytes) -> bool:
    """Whether a JPEG, PNG or GIF is truncated; decoders fill the rest with grey, or leave the last
    frames out, without an error.
    """
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
        at = 8  # of a chunk; OpenCV allocates what its length states, up to 2 GB, before it looks for the bytes
        while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IEND":
            at += 12 + int.from_bytes(data[at : at + 4], "big")
        return at + 8 > len(data)
    return data[:4] == b"GIF8" and not _reaches_trailer(data)


def _reaches_trailer(data: bytes) -> bool:
    """Whether the blocks of a GIF follow each other up to its last one (GIF89a specification, section 17 on)."""

    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    try:
        at = 13 + table(data[10])
        while (kind := data[at]) != 0x3B:  # the trailer
            if kind == 0x21:  # an extension and its label
                at += 2
            elif kind == 0x2C:  # a frame, its colours, and one byte before its pixels
                at += 11 + table(data[at + 9])
            elif kind:
                return False
            while kind and data[at]:
                at += 1 + data[at]
            at += 1
    except IndexError:
        return False
    return True


def to_8_bits(image: NDArray[Any]) -> Image:
    """An image of any depth as uint8. Of 16 bits those that are used count: sensors leave the upper ones empty."""
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


def decode_image(data: bytes, name: str, *, stored: bool = False) -> Image:
    """Decode an image to uint8 (H, W, 3), blue-green-red. `stored` keeps the pixels as they are stored, as labels count
    them; otherwise the EXIF orientation is applied, as every viewer does. That of HEIC and AVIF is part of the image.
    Errors call it by the name.

    Raises:
        ImageError: empty, cut off, or not an image.
    """
    if not data:
        raise ImageError(f"{name}: the file is empty")
    if is_cut_off(data):
        raise ImageError(f"{name}: the image is cut off", "copy or download it again")
    if data[4:8] == b"ftyp" and any(brand in data[8:64] for brand in _HEIC_BRANDS):
        return _decode_heic(data, name)
    silence_opencv()
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | (cv2.IMREAD_IGNORE_ORIENTATION if stored else 0)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if "MAX_IMAGE" in str(error.err):
            message = f"{name}: the image has more than {MAX_PIXELS:,} pixels"
            raise ImageError(message, f"set {PIXEL_LIMIT} to a larger number to decode it") from error
        raise ImageError(f"{name}: cannot be decoded: {error.err}") from error
    if image is None:
        raise ImageError(f"{name}: not an image that OpenCV can decode", "convert it to JPEG or PNG")
    image = to_8_bits(image)
    if data[4:8] == b"ftyp":
        image = show_upright(image, data)
    hidden = transparent_pixels(data)
    if hidden is not None and hidden.shape == image.shape[:2]:
        image[hidden] = 255  # as on a white page
    return image


def _decode_heic(data: bytes, name: str) -> Image:
    """The first image of a HEIF container, upright: its orientation is a part of the format."""
    try:
        heif = importable("pillow_heif", "heic")
    except MissingExtraError as error:
        raise ImageError(f"{name}: HEIC, which needs pillow-heif", error.advice) from error
    try:
        container = heif.open_heif(data, convert_hdr_to_8bit=True, bgr_mode=True)
        if container.size[0] * container.size[1] > MAX_PIXELS:
            raise ImageError(f"{name}: the image has more than {MAX_PIXELS:,} pixels")
        image = np.asarray(container)
    except (ValueError, OSError, EOFError, RuntimeError, SyntaxError) as error:
        raise ImageError(f"{name}: cannot be decoded: {error}") from error
    return np.array(image[..., :3], dtype=np.uint8, order="C")  # a copy: others are drawn into, this one is read-only


def read_image(path: str | os.PathLike[str], *, stored: bool = False) -> Image:
    """`decode_image` for a file.

    Raises:
        ImageError: as `decode_image`, or the file cannot be read.
    """
    name = os.fsdecode(path)
    if "://" in name:
        raise ImageError(f"{name}: an address, not a file", "download it first, or run: kpedge predict ADDRESS")
    data = read_bytes(Path(name), ImageError, "no such photo", largest=MAX_BYTES)
    return decode_image(data, name, stored=stored)


@dataclass(frozen=True, slots=True, eq=False)
class ImageFrame:
    """A photo, or one frame of an animated image."""

    image: Image  # uint8 (H, W, 3), blue-green-red
    frame: int | None = None  # number of the frame, from 0; None of a photo
    time_s: float | None = None  # when it is shown, seconds from the start; None of a photo

    def position(self) -> dict[str, Any]:
        """Frame and time as plain JSON types; empty for a photo."""
        return {} if self.frame is None else {"frame": self.frame, "time_s": self.time_s}


def read_frames(path: Path, *, stored: bool = False) -> Iterator[ImageFrame]:
    """The photo in a file, or the frames of an animated image or pages of a TIFF, one after the other.

    Raises:
        ImageError: as `read_image`.
    """
    data = read_bytes(path, ImageError, "no such photo")
    kind = kind_of(data[:4096])
    if path.suffix.lower() in ANIMATED and kind != "gif":
        raise ImageError(f"{path}: not a GIF")
    if kind and is_cut_off(data):
        raise ImageError(f"{path}: the image is cut off", "copy or download it again")
    frames: Iterator[tuple[Image, float | None]] = iter(())
    if kind == "gif":
        frames = read_gif(path)
    elif kind == "animation":
        frames = decode_animation(data, str(path))
    elif kind == "pages" and has_pages(data):
        frames = ((page, None) for page in decode_pages(data))
    else:
        yield ImageFrame(decode_image(data, str(path), stored=stored))
        return
    number = -1
    for number, (image, time_s) in enumerate(frames):
        yield ImageFrame(image, number, None if time_s is None else round(time_s, 3))
    if number < 0:
        raise ImageError(f"{path}: not an image that OpenCV can decode")


def images_below(root: Path) -> list[Path]:
    """Every photo and animated image in a folder and below it, sorted."""
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file())


def check_format(path: Path) -> None:
    """Stop before work is done whose image could not be written.

    Raises:
        ImageError: OpenCV cannot write the format that the name asks for.
    """
    writable = SUFFIXES - {".jfif"}
    if path.suffix.lower() not in writable:
        raise ImageError(f"{path}: no such image format", f"end the name in one of {', '.join(sorted(writable))}")


def write_image(path: Path, image: Image) -> None:
    """Write an image atomically, in the format that its name asks for.

    Raises:
        ImageError: OpenCV cannot write that format.
        OutputError: the file cannot be written.
    """
    check_format(path)
    done, data = cv2.imencode(path.suffix, image)
    if not done:
        raise ImageError(f"{path}: OpenCV cannot encode this image")
    write_bytes(path, data.tobytes())


def figure_png(figure: Any) -> bytes:
    """A matplotlib figure as PNG, without the date and version that matplotlib would write into it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
