"""`kpedge webcam`: faces and keypoints in a camera, a video or a stream, live."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from kpedge.cli import output
from kpedge.cli.options import Backend, Force, Threads, examples
from kpedge.core.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL

if TYPE_CHECKING:
    from types import FrameType

    from kpedge.core.errors import OutputError
    from kpedge.runtime.live import LiveReport
    from kpedge.runtime.sinks.sink import Controls, Sink
    from kpedge.runtime.sinks.window import WindowSink

SERVE = "127.0.0.1:8000"
ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]*):\d+|\d{4,}")
"""What may follow `--serve`: a camera's number has fewer digits than a port of this form."""
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class _OptionalAddress(TyperCommand):
    """A command whose `--serve` may stand without an address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given: list[str] = []
        for place, text in enumerate(args):
            given.append(text)
            following = args[place + 1 : place + 2]
            if text == "--serve" and not any(map(ADDRESS.fullmatch, following)):
                given.append(SERVE)
        return super().parse_args(ctx, given)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        cls=_OptionalAddress,
        epilog=examples(
            "kpedge webcam",
            "kpedge webcam video.mp4 --record annotated.mp4",
            "kpedge webcam 0 --serve",
            "kpedge webcam rtsp://camera.local/stream --json --udp 127.0.0.1:9000",
            "ffmpeg -i video.mp4 -f mjpeg - | kpedge webcam - --json",
        ),
    )(webcam)


def webcam(
    source: Annotated[
        str,
        typer.Argument(help="Camera (number or part of its name), video, GIF, folder of photos, URL, or - for MJPEG."),
    ] = "0",
    model: Annotated[str, typer.Option(help="A stage 3: an ONNX file, or a released model.")] = DEFAULT_MODEL,
    detector: Annotated[str, typer.Option(help="What finds new faces: likewise.")] = DEFAULT_DETECTOR,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT to ask the camera for.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Frames a second to ask the camera for; of photos in a folder, and of -.")
    ] = None,
    pixel_format: Annotated[str | None, typer.Option(help="Pixel format to ask the camera for, as MJPG.")] = None,
    stream: Annotated[
        int | None, typer.Option(min=0, help="Which of several video streams of a file, from 0. [default: the file's]")
    ] = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="Play files at their own speed, as a camera.")] = False,
    window: Annotated[
        bool | None,
        typer.Option("--window/--no-window", help="Show a window. [default: where no other output is asked for]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line for each frame, on standard output.")] = False,
    udp: Annotated[str | None, typer.Option(help="HOST:PORT that is sent the same JSON, a datagram a frame.")] = None,
    record: Annotated[Path | None, typer.Option(help="Video file of the annotated frames: .mp4, .avi, .webm.")] = None,
    snapshot_dir: Annotated[
        Path, typer.Option(help="Folder for the frames that are saved by key, or in the browser.")
    ] = Path("snapshots"),
    serve: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:PORT]",
            help=f"Show the faces in a browser, at {SERVE} unless told otherwise; beyond this machine with a token.",
        ),
    ] = None,
    serve_token: Annotated[
        str | None, typer.Option(help="The token that browsers have to show. [default: a new one]")
    ] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    duration: Annotated[float | None, typer.Option(min=0, help="Stop after so many seconds.")] = None,
    max_faces: Annotated[int, typer.Option(min=1, help="Most faces that are followed.")] = 10,
    max_side: Annotated[
        int, typer.Option(help="Longer side, px, at which frames are searched for new faces, of 16 px there or more.")
    ] = 320,
    find_within: Annotated[
        float, typer.Option(help="Seconds within which new faces are looked for, while others are followed.")
    ] = 1.0,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Score from which on there is a face. [default: the model's]")
    ] = None,
    smooth: Annotated[bool, typer.Option("--smooth/--no-smooth", help="Steady the points in time.")] = True,
    pose: Annotated[bool, typer.Option("--pose", help="Draw how the head is turned.")] = False,
    mirror: Annotated[bool, typer.Option("--mirror", help="Show the picture as a mirror does.")] = False,
    threads: Threads = 1,
    provider: Annotated[str, typer.Option(help="What onnxruntime computes with: cpu, cuda, …")] = "cpu",
    backend: Backend = "auto",
    force: Force = False,
) -> None:
    """Find and follow faces in a camera, a video or a stream, and show them, live.

    Keys in the window: q quits, space pauses, s saves the frame, h lists the others. Needs neither PyTorch nor a GPU.
    Ctrl-C ends it; files are closed then.
    """
    import cv2

    from kpedge.core.errors import OutputError, UsageError
    from kpedge.runtime.live import LiveReport, run_live
    from kpedge.runtime.overlay import Layers
    from kpedge.runtime.server.address import parse_address
    from kpedge.runtime.server.server import ServeSink
    from kpedge.runtime.sinks.lines import LinesSink, UdpSink
    from kpedge.runtime.sinks.record import Recorder
    from kpedge.runtime.sinks.sink import Controls
    from kpedge.runtime.sinks.snapshots import SnapshotSink
    from kpedge.runtime.smoothing import Smoothing
    from kpedge.runtime.sources.open import open_source
    from kpedge.runtime.tracker import FaceTracker

    if serve_token is not None and serve is None:
        raise UsageError("--serve-token is for a preview", "add --serve")
    tracker = FaceTracker(
        detector,
        model,
        side=max_side,
        threshold=threshold,
        threads=threads,
        provider=provider,
        backend=backend,
        max_faces=max_faces,
        find_within=find_within,
        smoothing=Smoothing() if smooth else None,
    )
    cv2.setNumThreads(threads)  # what it does here is too small to be shared out
    controls = Controls(Layers(pose=pose, mirror=mirror), tracker.predictor.threshold)
    problems: list[OutputError] = []

    def broken(problem: OutputError) -> None:
        output.error(problem)
        problems.append(problem)

    report = LiveReport()
    with _stopping_on_signals(controls) as caught, contextlib.ExitStack() as opened:
        opened.callback(_tell, report)
        frames = open_source(
            source,
            size=_parse_size(size),
            rate=rate,
            pixel_format=pixel_format,
            stream=stream,
            realtime=realtime,
            notify=output.say,
        )
        opened.callback(frames.close)
        sinks: list[Sink] = []

        def add(sink: Sink) -> None:
            opened.callback(sink.close)
            sinks.append(sink)

        if as_json:
            add(LinesSink(sys.stdout, controls))
        if udp is not None:
            add(UdpSink(udp, output.say))
        if record is not None:
            add(Recorder(record, frames.rate, force=force, live=frames.live))
        if serve is not None:
            scheme = tracker.predictor.model.card.scheme
            add(ServeSink(parse_address(serve), controls, scheme, serve_token, output.say))
        polls: list[Callable[[], None]] = []
        if window or (window is None and not sinks):
            shown = _open_window(f"kpedge: {frames.name}", controls, broken if sinks else None)
            if shown is not None:
                add(shown)
                polls.append(shown.poll)
        saver = SnapshotSink(snapshot_dir, controls, lambda path: output.say(f"snapshot: {path}"))
        add(saver)
        polls.append(saver.poll)
        output.say(f"{frames.name}: {frames.description}")
        run_live(
            frames,
            tracker,
            sinks,
            controls,
            pose=as_json or udp is not None or serve is not None,
            report=report,
            max_frames=max_frames,
            duration=duration,
            poll=lambda: _call(polls),
            on_broken=broken,
        )
    if fatal := [number for number in caught if number != signal.SIGINT]:
        raise typer.Exit(128 + fatal[0])  # as shells give it
    if problems:
        raise OutputError("not every output could be written to its end", "they are named above")


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)[xX](\d+)", text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is not WIDTHxHEIGHT, as in 1280x720", param_hint="--size")
    return int(found[1]), int(found[2])


def _call(polls: Sequence[Callable[[], None]]) -> None:
    for poll in polls:
        poll()


def _open_window(title: str, controls: Controls, broken: Callable[[OutputError], None] | None) -> WindowSink | None:
    """A window; where none can be opened, the other outputs go on, if there are any."""
    from kpedge.core.errors import OutputError
    from kpedge.runtime.sinks.window import open_window

    try:
        return open_window(title, controls)
    except OutputError as problem:
        if broken is None:
            raise
        broken(problem)
        return None


@contextlib.contextmanager
def _stopping_on_signals(controls: Controls) -> Iterator[list[int]]:
    """Ctrl-C, SIGTERM and a closed terminal end the run, which closes its files; a second one ends it at once.

    Yields:
        The signals that came.
    """
    caught: list[int] = []
    before: dict[int, Any] = {}

    def stop(number: int, _: FrameType | None) -> None:
        caught.append(number)
        controls.stopping.set()
        signal.signal(number, before[number])

    for number in SIGNALS:
        before[number] = signal.signal(number, stop)
    try:
        yield caught
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _tell(report: LiveReport) -> None:
    """What a run did, for people."""
    if not report.seconds:
        return
    frames = f"{report.frames:,} frame{'s' * (report.frames != 1)}"
    faces = f"{report.faces:,} face{'s' * (report.faces != 1)}"
    output.say(f"{frames} in {report.seconds:.1f} s, {report.frames / report.seconds:.1f} a second; {faces}")
    if report.frames:
        steps = ", ".join(f"{step} {1000 * spent / report.frames:.2f}" for step, spent in report.steps.items())
        output.say(f"a frame took, in ms: {steps}")
