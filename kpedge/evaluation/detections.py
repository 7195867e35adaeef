"""What a detector finds in labelled frames, with the runtime's own code."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kpedge.core.geometry import Image
from kpedge.data.frames import FrameSet
from kpedge.evaluation.detection_metrics import FrameDetections
from kpedge.runtime.detector import FaceDetector, FrameModel

LOWEST = 0.02  # score of the lowest boxes that count for average precision
SIDE = 640  # longer side, pixels, at which frames are looked at unless the user asks for another


def find_in_frames(
    model: FrameModel,
    source: FrameSet,
    frames: Sequence[int] | NDArray[np.intp],
    side: int,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[FrameDetections]:
    """What a detector finds in frames of a set whose longer side has `side` pixels, as the boxes count them.
    `progress` gets (frames done, frames).
    """
    detector = FaceDetector(model, threshold=LOWEST, side=side)
    found = []
    for done, frame in enumerate(frames, 1):
        rows = source.faces(int(frame))
        image = source.image(int(frame))
        found.append(find_in_image(detector, image, source.boxes[rows], source.ignore[rows]))
        if progress:
            progress(done, len(frames))
    return found


def find_in_image(
    detector: FaceDetector, image: Image, truth: NDArray[np.float64], ignore: NDArray[np.bool_]
) -> FrameDetections:
    """What a detector finds in an image, with its labelled boxes (G, 4) and which of them to ignore (G,)."""
    _, zoom = next(detector.scaled_images(image))
    faces = detector(image)
    boxes = np.array([face.box for face in faces]).reshape(-1, 2, 2)
    return FrameDetections(
        boxes=((boxes + 0.5) * zoom - 0.5).reshape(-1, 4),
        scores=np.array([face.score for face in faces], dtype=np.float64),
        truth=((truth.reshape(-1, 2, 2) + 0.5) * zoom - 0.5).reshape(-1, 4),
        ignore=ignore,
    )
