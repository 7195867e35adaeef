"""The annotated frames in a video file, at the rate at which they really came."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from kpedge.core.errors import OutputError, UsageError
from kpedge.core.files import make_folder, output_error, refuse_existing
from kpedge.core.geometry import Image
from kpedge.runtime.sinks.pacing import FASTEST, Timeline, measured_rate, sound_rate
from kpedge.runtime.sinks.sink import LiveFrame

CODECS: dict[str, tuple[str, tuple[int, ...]]] = {
    ".mp4": ("mp4v", (cv2.CAP_FFMPEG,)),
    ".avi": ("MJPG", (cv2.CAP_FFMPEG, cv2.CAP_OPENCV_MJPEG)),
    ".mkv": ("mp4v", (cv2.CAP_FFMPEG,)),
    ".webm": ("VP80", (cv2.CAP_FFMPEG,)),
}
"""Codec of a file name's ending, and what of OpenCV can write it. Browsers play `.webm`."""
MEASURE_S = 1.0
"""Seconds of frames that are held back to measure their rate, where nobody knows it."""
HELD_BYTES = 64 * 2**20
"""Most memory that frames held back, or waiting to be written, may take; two of them always may."""
MOST_WAITING = 32
"""Frames that may wait to be written."""
LIVE_GAP_S, FILE_GAP_S = 2.0, 60.0
"""A longer gap between frames is cut to this: a live source was paused or unplugged, a file has a broken time stamp."""
MARGIN_BYTES = 16 * 2**20
"""Free disk space at which a recording is ended: what it takes to finish the file must fit, too."""
BUFFERED_BYTES = 256 * 2**10
"""More than any writer holds in memory before the file grows."""
FINISH_S = 60.0
"""Seconds that finishing the file may take."""


def free_bytes(folder: Path) -> int:
    """Free space, bytes, of the disk that a folder lies on."""
    return shutil.disk_usage(folder).free


def fit(image: Image, width: int, height: int) -> Image:
    """A picture of that size, with black bars where its shape differs."""
    if image.shape[:2] == (height, width):
        return image
    zoom = min(width / image.shape[1], height / image.shape[0])
    size = min(width, max(1, round(image.shape[1] * zoom))), min(height, max(1, round(image.shape[0] * zoom)))
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=how)
    return canvas


class Recorder:
    """Writes the annotated frames into a video file, in a thread of its own.

    The file appears under its name when the recording is closed. It has a constant rate; frames are repeated or left
    out as their time stamps ask for. All frames get the size of the first. When the disk is nearly full the recording
    ends there, and what was recorded is kept.

    Args:
        path: of the file; its ending, a key of `CODECS`, chooses format and codec.
        rate: frames a second, where they are known for sure; None measures the first ones. What a camera claims is not
            sure.
        force: replace a file of that name.
        live: whether frames come from a live source: then those are left out for which the disk is too slow, and long
            gaps are cut; otherwise `show` waits.
        free: free space of a folder's disk, bytes.

    Raises:
        UsageError: the ending names no format that can be written.
        OutputError: the file exists, its folder cannot be written, or its disk is full.
    """

    def __init__(
        self,
        path: Path,
        rate: float | None = None,
        *,
        force: bool = False,
        live: bool = True,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        if path.suffix.lower() not in CODECS:
            raise UsageError(f"{path}: cannot record this format", f"end the name in one of {', '.join(CODECS)}")
        refuse_existing(path, force=force)
        make_folder(path.parent)
        self.path = path
        self.saved: Path | None = None
        """Where the finished file lies: another name than `path` where somebody else has taken that meanwhile."""
        self.dropped = 0
        """Frames that were left out because the disk, or the encoder, was too slow."""
        self._rate, self._force, self._live, self._free = sound_rate(rate), force, live, free
        self._frames: queue.Queue[tuple[Image, float] | None] | None = None
        self._thread: threading.Thread | None = None
        self._video: _Video | None = None
        self._problem: OutputError | None = None
        self._closed = False
        self._check_space()

    def show(self, live: LiveFrame) -> None:
        """Record a frame.

        Raises:
            OutputError: the recording had to end; raised once, after which frames are ignored.
        """
        if self._closed:
            return
        image = live.drawn()
        if self._frames is None:
            self._frames = queue.Queue(maxsize=max(2, min(MOST_WAITING, HELD_BYTES // max(1, image.nbytes))))
            self._thread = threading.Thread(target=self._work, args=(self._frames,), name="recorder", daemon=True)
            self._thread.start()
        if not self._put((image, live.frame.time_s), 0.0 if self._live else math.inf):
            if self._problem is None:
                self.dropped += 1
            else:
                self.close()

    def close(self) -> None:
        """Finish the file.

        Raises:
            OutputError: it could not be finished, or the recording had to end before; raised once.
        """
        if not self._closed:
            self._closed = True
            if self._thread is not None:
                self._put(None, FINISH_S)
                self._thread.join(FINISH_S)
                if self._thread.is_alive() and self._problem is None:
                    self._problem = OutputError(
                        f"{self.path}: the disk does not answer, so the recording is unfinished",
                        "record to another disk",
                    )
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def _put(self, item: tuple[Image, float] | None, wait_s: float) -> bool:
        """Hand something to the thread; whether it took it in time."""
        if self._frames is None or self._thread is None:
            return False
        until = time.monotonic() + wait_s
        while self._thread.is_alive() and self._problem is None:
            left = until - time.monotonic()
            with contextlib.suppress(queue.Full):
                # In short waits: a thread that ends meanwhile takes nothing any more.
                self._frames.put(item, block=left > 0, timeout=min(max(left, 0.0), 0.1))
                return True
            if left <= 0:
                break
        return False

    def _work(self, frames: queue.Queue[tuple[Image, float] | None]) -> None:
        """The thread: write, then finish."""
        try:
            self._write_all(frames)
        except OutputError as problem:
            self._problem = problem
        except cv2.error as error:
            self._problem = OutputError(f"cannot write {self.path}: {error.err}", "record in another format")
        try:
            if self._video is not None:
                self.saved = self._video.finish(force=self._force)
        except OutputError as problem:
            self._problem = problem

    def _write_all(self, frames: queue.Queue[tuple[Image, float] | None]) -> None:
        held: list[tuple[Image, float]] = []
        while (item := frames.get()) is not None:
            held.append(item)
            if self._video is not None or self._rate_is_clear(held):
                self._write(held)
                held = []
        self._write(held)

    def _rate_is_clear(self, held: list[tuple[Image, float]]) -> bool:
        if self._rate is not None:
            return True
        if len(held) < 2:
            return False
        enough = len(held) >= MEASURE_S * FASTEST or sum(image.nbytes for image, _ in held) >= HELD_BYTES
        return enough or held[-1][1] - held[0][1] >= MEASURE_S

    def _write(self, frames: list[tuple[Image, float]]) -> None:
        """Write frames, into a file that is begun with the first ones."""
        for image, time_s in frames:
            self._check_space()
            if self._video is None:
                rate = self._rate or measured_rate([at for _, at in frames])
                self._video = _Video(self.path, image, Timeline(rate, LIVE_GAP_S if self._live else FILE_GAP_S))
            self._video.write(image, time_s)

    def _check_space(self) -> None:
        try:
            free = self._free(self.path.parent)
        except OSError as error:
            raise output_error(self.path, error) from error
        if free < MARGIN_BYTES:
            raise OutputError(
                f"{self.path}: the disk is full, so recording ended ({free / 2**20:.0f} MiB are left)",
                "what was recorded until then is kept; make room, or record elsewhere",
            )


class _Video:
    """A file that is being written, under a hidden name beside its own.

    Raises:
        OutputError: it cannot be begun.
    """

    def __init__(self, path: Path, first: Image, timeline: Timeline) -> None:
        self._path, self._timeline = path, timeline
        self._height, self._width = first.shape[:2]
        self._last = first
        self._size, self._since = 0, 0
        blocks = (self._width + 15) // 16 * ((self._height + 15) // 16)
        # A frame in which nothing moves takes at least a bit for each block of 16 x 16 pixels.
        self._patience = 8 * BUFFERED_BYTES // blocks + 1
        try:
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=f".part{path.suffix}")
            os.close(handle)
        except OSError as error:
            raise output_error(path, error) from error
        self._temporary: Path | None = Path(name)
        self._writer = self._opened(Path(name), timeline.rate)

    def _opened(self, temporary: Path, rate: float) -> cv2.VideoWriter:
        codec, ways = CODECS[self._path.suffix.lower()]
        size = (self._width, self._height)
        for way in ways:
            # An absolute path: FFmpeg takes `http:a.mp4` for an address.
            with _stderr_closed() if self._path.suffix.lower() == ".webm" else contextlib.nullcontext():
                writer = cv2.VideoWriter(str(temporary.absolute()), way, cv2.VideoWriter.fourcc(*codec), rate, size)
            if writer.isOpened():
                return writer
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {self._path}: OpenCV cannot record {size[0]}x{size[1]} as {codec} here",
            "try a name that ends in .avi, or check the folder and the free disk space",
        )

    def write(self, image: Image, time_s: float) -> None:
        """Write a frame as often as its time asks for.

        Raises:
            OutputError: the file does not grow any more.
        """
        count = self._timeline.frames_for(time_s)
        fitted = fit(image, self._width, self._height)
        for copy in range(count):
            self._writer.write(fitted if copy == count - 1 else self._last)
        if count:
            self._last = fitted
        self._check_growth(count)

    def _check_growth(self, count: int) -> None:
        """OpenCV tells nobody that a file cannot be written any further."""
        self._since += count
        if self._temporary is None or self._since < self._patience:
            return
        size = self._temporary.stat().st_size if self._temporary.exists() else 0
        if size <= self._size:
            raise OutputError(
                f"{self._path}: the file does not grow any more, so recording ended",
                "check the disk's space, quota and health",
            )
        self._size, self._since = size, 0

    def finish(self, *, force: bool) -> Path | None:
        """Close the file and give it its name; None where that was done before.

        Raises:
            OutputError: it cannot be read, or cannot be given its name; it is removed.
        """
        temporary, self._temporary = self._temporary, None
        if temporary is None:
            return None
        try:
            self._writer.release()
            check = cv2.VideoCapture(str(temporary.absolute()))
            playable = check.read()[0]
            check.release()
            if not playable:
                raise OutputError(
                    f"{self._path}: the recording could not be finished, and cannot be played",
                    "check the folder's permissions and the free disk space",
                )
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            target = self._path if force else _free_name(self._path)
            temporary.replace(target)
        except OSError as error:
            raise output_error(self._path, error) from error
        finally:
            temporary.unlink(missing_ok=True)
        return target


@contextlib.contextmanager
def _stderr_closed() -> Iterator[None]:
    """Nothing is written to the process's standard error meanwhile: OpenCV complains there, at any log level, that WebM
    knows no four-character codes, and goes on.
    """
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _free_name(path: Path) -> Path:
    """The path, or one with a number where a file has taken it."""
    number, free = 2, path
    while free.exists():
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return free
