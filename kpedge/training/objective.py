"""From a batch to the loss: the module whose gradient a step takes."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from kpedge.core.scheme import KeypointScheme
from kpedge.data.mixture import Batch
from kpedge.models.keypoint_model import KeypointModel
from kpedge.training.config import TrainConfig
from kpedge.training.losses import distribution_loss, error_loss, face_loss, keypoint_loss

ERROR_WEIGHT = 0.1
"""Weight of the expected errors' loss. It moves nothing but the layer that expects them; small, so that it does not use
up the limit of the gradient's norm."""
LOSS_NAMES = ("keypoint_loss", "face_loss", "error_loss")


class SetOffsets(nn.Module):
    """Where other sets put their points, relative to the main set: a constant a point and set, learnt in training and
    not part of the model. Two sets never agree on where a nose wing ends; without this the model would learn a mean of
    both habits.

    An offset and its mirror image are the same, so mirrored samples need no care.

    Args:
        sets: number of sets, the main one counted; two at least.
        scheme: of the keypoints.
    """

    mirror_order: Tensor
    sign: Tensor

    def __init__(self, sets: int, scheme: KeypointScheme) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(sets - 1, len(scheme), 2))
        self.register_buffer("mirror_order", torch.as_tensor(scheme.mirror_order), persistent=False)
        self.register_buffer("sign", torch.tensor([-1.0, 1.0]), persistent=False)

    def forward(self, source: Tensor) -> Tensor:
        """Offsets for samples of the sets `source`, (N,): float32 (N, K, 2), in the units of the loss."""
        values = (self.values + self.values[:, self.mirror_order] * self.sign) / 2
        return torch.cat([torch.zeros_like(values[:1]), values])[source]


class Objective(nn.Module):
    """A model with its loss.

    Attributes:
        model: what is trained.
        offsets: of the other sets; None where there is one set.

    Args:
        model: what is trained.
        config: names the losses and their weights.
        sets: number of sets.
        scheme: of the keypoints.
    """

    def __init__(self, model: KeypointModel, config: TrainConfig, sets: int, scheme: KeypointScheme) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.offsets = SetOffsets(sets, scheme) if sets > 1 else None

    def forward(self, crops: Tensor, keypoints: Tensor, face: Tensor, source: Tensor) -> Tensor:
        """Sums over a batch.

        Args:
            crops: uint8 (N, H, W, C).
            keypoints: (N, K, 2), fractions of the crop, NaN where not labelled.
            face: (N,), 1 or 0.
            source: (N,), number of the set.

        Returns:
            (5,): the sums of `LOSS_NAMES`, the number of labelled points, the number of samples whose face was
            told rightly.
        """
        config, device_type = self.config, crops.device.type
        mixed: Any = contextlib.nullcontext()
        if config.precision != "float32":
            mixed = torch.autocast(device_type, dtype=getattr(torch, config.precision))
        with mixed:
            output = self.model.raw(crops)
        output = {name: value.float() for name, value in output.items()}  # type: ignore[assignment, attr-defined]
        if self.offsets is not None:
            output["points"] = output["points"] + self.offsets(source)
        target = self.model.standardise(keypoints)
        points, known = keypoint_loss(config.loss, output, target)
        points = points + distribution_loss(output, keypoints)
        faces, right = points.new_zeros(()), points.new_zeros(())
        if "logit" in output:
            faces = face_loss(output["logit"], face, config.positive_weight)
            right = ((output["logit"].detach() > 0) == (face > 0.5)).sum()
        return torch.stack([points, faces, error_loss(output, target), known, right])


def batch_tensors(batch: Batch, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The arguments of `Objective` from a batch, on a device."""
    arrays = (batch.crops, batch.keypoints, batch.face, batch.source)
    crops, keypoints, face, source = (torch.from_numpy(array).to(device, non_blocking=True) for array in arrays)
    return crops, keypoints, face, source


def total_loss(config: TrainConfig, sums: Tensor, points: Tensor, samples: Tensor) -> Tensor:
    """The loss of a step from the sums of `Objective`, over `points` labelled points and `samples` samples."""
    per_point = 1 / points.clamp(min=1)
    return (
        config.keypoint_weight * sums[0] * per_point
        + config.face_weight * sums[1] / samples.clamp(min=1)
        + ERROR_WEIGHT * sums[2] * per_point
    )
