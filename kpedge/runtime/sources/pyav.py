"""Frames of files, network streams and pipes by PyAV (FFmpeg), the extra `video`."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from kpedge.core.errors import SourceError, UsageError
from kpedge.core.geometry import Image
from kpedge.runtime.sources.addresses import mask_address
from kpedge.runtime.sources.reader import JOIN_ADVICE, Notify, Reader, to_square_pixels, valid_rate

UNDECODABLE = 1000  # packets in a row that may fail before a file counts as broken to its end
EMPTY = 24  # packets in a row without a frame that no codec's delay explains
COVER_ONLY = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
"""Streams that hold images about the content."""
REPLACING: dict[str, Any] = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}
"""For `av.open`: titles need not be UTF-8. PyAV 19 has no such option: it keeps their bytes."""
UNREADABLE = (av.FFmpegError, OSError, ValueError, IndexError)  # what opening a damaged file may raise


class AvReader(Reader):
    """Frames of one video stream of a container, in square pixels and upright.

    Args:
        container: as `av.open` returns it; closed with the reader.
        name: what the user called it, without passwords.
        stream: which of several video streams, from 0; None takes the default one, or else the largest.
        notify: called with a line if there are several.
        live: decode without delay.
        arrival: stamp frames with the time of their arrival.
        file: where the container reads from, if that is a Python object; closed with the reader.

    Raises:
        UsageError: there is no stream of that number.
        SourceError: there is no video in it, or its codec is unknown.
    """

    def __init__(
        self,
        container: Any,
        name: str,
        *,
        stream: int | None = None,
        notify: Notify,
        live: bool = False,
        arrival: bool = False,
        file: Any = None,
    ) -> None:
        self._container, self._name, self._file, self.arrival = container, name, file, arrival
        self._frames: Iterator[Any] = iter(())
        self._frame: Any = None
        self._rotation, self._orientation = math.nan, (False, 1, 1)
        self._failed = self._empty = self._most_empty = 0
        try:
            self._stream = choose_stream(container, name, stream, notify)
        except BaseException:
            self.close()
            raise
        context = self._stream.codec_context
        if not live:
            self._stream.thread_type = "AUTO"
            context.thread_count = min(4, os.cpu_count() or 1)
        if context.name == "mjpeg":
            context.options = {"err_detect": "explode"}  # half an image counts as broken
        self.codec = context.name
        if not (arrival or (live and context.name == "mjpeg")):  # JPEGs have no rate: FFmpeg makes one up
            self.rate = valid_rate(self._stream.guessed_rate) or valid_rate(self._stream.average_rate)
        self.declared_s = _declared_duration(self._stream)
        aspect = self._stream.sample_aspect_ratio or context.sample_aspect_ratio
        self._pixel_aspect = float(aspect) if aspect else 1.0
        self._frames = self._decode()

    def grab(self) -> bool:
        self._frame = None
        if self._failed >= UNDECODABLE:
            return False
        try:
            self._frame = next(self._frames)
        except StopIteration:
            return False
        except av.error.InvalidDataError:  # of the container; reading continues after it
            self._frames = self._decode()
        except (av.FFmpegError, OSError):
            return False
        if self._frame is None:
            self._failed += 1
            return True
        self._failed, self.time_s = 0, time.monotonic() if self.arrival else self._frame.time
        return True

    def _decode(self) -> Iterator[Any]:
        """Frames, and None for each packet that cannot be decoded."""
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                frames = [None]
            if self.time_s is not None:  # before the first frame, the decoder fills its delay
                self._empty = 0 if frames and frames[0] else self._empty + 1
                self._most_empty = max(self._most_empty, self._empty)
            yield from frames

    def check_end(self) -> str:
        if self._most_empty >= EMPTY:
            what = f"a part of it was not read: {self._most_empty} packets in a row gave no frame"
            raise SourceError(f"{self._name}: {what}: damaged, or in another codec than {self.codec}", JOIN_ADVICE)
        return ""

    def image(self) -> Image | None:
        if self._frame is None:
            return None
        try:
            image = np.asarray(self._frame.to_ndarray(format="bgr24"), dtype=np.uint8)
        except (av.FFmpegError, ValueError):
            return None
        image = to_square_pixels(image, self._pixel_aspect)
        if self._frame.rotation != self._rotation:
            self._rotation, self._orientation = self._frame.rotation, _orientation(self._frame)
        transposed, across, down = self._orientation
        if self._orientation == (False, 1, 1):
            return image
        return np.ascontiguousarray((image.swapaxes(0, 1) if transposed else image)[::down, ::across])

    def interrupt(self) -> None:
        """End a read that waits, where it waits for a Python object."""
        if hasattr(self._file, "interrupt"):
            self._file.interrupt()

    def close(self) -> None:
        self._frames, self._frame = iter(()), None
        self._container.close()
        if self._file is not None:
            self._file.close()


def _orientation(frame: Any) -> tuple[bool, int, int]:
    """How a stored frame becomes upright, by its display matrix (ISO/IEC 14496-12, 6.2.2): whether rows and columns are
    swapped, then the steps along x and y, -1 where it is mirrored.
    """
    entry = frame.side_data.get("DISPLAYMATRIX")
    if entry is None:
        return False, 1, 1
    a, b, _, c, d = np.frombuffer(bytes(entry), np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, -1 if c < 0 else 1, -1 if b < 0 else 1
    return False, -1 if a < 0 else 1, -1 if d < 0 else 1


def choose_stream(container: Any, name: str, number: int | None, notify: Notify) -> Any:
    """The video stream to read: by its number among them, or the default one, or the largest.

    Raises:
        UsageError: there is no stream of that number.
        SourceError: there is no video, or its codec is unknown.
    """
    streams = [one for one in container.streams.video if not one.disposition & COVER_ONLY]
    if not streams:
        only = "a cover image" if container.streams.video else "sound" if container.streams.audio else "other data"
        raise SourceError(f"{name}: no video in it, only {only}")
    streams = [one for one in streams if one.codec_context is not None]
    if not streams:
        raise SourceError(f"{name}: its codec is unknown to this FFmpeg", "convert it to H.264 in MP4")
    sizes = [f"{place} ({one.width}x{one.height})" for place, one in enumerate(streams)]
    if number is None:
        default = av.stream.Disposition.default
        best = max(streams, key=lambda one: (bool(one.disposition & default), (one.width or 0) * (one.height or 0)))
        if len(streams) > 1:
            notify(
                f"{name}: reading video stream {streams.index(best)} of {', '.join(sizes)}; --stream chooses another"
            )
    elif 0 <= number < len(streams):
        best = streams[number]
    else:
        raise UsageError(f"{name}: there is no video stream {number}", f"it has: {', '.join(sizes)}")
    return best


def _declared_duration(stream: Any) -> float | None:
    """Seconds of video that the file says it holds."""
    if stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")  # Matroska, as FFmpeg writes it: where it ends
    minutes, _, seconds = rest.partition(":")
    try:
        start_s = float((stream.start_time or 0) * stream.time_base)
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds) - start_s
    except ValueError:
        return None


class _Unnamed:
    """A file without its name: FFmpeg chooses no format by it, opens nothing else, and takes no bytes of it amiss."""

    def __init__(self, file: Any) -> None:
        self.read, self.seek, self.tell, self.close = file.read, file.seek, file.tell, file.close


def _open_nothing(url: str, *_: Any) -> Any:
    """Playlists and lists of parts name other files and addresses."""
    raise OSError(f"{url}: not opened")


def open_file(path: Path, name: str, stream: int | None, notify: Notify) -> AvReader:
    """Open a video file."""
    return open_stream(_Unnamed(path.open("rb")), name, stream=stream, notify=notify)


def open_stream(
    file: Any, name: str, *, stream: int | None = None, notify: Notify, live: bool = False, jpegs: bool = False
) -> AvReader:
    """Open a Python object with the method `read`, and `seek` and `tell` if it can; it is closed with the reader, or
    when it cannot be opened. A `live` one is decoded without delay, a stream of JPEGs read without looking ahead.

    Raises:
        UsageError: there is no stream of that number.
        SourceError: it is no video, or cannot be read.
    """
    kind, options = ("mjpeg", {"probesize": "32"}) if jpegs else (None, {})
    try:
        container = av.open(file, "r", kind, options=options, io_open=_open_nothing, **REPLACING)
    except UNREADABLE as error:
        file.close()
        raise SourceError(
            f"{name}: not a video, damaged, or cut off before its first frame", "copy it again, or convert it to MP4"
        ) from error
    return AvReader(container, name, stream=stream, notify=notify, live=live, arrival=jpegs, file=file)


def open_address(address: str, timeout_s: float, notify: Notify) -> AvReader:
    """Open a network stream, or a video on a server, with name and password in its address if needed. The timeout is
    for the connection, and for each frame.

    Raises:
        SourceError: it cannot be opened.
    """
    name = mask_address(address)
    options = {"fpsprobesize": "0", "rtsp_flags": "prefer_tcp"}
    try:
        container = av.open(address, options=options, timeout=timeout_s, **REPLACING)
    except av.error.HTTPError as error:
        raise SourceError(f"{name}: {error.strerror}", "check the address, and the name and password in it") from None
    except UNREADABLE as error:
        reason = "no answer" if isinstance(error, av.error.ExitError) else getattr(error, "strerror", "") or "no video"
        raise SourceError(f"{name}: cannot be opened: {reason}", "check the address and the network") from None
    return AvReader(container, name, notify=notify, live=container.duration is None)
