"""Rendering measurements: headers, tables, Markdown, plots."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from kpedge.bench.latency import BenchOptions, LatencyRow
from kpedge.core.card import Card, DetectorCard
from kpedge.core.extras import importable, installed
from kpedge.core.model_zoo import DEFAULT_DETECTOR
from kpedge.core.text import format_count

if TYPE_CHECKING:  # measuring a matrix needs PyTorch, `kpedge bench` of files does not
    from kpedge.bench.matrix import MatrixRow

ERROR, PRECISION = "mean error", "average precision"  # what the accuracy of a keypoint model, and of a detector, is


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
    model["accuracy"] = PRECISION if isinstance(card, DetectorCard) else ERROR
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


def latency_table(head: dict[str, Any], rows: Sequence[LatencyRow]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Names of the columns, and the rows as text; with the accuracy where it was measured."""
    headers = ("backend", "device", "threads", "batch", "median ms", "p95 ms", "times faster than eager")
    cells: list[tuple[str, ...]] = [
        (
            row.backend,
            row.device,
            str(row.threads) if row.threads else "–",
            str(row.batch),
            f"{row.median_ms:.3f}",
            f"{row.p95_ms:.3f}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            "" if row.accuracy is None else f"{row.accuracy:{'.2%' if head['accuracy'] == ERROR else '.3f'}}",
        )
        for row in rows
    ]
    if any(row.accuracy is not None for row in rows):
        return (*headers, str(head["accuracy"])), cells
    return headers, [row[:-1] for row in cells]


def markdown(head: dict[str, Any], rows: Sequence[LatencyRow]) -> str:
    """Header and table as Markdown."""
    table = markdown_table(*latency_table(head, rows), left=2)
    return "\n".join([*(f"{line}  " for line in header_lines(head)), "", *table]) + "\n"


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """The lines of a table whose first `left` columns are text."""
    rule = ["---"] * left + ["---:"] * (len(headers) - left)
    return [f"| {' | '.join(cells)} |" for cells in (headers, rule, *rows)]


FAR = 4.0  # a 95th percentile beyond this many longest medians is an arrow: the bars would be too short to compare


def latency_figure(head: dict[str, Any], rows: Sequence[LatencyRow]) -> Any:
    """The measured rows as a matplotlib figure: bars of medians with a mark, or an arrow, at the 95th percentile."""
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


MARKERS = "osD^vP*X<>ph"


def matrix_headers(threads: Sequence[int]) -> tuple[str, ...]:
    """Names of the columns."""
    times = [f"ms, {format_count(count, 'thread')} (p95)" for count in threads]
    sizes = ("load ms", "memory MB", "file MB", "packages MB")
    return ("model", "format", "runtime", "device", *times, *sizes, "difference", "NME or AP")


def matrix_cells(rows: Sequence[MatrixRow], threads: Sequence[int]) -> list[tuple[str, ...]]:
    """The rows as text, under `matrix_headers`."""
    return [
        (
            row.model,
            row.format,
            row.backend,
            row.device,
            *(f"{row.median_ms[n]:.3f} ({row.p95_ms[n]:.3f})" if n in row.median_ms else "" for n in threads),
            f"{row.load_ms:.0f}",
            "" if row.memory_mb is None else f"{row.memory_mb:.0f}",
            f"{row.file_mb:.2f}",
            f"{row.install_mb:.0f}",
            f"{row.difference:.1e}",
            accuracy_text(row),
        )
        for row in rows
    ]


def accuracy_text(row: MatrixRow) -> str:
    """A detector's average precision, a keypoint model's mean error in percent."""
    return f"{row.accuracy:.4f}" if is_detector(row) else f"{row.accuracy:.4%}"


def is_detector(row: MatrixRow) -> bool:
    """Whether the accuracy is an average precision."""
    return row.kind == DEFAULT_DETECTOR


def matrix_markdown(head: dict[str, Any], rows: Sequence[MatrixRow], notes: Sequence[str]) -> str:
    """Header, a table for each model, and what could not be measured."""
    threads = head["threads"]
    lines = [f"{line}  " for line in [*machine_lines(head), head["samples"]]]
    for model, some in groupby(rows, lambda row: row.model):
        cells = [row[1:] for row in matrix_cells(list(some), threads)]
        lines += ["", f"## {model}", "", *markdown_table(matrix_headers(threads)[1:], cells, left=3)]
    if notes:
        lines += ["", "Not measured here:", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def matrix_figure(head: dict[str, Any], rows: Sequence[MatrixRow]) -> Any:
    """Accuracy against latency on the first number of threads, an axis for each model: a matplotlib figure."""
    plots = importable("kpedge.core.plots", "train")
    models = [(name, list(some)) for name, some in groupby(rows, lambda row: row.model)]
    columns = min(len(models), 3)
    width = max(7.5, 4.8 * columns)
    figure, axes = plots.new_figure(len(models), (width, 1.4 + 4.2 * -(-len(models) // columns)), columns)
    names = list(dict.fromkeys(_matrix_label(row) for row in rows))
    threads = head["threads"][0]
    shown: dict[str, Any] = {}
    for axis, (model, some) in zip(axes, models, strict=True):
        for row in some:
            if not row.median_ms:
                continue
            place, label = names.index(_matrix_label(row)), _matrix_label(row)
            latency = row.median_ms.get(threads, next(iter(row.median_ms.values())))
            accuracy = row.accuracy if is_detector(row) else 100 * row.accuracy
            style = {"color": f"C{place % 10}", "marker": MARKERS[place % len(MARKERS)], "alpha": 0.85}
            (shown[label],) = axis.plot(latency, accuracy, linestyle="none", markersize=8, **style)
        axis.set_xscale("log")
        plots.plain_log_ticks(axis.xaxis)
        axis.set(title=model, xlabel=f"median ms per input, {format_count(threads, 'thread')}")
        axis.set_ylabel("average precision" if is_detector(some[0]) else "mean error, % of the box")
        axis.ticklabel_format(axis="y", useOffset=False)
    figure.legend(
        shown.values(), shown.keys(), loc="outside lower center", ncols=int(width / 2.4), frameon=False, fontsize=8
    )
    return figure


def _matrix_label(row: MatrixRow) -> str:
    return f"{row.format}, {row.backend}" + (f", {row.device}" if row.device != "cpu" else "")
