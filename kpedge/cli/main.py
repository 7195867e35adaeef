"""The `kpedge` command: its groups, and what an exception becomes."""

import contextlib
import importlib
import inspect
import io
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from kpedge import __version__
from kpedge.cli import output
from kpedge.cli.renamed import current_arguments
from kpedge.core.environment import NEEDED, import_error
from kpedge.core.errors import KpedgeError

COMMANDS = {
    "data": "data",
    "train": "train",
    "demo": "demo",
    "eval": "evaluate",
    "export": "export",
    "predict": "predict",
    "webcam": "webcam",
    "serve": "serve",
    "bench": "bench",
    "compare": "compare",
    "explain": "explain",
    "summary": "summary",
    "env": "environment",
    "doctor": "environment",
}
"""Command -> its module in `kpedge.cli`, whose `app` has it."""
_MAIN = threading.main_thread()
INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it


def new_app(command: str = "") -> typer.Typer:
    """The command line: one command alone, which is faster to start, or all of them if there is none of that name."""
    app = typer.Typer(
        name="kpedge",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    for module in [COMMANDS[command]] if command in COMMANDS else dict.fromkeys(COMMANDS.values()):
        app.add_typer(importlib.import_module(f"kpedge.cli.{module}").app)
    _tidy_help(app)
    return app


class _PlainFlags:
    """Of a command or group: its help shows no type after flags that take no value."""

    def get_params(self, ctx: Any) -> Any:
        parameters = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""  # typer would write <bool>
        return parameters


class _Group(_PlainFlags, TyperGroup):
    """A group of commands."""


def _tidy_help(group: typer.Typer | None) -> None:
    """Join the lines of each paragraph in the commands' help: the terminal wraps them, not the docstrings."""
    if group is None:
        return
    group.info.cls = _Group
    for command in group.registered_commands:
        own = command.cls or TyperCommand
        if not issubclass(own, _PlainFlags):
            command.cls = type("Command", (_PlainFlags, own), {})
        paragraphs = inspect.cleandoc(command.help or command.callback.__doc__ or "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for child in group.registered_groups:
        _tidy_help(child.typer_instance)


def _version(wanted: bool) -> None:
    if wanted:
        output.result(f"kpedge {__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Train, export, verify and run face-keypoint models."""
    del version


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """A list to which each Ctrl-C adds: libraries that load turn the KeyboardInterrupt into errors of their own."""
    seen: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    # In other threads, and where it is ignored or handled, nothing changes.
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or threading.current_thread() is not _MAIN:
        yield seen
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code."""
    with _interrupts() as interrupts:
        try:
            return _run(arguments, interrupts)
        except Exception:
            if interrupts:
                return INTERRUPTED
            raise


def _run(arguments: Sequence[str] | None, interrupts: list[int]) -> int:
    """`main`, and the one place where exceptions become advice and codes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name or a line that the terminal cannot show stops nothing.
            stream.reconfigure(errors="backslashreplace")
    try:
        given = current_arguments(sys.argv[1:] if arguments is None else arguments)
        command = next((argument for argument in given if not argument.startswith("-")), "")
        new_app(command)(args=given, prog_name="kpedge")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except KpedgeError as problem:
        output.error(problem)
        return problem.exit_code
    except (ImportError, AttributeError) as problem:
        if interrupts:
            return INTERRUPTED
        if isinstance(problem, AttributeError) and not any(map(import_error, NEEDED)):
            raise
        output.error(KpedgeError(f"this installation is broken: {problem}", "see: kpedge env"))
        return KpedgeError.exit_code
    except OSError as problem:
        output.error(
            KpedgeError(f"{problem.strerror or problem}" + (f": {problem.filename}" if problem.filename else ""))
        )
        return KpedgeError.exit_code
    return 0
