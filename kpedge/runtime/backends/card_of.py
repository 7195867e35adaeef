"""The card of a model file, read without onnxruntime."""

from __future__ import annotations

from pathlib import Path

from kpedge.core.card import EXTRA_FILE, METADATA_KEY, Card, card_from_json
from kpedge.core.errors import CorruptModelError
from kpedge.core.files import read_bytes


def card_of(path: Path) -> Card:
    """The card in an ONNX file's metadata, or in the folder of a model that has several files.

    Raises:
        CorruptModelError: there is none.
    """
    if path.is_dir():
        return card_from_json(read_bytes(path / EXTRA_FILE, CorruptModelError), str(path))
    return card_from_json(_onnx_entry(read_bytes(path, CorruptModelError), str(path)), str(path))


def _onnx_entry(data: bytes, source: str) -> bytes:
    """The value of the metadata entry with the card: in protobuf's encoding the key, a tag, the length in groups of
    seven bits, the value.
    """
    key = METADATA_KEY.encode()
    start = data.rfind(bytes([0x0A, len(key)]) + key + b"\x12")
    if start < 0:
        raise CorruptModelError(f"{source}: not an ONNX file with a kpedge card")
    position, length, shift = start + len(key) + 3, 0, 0
    while position < len(data):
        byte = data[position]
        position, length, shift = position + 1, length | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            break
    return data[position : position + length]
