"""Rendering latency measurements: a header, a Markdown table, a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kpedge.bench.latency import BenchOptions, LatencyRow
from kpedge.core.card import Card
from kpedge.core.extras import importable, installed
from kpedge.core.text import format_count

HEADERS = ("backend", "device", "threads", "batch", "median ms", "p95 ms", "times faster than eager")


def measured_how(options: BenchOptions, where: dict[str, Any]) -> dict[str, Any]:
    """What has to be known to read any figures; `where` is `machine.describe()` from before the rounds."""
    gpu = None
    if installed("torch"):
        import torch

        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "machine": {**where, "gpu": gpu},
        "threads": list(options.threads),
        "rounds": options.rounds,
        "calls_a_round": options.calls,
        "warmup_calls_a_round": options.warmup,
        "timed": "from uint8 inputs in memory to answers in memory, each in a process of its own",
    }


def header(card: Card, options: BenchOptions, where: dict[str, Any]) -> dict[str, Any]:
    """`measured_how` for the files of one model."""
    model = {"model": card.name, "input": list(card.nominal_input_shape), "weights_sha256": card.weights_sha256}
    return {**model, **measured_how(options, where)}


def header_lines(head: dict[str, Any]) -> list[str]:
    """The header for people."""
    shape = "×".join(map(str, head["input"]))
    return [f"{head['model']}, crops {shape}, weights {head['weights_sha256'][:12]}", *machine_lines(head)]


def machine_lines(head: dict[str, Any]) -> list[str]:
    """Machine, versions and rounds for people."""
    where, calls = head["machine"], format_count(head["warmup_calls_a_round"], "call")
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items() if name in _SHOWN)
    return [
        f"{where['cpu']}, {where['cores']} cores, load {where['load_1min']}, {where['system']}, "
        f"GPU {where['gpu'] or 'none'}",
        versions,
        f"{format_count(head['rounds'], 'interleaved round')}, each {calls} to warm up and "
        f"{head['calls_a_round']} timed; {head['timed']}",
    ]


_SHOWN = ("python", "torch", "onnxruntime", "onnxruntime-gpu", "numpy")


def cells(rows: Sequence[LatencyRow]) -> list[tuple[str, ...]]:
    """The rows as text, under `HEADERS`."""
    return [
        (
            row.backend,
            row.device,
            str(row.threads) if row.threads else "–",
            str(row.batch),
            f"{row.median_ms:.3f}",
            f"{row.p95_ms:.3f}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
        )
        for row in rows
    ]


def markdown(head: dict[str, Any], rows: Sequence[LatencyRow]) -> str:
    """Header and table as Markdown."""
    lines = [*(f"{line}  " for line in header_lines(head)), "", f"| {' | '.join(HEADERS)} |"]
    lines.append("|" + " --- |" * 2 + " ---: |" * (len(HEADERS) - 2))
    lines += [f"| {' | '.join(row)} |" for row in cells(rows)]
    return "\n".join(lines) + "\n"


FAR = 4.0
"""A 95th percentile beyond this many longest medians is shown by an arrow: the bars would be too short to compare."""


def latency_png(head: dict[str, Any], rows: Sequence[LatencyRow]) -> bytes:
    """A plot of the measured rows, PNG. Raises as `latency_figure`."""
    return bytes(importable("kpedge.core.plots", "train").to_png(latency_figure(head, rows)))


def latency_figure(head: dict[str, Any], rows: Sequence[LatencyRow]) -> Any:
    """The measured rows as bars of their medians, each with a mark at its 95th percentile, or with an arrow towards one
    that is far off: a matplotlib figure.
    """
    plots = importable("kpedge.core.plots", "train")
    shown = rows[::-1]
    figure, (axis,) = plots.new_figure(1, (8.5, 1.4 + 0.38 * max(1, len(shown))))
    colours = {backend: f"C{index}" for index, backend in enumerate(dict.fromkeys(row.backend for row in rows))}
    longest = max((row.median_ms for row in shown), default=1.0)
    tails = [row.p95_ms for row in shown]
    limit = 1.06 * max([longest, *(tail for tail in tails if tail <= FAR * longest)])
    for place, row in enumerate(shown):
        axis.barh(place, row.median_ms, color=colours[row.backend], height=0.7)
        if tails[place] <= limit:
            axis.plot([tails[place]], [place], "|", color="black", markersize=12)
        else:
            axis.plot([0.985 * limit], [place], ">", color="black", markersize=6)
        text = f"{row.median_ms:.2f}  (p95 {row.p95_ms:.2f})"
        axis.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    axis.set_yticks(range(len(shown)), [_label(row) for row in shown])
    axis.grid(visible=False, axis="y")
    beyond = "; arrow: beyond the axis" if max(tails, default=0.0) > limit else ""
    axis.set(
        xlim=(0, limit),
        xlabel=f"ms per call: bar median, mark p95{beyond}",
        title=f"{head['model']} on {head['machine']['cpu']}",
    )
    return figure


def _label(row: LatencyRow) -> str:
    threads = {0: "", 1: ", 1 thread"}.get(row.threads, f", {row.threads} threads")
    return f"{row.backend}, {row.device}{threads}, batch {row.batch}"
