"""Validation of a detector, with the runtime's own code on the frames of its sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import DetectorCard, Outputs
from kpedge.core.errors import TrainingError
from kpedge.core.geometry import box_size
from kpedge.data.frames import FrameSet
from kpedge.evaluation.detection_metrics import (
    SIDE,
    SMALLEST,
    DetectionAccuracy,
    FrameDetections,
    average_precision,
    choose_threshold,
    find_in_frames,
    match,
    measure_detections,
)
from kpedge.models.detector import DetectorModel
from kpedge.models.torch_model import TorchModel
from kpedge.runtime.detector import LARGEST_ZOOM, detector_model
from kpedge.training.distributed import World

VALIDATION_SIDE = 320  # longer side of validation frames, pixels: the smaller the frame, the harder its faces
ALARMS = 0.005  # most false positives per background photo, at either side: half of what the docs promise


def faces_to_find(source: FrameSet) -> int:
    """Faces of a set's validation split that are large enough to count at `VALIDATION_SIDE`."""
    count = 0
    for frame in source.frames("validation"):
        rows = source.faces(int(frame))
        zoom = min(VALIDATION_SIDE / max(source.height[frame], source.width[frame]), LARGEST_ZOOM)
        count += int(np.count_nonzero((zoom * box_size(source.boxes[rows]) >= SMALLEST) & ~source.ignore[rows]))
    return count


@dataclass(frozen=True, slots=True)
class DetectorValidation:
    """What was measured on the validation splits."""

    threshold: float  # the best operating point
    by_set: dict[str, DetectionAccuracy]  # name of a set -> its figures
    average_precision: float  # over the frames of all sets together

    @property
    def criterion(self) -> float:
        """What the best epoch has least of. A mean over sets would be dominated by the noise of the smallest."""
        return 1.0 - self.average_precision

    def record(self) -> dict[str, float]:
        """Average precision over all sets and of each set with faces, for the log."""
        return {"val_ap": self.average_precision} | {
            f"val_ap_{name}": one.average_precision
            for name, one in self.by_set.items()
            if one.average_precision is not None
        }

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON types."""
        return {"side": VALIDATION_SIDE, **{name: one.to_dict() for name, one in self.by_set.items()}}


class _InTraining(TorchModel):
    """A module that is being trained."""

    def __call__(self, inputs: NDArray[np.uint8]) -> Outputs:
        outputs = super().__call__(inputs)
        if not all(np.isfinite(value).all() for value in outputs.values()):
            raise TrainingError("the network's outputs are not finite", "use a lower --lr, or a --grad-clip")
        return outputs


def validate_detector(
    model: DetectorModel, card: DetectorCard, sets: Sequence[FrameSet], world: World | None = None
) -> DetectorValidation:
    """Measure a detector on the validation splits of sets, and choose its threshold there.

    Photos are searched at `VALIDATION_SIDE`, those without a face also at `SIDE`, where more of their texture shows.
    With several processes each searches its share; all get the whole.
    """
    eager = detector_model(_InTraining(model, card, str(next(model.parameters()).device)))
    world = world or World()

    def search(source: FrameSet, frames: NDArray[np.intp], side: int) -> list[FrameDetections]:
        return world.map(lambda mine: find_in_frames(eager, source, mine, side), frames.tolist())

    found = {
        str(source.info["name"]): search(source, source.frames("validation"), VALIDATION_SIDE)
        for source in sets
        if len(source.frames("validation"))
    }
    every = [frame for frames in found.values() for frame in frames]
    larger = []
    for source in sets:
        frames = source.frames("validation")
        larger += search(source, frames[source.first[frames] == source.first[frames + 1]], SIDE)
    background = [frame for frame in every if not len(frame.truth)], larger
    threshold = choose_threshold(
        match([frame for frame in every if len(frame.truth)]),
        [match(frames, smallest=0.0) for frames in background],
        alarms=ALARMS,
    )
    return DetectorValidation(
        threshold,
        {name: measure_detections(frames, threshold)[0] for name, frames in found.items()},
        average_precision(match(every)),
    )
