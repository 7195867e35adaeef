"""Video files and GIFs, and folders of pictures."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import cv2

from kpedge.core.errors import ImageError, SourceError
from kpedge.core.files import read_bytes
from kpedge.core.images import ANIMATED, SUFFIXES, Picture, pictures_below, read_pictures
from kpedge.runtime.sources.capture import (
    Capture,
    decode,
    describe,
    known_count,
    known_rate,
    pixel_format,
    quieten,
    stream_backend,
)
from kpedge.runtime.sources.containers import counts_its_frames, file_is_cut_off
from kpedge.runtime.sources.live import Say
from kpedge.runtime.sources.paced import PacedSource, Timer
from kpedge.runtime.sources.source import Frame

DEFAULT_RATE = 25.0
"""Frames a second, where neither the file nor the user says it."""
MISSING = 0.1
"""Part of the frames that may be missing at the end of a whole file: edit lists cut some off."""
COPY_ADVICE = "copy or download it again"


class VideoSource(PacedSource):
    """The frames of a video that has an end, turned as it asks for.

    Time stamps are its own, from 0 on. Where they are missing or do not rise, a frame comes one frame's time after the
    one before.

    Args:
        name: what the user called it.
        capture: opened, nothing read; the source releases it.
        realtime: keep to the time stamps, and drop frames that nobody took in time.
        timer: for `realtime`.

    Raises:
        SourceError: there is no frame in it.
    """

    def __init__(self, name: str, capture: Capture, *, realtime: bool = False, timer: Timer | None = None) -> None:
        super().__init__(name, realtime=realtime, timer=timer)
        self._capture = capture
        self._rate, self._count = known_rate(capture), known_count(capture)
        self._number, self._given_s, self._offset_s = -1, 0.0, 0.0
        if not self._grab():
            capture.release()
            raise SourceError(f"{name}: no frame of it can be read", "it is damaged, or OpenCV does not know its codec")
        self._first = decode(capture)
        self._description = "" if self._first is None else describe(self._first, self._rate, pixel_format(capture))

    @property
    def rate(self) -> float:
        """Frames a second, by the file, or 25."""
        return self._rate or DEFAULT_RATE

    @property
    def description(self) -> str:
        """The size of the newest frame, the rate and the codec."""
        return self._description

    def _advance(self) -> float | None:
        if self._number >= 0 and not self._grab():
            self._release()
            self._check_end()
            return None
        self._number += 1
        time_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if not self._number:
            self._offset_s = time_s if math.isfinite(time_s) else 0.0
            return 0.0
        time_s -= self._offset_s
        if not (math.isfinite(time_s) and time_s > self._given_s):
            time_s = self._given_s + 1 / self.rate
        self._given_s = time_s
        return time_s

    def _decode(self) -> Frame | None:
        image, self._first = (self._first, None) if self._number == 0 else (decode(self._capture), None)
        if image is None:
            return None
        return Frame(image, self._number, self._given_s)

    def _release(self) -> None:
        self._capture.release()

    def _grab(self) -> bool:
        try:
            return self._capture.grab()
        except cv2.error:
            return False

    def _progress(self) -> str:
        """How far it came, for an error."""
        read, count = self._number + 1, self._count or 0
        return f"{read} of {count} frames" if count > read else f"{read} frame{'s' * (read != 1)}"

    def _has_gap(self) -> bool:
        """Whether far fewer frames came than it says it has."""
        return self._number + 1 < (1 - MISSING) * (self._count or 0)

    def _check_end(self) -> None:
        """Tell a video that is over from one that broke off."""
        if self._has_gap():
            raise SourceError(f"{self.name}: broke off after {self._progress()}", "try again")


class VideoFile(VideoSource):
    """The frames of a video file or an animated GIF.

    Args:
        path: of the file.
        name: what the user called it; the path when None.
        realtime: keep to the time stamps, and drop frames that nobody took in time.
        timer: for `realtime`.

    Raises:
        SourceError: it is missing, unreadable, empty, cut off before its first frame, or no video.
    """

    def __init__(
        self, path: Path, name: str | None = None, *, realtime: bool = False, timer: Timer | None = None
    ) -> None:
        name = str(path) if name is None else name
        head = read_bytes(path, SourceError, "no such video", limit=4096)
        if not head:
            raise SourceError(f"{name}: the file is empty")
        quieten()
        # FFmpeg takes `http:a.mp4` for an address, and plays any text as an animation.
        readable = not _is_text(head)
        capture = cv2.VideoCapture(str(path.absolute()), stream_backend()) if readable else None
        if capture is None or not capture.isOpened():
            if readable and file_is_cut_off(path):
                raise SourceError(f"{name}: the file is cut off before its first frame, or its index", COPY_ADVICE)
            raise SourceError(
                f"{name}: not a video that OpenCV can read",
                "convert it to MP4 or MKV (H.264), or give a folder of pictures",
            )
        self._path = path
        super().__init__(name, capture, realtime=realtime, timer=timer)

    def _check_end(self) -> None:
        if file_is_cut_off(self._path):
            raise SourceError(f"{self.name}: the file is cut off: it ended after {self._progress()}", COPY_ADVICE)
        if self._has_gap() and counts_its_frames(self._path):
            raise SourceError(f"{self.name}: the file is damaged: it ended after {self._progress()}", COPY_ADVICE)


def _is_text(head: bytes) -> bool:
    """Whether a file begins as a text does, and not as a list of videos in the form of one."""
    return not head.startswith(b"#EXTM3U") and not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head)


def natural(path: Path) -> list[str | int]:
    """Sorts paths so that `2.jpg` comes before `10.jpg`."""
    return [int(part) if part.isdecimal() else part.casefold() for part in re.split(r"([0-9]+)", path.as_posix())]


class PictureFolder(PacedSource):
    """The pictures of a folder and of those in it, one after the other; or one picture.

    Numbers in their names count as numbers. An animated GIF gives all of its frames. Pictures that cannot be read are
    named and left out; they may differ in size.

    Args:
        path: the folder or picture.
        name: what the user called it.
        rate: pictures a second, for the time stamps.
        realtime: keep to that rate, and drop pictures that nobody took in time.
        say: tells which pictures cannot be read.
        timer: for `realtime`.

    Raises:
        SourceError: there is no picture in the folder.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        rate: float | None = None,
        realtime: bool = False,
        say: Say,
        timer: Timer | None = None,
    ) -> None:
        super().__init__(name, realtime=realtime, timer=timer)
        self._rate, self._say = rate or DEFAULT_RATE, say
        self._paths = sorted(pictures_below(path), key=natural) if path.is_dir() else [path]
        if not self._paths:
            known = ", ".join(sorted(SUFFIXES | ANIMATED))
            raise SourceError(f"{name}: there is no picture in this folder", f"pictures end in one of {known}")
        self._number = -1
        self._pictures = self._read()
        self._picture: tuple[Path, Picture] | None = None

    @property
    def rate(self) -> float:
        """Pictures a second, as it was given."""
        return self._rate

    @property
    def description(self) -> str:
        """How many files there are, and the rate."""
        files = len(self._paths)
        return f"{files} picture{'s' * (files != 1)} at {self._rate:.4g} a second"

    def _read(self) -> Iterator[tuple[Path, Picture]]:
        for path in self._paths:
            try:
                for picture in read_pictures(path):
                    yield path, picture
            except ImageError as error:
                self._say(f"{error}; it is left out")

    def _advance(self) -> float | None:
        self._picture = next(self._pictures, None)
        if self._picture is None:
            if self._number < 0:
                raise SourceError(f"{self.name}: none of its {len(self._paths)} pictures can be read")
            return None
        self._number += 1
        return self._number / self._rate

    def _decode(self) -> Frame | None:
        if self._picture is None:
            return None
        path, picture = self._picture
        return Frame(picture.image, self._number, self._number / self._rate, name=str(path))

    def _release(self) -> None:
        self._pictures = iter(())
