"""The one writer of output: results on standard output, messages on standard error."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from kpedge.core.errors import KpedgeError, OutputError
from kpedge.core.text import format_duration

if TYPE_CHECKING:
    from typing_extensions import Self


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


def say(line: str) -> None:
    """Print a message, on standard error. What would control the terminal, as in the name of a file, is escaped."""
    print(line.translate(_CONTROLS), file=sys.stderr, flush=True)


def result(text: str) -> None:
    """Print a result, on standard output.

    Raises:
        OutputError: it cannot be written there, as on a full disk.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:  # whoever read it has enough
        raise
    except OSError as error:
        advice = "check the free disk space where it leads"
        raise OutputError(f"cannot write to standard output: {error.strerror}", advice) from error


def result_json(document: Any, *, indent: int | None = None) -> None:
    """Print a result as one JSON document."""
    result(json.dumps(document, indent=indent, ensure_ascii=False))


def error(problem: KpedgeError) -> None:
    """Print an error: one line, with what to do next."""
    message, advice = " ".join(str(problem).split()), " ".join(problem.advice.splitlines())
    say(f"error: {message}" + (f" — {advice}" if advice else ""))


MOST_LINES = 20


def say_some(lines: Sequence[str], rest: str = "") -> None:
    """Print the first of some messages, and how many more there are; `rest` says where they are listed."""
    for line in lines[:MOST_LINES]:
        say(line)
    if len(lines) > MOST_LINES:
        say(f"… and {len(lines) - MOST_LINES} more" + (f"; {rest}" if rest else ""))


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a table as a result: columns aligned, the first `left` to the left and the rest to the right."""
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


LINE_EVERY = 5.0  # seconds between two lines of progress where there is no terminal


@contextlib.contextmanager
def progress(title: str, *, unit: str = "", streams: bool = False, resume: str = "") -> Iterator[Callable[..., None]]:
    """Progress of long work, on standard error: a bar on a terminal, a plain line every few seconds elsewhere. If
    results are printed meanwhile (`streams`), there is no bar if they go to the terminal, too, or to a program that may
    print there. After Ctrl-C a line says so, and how to `resume`.

    Yields a function of (done, of how many) and, optionally, a note to show with them; it need not be called.
    """
    try:
        with _progress(title, unit, streams) as update:
            yield update
    except KeyboardInterrupt:
        say(f"{title}: stopped by Ctrl-C" + (f"; {resume}" if resume else ""))
        raise


@contextlib.contextmanager
def _progress(title: str, unit: str, streams: bool) -> Iterator[Callable[..., None]]:
    lines = _ProgressLines(title, unit)
    if not sys.stderr.isatty() or (streams and _is_pipe(sys.stdout)):
        with lines:
            yield lines.update
        return
    if streams and sys.stdout.isatty():
        yield lines.update
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task
    from rich.text import Text

    class Words(ProgressColumn):
        def render(self, task: Task) -> Text:  # noqa: ARG002
            return Text(lines.line(), no_wrap=True, overflow="ellipsis")

    # By default rich would redirect standard output, and with it the results, to standard error.
    with Progress(BarColumn(20), Words(), console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(title, total=None)

        def update(done: int, total: int, note: str = "") -> None:
            lines.update(done, total, note)
            bar.update(task, completed=done, total=total)

        yield update


def _is_pipe(stream: TextIO) -> bool:
    """Whether a stream goes to another program, which may print on the same terminal."""
    try:
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # captured in memory, or closed
        return False


class _ProgressLines:
    """How far some work is, printed every `LINE_EVERY` seconds by a thread, however long a step of the work takes."""

    def __init__(self, title: str, unit: str) -> None:
        self._title, self._unit = title, unit
        self._began = time.monotonic()
        self._first: int | None = None
        self._done, self._total, self._note = 0, 0, ""
        self._stopped = threading.Event()

    def update(self, done: int, total: int, note: str = "") -> None:
        """Take note of the progress."""
        if self._first is None:
            self._first = max(0, done - 1)  # a resumed work does not start at 0
        self._done, self._total, self._note = done, total, note

    def line(self) -> str:
        """The progress in words."""
        passed = time.monotonic() - self._began
        if self._first is None:
            return f"{self._title}: {format_duration(passed)} elapsed"
        parts = [
            f"{self._title}: {self._done:,} of {self._total:,} {self._unit}".rstrip(),
            f"{format_duration(passed)} elapsed",
        ]
        if self._first < self._done < self._total:
            left = passed / (self._done - self._first) * (self._total - self._done)
            parts.append(f"{format_duration(left)} remaining")
        return f"{', '.join(parts)}  {self._note}".rstrip()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._print, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _print(self) -> None:
        while not self._stopped.wait(LINE_EVERY):
            say(self.line())


def on_terminal() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr.isatty()
