"""The keypoint task: model, batches, loss and validation of stages 1 to 3, for the training loop."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kpedge.core.card import ModelCard
from kpedge.core.drawing import face_grid
from kpedge.core.errors import DataError
from kpedge.core.geometry import CropRule, Image
from kpedge.core.keypoints import conversion
from kpedge.core.scheme import KeypointScheme
from kpedge.data.mixture import Batch, Mixture, in_scheme
from kpedge.data.packed import PreparedSet
from kpedge.data.sampling import CropSampler, labelled_fractions
from kpedge.data.transforms import Transforms
from kpedge.evaluation.compare import Record
from kpedge.evaluation.keypoint_metrics import NO_BETTER, measure
from kpedge.models.initialise import initialise
from kpedge.models.keypoint_model import ARCHITECTURES, KeypointModel, empty_model
from kpedge.models.stage3 import Stage3
from kpedge.training.config import TrainConfig
from kpedge.training.curves import keypoint_curves
from kpedge.training.distributed import World
from kpedge.training.keypoint_loss import KeypointLoss
from kpedge.training.keypoint_validation import Validation, loss_record, validate, validation_data
from kpedge.training.recipes import network_options
from kpedge.training.task import TrainResult
from kpedge.training.weights import InitWeights, Notify, parameter_groups

PREVIEW_FACES, PREVIEW_SIDE = 16, 168  # faces of a validation preview, and the side of each, pixels


class KeypointTask:
    """Training of a keypoint model, of a key of `ARCHITECTURES`, on prepared sets, the main one first; the others may
    have points of other schemes. The card names the weights `init` that training starts from.

    Raises:
        UsageError: a pattern of `freeze` or `lr_groups` fits no layer, or the configuration fits no network.
        DataError: there is nothing to train or validate on, or no point of the main set follows from those of another.
    """

    def __init__(
        self,
        recipe: str,
        sets: Sequence[PreparedSet],
        config: TrainConfig,
        world: World,
        init: InitWeights | None,
        notify: Notify,
    ) -> None:
        main = sets[0].scheme
        for one in sets[1:]:
            if one.scheme != main and one.face.any():
                count = len(conversion(one.scheme, main).known)
                notify(f"{one.info['name']}: {count} of {main.name}'s {len(main)} points follow from {one.scheme.name}")
        self.config = config = adapt_config(config, main, notify)
        sets = [in_scheme(one, main) for one in sets]
        for one in sets:
            kept = one.info["settings"]["size"]
            if config.crop_size > kept:
                notify(f"warning: {one.path} was prepared for crops of {kept} pixels, which are enlarged")
        self.card = card = new_card(recipe, sets, config, init)
        self.samplers = [
            CropSampler(
                one,
                card.size,
                card.colour,
                card.crop,
                config.jitter(),
                config.seed,
                config.photometric(),
                Transforms(config.transforms) if config.transforms else None,
            )
            for one in sets
        ]
        negatives = config.negatives if card.has_score else 0.0
        self.mixture = Mixture(self.samplers, negatives, config.extra_ratio, config.seed)
        self.model = new_model(card, sets[0], config)
        self.groups = parameter_groups(self.model.network, config, notify)
        self.loss = KeypointLoss(self.model, config, len(sets), main).to(world.device)
        if self.loss.offsets is not None:
            if init is not None and init.bias is not None:
                known = [one["source_sha256"] for one in init.training["sets"]]
                self.loss.offsets.restore(init.bias, known, [one.source_sha256 for one in sets])
            self.groups.append({"params": [self.loss.offsets.values], "lr": config.lr, "weight_decay": 0.0})
        self.validation = validation_data(self.samplers, card)
        truth = self.validation.faces.truth
        self.baseline = measure(np.broadcast_to(card.mean_shape, truth.keypoints.shape), truth).nme_box
        lines = [f"{one.info['name']} {one.source_sha256[:8]}" for one in sets]
        self.settings = {"recipe": recipe, "sets": lines, "scheme": main.name}

    def steps_per_epoch(self, world: World) -> int:
        return self.mixture.steps(self.config.batch_size, world.world_size)

    def batches(self, epoch: int, world: World, workers: int) -> Iterator[tuple[Tensor, ...]]:
        for batch in self.mixture.batches(
            epoch, self.config.batch_size, rank=world.rank, world=world.world_size, workers=workers
        ):
            yield batch_tensors(batch, world.device)

    def training_record(self, losses: Tensor, counts: Tensor) -> Record:
        score = self.card.has_score
        record = {
            f"train_{name}": value
            for name, value in loss_record(self.loss, torch.cat([losses, counts]), score=score).items()
        }
        if score:
            _, samples, faces, right_faces, right_negatives = counts.tolist()
            record |= {
                "train_accuracy": (right_faces + right_negatives) / max(samples, 1),
                "train_face_accuracy": right_faces / max(faces, 1),
                "train_negative_accuracy": right_negatives / max(samples - faces, 1),
            }
        return record

    def validate(self, model: KeypointModel, world: World) -> Validation:
        return validate(model, self.loss, self.validation, world)

    def describe(self, card: ModelCard, model: KeypointModel, result: Validation | None) -> ModelCard:
        """The card with what was measured. The model's score is calibrated as well."""
        if result is None:
            return card
        figures = result.accuracy.headline()
        if result.face is not None:
            model.calibration.copy_(torch.tensor(result.calibration))
            figures |= result.face.to_dict()
            figures |= {"faces": result.accuracy.faces, "scored_faces": result.face.faces}
        threshold = None if result.face is None else result.face.threshold
        return replace(card, accuracy={"validation": figures}, threshold=threshold)

    def warning(self, epoch: int, history: Sequence[Record]) -> str | None:
        """A warning if nothing has been learned after a tenth of the run."""
        errors = [record["val_nme"] for record in history if "val_nme" in record]
        if not errors or epoch < max(5, self.config.epochs // 10) or min(errors) <= NO_BETTER * self.baseline:
            return None
        return (
            f"after {epoch} epochs the validation error ({min(errors):.2%}) is no better than the mean-shape baseline "
            f"({self.baseline:.2%}): the network ignores the image; see --init and --lr"
        )

    def result(self, record: Record, **rest: Any) -> TrainResult:
        return TrainResult(record=record, error=record["val_nme"], baseline=self.baseline, **rest)

    def preview(self, result: Validation) -> Image:
        """Validation faces with labelled and predicted points, and each face's error."""
        errors, faces = result.accuracy.face_errors, self.validation.faces
        shown = np.linspace(0, len(errors) - 1, min(PREVIEW_FACES, len(errors))).astype(int)
        return face_grid(
            faces.crops[shown],
            faces.truth.keypoints[shown],
            result.predicted[shown],
            faces.truth.scheme,
            [f"{errors[index]:.1%}" for index in shown],
            columns=4,
            side=PREVIEW_SIDE,
        )

    def example(self) -> Image | None:
        return self.validation.faces.crops[:2]

    def curves(self, history: list[Record]) -> Any:
        return keypoint_curves(history, self.baseline)


def adapt_config(config: TrainConfig, scheme: KeypointScheme, notify: Notify) -> TrainConfig:
    """The configuration as far as a scheme allows it: without mirror pairs samples are not mirrored."""
    if not config.mirror or scheme.can_mirror:
        return config
    notify(f"mirroring is off: the scheme {scheme.name} lists no mirror pairs (docs/schemes.md)")
    return replace(config, mirror=False)


def batch_tensors(batch: Batch, device: str) -> tuple[Tensor, ...]:
    """A batch as arguments of `KeypointLoss`, on a device."""
    arrays = (batch.crops, batch.keypoints, batch.face, batch.source)
    return tuple(torch.from_numpy(array).to(device, non_blocking=True) for array in arrays)


def new_card(
    recipe: str, sets: Sequence[PreparedSet], config: TrainConfig, init: InitWeights | None = None
) -> ModelCard:
    """The card of a model that is about to be trained on sets, the main one first, starting from the weights `init`.

    Raises:
        DataError: the main set has no face to train on, or a point that is labelled on none.
    """
    network, rule, main = ARCHITECTURES[recipe], CropRule(), sets[0]
    faces = main.indices("train")
    if not len(faces):
        raise DataError(f"{main.path}: no face to train on", "give the set with faces first")
    shapes = labelled_fractions(main, faces, rule)
    never = [main.scheme.points[index] for index in np.flatnonzero(np.isnan(shapes).all(axis=(0, 2)))]
    if never:
        listed = ", ".join(never[:3]) + (f" and {len(never) - 3} more" if len(never) > 3 else "")
        raise DataError(
            f"{main.path}: of {main.scheme.name}'s points {listed} {'is' if len(never) == 1 else 'are'} labelled on no "
            "face to train on",
            "give a set with all points as --data, and this one as --extra-data; or a scheme with fewer points",
        )
    normalise = {} if config.normalise == "crop" else {"normalise": config.normalise}
    names = ("name", "terms", "counts")
    return ModelCard(
        name=recipe,
        task="face keypoints" if issubclass(network, Stage3) else "keypoints",
        architecture={"name": recipe, "options": network_options(recipe, config), **normalise},
        size=config.crop_size,
        colour=config.colour,
        crop=rule,
        scheme=main.scheme,
        mean_shape=np.nanmean(shapes, axis=0),
        training={
            "sets": [{**{name: one.info[name] for name in names}, "source_sha256": one.source_sha256} for one in sets],
            "recipe": config.to_dict(),
            "start": None if init is None else init.to_dict(),
        },
    )


def new_model(card: ModelCard, main: PreparedSet, config: TrainConfig) -> KeypointModel:
    """The model of a card, initialised; torch's seed is set by the caller."""
    model = empty_model(card)
    initialise(model.network, config.init, config.init_args)
    shapes = labelled_fractions(main, main.indices("train"), card.crop)
    model.spread.fill_(max(float(np.nanstd(shapes - card.mean_shape)), 1e-4))
    return model
