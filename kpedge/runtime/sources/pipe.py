"""A video or JPEGs that another program writes to standard input."""

import io
import os
import select
import socket
import sys
from typing import BinaryIO

from kpedge.core.errors import SourceError, UsageError
from kpedge.runtime.sources.live import LiveSource, RetryPolicy
from kpedge.runtime.sources.paced import PacedSource
from kpedge.runtime.sources.reader import Reader
from kpedge.runtime.sources.source import Source, SourceKind, SourceRequest
from kpedge.runtime.sources.video import has_pyav

NAME = "standard input"
JPEG = b"\xff\xd8"
PATIENCE_S = 1e6  # seconds to wait for another program's first frame
EXAMPLE = "send a video or JPEGs, for example: ffmpeg -i clip.mp4 -f mjpeg - | kpedge webcam -"


class PipeFile:
    """What PyAV reads a pipe from: bytes as they come, until it is interrupted."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._wake, self._woken = socket.socketpair()
        self._head = b""
        self._interrupted = False
        while len(self._head) < len(JPEG) and (data := self._read_some(1 << 16)):
            self._head += data

    def head(self) -> bytes:
        """The first bytes, two or more if there are any; they are read again."""
        return self._head

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, as soon as there are some; none at the end, or once interrupted."""
        if not self._head:
            return self._read_some(size)
        data, self._head = self._head[:size], self._head[size:]
        return data

    def _read_some(self, size: int) -> bytes:
        try:
            descriptor = self._stream.fileno()
        except io.UnsupportedOperation:
            return b"" if self._interrupted else self._stream.read(size)
        if os.name == "posix":  # elsewhere a pipe cannot be waited for: the read ends with the next bytes
            select.select([descriptor, self._woken.fileno()], [], [])
        return b"" if self._interrupted else os.read(descriptor, size)

    def interrupt(self) -> None:
        self._interrupted = True
        try:
            self._wake.send(b"x")
        except OSError:  # it is closed
            return

    def close(self) -> None:
        """The pipe itself stays open."""
        self._wake.close()
        self._woken.close()


def _open_reader(stream: BinaryIO, request: SourceRequest) -> Reader:
    if not has_pyav():
        from kpedge.runtime.sources import opencv

        return opencv.open_address(f"pipe:{stream.fileno()}", PATIENCE_S, arrival=True)
    from kpedge.runtime.sources import pyav

    file = PipeFile(stream)
    if not file.head():
        file.close()
        raise SourceError(f"{NAME}: it is empty", EXAMPLE)
    jpegs = file.head().startswith(JPEG)
    reader = pyav.open_stream(file, NAME, stream=request.stream, notify=request.notify, live=True, jpegs=jpegs)
    reader.unreadable = f"{reader.unreadable}; of an MP4 with its index at the end give the file itself"
    return reader


def _open(request: SourceRequest) -> Source:
    """Every frame in order, while the writer waits; with `realtime` the newest only, and the writer never waits."""
    stream = request.stdin or sys.stdin.buffer
    if stream.isatty():
        raise UsageError(f"{NAME} is a keyboard, not a video", EXAMPLE)
    if not request.realtime:
        return PacedSource("-", _open_reader(stream, request), rate=request.rate, notify=request.notify)
    return LiveSource(
        "-",
        lambda: _open_reader(stream, request),
        notify=request.notify,
        retry=RetryPolicy(open_s=PATIENCE_S),
        ends=True,
    )


PIPE = SourceKind(
    "standard input",
    "`-`",
    "a video, or JPEGs one after the other, from a pipe: `ffmpeg -i video.mp4 -f mjpeg - \\| kpedge webcam - --json`",
    frozenset({"rate", "realtime", "stream"}),
    lambda request: request.text == "-",
    _open,
)
