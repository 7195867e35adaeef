"""What decodes frames: the base of the readers by PyAV, by OpenCV and of image files."""

import abc
from collections.abc import Callable

import cv2
import numpy as np

from kpedge.core.geometry import Image

Notify = Callable[[str], None]  # called with one line for people, from any thread
MAX_RATE = 1000.0  # frames per second above which a declared rate is the unit of a clock instead (RTSP's is 90,000)
JOIN_ADVICE = "of joined recordings, convert each to the same codec and join them with FFmpeg, or read each by itself"


class Reader(abc.ABC):
    """Decodes the frames of a camera, file or stream in order; used by one thread at a time."""

    rate: float | None = None  # frames per second as declared; None if unknown
    declared_s: float | None = None  # duration that a file declares, seconds; None if unknown
    parts: int = 1  # files that were joined to one, of which the first is read
    codec: str = ""  # short name of the codec or pixel format; empty if unknown
    time_s: float | None = None  # time stamp of the current frame, seconds from any origin; None if it has none
    arrival: bool = False  # whether time stamps are the times of arrival, since the frames have none of their own
    name: str = ""  # file of the current frame, in a folder of images; empty otherwise
    unreadable: str = "it is damaged, or its codec is unknown"  # advice for a file of which no frame can be read

    @abc.abstractmethod
    def grab(self) -> bool:
        """Move to the next frame and wait for it; False if there is none."""

    @abc.abstractmethod
    def image(self) -> Image | None:
        """The current frame, uint8 (H, W, 3), blue-green-red, upright, of square pixels; None if it is broken."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release the device, file or connection; may be called more than once."""

    def interrupt(self) -> None:  # noqa: B027 (most cannot)
        """End a `grab` that waits in another thread, where that is possible."""

    def check_end(self) -> str:
        """Called after the last frame of a file: what is doubtful about its frames; empty for nothing.

        Raises:
            SourceError: a part of the file was not read.
        """
        return ""

    def describe(self, image: Image) -> str:
        """Size, rate and codec, for people: `640x480 at 30 fps, MJPG`."""
        height, width = image.shape[:2]
        at_rate = "" if self.rate is None else f" at {self.rate:.4g} fps"
        return f"{width}x{height}{at_rate}" + (f", {self.codec}" if self.codec else "")


def valid_rate(rate: float | None) -> float | None:
    """A declared rate, frames per second; None if it cannot be true."""
    return float(rate) if rate is not None and 0 < rate <= MAX_RATE else None


def to_square_pixels(image: Image, pixel_aspect: float) -> Image:
    """An image whose pixels are `pixel_aspect` times as wide as high, stretched along the shorter side of a pixel."""
    if pixel_aspect == 1 or not 0.1 < pixel_aspect < 10:  # a broken header declares anything
        return image
    height, width = image.shape[:2]
    size = (round(width * pixel_aspect), height) if pixel_aspect > 1 else (width, round(height / pixel_aspect))
    return np.asarray(cv2.resize(image, size), dtype=np.uint8)
