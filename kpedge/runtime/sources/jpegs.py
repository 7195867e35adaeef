"""Finding the pictures in a stream of JPEGs."""

from __future__ import annotations

import re

LIMIT = 64 * 2**20
"""Bytes after which a picture that does not end is given up."""
BEGIN = b"\xff\xd8\xff"
"""Start of image, and the first byte of the marker that has to follow it."""
NEXT_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""In entropy-coded data: a marker other than the stuffed zero, fill bytes and restarts (ITU T.81, section B.1.1)."""
FIRST, START, END, SCAN = 0xC0, 0xD8, 0xD9, 0xDA
"""Codes of markers; those below the first are reserved, but for 0x01."""
LONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a length."""


class JpegSplitter:
    """Cuts a stream of bytes into JPEGs.

    The markers of each picture are followed one by one, so a thumbnail inside a picture, a text between two, such as
    the headers of a multipart stream, and a picture that breaks off do no harm to the next.

    Args:
        limit: bytes after which a picture that does not end is given up; the memory used is a little more.

    Attributes:
        broken: how many pictures broke off or made no sense, so far.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.broken = 0
        self._limit = limit
        self._buffer = bytearray()
        self._inside = False
        self._at = 0  # where the next marker is looked for
        self._restart = 0  # where to look for another picture if this one is broken
        self._scanning = self._scanned = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; the pictures that they complete."""
        self._buffer += data
        whole: list[bytes] = []
        self._cut(whole)
        if len(self._buffer) > self._limit:
            self._give_up(len(self._buffer))
        return whole

    def finish(self) -> list[bytes]:
        """The stream has ended: a picture that it broke off counts as broken; what was taken for a part of it."""
        whole: list[bytes] = []
        while self._inside:
            self._give_up(self._restart)
            self._cut(whole)
        return whole

    def _cut(self, whole: list[bytes]) -> None:
        while self._find() if not self._inside else self._scan() if self._scanning else self._segment(whole):
            pass

    def _find(self) -> bool:
        """Go to the next picture."""
        start = self._buffer.find(BEGIN)
        if start < 0:
            del self._buffer[: -len(BEGIN) + 1]
            return False
        del self._buffer[:start]
        self._inside, self._scanning, self._scanned = True, False, False
        self._at = self._restart = 2
        return True

    def _segment(self, whole: list[bytes]) -> bool:
        """Follow one marker."""
        buffer, at = self._buffer, self._at
        if at + 2 > len(buffer):
            return False
        marker = buffer[at + 1]
        if buffer[at] != 0xFF or (marker < FIRST and marker not in LONE):
            return self._give_up(self._restart)
        if marker == 0xFF:  # fill bytes may precede a marker
            self._at += 1
            return True
        if marker == START:
            return self._give_up(at)
        if marker == END:
            if not self._scanned:
                return self._give_up(at)
            whole.append(bytes(buffer[: at + 2]))
            del buffer[: at + 2]
            self._inside = False
            return True
        if marker in LONE:
            self._at += 2
            return True
        if at + 4 > len(buffer):
            return False
        length = int.from_bytes(buffer[at + 2 : at + 4], "big")
        if length < 2:
            return self._give_up(at + 2)
        if at + 2 + length > len(buffer):
            return False
        self._restart, self._at = at + 2, at + 2 + length
        if marker == SCAN:
            self._scanning = self._scanned = True
        return True

    def _scan(self) -> bool:
        """Go over entropy-coded data."""
        found = NEXT_MARKER.search(self._buffer, self._at)
        if found is None:
            self._at = max(self._at, len(self._buffer) - 1)
            return False
        self._at, self._scanning = found.start(), False
        return True

    def _give_up(self, restart: int) -> bool:
        """Drop the picture, and look for the next from a place in the buffer on."""
        self.broken += self._inside
        del self._buffer[:restart]
        self._inside = False
        return True
