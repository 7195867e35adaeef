"""What the distributions of heatmap and SimCC heads are trained towards."""

from __future__ import annotations

import torch
from torch import Tensor

SIGMA = 1.0
"""Standard deviation of the target distributions, in cells."""


def target_distributions(points: Tensor, logits: Tensor) -> Tensor:
    """Gaussians of `SIGMA` cells around points, each summing to 1: what SimCC and heatmap logits are trained towards.

    Args:
        points: (N, K, 2), fractions of the crop; one outside it counts as on its edge, the nearest that a head can say.
        logits: (N, K, 2, bins) of SimCC, or (N, K, H, W) of a heatmap.

    Returns:
        Of the shape of the logits.
    """

    def along(cells: int, position: Tensor) -> Tensor:
        centres = torch.arange(cells, device=points.device, dtype=points.dtype) + 0.5
        bell = torch.exp(-0.5 * ((centres - position.clamp(0, 1)[..., None] * cells) / SIGMA).square()) + 1e-12
        return bell / bell.sum(dim=-1, keepdim=True)

    height, width = logits.shape[2:]
    if height == 2:
        return along(width, points)
    return along(height, points[..., 1])[..., :, None] * along(width, points[..., 0])[..., None, :]
