"""Label formats, prepared sets, sampling, augmentation, checks, public sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpedge.core.lazy import lazy_names

if TYPE_CHECKING:
    from kpedge.data.formats import read_format as read_format
    from kpedge.data.packed import PreparedSet as PreparedSet
    from kpedge.data.packed import open_set as open_set
    from kpedge.data.preparation import prepare as prepare

_HOMES = {
    "prepare": "kpedge.data.preparation",
    "open_set": "kpedge.data.packed",
    "PreparedSet": "kpedge.data.packed",
    "read_format": "kpedge.data.formats",
}
__all__ = ["PreparedSet", "open_set", "prepare", "read_format"]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
