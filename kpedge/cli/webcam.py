"""`kpedge webcam`: faces and keypoints in a camera, a video or a stream, live."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from kpedge.cli import output
from kpedge.cli.options import (
    Backend,
    ExportedDetector,
    ExportedModel,
    Features,
    Focal,
    Force,
    Licence,
    Names,
    Provider,
    Threads,
    Threshold,
    examples,
    output_option,
    panel,
    results_option,
    search_option,
    with_outputs,
)
from kpedge.core.errors import OutputError, UsageError
from kpedge.core.model_zoo import ANY, DEFAULT_DETECTOR, DEFAULT_MODEL, licensed
from kpedge.core.text import format_count
from kpedge.runtime.sinks.outputs import DEFAULT_ADDRESS, OUTPUTS, OutputContext, open_outputs

if TYPE_CHECKING:
    from types import FrameType

    from kpedge.runtime.live import LiveReport
    from kpedge.runtime.sinks.sink import Controls, Sink
    from kpedge.runtime.sinks.window import WindowSink

ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]*):\d+|\d{4,}")
"""What may follow `--serve`: a camera's number has fewer digits than a port of this form."""
source_option, tracking_option, window_option = panel("Source"), panel("Tracking"), panel("Window")
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class _OptionalAddress(TyperCommand):
    """A command whose `--serve` needs no address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given: list[str] = []
        for place, text in enumerate(args):
            given.append(text)
            following = args[place + 1 : place + 2]
            if text == "--serve" and not any(map(ADDRESS.fullmatch, following)):
                given.append(DEFAULT_ADDRESS)
        return super().parse_args(ctx, given)


app = typer.Typer()


@app.command(
    cls=_OptionalAddress,
    epilog=examples(
        "kpedge webcam",
        "kpedge webcam video.mp4 --record annotated.mp4",
        "kpedge webcam 0 --serve",
        "kpedge webcam clip.mp4 --csv faces.csv --features",
        "kpedge webcam 0 --vmc 127.0.0.1:39539",
        "kpedge webcam rtsp://camera.local/stream --json --udp 127.0.0.1:9000",
        "ffmpeg -i video.mp4 -f mjpeg - | kpedge webcam - --json",
    ),
)
@with_outputs(OUTPUTS)
def webcam(
    source: Annotated[
        str,
        typer.Argument(help="Camera (number or part of its name), video, image, folder, URL, or - for standard input."),
    ] = "0",
    model: ExportedModel = DEFAULT_MODEL,
    detector: ExportedDetector = DEFAULT_DETECTOR,
    max_frames: Annotated[int | None, typer.Option(min=1, metavar="N", help="Stop after this many frames.")] = None,
    duration: Annotated[float | None, typer.Option(min=0, metavar="S", help="Stop after this many seconds.")] = None,
    force: Force = False,
    size: Annotated[str | None, source_option(help="Request this size from the camera.", metavar="WxH")] = None,
    rate: Annotated[
        float | None,
        source_option(
            help="Frames per second: of the camera, of images in a folder, of -, or of a snapshot's address.",
            metavar="FPS",
        ),
    ] = None,
    pixel_format: Annotated[
        str | None, source_option(help="Request a pixel format, such as MJPG.", metavar="CODE")
    ] = None,
    stream: Annotated[
        int | None,
        source_option(
            min=0, help="Number of the video stream, from 0, in a file with several. (default: the file's)", metavar="N"
        ),
    ] = None,
    realtime: Annotated[bool, source_option("--realtime", help="Play files at their own speed.")] = False,
    max_faces: Annotated[int, tracking_option(min=1, help="Maximum number of tracked faces.", metavar="N")] = 10,
    max_side: Annotated[
        int,
        search_option(
            help="Longer side, in pixels, at which frames are searched; faces of 16 px there are found.", metavar="PX"
        ),
    ] = 320,
    detection_interval: Annotated[
        float,
        search_option(help="Seconds between searches for new faces while others are tracked.", metavar="S"),
    ] = 1.0,
    prefer: Annotated[
        str,
        tracking_option(
            help="Which faces are tracked where there are more than --max-faces: largest, score, centre.",
            metavar="WHICH",
        ),
    ] = "largest",
    threshold: Threshold = None,
    smooth: Annotated[
        bool,
        results_option("--smooth/--no-smooth", help="Smooth keypoints over time."),
    ] = True,
    features: Features = False,
    focal: Focal = None,
    names: Names = False,
    snapshot_dir: Annotated[
        Path,
        output_option(help="Folder for frames saved by key or in the browser.", metavar="FOLDER"),
    ] = Path("snapshots"),
    serve_token: Annotated[
        str | None,
        output_option(help="Token for --serve and --websocket; visible in the list of processes.", metavar="TOKEN"),
    ] = None,
    serve_token_file: Annotated[
        Path | None,
        output_option(
            help="File with the token. (default: the variable KPEDGE_SERVE_TOKEN, else a new token)", metavar="FILE"
        ),
    ] = None,
    window: Annotated[
        bool | None,
        window_option("--window/--no-window", help="Show a window. (default: without other outputs)"),
    ] = None,
    pose: Annotated[bool, window_option("--pose", help="Draw the head pose.")] = False,
    mirror: Annotated[bool, window_option("--mirror", help="Mirror the displayed image.")] = False,
    licence: Licence = ANY,
    threads: Threads = 1,
    provider: Provider = "cpu",
    backend: Backend = "auto",
    **outputs: Any,
) -> None:
    """Detect and track faces in a camera, video or stream, and show or send them live.

    Keys in the window: q quits, space pauses, s saves the frame, h lists the others. Needs neither PyTorch nor a GPU.
    Ctrl-C ends the run and finishes its files.
    """
    import cv2

    from kpedge.runtime.features import lacking_line
    from kpedge.runtime.live import LiveReport, run_live
    from kpedge.runtime.overlay import Layers
    from kpedge.runtime.server.access import find_token
    from kpedge.runtime.sinks.sink import Controls
    from kpedge.runtime.sinks.snapshots import SnapshotSink
    from kpedge.runtime.sources.open import open_source
    from kpedge.runtime.tracker import FaceTracker

    if (serve_token is not None or serve_token_file is not None) and not (outputs["serve"] or outputs["websocket"]):
        raise UsageError("--serve-token is for a preview", "add --serve or --websocket")
    tracker = FaceTracker(
        licensed(model, licence),
        licensed(detector, licence),
        max_side=max_side,
        threshold=threshold,
        threads=threads,
        provider=provider,
        backend=backend,
        max_faces=max_faces,
        detection_interval=detection_interval,
        prefer=prefer,
        smooth=smooth,
    )
    cv2.setNumThreads(threads)  # what it does here is too small to be shared out
    controls = Controls(Layers(pose=pose, mirror=mirror), tracker.predictor.threshold)
    problems: list[OutputError] = []

    def broken(problem: OutputError) -> None:
        output.error(problem)
        problems.append(problem)

    report = LiveReport()
    with _stopping_on_signals(controls) as caught, contextlib.ExitStack() as opened:
        opened.callback(_print_report, report)
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

        scheme = tracker.predictor.model.card.scheme
        requested = [one for one in OUTPUTS if outputs[one.name] not in (None, False)]
        needs_features = features or any(one.features for one in requested)
        if needs_features and (line := lacking_line(scheme)):
            output.say(line)
        token = find_token(serve_token, serve_token_file)
        context = OutputContext(frames, scheme, controls, output.say, needs_features, force, token)
        for sink in open_outputs(OUTPUTS, outputs, context, [source]):
            add(sink)
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
        if outputs["serve"] and not (frames.live or realtime):
            output.say("the file is tracked as fast as possible; to watch it in the browser, add --realtime")
        if provider != "cpu":
            output.say(f"provider: {getattr(tracker.predictor.model, 'provider', 'cpu')}")
        run_live(
            frames,
            tracker,
            sinks,
            controls,
            pose=any(one.pose for one in requested),
            features=needs_features,
            focal=focal,
            names=names,
            report=report,
            max_frames=max_frames,
            duration=duration,
            poll=lambda: [poll() for poll in polls],
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


def _open_window(title: str, controls: Controls, broken: Callable[[OutputError], None] | None) -> WindowSink | None:
    """A window; if none can be opened, other outputs continue if there are any."""
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
    Yields the signals that came.
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


def _print_report(report: LiveReport) -> None:
    """Print a summary of a run."""
    if not report.seconds:
        return
    frames, faces = format_count(report.frames, "frame"), format_count(report.faces, "face")
    output.say(f"{frames} in {report.seconds:.1f} s, {report.frames / report.seconds:.1f} fps; {faces}")
    if report.frames:
        steps = ", ".join(f"{step} {1000 * spent / report.frames:.2f}" for step, spent in report.steps.items())
        output.say(f"per frame, in ms: {steps}")
