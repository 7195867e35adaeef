"""Train face-keypoint models, verify their exports, and run them on edge devices.

    model = kpedge.load("stage3")
    for face in model("photo.jpg"):
        print(face["nose_tip"], face.pose)
    for frame, faces in kpedge.track("video.mp4"):
        ...

`kpedge.data`, `kpedge.training`, `kpedge.evaluation` and `kpedge.export` do the rest; docs/python.md has examples.
"""

from __future__ import annotations

import os
import re
import warnings
from typing import TYPE_CHECKING

from kpedge.core.lazy import lazy_names

if TYPE_CHECKING:
    from kpedge.core.errors import CorruptModelError as CorruptModelError
    from kpedge.core.errors import DataError as DataError
    from kpedge.core.errors import ImageError as ImageError
    from kpedge.core.errors import KpedgeError as KpedgeError
    from kpedge.core.errors import MissingExtraError as MissingExtraError
    from kpedge.core.errors import ModelError as ModelError
    from kpedge.core.errors import OutputError as OutputError
    from kpedge.core.errors import ParityError as ParityError
    from kpedge.core.errors import SourceError as SourceError
    from kpedge.core.errors import TrainingError as TrainingError
    from kpedge.core.errors import UsageError as UsageError
    from kpedge.core.faces import Detection as Detection
    from kpedge.core.faces import Face as Face
    from kpedge.core.faces import Features as Features
    from kpedge.core.faces import ImageFaces as ImageFaces
    from kpedge.core.faces import Pose as Pose
    from kpedge.core.images import read_image as read_image
    from kpedge.runtime.batch import BatchPredictor as BatchPredictor
    from kpedge.runtime.face_model import FaceModel as FaceModel
    from kpedge.runtime.face_model import load as load
    from kpedge.runtime.pipeline import FacePipeline as FacePipeline
    from kpedge.runtime.sources.source import Frame as Frame
    from kpedge.runtime.tracker import FaceTracker as FaceTracker
    from kpedge.runtime.video import track as track

PIXEL_LIMIT = "OPENCV_IO_MAX_IMAGE_PIXELS"
"""The environment variable with the number of pixels from which on OpenCV refuses to decode an image: 3 bytes each.
OpenCV reads it when it is imported, and would decode 2^30.
"""
_limit = os.environ.setdefault(PIXEL_LIMIT, str(1 << 28))
if not re.fullmatch(r"\d{1,18}|\d{1,12}[KM][Bb]", _limit):  # at others OpenCV aborts the process
    os.environ[PIXEL_LIMIT] = str(1 << 28)
    warnings.warn(f"{PIXEL_LIMIT}={_limit!r} is not a whole number; {1 << 28} is used", stacklevel=2)
# Or else onnxruntime, as soon as it is imported, writes an identifier of this machine into the home folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "kpedge.core.errors": (
            *("KpedgeError", "UsageError", "MissingExtraError", "OutputError", "ImageError", "SourceError"),
            *("DataError", "TrainingError", "ModelError", "CorruptModelError", "ParityError"),
        ),
        "kpedge.core.faces": ("Detection", "Face", "Features", "ImageFaces", "Pose"),
        "kpedge.core.images": ("read_image",),
        "kpedge.runtime.batch": ("BatchPredictor",),
        "kpedge.runtime.face_model": ("FaceModel", "load"),
        "kpedge.runtime.pipeline": ("FacePipeline",),
        "kpedge.runtime.sources.source": ("Frame",),
        "kpedge.runtime.tracker": ("FaceTracker",),
        "kpedge.runtime.video": ("track",),
    },
)
__all__ = [*__dir__(), "__version__"]
