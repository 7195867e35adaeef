"""`kpedge bench`: how fast a model is in each of its file formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, Json, examples, report_files, write_report
from kpedge.core.model_zoo import DEFAULT_MODEL

LOAD_SECONDS = 10.0
"""For how long `--pipeline` feeds frames at a camera's rate."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kpedge bench",
            "kpedge bench stage1 --batch 1 --batch 16",
            "kpedge bench models/stage3.onnx models/stage3.int8.onnx",
            "kpedge bench --out report --json",
            "kpedge bench --detect --peer yunet=face_detection_yunet_2023mar.onnx",
            "kpedge bench --pipeline --rounds 5 --calls 300",
        )
    )(bench)


def bench(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"Files of one model, a run folder, or a released model's name. (default: {DEFAULT_MODEL})"
        ),
    ] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Crops per call; repeatable. (default: 1)")] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="CPU threads; repeatable. (default: 1 and all)")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; in each, every file has a turn.")] = 20,
    calls: Annotated[int, typer.Option(min=1, help="Timed calls in a turn.")] = 30,
    warmup: Annotated[int, typer.Option(min=1, help="Calls before them.")] = 10,
    detect: Annotated[
        bool,
        typer.Option("--detect", help="Time finding faces in a 320x240 frame instead, one thread, next to stage 1."),
    ] = False,
    peer: Annotated[
        list[str] | None, typer.Option(help="With --detect: NAME=FILE of another detector: yunet; repeatable.")
    ] = None,
    pipeline: Annotated[
        bool,
        typer.Option("--pipeline", help="Time the live pipeline instead, step by step, for 1 to 10 faces, one thread."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for latency.json, .md and .png, or detection.json, or pipeline.json."),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Time PyTorch eager, TorchScript and onnxruntime in interleaved rounds, on CPU and on a GPU where there is one."""
    from kpedge.core.errors import UsageError

    if detect and pipeline:
        raise UsageError("--detect and --pipeline are two measurements", "run one after the other")
    if pipeline:
        if files or peer or batch or threads:
            raise UsageError("--pipeline times the released models, on one thread", "leave files and the others out")
        _bench_pipeline(rounds, calls, warmup, out, force, as_json)
        return
    if detect:
        _bench_detection(files or [], peer or [], rounds, calls, warmup, out, force, as_json)
        return
    from kpedge.bench.latency import BenchOptions, bench_latency
    from kpedge.bench.report import HEADERS, cells, header, header_lines, latency_png, markdown
    from kpedge.core.extras import importable
    from kpedge.core.machine import describe, usable_cores
    from kpedge.core.model_zoo import released_files

    if peer:
        raise UsageError("--peer is another detector to time", "add --detect")
    chosen = [path for name in files or [DEFAULT_MODEL] for path in released_files(name)]
    if out:
        importable("matplotlib", "train")  # before the work, not after it
    targets = report_files(out, ("latency.json", "latency.md", "latency.png"), force=force)
    options = BenchOptions(
        batches=tuple(dict.fromkeys(batch or (1,))),
        threads=tuple(dict.fromkeys(threads or (1, usable_cores()))),
        rounds=rounds,
        calls=calls,
        warmup=warmup,
    )
    where = describe()  # before the rounds, whose own load it should not report
    with output.progress("rounds") as update:
        card, rows = bench_latency(chosen, options, progress=update)
    head = header(card, options, where)
    document = {**head, "rows": [row.to_dict() for row in rows]}
    if out:
        contents = (document, markdown(head, rows).encode(), latency_png(head, rows))
        write_report(targets, dict(zip(targets, contents, strict=True)))
        output.say(f"report: {out}")
    if as_json:
        output.result_json(document, indent=1)
        return
    for line in header_lines(head):
        output.say(line)
    output.table(HEADERS, cells(rows), left=2)
    timed = [row for row in rows if row.median_ms is not None]
    best = min(timed, key=lambda row: (row.median_ms or 0) / row.batch)
    output.say(f"fastest: {best.backend}, {best.device}, {(best.median_ms or 0) / best.batch:.2f} ms per crop")


def _bench_detection(
    files: list[str],
    peers: list[str],
    rounds: int,
    calls: int,
    warmup: int,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """`kpedge bench --detect`."""
    from kpedge.bench.detection_latency import FRAME, bench_detection
    from kpedge.core.errors import UsageError
    from kpedge.core.machine import describe
    from kpedge.core.model_zoo import DEFAULT_DETECTOR, resolve_model

    if len(files) > 1:
        raise UsageError("--detect times one detector", "give one ONNX file, or none for the released one")
    named = {}
    for text in peers:
        name, _, path = text.partition("=")
        if not path:
            raise UsageError(f"--peer {text}: not NAME=FILE", "as in --peer yunet=face_detection_yunet_2023mar.onnx")
        named[name] = Path(path)
    targets = report_files(out, ("detection.json",), force=force)
    where = describe()
    with output.progress("rounds") as update:
        rows = bench_detection(
            resolve_model(files[0] if files else DEFAULT_DETECTOR),
            named,
            rounds=rounds,
            calls=calls,
            warmup=warmup,
            progress=update,
        )
    frame = f"{FRAME[0]}x{FRAME[1]}"
    settings = {"frame": frame, "threads": 1, "rounds": rounds, "calls": calls, "warmup": warmup}
    document = {**settings, "machine": where, "rows": [row.to_dict() for row in rows]}
    if out:
        write_report(targets, dict.fromkeys(targets, document))
        output.say(f"report: {out}")
    if as_json:
        output.result_json(document, indent=1)
        return
    output.say(f"one frame of {frame}, 1 thread, {rounds} rounds of {calls} calls after {warmup} to warm up")
    _say_machine(where)
    output.table(
        ("who", "what", "faces", "median, ms", "95 %, ms", "in stage 1's time"),
        [
            (
                row.name,
                row.what,
                "" if row.faces is None else str(row.faces),
                f"{row.median_ms:.3f}",
                f"{row.p95_ms:.3f}",
                f"{row.ratio:.2f}",
            )
            for row in rows
        ],
        left=2,
    )


def _bench_pipeline(rounds: int, frames: int, warmup: int, out: Path | None, force: bool, as_json: bool) -> None:
    """`kpedge bench --pipeline`."""
    from kpedge.bench.clip import RATE, SIZE
    from kpedge.bench.pipeline import ALL_STEPS, FACE_SIDE, bench_load, bench_pipeline
    from kpedge.core.machine import describe

    targets = report_files(out, ("pipeline.json",), force=force)
    where = describe()
    with output.progress("clips") as update:
        rows = bench_pipeline(rounds=rounds, frames=frames, warmup=warmup, progress=update)
    load = bench_load(LOAD_SECONDS)
    clip = f"{SIZE[0]}x{SIZE[1]} at {RATE:g} frames a second, faces of {FACE_SIDE:g} px"
    settings = {"clip": clip, "threads": 1, "rounds": rounds, "frames": frames, "warmup": warmup}
    document = {**settings, "machine": where, "rows": [row.to_dict() for row in rows], "load": load.to_dict()}
    if out:
        write_report(targets, dict.fromkeys(targets, document))
        output.say(f"report: {out}")
    if as_json:
        output.result_json(document, indent=1)
        return
    output.say(f"{clip}, 1 thread, {rounds} rounds of {frames} frames after {warmup} to warm up; ms a frame")
    _say_machine(where)
    output.table(
        ("faces", *ALL_STEPS, "total", "tracking", "x stage 1", "x its network", "calls", "files"),
        [
            (
                str(row.faces),
                *(f"{row.steps_ms[step]:.2f}" for step in ALL_STEPS),
                f"{row.total_ms:.2f}",
                f"{row.tracking_ms:.2f}",
                f"{row.ratio:.2f}",
                f"{row.network_ratio:.2f}",
                str(row.calls),
                str(row.files),
            )
            for row in rows
        ],
    )
    output.say(
        f"one face at {load.rate:g} frames a second: {load.tracking:.1f} % of a core, with its pose "
        f"{load.with_pose:.1f} %, beyond the {load.decoding:.1f} % of decoding"
    )


def _say_machine(where: dict[str, Any]) -> None:
    """The plain figures of `describe`, in a line."""
    output.say(", ".join(f"{key} {value}" for key, value in where.items() if isinstance(value, str | int | float)))
