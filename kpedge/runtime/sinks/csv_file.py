"""Faces as a CSV file, for spreadsheets, R and pandas."""

import csv
import io
from pathlib import Path

from kpedge.core.files import output_error, refuse_existing
from kpedge.core.scheme import KeypointScheme
from kpedge.runtime.sinks.partial import PartialFile
from kpedge.runtime.sinks.rows import FRAME, face_columns, frame_rows
from kpedge.runtime.sinks.sink import LiveFrame


class CsvSink:
    """Writes a row per face, and one for a frame without any; `NAME.part.csv` grows meanwhile.

    Raises:
        OutputError: the file exists, or cannot be written.
    """

    def __init__(self, path: Path, scheme: KeypointScheme, *, features: bool = False, force: bool = False) -> None:
        self._features = features
        refuse_existing(path, force=force)
        self._out: PartialFile | None = PartialFile(path, force=force)
        self._write([[*FRAME, *face_columns(scheme, features=features)]])

    def show(self, live: LiveFrame) -> None:
        self._write(frame_rows(live, features=self._features))

    def _write(self, rows: list[list[object]]) -> None:
        if self._out is None:
            return
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        try:
            self._out.file.write(text.getvalue().encode())
        except OSError as error:
            raise output_error(self._out.path, error) from error

    def close(self) -> None:
        out, self._out = self._out, None
        if out is not None:
            out.finish()
