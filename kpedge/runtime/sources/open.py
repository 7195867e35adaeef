"""Open a source of frames from what the user writes."""

import math
import re
import stat
from pathlib import Path
from typing import Any

from kpedge.core.errors import SourceError, UsageError
from kpedge.core.files import nearest_file
from kpedge.core.text import quote
from kpedge.runtime.sources.camera import CAMERA, CameraSystem
from kpedge.runtime.sources.devices import format_cameras
from kpedge.runtime.sources.folder import FOLDER
from kpedge.runtime.sources.gstreamer import GSTREAMER
from kpedge.runtime.sources.picamera import PICAMERA
from kpedge.runtime.sources.pipe import PIPE
from kpedge.runtime.sources.screen import SCREEN
from kpedge.runtime.sources.snapshot import SNAPSHOT
from kpedge.runtime.sources.source import Source, SourceKind, SourceRequest
from kpedge.runtime.sources.stream import STREAM
from kpedge.runtime.sources.video import VIDEO

KINDS: tuple[SourceKind, ...] = (
    *(PIPE, GSTREAMER, SNAPSHOT, STREAM),
    *(PICAMERA, SCREEN, CAMERA),
    *(FOLDER, VIDEO),
)
"""Kinds of sources, in the order in which they are tried."""
FILE = re.compile(r"[/\\]|\.\w{2,5}$")  # what a camera's name does not have
MAX_SIDE, MAX_RATE = 16384, 1000.0


def open_source(text: str, **options: Any) -> Source:
    """Open a camera, file, folder, stream or pipe, with fields of `SourceRequest` as options: the first of `KINDS` that
    matches what the user wrote. Close it when done.

    Raises:
        UsageError: an option that this source does not have, or a name that fits several cameras.
        SourceError: it cannot be opened.
    """
    request = SourceRequest(text, **options)
    _check_options(request)
    try:
        kind = next((kind for kind in KINDS if kind.matches(request)), None)
        if kind is None and FILE.search(text):
            raise SourceError(f"{text}: no such file", nearest_file(request.path))
        if kind is None:
            cameras = (request.cameras or CameraSystem()).list_cameras()
            raise SourceError(
                f"{text!r}: no such file or folder, and no camera with this in its name", format_cameras(cameras)
            )
        if kind in (FOLDER, VIDEO):
            _check_regular(request.path, text)
    except (OSError, RuntimeError) as error:  # no permission, a name that is too long, a loop of links
        raise SourceError(f"{text}: cannot be read: {getattr(error, 'strerror', error)}") from error
    for option in ("size", "rate", "pixel_format", "stream"):
        if getattr(request, option) is not None and option not in kind.options:
            able = ", ".join(other.name for other in KINDS if option in other.options)
            flag = option.replace("_", "-")
            raise UsageError(f"{request.name}: --{flag} is not for {kind.name}", f"it is for: {able}")
    return kind.open(request)


def _check_options(request: SourceRequest) -> None:
    size, rate, pixel_format = request.size, request.rate, request.pixel_format
    if not request.text.strip():
        raise UsageError("the source is empty", "name a camera, a file, a folder or an address")
    if size is not None and not all(0 < side <= MAX_SIDE for side in size):
        raise UsageError(f"a size is a width and a height from 1 to {MAX_SIDE} pixels, not {size[0]}x{size[1]}")
    if rate is not None and not (math.isfinite(rate) and 0 < rate <= MAX_RATE):
        raise UsageError(f"a rate is above 0 and at most {MAX_RATE:g} frames per second, not {rate}")
    if pixel_format is not None and not (len(pixel_format) == 4 and pixel_format.isascii()):
        raise UsageError(f"a pixel format is four characters, such as MJPG or YUYV, not {pixel_format!r}")


def _check_regular(path: Path, text: str) -> None:
    """Stop before a device or a pipe is read as a file, which may never end."""
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode):
        command = f"kpedge webcam - < {quote(text)}"
        raise SourceError(f"{text}: a pipe, not a file", f"send it to standard input: {command}")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise SourceError(f"{text}: a device, not a file", "name a camera, a file, a folder or an address")
