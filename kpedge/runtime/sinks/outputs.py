"""The outputs that a live run can have, each with its flag: the one place to register another."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kpedge.core.scheme import KeypointScheme
    from kpedge.runtime.sinks.sink import Controls, Sink
    from kpedge.runtime.sources.source import Source


@dataclass(frozen=True, slots=True)
class OutputContext:
    """What an output may need to open.

    Attributes:
        source: of the frames.
        scheme: of the keypoints.
        controls: what people at the output may change.
        notify: called with one line for people.
        force: replace files.
        token: that browsers have to show; None makes one.
    """

    source: Source
    scheme: KeypointScheme
    controls: Controls
    notify: Callable[[str], None]
    force: bool = False
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """An output and its flag.

    Attributes:
        flag: of `kpedge webcam`.
        value: type of the flag's value; `bool` for none.
        help: of the flag.
        summary: for the table in docs/live.md.
        opener: `module:function` that takes the value and an `OutputContext`, and returns a sink. It raises
            `UsageError`, or `OutputError` for a reason that leaves other outputs untouched.
        pose: whether it needs the head pose of every face.
        metavar: of the value in the help; None for the type's.
    """

    flag: str
    value: type
    help: str
    summary: str
    opener: str
    pose: bool = False
    metavar: str | None = None

    @property
    def name(self) -> str:
        """The flag as a Python name."""
        return self.flag.removeprefix("--").replace("-", "_")

    def open(self, value: Any, context: OutputContext) -> Sink:
        """Open it."""
        module, _, function = self.opener.partition(":")
        sink: Sink = getattr(importlib.import_module(module), function)(value, context)
        return sink


DEFAULT_ADDRESS = "127.0.0.1:8000"
"""Where the preview listens if `--serve` has no address."""
OUTPUTS = (
    Output(
        "--json",
        bool,
        "Print one line of JSON per frame.",
        "a line of JSON per frame on standard output; messages for people go to standard error",
        "kpedge.runtime.sinks.lines:open_lines",
        pose=True,
    ),
    Output(
        "--udp",
        str,
        "Send the same JSON to HOST:PORT, one datagram per frame.",
        "the same document, a datagram per frame, for avatars and robots",
        "kpedge.runtime.sinks.lines:open_udp",
        pose=True,
    ),
    Output(
        "--record",
        Path,
        "Record the annotated frames: .mp4, .mkv, .webm or .avi.",
        "the annotated frames in `.mp4`, `.mkv`, `.webm` or `.avi`, each at its own time; browsers play all but "
        "`.avi`. `NAME.part.mp4` grows meanwhile and gets its name when all frames are in it; with the extra "
        "`video`, `.mp4` and `.mkv` play up to the last second even after a power cut",
        "kpedge.runtime.sinks.record:open_recorder",
    ),
    Output(
        "--serve",
        str,
        f"Show the faces in a browser, at {DEFAULT_ADDRESS} by default; other machines need a token.",
        f"a page to watch and control, at {DEFAULT_ADDRESS}",
        "kpedge.runtime.server.output:open_preview",
        pose=True,
        metavar="[HOST:PORT]",
    ),
)
"""In the order in which they are opened. A window is the default, and snapshots are always possible."""
