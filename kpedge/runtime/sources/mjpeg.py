"""MJPEG on standard input: pictures that another program pipes in."""

from __future__ import annotations

import io
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from kpedge.core.errors import ImageError, SourceError, UsageError
from kpedge.core.images import decode_image
from kpedge.runtime.sources.capture import describe
from kpedge.runtime.sources.jpegs import LIMIT, JpegSplitter
from kpedge.runtime.sources.live import CLOSE_S, Say
from kpedge.runtime.sources.source import Frame

CHUNK = 65536
AHEAD = 2
"""Pictures read ahead of whoever takes them; then the writer has to wait."""
EXAMPLE = "send JPEGs one after the other, for example: ffmpeg -i clip.mp4 -f mjpeg - | kpedge webcam -"
LABEL = "standard input"


class PipedPictures:
    """JPEGs one after the other in a stream of bytes.

    A thread reads them. Every picture is given, and the writer waits when nobody takes them; with `realtime` the
    newest is kept, and the writer never waits. What is between them, and pictures that are broken, is left out.

    Args:
        stream: where the bytes come from.
        rate: frames a second, for the time stamps; None takes the time at which each picture came.
        realtime: keep the newest only.
        say: tells the user of broken pictures, once.
        limit: bytes after which a picture that does not end is given up.

    Raises:
        UsageError: the stream is a keyboard.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        rate: float | None = None,
        realtime: bool = False,
        say: Say,
        limit: int = LIMIT,
    ) -> None:
        if stream.isatty():
            raise UsageError(f"{LABEL} is a keyboard, not a stream of pictures", EXAMPLE)
        self.name, self.live, self._rate = "-", realtime, rate
        self._stream, self._say, self._limit = stream, say, limit
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, float, bytes]] = deque()
        self._closed = self._ended = self._told_broken = False
        self._error: SourceError | None = None
        self._given, self._first_s = 0, 0.0
        self._description = "MJPG"
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="kpedge standard input", daemon=True)
        self._thread.start()

    @property
    def rate(self) -> float | None:
        """What was said of it; the stream does not tell."""
        return self._rate

    @property
    def description(self) -> str:
        """The size of the last picture."""
        return self._description

    def __iter__(self) -> Iterator[Frame]:
        """Pictures in order.

        Raises:
            SourceError: the stream cannot be read, or there is no picture in it.
        """
        while (found := self._take()) is not None:
            number, time_s, data = found
            began = time.perf_counter()
            try:
                image = decode_image(data, LABEL)
            except ImageError:
                self._tell_broken()
                continue
            self._given += 1
            self._description = describe(image, self._rate, "MJPG")
            yield Frame(image, number, time_s, decode_s=time.perf_counter() - began)
        if not (self._given or self._closed):
            raise SourceError(f"{LABEL}: none of the pictures in it can be decoded", EXAMPLE)

    def close(self) -> None:
        """Stop reading; the stream itself stays open."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        try:
            self._wake.send(b"x")
        except OSError:  # the thread has ended
            return
        if self._thread is not threading.current_thread():
            self._thread.join(CLOSE_S)

    def _take(self) -> tuple[int, float, bytes] | None:
        with self._changed:
            while not (self._waiting or self._closed or self._ended):
                self._changed.wait()
            if self._closed:
                return None
            if self._waiting:
                found = self._waiting.popleft()
                self._changed.notify_all()
                return found
            if self._error is not None:
                raise self._error
            return None

    def _put(self, number: int, data: bytes) -> bool:
        """Hand a picture over; False when nobody wants one."""
        now_s = time.monotonic()
        with self._changed:
            if not number:
                self._first_s = now_s
            if self.live:
                self._waiting.clear()
            while len(self._waiting) >= AHEAD and not self._closed:
                self._changed.wait()
            time_s = number / self._rate if self._rate else now_s - self._first_s
            self._waiting.append((number, time_s, data))
            self._changed.notify_all()
            return not self._closed

    def _tell_broken(self) -> None:
        with self._changed:
            tell, self._told_broken = not self._told_broken, True
        if tell:
            self._say(f"{LABEL}: a broken picture was left out; further ones are not told of")

    def _run(self) -> None:
        error: SourceError | None = SourceError(f"{LABEL}: reading it failed for an unknown reason")
        try:
            error = self._read_all()
        finally:
            with self._changed:
                self._ended, self._error = True, error
                self._changed.notify_all()
            self._wake.close()
            self._woken.close()

    def _read_all(self) -> SourceError | None:
        """Read to the end; what is wrong with the stream."""
        splitter, number, received = JpegSplitter(self._limit), 0, 0
        try:
            while data := self._read_some():
                received += len(data)
                for jpeg in splitter.feed(data):
                    if not self._put(number, jpeg):
                        return None
                    number += 1
                if splitter.broken:
                    self._tell_broken()
        except OSError as problem:
            return SourceError(f"{LABEL}: cannot be read: {problem.strerror}")
        for jpeg in splitter.finish():
            self._put(number, jpeg)
            number += 1
        if not number and not self._closed:
            what = f"no JPEG in the {received} bytes that came" if received else "it is empty"
            return SourceError(f"{LABEL}: {what}", EXAMPLE)
        if splitter.broken:
            self._tell_broken()
        return None

    def _read_some(self) -> bytes:
        """What is there, or comes next; nothing at the end, or when the source was closed."""
        try:
            handle = self._stream.fileno()
        except io.UnsupportedOperation:
            return b"" if self._closed else self._stream.read(CHUNK)
        if os.name == "posix":  # elsewhere a pipe cannot be waited for: the thread ends with the next bytes
            select.select([handle, self._woken.fileno()], [], [])
        return b"" if self._closed else os.read(handle, CHUNK)
