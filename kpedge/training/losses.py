"""Losses. Small pure functions on tensors; what is not labelled does not count."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kpedge.models.heads.targets import target_distributions
from kpedge.models.stage2 import RawOutput

BETA = 0.3
"""Where smooth L1 goes over from square to straight, in units of the shapes' deviation (about a pixel of 112)."""
WING_WIDTH, WING_CURVE = 2.0, 0.4
"""Wing loss: within the width the logarithm acts, and how sharply it bends; in the proportion of the paper (10 and 2
pixels), in units of the shapes' deviation."""
RECTIFIED = 0.1
"""Rectified wing: an error below this counts as none, as it is within the labels' own error."""


def _wing(error: Tensor, dead: float = 0.0) -> Tensor:
    size = error.abs()
    offset = WING_WIDTH - WING_WIDTH * math.log1p((WING_WIDTH - dead) / WING_CURVE)
    near = WING_WIDTH * torch.log1p((size - dead).clamp(min=0) / WING_CURVE)
    return torch.where(size < WING_WIDTH, near, size - offset)


POINT_LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "mse": torch.square,
    "l1": torch.abs,
    "smooth-l1": lambda error: nn.functional.smooth_l1_loss(
        error, torch.zeros_like(error), beta=BETA, reduction="none"
    ),
    "wing": _wing,  # Feng et al. 2018
    "rectified-wing": lambda error: _wing(error, RECTIFIED),  # Feng et al. 2020
    # The distance itself, which the mean error measures; a small constant keeps its gradient finite at 0.
    "euclidean": lambda error: (error.square().sum(dim=-1, keepdim=True) + 1e-6).sqrt().expand_as(error),
}
"""Name -> loss of errors (N, K, 2), in units of the shapes' deviation, of each coordinate."""


def keypoint_loss(name: str, output: RawOutput, target: Tensor) -> tuple[Tensor, Tensor]:
    """The keypoints' loss summed over labelled points, and how many there are.

    A head that gives distributions is also trained towards Gaussians around the points.

    Args:
        name: a key of `POINT_LOSSES`.
        output: of the network, for N samples.
        target: (N, K, 2), NaN where a point is not labelled, as all points of a negative are.

    Returns:
        Sum and number, scalars.
    """
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
    wanted = target_distributions(torch.where(known[..., None], fractions, 0.5), logits)
    if logits.shape[2] == 2:
        entropy = -(wanted * logits.log_softmax(dim=-1)).sum(dim=-1).mean(dim=-1)
    else:
        entropy = -(wanted.flatten(2) * logits.flatten(2).log_softmax(dim=-1)).sum(dim=-1)
    total: Tensor = torch.sum(entropy * known)
    return total


def error_loss(output: RawOutput, target: Tensor) -> Tensor:
    """How badly the expected errors fit the errors made, summed over labelled points: the negative log-likelihood of
    an exponential distribution of distances. The points learn nothing from it.
    """
    if "error" not in output:
        return target.new_zeros(())
    known = target.isfinite().all(dim=-1)
    distance = torch.where(known[..., None], output["points"].detach() - target, 0.0).norm(dim=-1)
    total: Tensor = torch.sum((distance / output["error"] + output["error"].log()) * known)
    return total


def face_loss(logit: Tensor, face: Tensor, positive_weight: float) -> Tensor:
    """Weighted cross-entropy of logits (N,) with labels (N,), 1 for a face and 0 for none, summed.

    It takes logits: a sigmoid or softmax in front of a cross-entropy that takes one itself leaves hardly any gradient.
    """
    return nn.functional.binary_cross_entropy_with_logits(
        logit, face, pos_weight=logit.new_tensor(positive_weight), reduction="sum"
    )
