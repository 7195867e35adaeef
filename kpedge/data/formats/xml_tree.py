"""Reading XML of strangers: no document type, so no entities that grow or that read other files."""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from kpedge.core.errors import DataError
from kpedge.core.files import decode_text, read_bytes, text_encoding
from kpedge.data.rows import RowError, first_lines

LARGEST = 1 << 28  # bytes of the largest file that is read


class _Builder(TreeBuilder):
    def doctype(self, *_declaration: object) -> None:
        """Stop at a document type."""
        raise RowError("document type", "it declares a document type, which labels do not need; remove it")


def read_xml(path: Path, tag: str) -> Element:
    """The root element of an XML file.

    Raises:
        RowError: it cannot be read, is not XML, has another root element, or declares a document type.
    """
    try:
        data = read_bytes(path, DataError, limit=LARGEST)
    except DataError as error:
        raise RowError("unreadable", str(error).removeprefix(f"{path}: ")) from error
    if len(data) == LARGEST:
        raise RowError("too large", f"the file has {LARGEST >> 20} MiB or more")
    parser = XMLParser(target=_Builder())  # noqa: S314  document types are refused
    try:
        # a declared encoding holds for bytes alone: XML of Windows may declare UTF-8 in UTF-16
        parser.feed(data.rstrip(b"\0\x1a") if text_encoding(data) == "utf-8" else decode_text(data))
        root: Element = parser.close()
    except (ParseError, ValueError, LookupError) as error:
        raise RowError("not XML", f"not XML: {error}") from error
    if root.tag != tag:
        raise RowError("form", f"the root element is <{root.tag}>, expected <{tag}>")
    return root


def starts_with(path: Path, tag: str) -> bool:
    """Whether the first lines of a file open an element."""
    text = "".join(first_lines(path, 8))
    return path.suffix.lower() == ".xml" and (f"<{tag}>" in text or f"<{tag} " in text)


def text_of(element: Element, path: str) -> str:
    """The text of an element below, without blanks around it; "" if there is none."""
    found = element.find(path)
    return "" if found is None else (found.text or "").strip()
