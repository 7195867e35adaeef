"""What is asked of a capture object of OpenCV, and how OpenCV is kept quiet."""

from __future__ import annotations

import math
import os
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np

from kpedge.core.geometry import Image

MAX_RATE = 1000.0
"""Frames a second beyond which a rate is a clock's unit that was taken for one (RTSP's is 90,000)."""


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that sources use."""

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        """Whether there is something to read from."""
        ...

    def grab(self) -> bool:
        """Move to the next frame, and wait for it; False when there is none."""
        ...

    def retrieve(self) -> tuple[bool, Any]:
        """Decode the frame that was grabbed."""
        ...

    def get(self, prop: int, /) -> float:
        """A property; 0 or less where it is not known."""
        ...

    def set(self, prop: int, value: float, /) -> bool:
        """Ask for a property."""
        ...

    def release(self) -> None:
        """Let go of the device, file or connection."""
        ...


@runtime_checkable
class Interruptible(Capture, Protocol):
    """A capture whose `grab` can be ended by another thread."""

    def interrupt(self) -> None:
        """Make a `grab` that waits return False."""
        ...


def quieten() -> None:
    """Keep OpenCV and FFmpeg from writing to standard error: kpedge tells what went wrong, once.

    `OPENCV_LOG_LEVEL` and `OPENCV_FFMPEG_LOGLEVEL` in the environment have precedence. FFmpeg's level counts from the
    first video that the process opens.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "OPENCV_LOG_LEVEL" not in os.environ:
        logging: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 has moved it there
        logging.setLogLevel(0)


def stream_backend() -> int:
    """The OpenCV backend for files and addresses: FFmpeg where this OpenCV has it.

    Left to choose, OpenCV would go on to others after FFmpeg, and one of them takes `clip001.mp4` for a series of
    pictures.
    """
    return cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in cv2.videoio_registry.getStreamBackends() else cv2.CAP_ANY


def decode(capture: Capture) -> Image | None:
    """The frame that was grabbed, uint8 (H, W, 3), blue-green-red; None when it is broken."""
    try:
        got, image = capture.retrieve()
        if not got or image is None or image.size == 0 or image.dtype != np.uint8:
            return None
        if image.ndim == 2 or image.shape[2] == 1:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    except cv2.error:
        return None
    return np.asarray(image, dtype=np.uint8) if image.shape[2] == 3 else None


def known_rate(capture: Capture) -> float | None:
    """Frames a second, where the capture says something that can be true."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return float(rate) if math.isfinite(rate) and 0 < rate <= MAX_RATE else None


def known_count(capture: Capture) -> int | None:
    """How many frames there are, where the capture says so; FFmpeg estimates it for some kinds of file."""
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return round(count) if math.isfinite(count) and 0 < count < 2**53 else None


def pixel_format(capture: Capture) -> str:
    """The four characters of the pixel format or codec, such as `MJPG`; empty where the capture does not say."""
    value = capture.get(cv2.CAP_PROP_FOURCC)
    if not math.isfinite(value) or not 0 < value < 2**32:
        return ""
    text = int(value).to_bytes(4, "little").decode("latin-1").rstrip(" \0")
    return text if text.isascii() and text.isprintable() else ""


def describe(image: Image, rate: float | None, kind: str = "") -> str:
    """A frame's size, the rate and the format, for people: `640x480 at 30 frames a second, MJPG`."""
    height, width = image.shape[:2]
    at_rate = "" if rate is None else f" at {rate:.4g} frames a second"
    return f"{width}x{height}{at_rate}" + (f", {kind}" if kind else "")
