"""Images of several frames or pages: animated GIF, WebP, PNG and AVIF, and TIFF with pages."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from kpedge.core.errors import ImageError
from kpedge.core.geometry import Image
from kpedge.core.leftovers import temporary_folder

CHUNK_BYTES = 128 * 2**20  # most memory that frames decoded at a time take; one always may

GIF_DELAY = 0.1  # seconds for which a frame of a GIF that states none is shown: FFmpeg's default, and browsers'


@contextlib.contextmanager
def opencv_path(path: Path) -> Iterator[str]:
    """A path as OpenCV can open it within the block: absolute, since FFmpeg takes `http:a.mp4` for an address; a link
    to it if it is not valid UTF-8, at which OpenCV ends the process.
    """
    text = str(path.absolute())
    try:
        text.encode()
    except UnicodeEncodeError:
        with temporary_folder() as folder:
            link = folder / f"video{path.suffix.encode('ascii', 'ignore').decode()}"
            link.symlink_to(path.absolute())
            yield str(link)
    else:
        yield text


def kind_of(head: bytes) -> str:
    """Which of `gif`, `animation` and `pages` a file is by its first kilobytes; empty for a single image.

    A TIFF counts as pages if it may have a second one.
    """
    if head.startswith(b"GIF8"):
        return "gif"
    webp = head.startswith(b"RIFF") and head[8:16] == b"WEBPVP8X" and len(head) > 20 and head[20] & 2
    png = head.startswith(b"\x89PNG") and b"acTL" in head
    avif = head[4:8] == b"ftyp" and b"avis" in head[8 : int.from_bytes(head[:4], "big")]  # its brands
    if (webp or png or avif) and hasattr(cv2, "imdecodeanimation"):  # from OpenCV 4.11 on
        return "animation"
    return "pages" if head[:4] in (b"II*\0", b"MM\0*") else ""


def holds_several(path: Path) -> bool:
    """Whether a file holds several frames or pages. A pipe or a device, which may never end, is not opened."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            kind = kind_of(file.read(4096))
        return has_pages(path.read_bytes()) if kind == "pages" else bool(kind)
    except OSError:
        return False  # reading it will say why


def read_gif(path: Path) -> Iterator[tuple[Image, float]]:
    """Frames of a GIF, uint8 (H, W, 3), and the time at which each is shown, seconds.

    Raises:
        ImageError: this version of OpenCV cannot read all its frames.
    """
    with opencv_path(path) as text:
        video = cv2.VideoCapture(text)
    number = 0
    try:
        while (got := video.read())[0]:
            yield np.asarray(got[1], dtype=np.uint8), video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            number += 1
        total = round(video.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        video.release()
    if 0 < number < total:  # FFmpeg ends after the first frame of a GIF whose frames have no delays
        if not hasattr(cv2, "imdecodeanimation"):
            raise ImageError(f"{path}: frames without delays cannot be read", "update OpenCV to 4.13 or newer")
        for image, _ in itertools.islice(decode_animation(path.read_bytes(), str(path)), number, None):
            yield image, number * GIF_DELAY
            number += 1


def decode_animation(data: bytes, name: str) -> Iterator[tuple[Image, float]]:
    """Frames of an animated WebP, PNG or AVIF, uint8 (H, W, 3), and the time at which each is shown, seconds.

    Raises:
        ImageError: it cannot be decoded.
    """
    buffer, start, time_s, count = np.frombuffer(data, np.uint8).reshape(1, -1), 0, 0.0, 1  # OpenCV 4 takes a row
    while True:
        try:
            done, animation = cv2.imdecodeanimation(buffer, start, count)
        except cv2.error as error:
            raise ImageError(f"{name}: cannot be decoded: {error.err}") from error
        frames = animation.frames if done else ()
        for frame, duration_ms in zip(frames, animation.durations if done else (), strict=False):
            yield np.ascontiguousarray(frame[..., :3], dtype=np.uint8), time_s
            time_s += float(duration_ms) / 1000
        if len(frames) < count:
            return
        start += count
        count = max(1, CHUNK_BYTES // frames[0].nbytes)


def has_pages(data: bytes) -> bool:
    """Whether a TIFF has a second page."""
    return _decode_page(data, 1) is not None


def decode_pages(data: bytes) -> Iterator[Image]:
    """Pages of a TIFF, uint8 (H, W, 3)."""
    number = 0
    while (page := _decode_page(data, number)) is not None:
        yield page
        number += 1


def _decode_page(data: bytes, number: int) -> Image | None:
    try:
        done, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR, None, (number, number + 1))
    except cv2.error:
        return None
    return np.asarray(pages[0], dtype=np.uint8) if done else None
