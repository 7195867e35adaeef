"""From what the user writes to a source of frames."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kpedge.core.errors import SourceError, UsageError
from kpedge.core.images import SUFFIXES
from kpedge.runtime.sources.addresses import SCHEMES, masked, scheme_of
from kpedge.runtime.sources.camera import CameraWish, Factory, open_camera, video_capture
from kpedge.runtime.sources.capture import Capture, known_count, quieten
from kpedge.runtime.sources.devices import DEV, SYS, find_camera, list_cameras, tell_cameras
from kpedge.runtime.sources.files import PictureFolder, VideoFile, VideoSource
from kpedge.runtime.sources.live import LiveSource, Patience, Say
from kpedge.runtime.sources.mjpeg import PipedPictures
from kpedge.runtime.sources.network import open_stream
from kpedge.runtime.sources.source import Source

STREAM_TRIES = 10
"""Tries to connect to a stream again, about a minute's worth, before it is given up."""
STREAM_ADVICE = "check the address in another player, and the network"
MAX_SIDE, MAX_RATE = 16384, 1000.0


def silent(text: str) -> None:
    """Tells nobody."""


def open_source(
    text: str,
    *,
    size: tuple[int, int] | None = None,
    rate: float | None = None,
    pixel_format: str | None = None,
    realtime: bool = False,
    say: Say = silent,
    patience: Patience | None = None,
    stdin: BinaryIO | None = None,
    camera_factory: Factory = video_capture,
    sys_folder: Path = SYS,
    dev_folder: Path = DEV,
) -> Source:
    """Open what frames are to come from.

    In this order: `-` is MJPEG on standard input; an address such as `rtsp://…` or `http://…` is a stream (a video of
    known length on a server is a video); digits are a camera's index; a path below /dev is a camera; a path that exists
    is a folder of pictures, a picture, a GIF or a video; anything else is a part of a camera's name.

    Args:
        text: what the user wrote.
        size: width and height to ask a camera for, pixels.
        rate: frames a second: to ask a camera for, or for the time stamps of pictures in a folder and on standard
            input. Other sources have their own.
        pixel_format: four characters to ask a camera for, such as `MJPG`.
        realtime: play files at the speed of their time stamps, and keep the newest frame only.
        say: called with one line for people when something happens that they should know of; from any thread.
        patience: how long to wait for cameras and streams.
        stdin: the process's own when None.
        camera_factory: opens a camera.
        sys_folder: folder in which Linux describes cameras.
        dev_folder: folder of their devices.

    Returns:
        A source; close it when done.

    Raises:
        UsageError: an option that this source does not have, or a name that fits several cameras.
        SourceError: it cannot be opened.
    """
    if not text.strip():
        raise UsageError("the source is empty", "name a camera, a file, a folder or an address")
    quieten()
    wish = _checked(size, rate, pixel_format)

    def refuse(kind: str, *, with_rate: bool) -> None:
        if size is not None or pixel_format is not None:
            raise UsageError(f"{masked(text)}: only a camera can be asked for a size or pixel format, not {kind}")
        if with_rate and rate is not None:
            raise UsageError(f"{masked(text)}: {kind} has a rate of its own", "leave the rate out")

    def camera(device: str) -> Source:
        return open_camera(
            device, wish, say=say, patience=patience, factory=camera_factory, sys=sys_folder, dev=dev_folder
        )

    if text == "-":
        refuse("standard input", with_rate=False)
        return PipedPictures(stdin or sys.stdin.buffer, rate=rate, realtime=realtime, say=say)
    if scheme_of(text):
        refuse("a stream", with_rate=True)
        return _open_address(text, realtime=realtime, say=say, patience=patience)
    path = Path(text)
    if text.isdecimal() or _is_device(path, dev_folder):
        return camera(text)
    if _exists(path):
        if path.is_fifo():
            raise SourceError(f"{text}: a pipe, not a file", f"give its pictures on standard input: - < {text}")
        if path.is_dir() or path.suffix.lower() in SUFFIXES:
            refuse("a folder of pictures", with_rate=False)
            return PictureFolder(path, text, rate=rate, realtime=realtime, say=say)
        refuse("a file", with_rate=True)
        return VideoFile(path, text, realtime=realtime)
    cameras = list_cameras(sys_folder, dev_folder)
    if find_camera(text, cameras) is not None:
        return camera(text)
    raise SourceError(f"{text!r}: no such file or folder, and no camera with this in its name", tell_cameras(cameras))


def _is_device(path: Path, dev: Path) -> bool:
    """Whether a path names a camera, there or not; files may lie below /dev, too, in memory."""
    if dev not in path.parents:
        return False
    target = path.resolve()
    return (target.parent == dev.resolve() and target.name.startswith("video")) or not path.is_file()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # no permission on the way to it, or a name that is too long
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error


def _checked(size: tuple[int, int] | None, rate: float | None, pixel_format: str | None) -> CameraWish:
    if size is not None and not all(0 < side <= MAX_SIDE for side in size):
        raise UsageError(f"a size is a width and a height from 1 to {MAX_SIDE} pixels, not {size[0]}x{size[1]}")
    if rate is not None and not (math.isfinite(rate) and 0 < rate <= MAX_RATE):
        raise UsageError(f"a rate is above 0 and at most {MAX_RATE:g} frames a second, not {rate}")
    if pixel_format is not None and not (len(pixel_format) == 4 and pixel_format.isascii()):
        raise UsageError(f"a pixel format is four characters, such as MJPG or YUYV, not {pixel_format!r}")
    return CameraWish(size, rate, pixel_format)


def _open_address(address: str, *, realtime: bool, say: Say, patience: Patience | None) -> Source:
    """A stream, or a video on a server: what it is shows when it is open."""
    name = masked(address)
    if scheme_of(address) not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise UsageError(f"{name}: no such kind of stream", f"streams begin with one of {known}")
    patience = patience or Patience(tries=STREAM_TRIES)
    first = open_stream(address, patience.stall_s)
    if scheme_of(address) in ("http", "https") and known_count(first) is not None:
        return VideoSource(name, first, realtime=realtime)
    opened: Iterator[Capture] = iter([first])

    def connect() -> Capture:
        return next(opened, None) or open_stream(address, patience.stall_s)

    return LiveSource(name, connect, say=say, patience=patience, silent_advice=STREAM_ADVICE)
