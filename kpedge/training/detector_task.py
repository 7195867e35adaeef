"""The detector task: model, batches, loss and validation of the face detector, for the training loop."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kpedge.core.card import DETECTOR, DetectorCard
from kpedge.core.errors import DataError
from kpedge.core.geometry import Image
from kpedge.core.keypoints import FACES5
from kpedge.data.frame_sampling import FrameSampler, View
from kpedge.data.frames import FrameSet
from kpedge.data.prefetch import prefetch
from kpedge.evaluation.compare import Record
from kpedge.evaluation.detection_metrics import SIDE
from kpedge.models.build import new_detector
from kpedge.models.detector import STRIDES, DetectorModel
from kpedge.training.config import DetectorConfig
from kpedge.training.curves import detector_curves
from kpedge.training.detector_loss import LOSSES, DetectorLoss
from kpedge.training.detector_validation import DetectorValidation, faces_to_find, validate_detector
from kpedge.training.distributed import World
from kpedge.training.task import TrainResult
from kpedge.training.weights import InitWeights, Notify, parameter_groups

SUPPRESSION = 0.45  # IoU above which the lower of two boxes is suppressed; faces in crowds overlap by less


class DetectorTask:
    """Training of the face detector on the train splits of frame sets; their validation splits choose the best
    checkpoint and its threshold. Photos of a set that is given twice are shown twice as often. The card names the
    weights `init` that training starts from.

    Raises:
        UsageError: a pattern of `freeze` or `lr_groups` fits no layer.
        DataError: no set has a face to validate on, or two have the same name.
    """

    baseline = 1.0

    def __init__(
        self,
        recipe: str,
        sets: Sequence[FrameSet],
        config: DetectorConfig,
        world: World,
        init: InitWeights | None,
        notify: Notify,
    ) -> None:
        shown, sets = sets, list({source.path.resolve(): source for source in sets}.values())
        names = [source.info["name"] for source in sets]
        if len(set(names)) < len(names):
            raise DataError(
                f"two of the sets have the same name: {', '.join(names)}", "prepare one with another --name"
            )
        if not any(faces_to_find(source) for source in sets):
            raise DataError("no face to validate on", "prepare a set with a larger --validation")
        self.config, self.sets = config, sets
        self.card = new_detector_card(shown, config, init)
        self.model = new_detector(self.card)
        self.groups = parameter_groups(self.model.network, config, notify)
        self.loss = DetectorLoss(self.model, config).to(world.device)
        self.sampler = FrameSampler(shown, config.size, config.jitter(), config.seed, config.background_weight)
        lines = [f"{source.info['name']} {source.info['source_sha256'][:8]}" for source in shown]
        self.settings: dict[str, Any] = {"recipe": recipe, "sets": lines}

    def steps_per_epoch(self, world: World) -> int:
        """Steps of every epoch: their number does not depend on how often each frame is drawn."""
        return len(self.sampler.order(1)) // (self.config.batch_size * world.world_size) or 1

    def batches(self, epoch: int, world: World, workers: int) -> Iterator[tuple[Tensor, ...]]:
        order, size = self.sampler.order(epoch), self.config.batch_size

        def load(step: int) -> list[View]:
            first = (step * world.world_size + world.rank) * size
            return [
                self.sampler.sample(int(order[place % len(order), 0]), int(order[place % len(order), 1]), epoch, place)
                for place in range(first, first + size)
            ]

        for views in prefetch(load, range(self.steps_per_epoch(world)), workers):
            yield tuple(tensor.to(world.device, non_blocking=True) for tensor in to_tensors(views))

    def training_record(self, losses: Tensor, counts: Tensor) -> Record:
        parts = {
            f"train_{name}_loss": float(value / counts[int(name == "points")].clamp(min=1))
            for name, value in zip(LOSSES, losses, strict=True)
        }
        return {"train_loss": float(self.loss.total(losses, counts)), **parts}

    def validate(self, model: DetectorModel, world: World) -> DetectorValidation:
        return validate_detector(model, self.card, self.sets, world)

    def describe(self, card: DetectorCard, _model: DetectorModel, result: DetectorValidation | None) -> DetectorCard:
        if result is None:
            return card
        return replace(card, accuracy={"validation": result.to_dict()}, threshold=result.threshold)

    def warning(self, _epoch: int, _history: Sequence[Record]) -> str | None:
        """None: there is no baseline that a detector could fail to beat for long."""
        return None

    def result(self, record: Record, **rest: Any) -> TrainResult:
        return TrainResult(record=record, error=1 - record["val_ap"], baseline=self.baseline, **rest)

    def preview(self, _result: DetectorValidation) -> Image | None:
        return None

    def example(self) -> Image | None:
        return None

    def curves(self, history: list[Record]) -> Any:
        return detector_curves(history)


def new_detector_card(
    sets: Sequence[FrameSet], config: DetectorConfig, init: InitWeights | None = None
) -> DetectorCard:
    """The card of a detector that is about to be trained, from the weights `init` where they are given."""
    names = ("name", "terms", "counts", "source_sha256")
    return DetectorCard(
        name="detector",
        task=DETECTOR,
        architecture={"name": "detector", "options": {}, **({"brighten": True} if config.brighten else {})},
        colour="bgr",
        scheme=FACES5,
        stride=max(STRIDES),
        side=SIDE,
        suppression=SUPPRESSION,
        training={
            "sets": [{name: source.info[name] for name in names} for source in sets],
            "recipe": config.to_dict(),
            "start": None if init is None else init.to_dict(),
        },
    )


def to_tensors(views: Sequence[View]) -> tuple[Tensor, ...]:
    """Views as arguments of `DetectorLoss`: uint8 (N, S, S, 3), and their faces, padded to the same number."""
    most = max(1, *(len(view.boxes) for view in views))
    boxes = np.zeros((len(views), most, 4), np.float32)
    points = np.full((len(views), most, len(FACES5), 2), np.nan, np.float32)
    real, ignore = np.zeros((2, len(views), most), bool)
    for row, view in enumerate(views):
        count = len(view.boxes)
        boxes[row, :count], points[row, :count] = view.boxes, view.points
        real[row, :count], ignore[row, :count] = ~view.ignore, view.ignore
    arrays = (np.stack([view.image for view in views]), boxes, points, real, ignore)
    return tuple(torch.from_numpy(array) for array in arrays)
