"""What every head is, and what their distributions are trained towards."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx, nn

from kpedge.models.backbones.backbone import Maps

SIGMA = 1.0  # standard deviation of the target distributions, in cells


@dataclass(frozen=True, slots=True)
class MapShapes:
    """The feature maps that a head reads."""

    channels: list[int]  # of each map
    sides: list[int]  # of each map, cells, the finest first
    merged: bool  # whether each map already holds what the coarser ones say


class Head(nn.Module):
    """Feature maps to keypoints.

    Args of every head's constructor:
        maps: the backbone's.
        features: length of the neck's vector.
        keypoints: number of points K.
        norm: a name of `kpedge.models.registry.NORMS`.
    """

    # whether points are in units of the training shapes' deviation from their mean, else fractions of the crop
    relative: ClassVar[bool] = False
    reads_maps: ClassVar[bool] = False  # whether it reads the maps, and not the neck's vector
    output: ClassVar[str] = "linear"  # name of the layer whose output is read, not rectified: it starts small

    def __init__(self, maps: MapShapes, features: int, keypoints: int, *, norm: str) -> None:
        super().__init__()

    def forward(self, vector: Tensor | None, maps: Maps) -> tuple[Tensor, Tensor | None]:
        """The neck's vector (N, features) and the maps to points, (N, K, 2), and a distribution's logits, if it has
        one.
        """
        raise NotImplementedError


@fx.wrap
def cell_centres(cells: Tensor) -> Tensor:
    """The middles of the last axis's cells as fractions of it, (cells,)."""
    count = cells.shape[-1]
    return (torch.arange(count, device=cells.device, dtype=cells.dtype) + 0.5) / count


def target_distributions(points: Tensor, logits: Tensor) -> Tensor:
    """Gaussians of `SIGMA` cells around points, each summing to 1, in the shape of logits: what those of SimCC (N, K,
    2, bins) and heatmaps (N, K, H, W) are trained towards. A point, in fractions of the crop, outside it counts as
    on its edge, the nearest that a head can say.
    """

    def along(cells: int, position: Tensor) -> Tensor:
        centres = torch.arange(cells, device=points.device, dtype=points.dtype) + 0.5
        bell = torch.exp(-0.5 * ((centres - position.clamp(0, 1)[..., None] * cells) / SIGMA).square()) + 1e-12
        return bell / bell.sum(dim=-1, keepdim=True)

    height, width = logits.shape[2:]
    if height == 2:
        return along(width, points)
    return along(height, points[..., 1])[..., :, None] * along(width, points[..., 0])[..., None, :]
