"""Label formats, prepared sets, sampling, augmentation, checks, public sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpedge.core.lazy import lazy_names

if TYPE_CHECKING:
    from kpedge.core.keypoints import scheme_named as scheme_named
    from kpedge.data.formats import read_format as read_format
    from kpedge.data.frames import FrameSet as FrameSet
    from kpedge.data.frames import open_frames as open_frames
    from kpedge.data.pack_crops import PrepareOptions as PrepareOptions
    from kpedge.data.pack_frames import FrameOptions as FrameOptions
    from kpedge.data.packed import PreparedSet as PreparedSet
    from kpedge.data.packed import open_set as open_set
    from kpedge.data.preparation import prepare as prepare

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "kpedge.core.keypoints": ("scheme_named",),
        "kpedge.data.formats": ("read_format",),
        "kpedge.data.frames": ("FrameSet", "open_frames"),
        "kpedge.data.pack_crops": ("PrepareOptions",),
        "kpedge.data.pack_frames": ("FrameOptions",),
        "kpedge.data.packed": ("PreparedSet", "open_set"),
        "kpedge.data.preparation": ("prepare",),
    },
)
__all__ = __dir__()
