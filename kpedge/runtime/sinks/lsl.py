"""Faces as a stream of the Lab Streaming Layer, recorded together with EEG, eye trackers and markers."""

import math
from typing import Any

from kpedge.core.errors import OutputError
from kpedge.core.extras import importable
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import escape_bytes
from kpedge.runtime.sinks.rows import face_columns, face_row
from kpedge.runtime.sinks.sink import LiveFrame


class LslSink:
    """Pushes a sample per face, at an irregular rate, with LSL's time of its arrival. Channels are those of
    `face_columns`, and their labels are in the stream's description. By its source a recorder finds a stream again
    that was interrupted.

    Raises:
        MissingExtraError: pylsl is not installed.
        OutputError: liblsl is not.
    """

    def __init__(self, name: str, scheme: KeypointScheme, source: str = "", *, features: bool = False) -> None:
        try:
            lsl: Any = importable("pylsl", "lsl")
        except (RuntimeError, OSError) as error:  # pylsl without the library itself
            raise OutputError("--lsl: liblsl is not installed", "https://github.com/sccn/liblsl/releases") from error
        columns = face_columns(scheme, features=features)
        source = f"kpedge-{escape_bytes(source)}"
        info = lsl.StreamInfo(name, "Face", len(columns), lsl.IRREGULAR_RATE, "double64", source)
        channels = info.desc().append_child("channels")
        for column in columns:
            channels.append_child("channel").append_child_value("label", column)
        self._outlet: Any = lsl.StreamOutlet(info)
        self._clock, self._features = lsl.local_clock, features

    def show(self, live: LiveFrame) -> None:
        """Push a sample per face; missing values are NaN."""
        if self._outlet is None:
            return
        now = self._clock()
        for face in live.faces:
            values = face_row(face, len(live.scheme), features=self._features)
            self._outlet.push_sample([math.nan if value is None else float(value) for value in values], now)

    def close(self) -> None:
        self._outlet = None
