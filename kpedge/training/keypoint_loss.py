"""The loss of a keypoint model: from a batch to sums and counts."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kpedge.core.scheme import KeypointScheme
from kpedge.models.heads.head import target_distributions
from kpedge.models.keypoint_model import KeypointModel
from kpedge.models.stage2 import RawOutput
from kpedge.training.config import TrainConfig
from kpedge.training.registry import LOSSES as POINT_LOSSES

ERROR_WEIGHT = 0.1
"""Weight of the loss of per-point uncertainty. It trains no other layer than its own; small, so that it does not use up
the limit of the gradient's norm."""
LOSSES = ("keypoint", "face", "error")
COUNTS = ("points", "samples", "faces", "right faces", "right negatives")


class KeypointLoss(nn.Module):
    """A model with its loss, and the annotation bias of the other sets (`offsets`); None where there is one set."""

    def __init__(self, model: KeypointModel, config: TrainConfig, sets: int, scheme: KeypointScheme) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.offsets = DatasetBias(sets, scheme) if sets > 1 else None

    def forward(self, crops: Tensor, keypoints: Tensor, face: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of `LOSSES`, (3,), and `COUNTS`, (5,), of a batch: crops, uint8 (N, H, W, C); keypoints, (N, K, 2),
        fractions of the crop, NaN where not labelled; whether there is a face, and the number of the set, (N,).
        """
        dtype = getattr(torch, self.config.precision)
        with torch.autocast(crops.device.type, dtype, enabled=dtype != torch.float32):
            output = self.model.raw(crops)
        output = {name: value.float() for name, value in output.items()}  # type: ignore[assignment, attr-defined]
        if self.offsets is not None:
            output["points"] = output["points"] + self.offsets(source)
        return self.sums(output, keypoints, face)

    def sums(self, output: RawOutput, keypoints: Tensor, face: Tensor) -> tuple[Tensor, Tensor]:
        """The same of a network's output, float32."""
        target = self.model.standardise(keypoints)
        points, known = keypoint_loss(self.config.loss, output, target)
        points = points + distribution_loss(output, keypoints)
        faces = right_faces = right_negatives = points.new_zeros(())
        if "logit" in output:
            logit = output["logit"]
            faces = face_loss(logit, face, self.config.positive_weight, self.config.label_smoothing)
            right_faces = ((logit > 0) & (face > 0.5)).sum()
            right_negatives = ((logit <= 0) & (face <= 0.5)).sum()
        losses = torch.stack([points, faces, error_loss(output, target)])
        counts = [known, known.new_tensor(len(face)), (face > 0.5).sum(), right_faces, right_negatives]
        return losses, torch.stack([count.detach().to(losses.dtype) for count in counts])

    def total(self, losses: Tensor, counts: Tensor) -> Tensor:
        """The loss that is minimised: losses per labelled point and per sample, weighted and added."""
        points, samples = counts[0].clamp(min=1), counts[1].clamp(min=1)
        return (
            self.config.keypoint_weight * losses[0] / points
            + self.config.face_weight * losses[1] / samples
            + ERROR_WEIGHT * losses[2] / points
        )


class DatasetBias(nn.Module):
    """Where other sets place their points, relative to the main set: a constant per point and set, learned in training
    and not part of the model. Two sets never agree on where a nose wing ends; without this the model would learn a
    mean of both annotations.

    An offset and its mirror image are the same, so mirrored samples need no care.
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

    @torch.no_grad()
    def restore(self, bias: Tensor, known: Sequence[str], sets: Sequence[str]) -> None:
        """Take over the `values` that a run with the same main set learned about its sets, `known` by their hashes."""
        if known[:1] != sets[:1] or bias.shape[1:] != self.values.shape[1:]:
            return
        for row, name in enumerate(sets[1:]):
            if name in known[1:]:
                self.values[row] = bias[known[1:].index(name)]


def keypoint_loss(name: str, output: RawOutput, target: Tensor) -> tuple[Tensor, Tensor]:
    """A loss of `POINT_LOSSES` summed over points with targets (N, K, 2) that are not NaN, and their number."""
    known = target.isfinite().all(dim=-1)  # (N, K)
    error = torch.where(known[..., None], output["points"] - target, 0.0)
    return (POINT_LOSSES[name](error).mean(dim=-1) * known).sum(), known.sum()


def distribution_loss(output: RawOutput, fractions: Tensor) -> Tensor:
    """Cross-entropy of a head's distributions with Gaussians around points (N, K, 2), fractions of the crop, summed
    over labelled points; 0 for a head without distributions.
    """
    if "bins" not in output:
        return fractions.new_zeros(())
    known = fractions.isfinite().all(dim=-1)
    logits = output["bins"]
    target = target_distributions(torch.where(known[..., None], fractions, 0.5), logits)
    if logits.shape[2] == 2:
        entropy = -(target * logits.log_softmax(dim=-1)).sum(dim=-1).mean(dim=-1)
    else:
        entropy = -(target.flatten(2) * logits.flatten(2).log_softmax(dim=-1)).sum(dim=-1)
    return torch.sum(entropy * known)


def error_loss(output: RawOutput, target: Tensor) -> Tensor:
    """How badly the predicted uncertainty fits the errors made, summed over labelled points: the negative
    log-likelihood of an exponential distribution of distances. The points get no gradient from it.
    """
    if "error" not in output:
        return target.new_zeros(())
    known = target.isfinite().all(dim=-1)
    distance = torch.where(known[..., None], output["points"].detach() - target, 0.0).norm(dim=-1)
    return torch.sum((distance / output["error"] + output["error"].log()) * known)


def face_loss(logit: Tensor, face: Tensor, positive_weight: float, smoothing: float = 0.0) -> Tensor:
    """Weighted cross-entropy of logits (N,) with labels (N,), 1 for a face and 0 for none, summed.

    It takes logits: a sigmoid or softmax in front of a cross-entropy that takes one itself leaves hardly any gradient.
    Smoothing moves labels towards one half (Szegedy et al. 2016).
    """
    return nn.functional.binary_cross_entropy_with_logits(
        logit,
        face * (1 - smoothing) + smoothing / 2,
        pos_weight=logit.new_tensor(positive_weight),
        reduction="sum",
    )
