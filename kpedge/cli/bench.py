"""`kpedge bench`: how fast a model is in each of its file formats."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, Json, examples
from kpedge.cli.report import Report
from kpedge.core.errors import UsageError
from kpedge.core.extras import importable
from kpedge.core.leftovers import temporary_folder
from kpedge.core.machine import describe, usable_cores
from kpedge.core.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL, released, released_files, resolve_model

if TYPE_CHECKING:
    from kpedge.bench.latency import BenchOptions

LOAD_SECONDS = 10.0  # for how long `--pipeline` feeds frames at a camera's rate


app = typer.Typer()


@app.command(
    epilog=examples(
        "kpedge bench",
        "kpedge bench stage1 --batch 1 --batch 16",
        "kpedge bench models/stage3.onnx models/stage3.int8.onnx",
        "kpedge bench --data photos --out report",
        "kpedge bench --matrix --out matrix",
        "kpedge bench stage3 --matrix --data photos --rounds 5",
        "kpedge bench --detect --peer yunet=face_detection_yunet_2023mar.onnx",
        "kpedge bench --pipeline --rounds 5 --calls 300",
    )
)
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
    matrix: Annotated[
        bool,
        typer.Option(
            "--matrix",
            help="Measure models in every format and runtime of this machine: speed, size, memory, accuracy. "
            "(default: all released models)",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled photos or a prepared set to measure accuracy on. (default with --matrix: synthetic faces)"
        ),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(help="The same for detectors. (default with --matrix: synthetic frames)"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for latency.json, .md and .png, or those of the other measurements."),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Time PyTorch eager, TorchScript and onnxruntime in interleaved rounds, on CPU and on a GPU where there is one."""
    if detect + pipeline + matrix > 1:
        raise UsageError("--detect, --pipeline and --matrix are separate measurements", "run one after the other")
    if (data or frames) and (detect or pipeline):
        raise UsageError("--detect and --pipeline measure no accuracy", "leave --data and --frames out")
    report = Report(out, force, as_json)
    _warn_of_load()
    if pipeline:
        if files or peer or batch or threads:
            raise UsageError("--pipeline times the released models, on one thread", "leave files and the others out")
        _bench_pipeline(rounds, calls, warmup, report)
        return
    if detect:
        _bench_detection(files or [], peer or [], rounds, calls, warmup, report)
        return
    if peer:
        raise UsageError("--peer is another detector to time", "add --detect")
    if out:
        importable("matplotlib", "train")  # before the work, not after it
    if matrix and batch:
        raise UsageError("--matrix times single inputs", "leave --batch out")
    from kpedge.bench.latency import BenchOptions

    batches, counts = (tuple(dict.fromkeys(values)) for values in (batch or (1,), threads or (1, usable_cores())))
    options = BenchOptions(batches=batches, threads=counts, rounds=rounds, calls=calls, warmup=warmup)
    if matrix:
        _bench_matrix(files or [], options, data, frames, report)
    else:
        _bench_formats(files or [DEFAULT_MODEL], options, data, frames, report)


def _bench_formats(
    models: list[str], options: BenchOptions, data: Path | None, frames: Path | None, report: Report
) -> None:
    """`kpedge bench` without another measurement's flag."""
    from kpedge.bench.latency import bench_latency
    from kpedge.bench.report import header, header_lines, latency_figure, latency_table, markdown
    from kpedge.core.images import figure_png

    chosen = [path for name in models for path in released_files(name)]
    report.check("latency.json", "latency.md", "latency.png")
    where = describe()  # before the rounds, whose own load it should not report
    with output.progress("rounds") as update:
        card, rows, notes = bench_latency(chosen, options, data=data, frames=frames, progress=update)
    head = header(card, options, where)
    document = {**head, "rows": [asdict(row) for row in rows], "notes": notes}
    if report.write(
        "latency.json",
        document,
        lambda: {
            "latency.md": markdown(head, rows).encode(),
            "latency.png": figure_png(latency_figure(head, rows)),
        },
    ):
        return
    for line in header_lines(head):
        output.say(line)
    output.table(*latency_table(head, rows), left=2)
    for note in notes:
        output.say(note)
    best = min(rows, key=lambda row: row.median_ms / row.batch)
    output.say(f"fastest: {best.backend}, {best.device}, {best.median_ms / best.batch:.2f} ms per crop")


def _bench_matrix(
    models: list[str], options: BenchOptions, data: Path | None, frames: Path | None, report: Report
) -> None:
    """`kpedge bench --matrix`."""
    from kpedge.bench.matrix import bench_matrix
    from kpedge.bench.report import (
        machine_lines,
        matrix_cells,
        matrix_figure,
        matrix_headers,
        matrix_markdown,
        measured_how,
    )
    from kpedge.core.images import figure_png

    report.check("matrix.json", "matrix.md", "matrix.png")
    head = measured_how(options, describe())
    rows, notes = [], []
    with temporary_folder() as temporary:
        folder = report.out or temporary
        head["samples"] = f"accuracy on {data or 'synthetic faces'}, of detectors on {frames or 'synthetic frames'}"
        for model in models or released():
            with output.progress(f"{model}: rounds") as update:
                some, reasons = bench_matrix(
                    model, folder / "models", options, data=data, frames=frames, progress=update
                )
            rows += some
            notes += reasons
    document = {**head, "rows": [asdict(row) for row in rows], "notes": notes}
    if report.write(
        "matrix.json",
        document,
        lambda: {
            "matrix.md": matrix_markdown(head, rows, notes).encode(),
            "matrix.png": figure_png(matrix_figure(head, rows)),
        },
    ):
        return
    for line in machine_lines(head):
        output.say(line)
    output.table(matrix_headers(options.threads), matrix_cells(rows, options.threads), left=4)
    for note in notes:
        output.say(note)


def _bench_detection(files: list[str], peers: list[str], rounds: int, calls: int, warmup: int, report: Report) -> None:
    """`kpedge bench --detect`."""
    from kpedge.bench.detection_latency import FRAME, bench_detection

    if len(files) > 1:
        raise UsageError("--detect times one detector", "give one ONNX file, or none for the released one")
    named = {}
    for text in peers:
        name, _, path = text.partition("=")
        if not path:
            raise UsageError(f"--peer {text}: not NAME=FILE", "as in --peer yunet=face_detection_yunet_2023mar.onnx")
        named[name] = Path(path)
    report.check("detection.json")
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
    document = {**settings, "machine": where, "rows": [asdict(row) for row in rows]}
    if report.write("detection.json", document):
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


def _bench_pipeline(rounds: int, frames: int, warmup: int, report: Report) -> None:
    """`kpedge bench --pipeline`."""
    from kpedge.bench.clip import RATE, SIZE
    from kpedge.bench.pipeline import ALL_STEPS, FACE_SIDE, bench_load, bench_pipeline

    report.check("pipeline.json")
    where = describe()
    with output.progress("clips") as update:
        rows = bench_pipeline(rounds=rounds, frames=frames, warmup=warmup, progress=update)
    load = bench_load(LOAD_SECONDS)
    clip = f"{SIZE[0]}x{SIZE[1]} at {RATE:g} frames per second, faces of {FACE_SIDE:g} px"
    settings = {"clip": clip, "threads": 1, "rounds": rounds, "frames": frames, "warmup": warmup}
    document = {**settings, "machine": where, "rows": [asdict(row) for row in rows], "load": asdict(load)}
    if report.write("pipeline.json", document):
        return
    output.say(f"{clip}, 1 thread, {rounds} rounds of {frames} frames after {warmup} to warm up; ms per frame")
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
        f"one face at {load.rate:g} frames per second: {load.tracking:.1f} % of a core, with its pose "
        f"{load.with_pose:.1f} %, beyond the {load.decoding:.1f} % of decoding"
    )


def _warn_of_load() -> None:
    """Say if other programs keep the machine busy, where the system knows."""
    cores = os.cpu_count() or 1
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > cores:
        output.say(f"warning: the load is {load:.1f} on {cores} cores: other programs slow down what is measured")


def _say_machine(where: dict[str, Any]) -> None:
    """The plain figures of `describe`, in a line."""
    output.say(", ".join(f"{key} {value}" for key, value in where.items() if isinstance(value, str | int | float)))
