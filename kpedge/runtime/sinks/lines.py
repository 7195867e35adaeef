"""Faces as lines of JSON on a stream."""

import json
import os
from typing import Any, TextIO

from kpedge.core.errors import OutputError
from kpedge.core.text import escape_bytes
from kpedge.runtime.sinks.sink import Controls, LiveFrame


def encode(document: dict[str, Any]) -> str:
    """A document as one line of JSON; bytes of a file name that are not UTF-8 are escaped."""
    return escape_bytes(json.dumps(document, ensure_ascii=False, separators=(", ", ": ")))


class LinesSink:
    """Writes one line of JSON per frame, flushed at once, to a stream that stays open; a slow reader is waited for, and
    the run ends when it has gone.
    """

    def __init__(self, stream: TextIO, controls: Controls) -> None:
        self._stream: TextIO | None = stream
        self._controls = controls

    def show(self, live: LiveFrame) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            stream.write(encode(live.to_dict()) + "\n")
            stream.flush()
        except BrokenPipeError:
            self._abandon(stream)
            self._controls.stopping.set()
        except OSError as error:
            self._abandon(stream)
            raise OutputError(
                f"cannot write JSON lines: {error.strerror or error}", "check the free disk space where they go"
            ) from error

    def _abandon(self, stream: TextIO) -> None:
        """Python tries to write what is left when it ends, and would complain then."""
        self._stream = None
        try:
            number = stream.fileno()
        except (OSError, ValueError):
            return  # not a file of the system
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)

    def close(self) -> None:
        self._stream = None
