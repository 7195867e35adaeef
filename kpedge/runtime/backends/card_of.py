"""The card of a model file, read without onnxruntime."""

import io
import zipfile
from pathlib import Path

from kpedge.core.card import EXTRA_FILE, METADATA_KEY, Card, card_from_json
from kpedge.core.errors import CorruptModelError
from kpedge.core.files import read_bytes
from kpedge.core.model_zoo import CORE_ML_FILE


def card_of(path: Path) -> Card:
    """The card in the metadata of an ONNX file or Core ML package, at the end of a LiteRT or ExecuTorch file, or in the
    folder of a model that has several files.

    Raises:
        CorruptModelError: there is none.
    """
    if path.is_dir() and not (path / CORE_ML_FILE).is_file():
        return card_from_json(read_bytes(path / EXTRA_FILE, CorruptModelError), str(path))
    data = read_bytes(path / CORE_ML_FILE if path.is_dir() else path, CorruptModelError)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return card_from_json(archive.read(EXTRA_FILE), str(path))
    except (zipfile.BadZipFile, KeyError):
        return card_from_json(_metadata_entry(data, str(path)), str(path))


def with_card(content: bytes, card: Card) -> bytes:
    """The content of a model file with its card at the end, as a ZIP archive: where LiteRT keeps a model's associated
    files, and `unzip -p FILE` prints it.
    """
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(EXTRA_FILE, date_time=(1980, 1, 1, 0, 0, 0)), card.to_json())
    return file.getvalue()


def _metadata_entry(data: bytes, source: str) -> bytes:
    """The value of the metadata entry with the card: in protobuf's encoding the key, a tag, the length in groups of
    seven bits, the value.
    """
    key = METADATA_KEY.encode()
    start = data.rfind(bytes([0x0A, len(key)]) + key + b"\x12")
    if start < 0:
        raise CorruptModelError(f"{source}: not a model file with a kpedge card")
    position, length, shift = start + len(key) + 3, 0, 0
    while position < len(data):
        byte = data[position]
        position, length, shift = position + 1, length | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            break
    return data[position : position + length]
