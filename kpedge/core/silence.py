"""Keeping what compiled libraries print away from the user."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Drop what is written to standard output and error, also by compiled libraries."""
    sys.stdout.flush()
    sys.stderr.flush()
    with (
        dropped(1),
        dropped(2),
        open(os.devnull, "w") as sink,  # noqa: PTH123
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(sink),
    ):
        yield


@contextlib.contextmanager
def dropped(number: int) -> Iterator[None]:
    """Drop what is written to a file descriptor, if it is open."""
    try:
        kept = os.dup(number)
    except OSError:
        yield
        return
    with tempfile.TemporaryFile() as nowhere:
        os.dup2(nowhere.fileno(), number)
        try:
            yield
        finally:
            os.dup2(kept, number)
            os.close(kept)
