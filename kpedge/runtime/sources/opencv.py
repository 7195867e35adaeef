"""Frames by OpenCV: of cameras, and of files and streams where PyAV is not installed."""

import math
import time
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from kpedge.core.animation import opencv_path
from kpedge.core.errors import SourceError
from kpedge.core.extras import pip_line
from kpedge.core.geometry import Image
from kpedge.core.silence import silence_opencv
from kpedge.runtime.sources.addresses import mask_address
from kpedge.runtime.sources.reader import Reader, to_square_pixels, valid_rate

INSTALL = f"{pip_line('video')}, which reads more kinds of video, and with fewer errors"


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used."""

    def isOpened(self) -> bool: ...  # noqa: N802 (OpenCV's)
    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, Any]: ...
    def get(self, prop: int, /) -> float: ...
    def set(self, prop: int, value: float, /) -> bool: ...
    def release(self) -> None: ...


def ffmpeg_backend() -> int:
    """OpenCV's backend for files and addresses. Others take `clip001.mp4` for a series of images."""
    return cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in cv2.videoio_registry.getStreamBackends() else cv2.CAP_ANY


def property_of(capture: Capture, prop: int) -> float | None:
    """A property of a capture; None if it is unknown."""
    value = capture.get(prop)
    return float(value) if math.isfinite(value) and 0 < value < 2**53 else None


def pixel_format(capture: Capture) -> str:
    """Four characters of the pixel format or codec, such as `MJPG`; empty if unknown."""
    value = property_of(capture, cv2.CAP_PROP_FOURCC) or 0
    text = int(value).to_bytes(8, "little")[:4].decode("latin-1").rstrip(" \0")
    return text if value < 2**32 and text.isascii() and text.isprintable() else ""


class CaptureReader(Reader):
    """Frames of an OpenCV capture.

    Args:
        capture: opened; it is released with the reader.
        name: of a file, whose frames are checked for OpenCV's silent failures; empty for cameras and streams.
        arrival: stamp frames with the time of their arrival.
    """

    unreadable = f"it is damaged, or OpenCV does not know its codec: {INSTALL}"

    def __init__(self, capture: Capture, name: str = "", *, arrival: bool = False) -> None:
        self._capture, self._file, self.arrival = capture, name, arrival
        self.rate = valid_rate(property_of(capture, cv2.CAP_PROP_FPS))
        self._count = property_of(capture, cv2.CAP_PROP_FRAME_COUNT)
        if self._count and self.rate:
            self.declared_s = self._count / self.rate
        self.codec = pixel_format(capture)
        self._read = self._black = self._alike = 0
        self._first: Image | None = None

    def grab(self) -> bool:
        try:
            got = self._capture.grab()
        except cv2.error:
            return False
        self._read += got
        time_s = time.monotonic() if self.arrival else self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        self.time_s = time_s if math.isfinite(time_s) else None
        return got

    def image(self) -> Image | None:
        try:
            got, image = self._capture.retrieve()
            if not got or image is None or image.size == 0 or image.dtype != np.uint8:
                return None
            if image.ndim == 2 or image.shape[2] == 1:
                image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        except cv2.error:
            return None
        if image.shape[2] != 3:
            return None
        if not self._file:
            return np.asarray(image, dtype=np.uint8)
        self._black += not image.any()
        sample = image[:: 1 + len(image) // 64, :: 1 + image.shape[1] // 64].copy()
        self._first = sample if self._first is None else self._first
        self._alike += np.array_equal(sample, self._first)
        across, down = (
            property_of(self._capture, prop) or 1.0 for prop in (cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN)
        )
        return to_square_pixels(np.asarray(image, dtype=np.uint8), across / down)

    def close(self) -> None:
        self._capture.release()

    def check_end(self) -> str:
        """OpenCV reports success for frames that it cannot decode, and for streams that hold no video."""
        if self._read == 1 and (self._count or 1) > 1:
            raise SourceError(f"{self._file}: OpenCV reads one image of it only: is it music with a cover?", INSTALL)
        if self._black > self._read / 2:  # the others may hold what the memory held before
            raise SourceError(f"{self._file}: OpenCV reads {self._black} of {self._read} frames as black", INSTALL)
        if self._alike == self._read > 2:  # what it cannot convert stays what the memory held, which need not be black
            doubt = f"OpenCV reads all {self._read} frames alike: a still image, or a video that it cannot decode"
            return f"{doubt}; {INSTALL}"
        return ""


def open_file(path: Path, name: str) -> CaptureReader:
    """Open a video file.

    Raises:
        SourceError: it cannot be opened.
    """
    silence_opencv()
    with opencv_path(path) as text:
        capture = cv2.VideoCapture(text, ffmpeg_backend())
    if not capture.isOpened():
        capture.release()
        raise SourceError(
            f"{name}: not a video that OpenCV can read, or cut off before its first frame",
            f"copy it again, or run: {INSTALL}",
        )
    return CaptureReader(capture, name)


def open_address(address: str, timeout_s: float, *, arrival: bool = False) -> CaptureReader:
    """Open a network stream, or `pipe:N` for a file descriptor. The timeout is for the connection, and for each frame;
    with `arrival` frames are stamped with the time of their arrival.

    Raises:
        SourceError: it cannot be opened.
    """
    silence_opencv()
    limit = round(1000 * timeout_s)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
    capture = cv2.VideoCapture(address, ffmpeg_backend(), limits)
    if not capture.isOpened():
        capture.release()
        raise SourceError(
            f"{mask_address(address)}: cannot be opened",
            f"check the address, the name and password in it, and the network; or run: {INSTALL}",
        )
    return CaptureReader(capture, arrival=arrival)
