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
    """What the user asks for; None leaves the choice to the source.

    Attributes:
        text: path, address, or name of a camera.
        size: width and height, pixels.
        rate: frames per second.
        pixel_format: four characters, such as `MJPG` or `YUYV`.
        stream: which of several video streams, from 0.
        realtime: keep to the time stamps of a file, and to the newest frame of a pipe.
        notify: called with one line for people.
        retry: when to give up waiting (`RetryPolicy`).
        stdin: in place of the process's own.
        cameras: where cameras are found (`CameraSystem`).
    """

    text: str
    size: tuple[int, int] | None = None
    rate: float | None = None
    pixel_format: str | None = None
    stream: int | None = None
    realtime: bool = False
    notify: Notify = lambda _: None
    retry: Any = None
    stdin: BinaryIO | None = None
    cameras: Any = None

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
    """A kind of source; `kpedge.runtime.sources.open.KINDS` lists them.

    Attributes:
        name: for error messages, such as `a video file`.
        syntax: what the user writes, for the table in docs/live.md.
        summary: what it does, for the same table.
        options: names of the fields of `SourceRequest` that it takes.
        matches: whether a request asks for this kind.
        open: opens it.
    """

    name: str
    syntax: str
    summary: str
    options: frozenset[str]
    matches: Callable[[SourceRequest], bool]
    open: Callable[[SourceRequest], Source]
