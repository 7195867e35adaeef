"""What every source offers, frames one after the other, and what a kind of source declares of itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from kpedge.core.geometry import Image
from kpedge.runtime.sources.addresses import mask_address
from kpedge.runtime.sources.reader import Notify


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        image: uint8 (H, W, 3), blue-green-red.
        number: of the frame in its source, from 0; frames that were dropped count.
        time_s: when it was taken, seconds since the source's first frame, by the file's time stamps or a monotonic
            clock.
        name: its file, in a folder of images; empty otherwise.
        decode_s: how long reading and decoding it took, seconds.
    """

    image: Image
    number: int
    time_s: float
    name: str = ""
    decode_s: float = 0.0


class Source(Protocol):
    """Yields frames until it ends or is closed. A second iteration continues where the first stopped.

    Iterating raises `SourceError` if the frames end for a reason that the user should know.
    """

    @property
    def name(self) -> str:
        """What the user called it, without passwords."""
        ...

    @property
    def live(self) -> bool:
        """Whether frames that nobody takes are lost, as a camera's are."""
        ...

    @property
    def rate(self) -> float | None:
        """Frames per second as declared; None if unknown."""
        ...

    @property
    def description(self) -> str:
        """What was opened, for people: `640x480 at 30 fps, MJPG`."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Frames in order."""
        ...

    def close(self) -> None:
        """Release the camera or file; iteration ends, even if it waits for a frame.

        May be called at any time, from any thread or signal handler, and more than once.
        """
        ...


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """What the user asks for; None leaves the choice to the source."""

    text: str  # path, address, or name of a camera
    size: tuple[int, int] | None = None  # width and height, pixels
    rate: float | None = None  # frames per second
    pixel_format: str | None = None  # four characters, such as `MJPG` or `YUYV`
    stream: int | None = None  # which of several video streams, from 0
    realtime: bool = False  # keep to the time stamps of a file, and to the newest frame of a pipe
    notify: Notify = lambda _: None  # called with one line for people
    retry: Any = None  # when to give up waiting (`RetryPolicy`)
    stdin: BinaryIO | None = None  # in place of the process's own
    cameras: Any = None  # where cameras are found (`CameraSystem`)

    @property
    def path(self) -> Path:
        """The text as a path."""
        return Path(self.text)

    @property
    def name(self) -> str:
        """The text without passwords."""
        return mask_address(self.text)


@dataclass(frozen=True, slots=True)
class SourceKind:
    """A kind of source; `kpedge.runtime.sources.open.KINDS` lists them."""

    name: str  # for error messages, such as `a video file`
    syntax: str  # what the user writes, for the table in docs/live.md
    summary: str  # what it does, for the same table
    options: frozenset[str]  # names of the fields of `SourceRequest` that it takes
    matches: Callable[[SourceRequest], bool]  # whether a request asks for this kind
    open: Callable[[SourceRequest], Source]  # opens it
