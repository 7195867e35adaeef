"""Keeping what compiled libraries print away from the user."""

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import cv2


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Drop what is written to standard output and error, also by compiled libraries."""
    sys.stdout.flush()
    sys.stderr.flush()
    with (
        dropped(1),
        dropped(2),
        open(os.devnull, "w") as sink,  # noqa: PTH123
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(sink),
    ):
        yield


@contextlib.contextmanager
def dropped(number: int) -> Iterator[None]:
    """Drop what is written to a file descriptor, if it is open."""
    try:
        kept = os.dup(number)
    except OSError:
        yield
        return
    with tempfile.TemporaryFile() as nowhere:
        os.dup2(nowhere.fileno(), number)
        try:
            yield
        finally:
            os.dup2(kept, number)
            os.close(kept)


@functools.cache
def silence_opencv() -> None:
    """Keep OpenCV and FFmpeg from writing to standard error from the first image or video on: kpedge reports errors
    itself, once. What a program sets later stays.

    `OPENCV_LOG_LEVEL` and `OPENCV_FFMPEG_LOGLEVEL` in the environment take precedence. FFmpeg's level is fixed by the
    first video that the process opens.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "OPENCV_LOG_LEVEL" not in os.environ:
        logging: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 has moved it there
        logging.setLogLevel(0)
