"""The one writer of output: results on standard output, words for people on standard error."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kpedge.core.errors import KpedgeError


def say(line: str) -> None:
    """Tell people something, on standard error."""
    print(line, file=sys.stderr, flush=True)


def result(text: str) -> None:
    """Give a result, on standard output."""
    print(text, flush=True)


def result_json(document: Any, *, indent: int | None = None) -> None:
    """Give a result as one JSON document."""
    result(json.dumps(document, indent=indent, ensure_ascii=False))


def error(problem: KpedgeError) -> None:
    """Tell what went wrong: one line, with what to do next."""
    message = " ".join(str(problem).split())
    say(f"error: {message}" + (f" — {problem.advice}" if problem.advice else ""))


MOST_LINES = 20


def say_some(lines: Sequence[str], rest: str = "") -> None:
    """Tell people the first of some lines, and how many more there are; `rest` says where they are listed."""
    for line in lines[:MOST_LINES]:
        say(line)
    if len(lines) > MOST_LINES:
        say(f"… and {len(lines) - MOST_LINES} more" + (f"; {rest}" if rest else ""))


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Give a table as a result: columns aligned, the first `left` to the left and the rest to the right."""
    widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(aligned).rstrip()

    result(line(headers))
    result("  ".join("─" * width for width in widths))
    for row in rows:
        result(line(row))


def percent(value: float | None) -> str:
    """A fraction in percent for a table, a dash where there is none."""
    return "–" if value is None else f"{value:.2%}"


@contextlib.contextmanager
def progress(title: str, *, streams: bool = False) -> Iterator[Callable[..., None]]:
    """A progress bar on a terminal, nothing elsewhere.

    Args:
        title: stands before the bar.
        streams: results are given meanwhile; then there is no bar where they go to the terminal too.

    Yields:
        A function that takes (done, of how many) and, optionally, a line to show beside the bar.
    """
    if not sys.stderr.isatty() or (streams and sys.stdout.isatty()):
        yield lambda *_arguments: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    # Left alone, rich would send standard output, and with it the results, to standard error.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(title, total=None, note="")

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield update


def on_terminal() -> bool:
    """Whether people watch standard error on a terminal."""
    return sys.stderr.isatty()
