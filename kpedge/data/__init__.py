"""Label formats, prepared sets, sampling, augmentation, checks, public sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpedge.core.lazy import lazy_names

if TYPE_CHECKING:
    from kpedge.data.formats import read_format as read_format
    from kpedge.data.packed import PreparedSet as PreparedSet
    from kpedge.data.packed import open_set as open_set
    from kpedge.data.preparation import prepare as prepare

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "kpedge.data.formats": ("read_format",),
        "kpedge.data.packed": ("PreparedSet", "open_set"),
        "kpedge.data.preparation": ("prepare",),
    },
)
__all__ = __dir__()
