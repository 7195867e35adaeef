"""Words for messages."""

import os
import shlex
import subprocess
from numbers import Integral

from kpedge.core.errors import UsageError


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return name.replace("_", "-").replace("lr-groups", "lr-group")


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Stop unless a setting is a whole number from `least` to `most`.

    Raises:
        UsageError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UsageError(f"{name} must be a whole number, not {value!r}")
    if int(value) < least:
        raise UsageError(f"{name} must be at least {least}, not {value}")
    if most is not None and int(value) > most:
        raise UsageError(f"{name} must be at most {most:,}, not {value}")


def format_count(count: int, noun: str) -> str:
    """A number of things, for messages: `1 photo`, `2,500 photos`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def format_duration(seconds: float) -> str:
    """A time for a line: `8 s`, `2 min 05 s`, `1 h 03 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def quote(path: object) -> str:
    """A path as the shell of this system takes it in a command."""
    return subprocess.list2cmdline([str(path)]) if os.name == "nt" else shlex.quote(str(path))


def shorten(text: str, letters: int) -> str:
    """A text of at most so many letters: the middle of a longer one is replaced by `~`."""
    if len(text) <= letters:
        return text
    return f"{text[: letters // 2]}~{text[letters // 2 + 1 - letters :]}"


def escape_bytes(text: str) -> str:
    """A text in which the bytes of a file name that are not UTF-8 are escaped, as `backslashreplace` does."""
    return text.encode("utf-8", "backslashreplace").decode()
