"""The outputs that a live run can have, each with its flag: the one place to register another."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpedge.core.errors import UsageError
from kpedge.core.files import real_path
from kpedge.runtime.server.address import parse_address

if TYPE_CHECKING:
    from kpedge.core.scheme import KeypointScheme
    from kpedge.runtime.sinks.sink import Controls, Sink
    from kpedge.runtime.sources.source import Source


@dataclass(frozen=True, slots=True)
class OutputContext:
    """What an output may need to open."""

    source: Source  # of the frames
    scheme: KeypointScheme  # of the keypoints
    controls: Controls  # what people at the output may change
    notify: Callable[[str], None]  # called with one line for people
    features: bool = False  # whether the faces have features
    force: bool = False  # replace files
    token: str | None = None  # that browsers have to show; None makes one


@dataclass(frozen=True, slots=True)
class Output:
    """An output and its flag."""

    flag: str  # of `kpedge webcam`
    value: type  # type of the flag's value; `bool` for none
    help: str  # of the flag
    summary: str  # for the table in docs/live.md
    sink: str  # `module:Class`
    # makes a sink of the class, the flag's value and an `OutputContext`. It raises `UsageError`, or `OutputError` for a
    # reason that leaves other outputs untouched.
    make: Callable[[Any, Any, OutputContext], Sink] = lambda sink, value, _: sink(value)
    pose: bool = False  # whether it needs the head pose of every face
    features: bool = False  # whether it needs the features of every face
    photos: bool = False  # whether `kpedge predict` has it, too
    metavar: str | None = None  # of the value in the help; None for the type's

    @property
    def name(self) -> str:
        """The flag as a Python name."""
        return self.flag.removeprefix("--").replace("-", "_")

    def open(self, value: Any, context: OutputContext) -> Sink:
        """Open it."""
        module, _, name = self.sink.partition(":")
        return self.make(getattr(importlib.import_module(module), name), value, context)


def open_outputs(
    outputs: Sequence[Output], values: Mapping[str, Any], context: OutputContext, sources: Sequence[str] = ()
) -> Iterator[Sink]:
    """Open those outputs that have a value, one after another.

    Args:
        outputs: some of `OUTPUTS`.
        values: name of an output -> value of its flag; None or False for none.
        context: what they may need.
        sources: files that are read; no output may replace one.

    Raises:
        UsageError: two outputs would write the same file, or one that is read.
        OutputError: one cannot be opened.
    """
    requested = [one for one in outputs if values[one.name] not in (None, False)]
    taken = {real_path(Path(source)): source for source in sources} if requested else {}
    for one in requested:
        path = values[one.name]
        if isinstance(path, Path) and (other := taken.setdefault(real_path(path), one.flag)) != one.flag:
            raise UsageError(f"{one.flag} {path}: would replace the file of {other}", "give another name")
    for one in requested:
        yield one.open(values[one.name], context)


def _make_table(sink: Any, path: Path, context: OutputContext) -> Sink:
    table: Sink = sink(path, context.scheme, features=context.features, force=context.force)
    return table


DEFAULT_ADDRESS = "127.0.0.1:8000"  # where the preview listens if `--serve` has no address
OUTPUTS = (
    Output(
        "--json",
        bool,
        "Print one line of JSON per frame.",
        "a line of JSON per frame on standard output; messages for people go to standard error",
        "kpedge.runtime.sinks.lines:LinesSink",
        lambda sink, _, context: sink(sys.stdout, context.controls),
        pose=True,
    ),
    Output(
        "--udp",
        str,
        "Send the same JSON to HOST:PORT, one datagram per frame.",
        "the same document, a datagram per frame, for avatars and robots",
        "kpedge.runtime.sinks.udp:UdpSink",
        lambda sink, address, context: sink(address, context.notify),
        pose=True,
        metavar="HOST:PORT",
    ),
    Output(
        "--csv",
        Path,
        "Write a CSV file: a row per face.",
        "a row per face: image, frame, time, size, id, box, score, points by name, pose and, with `--features`, "
        "these; a frame without a face has one row. `NAME.part.csv` grows meanwhile",
        "kpedge.runtime.sinks.csv_file:CsvSink",
        _make_table,
        pose=True,
        photos=True,
        metavar="FILE",
    ),
    Output(
        "--parquet",
        Path,
        "Write the same table as a Parquet file.",
        "the same table, typed; extra `parquet`",
        "kpedge.runtime.sinks.parquet:ParquetSink",
        _make_table,
        pose=True,
        photos=True,
        metavar="FILE",
    ),
    Output(
        "--osc",
        str,
        "Send Open Sound Control bundles to HOST:PORT.",
        "Open Sound Control, a bundle per frame: `/kpedge/frame NUMBER SECONDS FACES`, and `/kpedge/face/ID/` with "
        "`box`, `score`, `points`, `pose` and `features/NAME`; extra `osc`",
        "kpedge.runtime.sinks.osc:OscSink",
        pose=True,
        metavar="HOST:PORT",
    ),
    Output(
        "--vmc",
        str,
        "Send the largest face to an avatar (VMC protocol) at HOST:PORT.",
        "Virtual Motion Capture for avatars (VSeeFace, VNyan, Warudo; usually port 39539): rotation of the head and "
        "blend shapes (VRM's and ARKit's) of the largest face; extra `osc`",
        "kpedge.runtime.sinks.vmc:VmcSink",
        lambda sink, address, _: sink(address, "--vmc"),
        pose=True,
        features=True,
        metavar="HOST:PORT",
    ),
    Output(
        "--lsl",
        str,
        "Open a stream of that name in the Lab Streaming Layer.",
        "Lab Streaming Layer, a sample per face; the channels are the columns of `--csv` from `id` on; extra `lsl`",
        "kpedge.runtime.sinks.lsl:LslSink",
        lambda sink, name, context: sink(name, context.scheme, context.source.name, features=context.features),
        pose=True,
        metavar="NAME",
    ),
    Output(
        "--websocket",
        str,
        "Serve the same JSON to WebSocket clients at HOST:PORT.",
        "the same document to all clients; a slow one skips frames. Other machines need the token in the printed URL; "
        "pages of other sites are refused; extra `websocket`",
        "kpedge.runtime.sinks.websocket:WebSocketSink",
        lambda sink, address, context: sink(address, context.token, context.notify),
        pose=True,
        metavar="HOST:PORT",
    ),
    Output(
        "--mqtt",
        str,
        "Publish the same JSON at a broker: HOST[:PORT]/TOPIC.",
        "the same document, published without confirmation; `USER:PASSWORD@` may stand before the host; extra `mqtt`",
        "kpedge.runtime.sinks.mqtt:MqttSink",
        lambda sink, address, context: sink(address, context.notify),
        pose=True,
        metavar="ADDRESS",
    ),
    Output(
        "--virtual-camera",
        str,
        "Show the annotated frames as a camera to other programs: a device, or auto.",
        "the annotated frames as a camera for video calls and OBS; on Linux with v4l2loopback; extra `virtual-camera`",
        "kpedge.runtime.sinks.virtual_camera:VirtualCameraSink",
        lambda sink, device, context: sink(device, context.source.rate),
        metavar="DEVICE",
    ),
    Output(
        "--record",
        Path,
        "Record the annotated frames: .mp4, .mkv, .webm or .avi.",
        "the annotated frames in `.mp4`, `.mkv`, `.webm` or `.avi`, each at its own time. With the extra `video` "
        "browsers play all but `.avi`; without it `.mp4` and `.mkv` hold MPEG-4 Part 2, which they do not play. "
        "`NAME.part.mp4` grows meanwhile and gets its name when all frames are in it; with the extra "
        "`video`, `.mp4` and `.mkv` play up to the last second even after a power cut",
        "kpedge.runtime.sinks.record:Recorder",
        lambda sink, path, c: sink(path, c.source.rate, force=c.force, live=c.source.live),
        metavar="FILE",
    ),
    Output(
        "--serve",
        str,
        f"Show the faces in a browser, at {DEFAULT_ADDRESS} by default; other machines need a token.",
        f"a page to watch and control, at {DEFAULT_ADDRESS}",
        "kpedge.runtime.server.server:ServeSink",
        lambda sink, address, c: sink(parse_address(address), c.controls, c.scheme, c.token, c.notify),
        pose=True,
        metavar="[HOST:PORT]",
    ),
)
"""In the order in which they are opened. A window is the default, and snapshots are always possible."""
