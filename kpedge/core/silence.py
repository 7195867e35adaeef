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
    with tempfile.TemporaryFile() as nowhere, contextlib.ExitStack() as stack:
        for number in (1, 2):
            kept = os.dup(number)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, number)
            os.dup2(nowhere.fileno(), number)
        with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):  # noqa: PTH123
            yield
