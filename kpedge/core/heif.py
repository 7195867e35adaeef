"""HEIF containers, as AVIF images are: how a viewer has to turn the stored pixels, which OpenCV leaves as they are."""

from collections.abc import Iterator

import numpy as np

from kpedge.core.geometry import Image

_Box = tuple[bytes, memoryview]


def show_upright(image: Image, data: bytes) -> Image:
    """An image, rotated and mirrored as its container asks for (ISO 23008-12, `irot` and `imir`)."""
    try:
        turns, mirror = _orientation(memoryview(data))
    except (LookupError, StopIteration):  # OpenCV reads containers that are damaged here
        return image
    image = np.rot90(image, turns)
    return np.ascontiguousarray(image if mirror is None else np.flip(image, mirror))


def _orientation(data: memoryview) -> tuple[int, int | None]:
    """Quarter turns to the left of the primary image, and then the axis of the array to mirror, if any."""
    meta = next(body[4:] for kind, body in _boxes(data) if kind == b"meta")
    inside = dict(_boxes(meta))
    item = inside[b"pitm"]
    primary = int.from_bytes(item[4 : 6 if item[0] == 0 else 8], "big")
    properties = dict(_boxes(inside[b"iprp"]))
    stored = list(_boxes(properties[b"ipco"]))
    own = dict(stored[index - 1] for index in _property_indices(properties[b"ipma"], primary) if index)
    turns = own[b"irot"][0] & 3 if b"irot" in own else 0
    return turns, own[b"imir"][0] & 1 if b"imir" in own else None


def _boxes(data: memoryview) -> Iterator[_Box]:
    """The boxes that follow each other in a container: type and content."""
    at = 0
    while at + 8 <= len(data):
        size, start = int.from_bytes(data[at : at + 4], "big"), at + 8
        if size == 1:  # 64 bits
            size, start = int.from_bytes(data[start : start + 8], "big"), at + 16
        end = at + size if size else len(data)
        if end < start:
            return
        yield bytes(data[at + 4 : at + 8]), data[start:end]
        at = end


def _property_indices(associations: memoryview, item: int) -> list[int]:
    """The numbers, from 1, of an item's properties in an `ipma` box."""
    id_size, size = 2 if associations[0] == 0 else 4, 2 if associations[3] & 1 else 1
    at = 8
    for _ in range(int.from_bytes(associations[4:8], "big")):
        own, count = int.from_bytes(associations[at : at + id_size], "big"), associations[at + id_size]
        at += id_size + 1
        if own == item:
            # The highest bit says whether a reader must know the property.
            mask = (1 << 8 * size - 1) - 1
            return [int.from_bytes(associations[at + size * n :][:size], "big") & mask for n in range(count)]
        at += size * count
    return []
