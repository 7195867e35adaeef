"""Whether a video file is whole: its own structure says how long it ought to be.

The number of frames does not tell. OpenCV counts them from the duration where the file does not (Matroska), so that a
whole file may have a few less than promised, or half of them where its rate varies.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from kpedge.core.errors import SourceError
from kpedge.core.files import read_bytes
from kpedge.core.images import is_cut_off

ISO_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
"""With one of these an MP4 or QuickTime file begins (ISO/IEC 14496-12, section 4.2; QuickTime File Format)."""
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
"""Identifiers of the two elements that a Matroska or WebM file is made of (RFC 8794, RFC 9559)."""


def file_is_cut_off(path: Path) -> bool | None:
    """Whether a video file ends before it says it does.

    Returns:
        None for a file that does not say: another kind than MP4, QuickTime, Matroska, WebM, AVI and GIF, or one that
        was written without knowing how long it would become.

    Raises:
        SourceError: it cannot be read.
    """
    head = read_bytes(path, SourceError, "no such video", limit=12)
    if head.startswith(b"GIF8"):
        return is_cut_off(read_bytes(path, SourceError, "no such video"))
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            if head[4:8] in ISO_BOXES:
                return _boxes_are_cut_off(stream, size)
            if head.startswith(EBML):
                return _matroska_is_cut_off(stream, size)
            if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
                return _riff_is_cut_off(stream, size)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    return None


def counts_its_frames(path: Path) -> bool:
    """Whether the number of frames that OpenCV gives for a file is written in the file, not estimated."""
    head = read_bytes(path, SourceError, "no such video", limit=12)
    return head[4:8] in ISO_BOXES or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")


def _boxes_are_cut_off(stream: BinaryIO, size: int) -> bool:
    """Boxes follow each other up to the end, and one of them is the index."""
    at, index = 0, False
    while at + 8 <= size:
        stream.seek(at)
        head = stream.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        index = index or kind == b"moov"
        if length == 0:  # up to the end of the file
            break
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # no box: what another program left behind the last one
            break
        at += length
    return at > size or not index


def _matroska_is_cut_off(stream: BinaryIO, size: int) -> bool | None:
    """A header, then one segment that holds everything."""
    end: int | None = 0
    for identifier in (EBML, SEGMENT):
        if end is None or end > size:
            break
        stream.seek(end)
        if stream.read(len(identifier)) != identifier:
            return True
        end = _element_end(stream)
    return None if end is None else end > size


def _element_end(stream: BinaryIO) -> int | None:
    """Where an element ends whose length comes next; None when its writer did not know (RFC 8794, section 6)."""
    at, head = stream.tell(), stream.read(8)
    width = 9 - head[0].bit_length() if head else 1
    unknown = (1 << 7 * width) - 1
    length = int.from_bytes(head[:width], "big") & unknown
    return None if length == unknown else at + width + length


def _riff_is_cut_off(stream: BinaryIO, size: int) -> bool | None:
    """One RIFF, or several of them in a file beyond 1 GB."""
    at = 0
    while at + 12 <= size:
        stream.seek(at)
        head = stream.read(8)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF":
            return False
        if not length:  # its writer never came back to fill it in
            return None
        at += 8 + length
    return at > size
