"""What every source gives: frames, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from kpedge.core.geometry import Image


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        image: uint8 (H, W, 3), blue-green-red.
        number: of the frame in its source, from 0; a camera counts the frames that nobody took, too.
        time_s: when it was taken, seconds since the source's first frame: the file's own time stamps, or a steady
            clock.
        name: file of the frame, in a folder of pictures; empty otherwise.
        decode_s: how long it took to read and decode it, seconds.
    """

    image: Image
    number: int
    time_s: float
    name: str = ""
    decode_s: float = 0.0


class Source(Protocol):
    """Gives frames until it ends or is closed; it is iterated once, or goes on where the last iteration stopped.

    Iterating raises `SourceError` when there are no more frames for a reason that the user has to know of.
    """

    @property
    def name(self) -> str:
        """What the user called it."""
        ...

    @property
    def live(self) -> bool:
        """Whether frames that nobody takes are lost, as a camera's are."""
        ...

    @property
    def rate(self) -> float | None:
        """Frames a second, where the source knows; None otherwise."""
        ...

    @property
    def description(self) -> str:
        """What was granted, for people: `640x480 at 30 frames a second, MJPG`."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Frames in order."""
        ...

    def close(self) -> None:
        """Let go of the camera or file; iteration ends, also where it waits for a frame.

        May be called at any time, from any thread or signal handler, and more than once.
        """
        ...
