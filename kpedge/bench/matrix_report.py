"""Rendering the matrix of formats and runtimes: tables, Markdown, a plot of accuracy against latency."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from kpedge.bench.matrix import MatrixRow
from kpedge.bench.report import machine_lines
from kpedge.core.extras import importable
from kpedge.core.model_zoo import DEFAULT_DETECTOR

MARKERS = "osD^vP*X<>ph"


def matrix_headers(threads: Sequence[int]) -> tuple[str, ...]:
    """Names of the columns."""
    times = [f"ms, {count} thread{'s' * (count != 1)} (p95)" for count in threads]
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
        headers = matrix_headers(threads)[1:]
        lines += [
            "",
            f"## {model}",
            "",
            f"| {' | '.join(headers)} |",
            "|" + " --- |" * 3 + " ---: |" * (len(headers) - 3),
        ]
        lines += [f"| {' | '.join(cells[1:])} |" for cells in matrix_cells(list(some), threads)]
    return (
        "\n".join([*lines, *(["", "Not measured here:", "", *(f"- {note}" for note in notes)] if notes else [])]) + "\n"
    )


def matrix_png(head: dict[str, Any], rows: Sequence[MatrixRow]) -> bytes:
    """The plot, PNG. Raises as `matrix_figure`."""
    return bytes(importable("kpedge.core.plots", "train").to_png(matrix_figure(head, rows)))


def matrix_figure(head: dict[str, Any], rows: Sequence[MatrixRow]) -> Any:
    """Accuracy against latency on the first number of threads, an axis for each model: a matplotlib figure."""
    plots = importable("kpedge.core.plots", "train")
    models = [(name, list(some)) for name, some in groupby(rows, lambda row: row.model)]
    width = max(7.5, 4.2 * len(models))
    figure, axes = plots.new_figure(len(models), (width, 5.6))
    names = list(dict.fromkeys(_label(row) for row in rows))
    threads = head["threads"][0]
    shown: dict[str, Any] = {}
    for axis, (model, some) in zip(axes, models, strict=True):
        for row in some:
            if not row.median_ms:
                continue
            place, label = names.index(_label(row)), _label(row)
            latency = row.median_ms.get(threads, next(iter(row.median_ms.values())))
            accuracy = row.accuracy if is_detector(row) else 100 * row.accuracy
            style = {"color": f"C{place % 10}", "marker": MARKERS[place % len(MARKERS)], "alpha": 0.85}
            (shown[label],) = axis.plot(latency, accuracy, linestyle="none", markersize=8, **style)
        axis.set_xscale("log")
        plots.plain_log_ticks(axis.xaxis)
        axis.set(title=model, xlabel=f"median ms per input, {threads} thread{'s' * (threads != 1)}")
        axis.set_ylabel("average precision" if is_detector(some[0]) else "mean error, % of the box")
        axis.ticklabel_format(axis="y", useOffset=False)
    figure.legend(
        shown.values(), shown.keys(), loc="outside lower center", ncols=int(width / 2.4), frameon=False, fontsize=8
    )
    return figure


def _label(row: MatrixRow) -> str:
    return f"{row.format}, {row.backend}" + (f", {row.device}" if row.device != "cpu" else "")
