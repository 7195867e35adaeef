"""Video files being written: by PyAV where it is installed, else by OpenCV."""

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import cv2

from kpedge.core.animation import opencv_path
from kpedge.core.extras import pip_line
from kpedge.core.geometry import Image
from kpedge.core.silence import dropped, silence_opencv
from kpedge.runtime.sources.video import has_pyav

FORMATS: dict[str, tuple[str, str, str]] = {
    ".mp4": ("mp4", "libx264", "mp4v"),
    ".mkv": ("matroska", "libx264", "mp4v"),
    ".avi": ("avi", "mjpeg", "MJPG"),
    ".webm": ("webm", "libvpx", "VP80"),
}
"""Ending of a file name: its container, and its codec by PyAV and by OpenCV. Browsers play all but `.avi`."""
OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "crf": "23"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "12"},
    "mjpeg": {"q:v": "3", "qmin": "3", "qmax": "3"},
    "mp4": {"movflags": "hybrid_fragmented+default_base_moof"},
}
"""Options of encoders and containers. A fragmented MP4 plays up to where it was cut off."""
BITRATE = 4_000_000  # bits per second at which VP8 is bounded


class Writer(Protocol):
    """Encodes frames into a file."""

    written: int  # frames in the file

    def write(self, image: Image, tick: int) -> None:
        """Add a frame, shown from `tick` / rate seconds on; ticks rise."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


def open_writer(file: BinaryIO, path: Path, rate: float, size: tuple[int, int]) -> Writer:
    """Start a video in an empty file, open for reading and writing; its ending chooses container and codec."""
    return AvWriter(file, path, rate, size) if has_pyav() else CaptureWriter(path, rate, size)


class AvWriter:
    """Encodes by PyAV; a frame that is shown for longer is written once."""

    def __init__(self, file: BinaryIO, path: Path, rate: float, size: tuple[int, int]) -> None:
        import av

        container, codec, _ = FORMATS[path.suffix.lower()]
        if codec not in av.codecs_available:  # a build without x264
            codec = "mpeg4"
        self._av: Any = av
        self._container: Any = av.open(file, "w", container, options=OPTIONS.get(container, {}))
        fraction = Fraction(rate).limit_denominator(1000)
        self._stream: Any = self._container.add_stream(codec, rate=fraction, options=OPTIONS.get(codec, {}))
        self._odd = size[0] % 2, size[1] % 2
        stream: Any = self._stream
        stream.width, stream.height = size[0] + self._odd[0], size[1] + self._odd[1]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        context = stream.codec_context
        context.time_base, context.gop_size, context.thread_count = 1 / fraction, max(1, round(rate)), 1
        if codec in ("libvpx", "mpeg4"):
            context.bit_rate = BITRATE
        self.written = 0

    def write(self, image: Image, tick: int) -> None:
        """Encode a frame."""
        if any(self._odd):  # the codecs halve the colours
            image = cv2.copyMakeBorder(image, 0, self._odd[1], 0, self._odd[0], cv2.BORDER_REPLICATE)  # type: ignore[assignment]
        frame = self._av.VideoFrame.from_ndarray(image, format="bgr24")
        frame.pts, frame.time_base = tick, self._stream.codec_context.time_base
        self._container.mux(self._stream.encode(frame))
        self.written += 1

    def close(self) -> None:
        try:
            if self.written:
                self._container.mux(self._stream.encode())
        finally:
            self._container.close()


class CaptureWriter:
    """Encodes by OpenCV, at a constant rate: a frame that is shown for longer is repeated.

    OpenCV reports no errors: count the frames of the finished file.
    """

    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        silence_opencv()
        codec = cv2.VideoWriter.fourcc(*FORMATS[path.suffix.lower()][2])
        # OpenCV complains, at any log level, that WebM has no four-character codes, and continues.
        quiet = dropped(2) if path.suffix.lower() == ".webm" else contextlib.nullcontext()
        with quiet, opencv_path(path) as text:
            self._writer = cv2.VideoWriter(text, cv2.CAP_FFMPEG, codec, rate, size)
        if not self._writer.isOpened():
            raise ValueError(f"OpenCV cannot record {size[0]}x{size[1]} as {path.suffix}; {pip_line('video')} may")
        self.written = 0
        self._last: Image | None = None

    def write(self, image: Image, tick: int) -> None:
        """Repeat the last frame up to `tick`, then add this one."""
        while self._last is not None and self.written < tick:
            self._writer.write(self._last)
            self.written += 1
        self._writer.write(image)
        self.written += 1
        self._last = image

    def close(self) -> None:
        self._writer.release()


def count_frames(path: Path) -> int:
    """How many frames of a finished file can be read."""
    if has_pyav():
        import av

        try:
            container: Any
            with path.open("rb") as file, av.open(file) as container:
                return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
        except (av.FFmpegError, OSError, IndexError):
            return 0
    with opencv_path(path) as text:
        video, count = cv2.VideoCapture(text, cv2.CAP_FFMPEG), 0
    while video.grab():
        count += 1
    video.release()
    return count
