"""Reading XML of strangers: no document type, so no entities that grow or that read other files."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat  # noqa: S405, RUF100

from kpedge.core.errors import DataError
from kpedge.core.files import read_bytes
from kpedge.data.rows import RowError

LARGEST = 1 << 24
"""Bytes of a file from which on it is no label."""


class _RefusedError(Exception):
    """A document type was declared."""


def read_xml(path: Path) -> Element:
    """The root element of an XML file.

    Raises:
        RowError: it cannot be read, is no XML, or declares a document type.
    """
    try:
        data = read_bytes(path, DataError, limit=LARGEST)
    except DataError as error:
        raise RowError("unreadable", str(error).removeprefix(f"{path}: ")) from error
    if len(data) == LARGEST:
        raise RowError("too large", f"the file has {LARGEST >> 20} MiB or more")
    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(data, True)
    except _RefusedError:
        raise RowError("document type", "it declares a document type, which labels do not need; remove it") from None
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise RowError("not XML", f"not XML: {error}") from error
    return builder.close()


def _refuse(*_arguments: object) -> None:
    raise _RefusedError


def text_of(element: Element, path: str) -> str:
    """The text of an element below, without blanks around it; empty where there is none."""
    found = element.find(path)
    return "" if found is None else (found.text or "").strip()
