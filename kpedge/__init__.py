"""kpedge: train face-keypoint models, prove their exports, and run them on edge devices.

for frame, faces in kpedge.track("video.mp4"):
    ...
faces = kpedge.FacePipeline()(image)
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kpedge.core.faces import Detection, Face, Pose
    from kpedge.runtime.pipeline import FacePipeline
    from kpedge.runtime.sources.source import Frame
    from kpedge.runtime.tracker import FaceTracker
    from kpedge.runtime.video import track

PIXEL_LIMIT = "OPENCV_IO_MAX_IMAGE_PIXELS"
"""The environment variable with the number of pixels from which on OpenCV refuses to decode an image: 3 bytes each.
OpenCV reads it when it is imported, and would decode 2^30.
"""
os.environ.setdefault(PIXEL_LIMIT, str(1 << 28))

__version__ = "0.1.0"
__all__ = ["Detection", "Face", "FacePipeline", "FaceTracker", "Frame", "Pose", "__version__", "track"]

_HOMES = {
    "Detection": "kpedge.core.faces",
    "Face": "kpedge.core.faces",
    "FacePipeline": "kpedge.runtime.pipeline",
    "FaceTracker": "kpedge.runtime.tracker",
    "Frame": "kpedge.runtime.sources.source",
    "Pose": "kpedge.core.faces",
    "track": "kpedge.runtime.video",
}
"""Public name -> the module that it lives in: imported when it is first used, so that `import kpedge` costs nothing."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
