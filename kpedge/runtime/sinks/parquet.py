"""Faces as a Parquet file, for analysis in pandas, Polars, DuckDB and Spark."""

import contextlib
from pathlib import Path
from typing import Any

from kpedge.core.errors import OutputError
from kpedge.core.extras import importable
from kpedge.core.files import refuse_existing
from kpedge.core.scheme import KeypointScheme
from kpedge.runtime.sinks.partial import PartialFile
from kpedge.runtime.sinks.rows import FRAME, face_columns, frame_rows
from kpedge.runtime.sinks.sink import LiveFrame

GROUP = 4096  # rows that are written at a time, as a row group


class ParquetSink:
    """Writes the table of `kpedge.runtime.sinks.rows`, with types; `NAME.part.parquet` grows meanwhile. Unlike a CSV
    file it can be read only once it is finished.

    Raises:
        OutputError: the file exists, or cannot be written.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, path: Path, scheme: KeypointScheme, *, features: bool = False, force: bool = False) -> None:
        self._arrow: Any = importable("pyarrow", "parquet")
        types = {str: self._arrow.string(), int: self._arrow.int64(), float: self._arrow.float64()}
        columns = FRAME | face_columns(scheme, features=features)
        self._schema: Any = self._arrow.schema([(name, types[kind]) for name, kind in columns.items()])
        self._features, self._rows = features, list[list[Any]]()
        refuse_existing(path, force=force)
        self._out = PartialFile(path, force=force)
        self._writer: Any = importable("pyarrow.parquet", "parquet").ParquetWriter(self._out.file, self._schema)

    def show(self, live: LiveFrame) -> None:
        if self._writer is None:
            return
        self._rows += frame_rows(live, features=self._features)
        if len(self._rows) >= GROUP:
            self._flush()

    def _flush(self) -> None:
        columns = zip(self._schema, zip(*self._rows, strict=True), strict=True) if self._rows else ()
        arrays = [self._arrow.array(values, field.type) for field, values in columns]
        self._rows = []
        try:
            if arrays:
                self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        except OSError as error:
            writer, self._writer = self._writer, None
            with contextlib.suppress(OSError):
                writer.close()
            self._out.discard()
            raise OutputError(f"cannot write {self._out.path}: {error}", "check the disk's space") from error

    def close(self) -> None:
        """Write what is left and the index, and give the file its name."""
        if self._writer is None:
            return
        self._flush()
        writer, self._writer = self._writer, None
        try:
            writer.close()
        except OSError as error:
            self._out.discard()
            raise OutputError(f"cannot write {self._out.path}: {error}", "check the disk's space") from error
        self._out.finish()
