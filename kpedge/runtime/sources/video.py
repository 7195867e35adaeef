"""Video files: by PyAV where it is installed, else by OpenCV."""

import re
from pathlib import Path

from kpedge.core.errors import SourceError, UsageError
from kpedge.core.extras import installed, pip_line
from kpedge.core.files import read_bytes
from kpedge.runtime.sources.paced import PacedSource
from kpedge.runtime.sources.reader import Reader
from kpedge.runtime.sources.source import Source, SourceKind, SourceRequest


def has_pyav() -> bool:
    """Whether the extra `video` is installed."""
    return installed("av")


def _open(request: SourceRequest) -> Source:
    """The frames of a file."""
    path, name = request.path, request.name
    head = read_bytes(path, SourceError, "no such video", limit=4096)
    if not head:
        raise SourceError(f"{name}: the file is empty")
    # FFmpeg plays any text as an animation.
    if not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head):
        raise SourceError(f"{name}: a text, not a video", "give a video, or a folder of images")
    reader: Reader
    if has_pyav():
        from kpedge.runtime.sources import pyav

        reader = pyav.open_file(path, name, request.stream, request.notify)
    elif request.stream is not None:
        raise UsageError(f"{name}: without PyAV no stream can be chosen", f"run: {pip_line('video')}")
    else:
        from kpedge.runtime.sources import opencv

        reader = opencv.open_file(path, name)
    reader.parts = _count_files(path)
    return PacedSource(name, reader, realtime=request.realtime, notify=request.notify)


def _count_files(path: Path) -> int:
    """How many MP4 or MOV files a file holds, by its boxes (ISO/IEC 14496-12, 4.2); 1 for other kinds."""
    count, end = 0, path.stat().st_size
    with path.open("rb") as file:
        while (start := file.tell()) < end:
            size, kind = int.from_bytes(file.read(4), "big"), file.read(4)
            size = int.from_bytes(file.read(8), "big") if size == 1 else size
            count += kind == b"moov"
            if size < 8 or not kind.isalnum():  # to the end of the file, or another kind of file
                break
            file.seek(start + size)
    return max(count, 1)


VIDEO = SourceKind(
    "a video file",
    "a file",
    "a video, every frame in order, upright and with square pixels; `--realtime` plays it at its own speed and drops "
    "frames that come too late; `--stream` chooses one of several video streams",
    frozenset({"stream", "realtime"}),
    lambda request: request.path.exists(),
    _open,
)
