"""The annotated frames in a video file, at the rate at which they came."""

import contextlib
import math
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from kpedge.core.errors import OutputError, UsageError
from kpedge.core.files import make_folder, output_error, refuse_existing
from kpedge.core.geometry import Image
from kpedge.runtime.sinks.pacing import FASTEST, Timeline, file_rate
from kpedge.runtime.sinks.partial import PartialFile
from kpedge.runtime.sinks.sink import LiveFrame
from kpedge.runtime.sinks.writers import FORMATS, Writer, count_frames, open_writer

MEASURE_S = 1.0  # seconds of frames that are held back to measure their rate
HELD_BYTES = 64 * 2**20  # most memory that frames held back, or waiting to be written, may take; two of them always may
MOST_WAITING = 32  # frames that may wait to be written
LIVE_GAP_S, FILE_GAP_S = 2.0, 60.0  # a longer gap between frames is cut to this: a live source was paused or unplugged
MARGIN_BYTES = 16 * 2**20  # free disk space at which a recording ends: what it takes to finish the file must fit, too
FINISH_S = 60.0  # seconds that finishing the file may take
DISK_ADVICE = "check the disk's space and quota"


def free_bytes(folder: Path) -> int:
    """Free space, bytes, of the disk of a folder."""
    return shutil.disk_usage(folder).free


def fit(image: Image, width: int, height: int) -> Image:
    """An image of that size, with black bars if its shape differs."""
    if image.shape[:2] == (height, width):
        return image
    zoom = min(width / image.shape[1], height / image.shape[0])
    size = min(width, max(1, round(image.shape[1] * zoom))), min(height, max(1, round(image.shape[0] * zoom)))
    interpolation = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=interpolation)
    return canvas


class Recorder:
    """Writes the annotated frames into a video file, in a thread of its own. The file's ending, a key of `FORMATS`,
    chooses container and codec; the declared rate is used if about that many frames come.

    While it is recorded, `NAME.part.mp4` grows next to the file, and plays up to its last second or so even after a
    power cut; it gets its name when the recording is closed and all frames are in it. If the disk is nearly full or a
    write fails, the recording ends there, and what was recorded is kept. All frames get the size of the first. Of a
    live source, frames for which the disk is too slow are left out, and long gaps are cut; otherwise `show` waits.

    Raises:
        UsageError: the ending names no format that can be written.
        OutputError: the file exists, or its folder cannot be written.
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
        if path.suffix.lower() not in FORMATS:
            raise UsageError(f"{path}: cannot record this format", f"end the name in one of {', '.join(FORMATS)}")
        refuse_existing(path, force=force)
        make_folder(path.parent)
        self.path = path
        self.saved: Path | None = None
        """The finished file: another name than `path` if another program has taken that meanwhile."""
        self.dropped = 0  # frames that were left out because the disk, or the encoder, was too slow
        self._rate, self._force, self._live, self._free = rate, force, live, free
        self._frames: queue.Queue[tuple[Image, float] | None] | None = None
        self._thread: threading.Thread | None = None
        self._file: _RecordedFile | None = None
        self._problem: OutputError | None = None
        self._closed = False

    def show(self, live: LiveFrame) -> None:
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
        problem: OutputError | None = None
        try:
            self._write_all(frames)
        except OutputError as error:
            problem = error
        except Exception as error:  # noqa: BLE001 -- of encoders and disks
            problem = OutputError(
                f"cannot write {self.path}: {_reason(error)}", "record to another disk, or in another format"
            )
        try:
            if self._file is not None:
                self._file.finish()
        except OutputError as error:
            problem = problem or error
        self.saved = None if self._file is None else self._file.saved
        if problem is not None and self.saved is not None:
            problem = OutputError(f"{problem}; what was recorded is in {self.saved}", problem.advice)
        self._problem = problem

    def _write_all(self, frames: queue.Queue[tuple[Image, float] | None]) -> None:
        held: list[tuple[Image, float]] = []
        while (item := frames.get()) is not None:
            held.append(item)
            if self._file is not None or self._is_measured(held):
                self._write(held)
                held = []
        self._write(held)

    def _is_measured(self, held: list[tuple[Image, float]]) -> bool:
        """Whether enough frames are held to know their rate."""
        enough = len(held) >= MEASURE_S * FASTEST or sum(image.nbytes for image, _ in held) >= HELD_BYTES
        return enough or held[-1][1] - held[0][1] >= MEASURE_S

    def _write(self, frames: list[tuple[Image, float]]) -> None:
        """Write frames, into a file that is started with the first ones."""
        for image, time_s in frames:
            self._check_space()
            if self._file is None:
                rate = file_rate([at for _, at in frames], self._rate)
                longest_s = LIVE_GAP_S if self._live else FILE_GAP_S
                self._file = _RecordedFile(self.path, image, rate, longest_s, force=self._force)
            self._file.write(image, time_s)

    def _check_space(self) -> None:
        try:
            free = self._free(self.path.parent)
        except OSError as error:
            raise output_error(self.path, error) from error
        if free < MARGIN_BYTES:
            raise OutputError(
                f"{self.path}: the disk is full, so recording ended ({free / 2**20:.0f} MiB are left)",
                "make room, or record elsewhere",
            )


class _RecordedFile:
    """A file that is being written, as `NAME.part.mp4`, and given its name at the end."""

    def __init__(self, path: Path, first: Image, rate: float, longest_s: float, *, force: bool) -> None:
        self._path, self._timeline = path, Timeline(rate, longest_s)
        self._height, self._width = first.shape[:2]
        self.saved: Path | None = None  # the finished file
        self._out = PartialFile(path, force=force)
        try:
            self._writer: Writer = open_writer(self._out.file, self._out.part, rate, (self._width, self._height))
        except BaseException:
            self._out.discard()
            raise

    def write(self, image: Image, time_s: float) -> None:
        """Write a frame at its time."""
        tick = self._timeline.place(time_s)
        if tick is not None:
            self._writer.write(fit(image, self._width, self._height), tick)

    def finish(self) -> None:
        """Close the file, count its frames and give it its name.

        Raises:
            OutputError: it holds no frame, and is removed; or not all, and is kept; or cannot be given its name.
        """
        reason = ""
        try:
            self._writer.close()
            os.fsync(self._out.file.fileno())
        except Exception as error:  # noqa: BLE001 -- of encoders and disks
            reason = f": {_reason(error)}"
        found, written = count_frames(self._out.part), self._writer.written
        if not found:
            self._out.discard()
            raise OutputError(f"{self._path}: nothing could be recorded{reason}", DISK_ADVICE)
        self.saved = self._out.finish()
        if found < written or reason:
            raise OutputError(f"{self._path}: {found} of {written} frames could be recorded{reason}", DISK_ADVICE)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
