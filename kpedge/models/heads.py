"""Heads: from feature maps to keypoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kpedge.core.choices import HEADS
from kpedge.core.errors import UsageError
from kpedge.models.backbones import Maps
from kpedge.models.blocks import ConvBlock

SIGMA = 1.0
"""Standard deviation of the target distributions of heatmap and SimCC, in cells."""


class Neck(nn.Module):
    """The maps as one vector: a 1x1 convolution to few channels keeps the linear layer behind it small, and keeps
    where things are, which pooling would throw away.

    Args:
        channels: of the map, or of all the maps where `joined`.
        cells: of the coarsest map.
        reduced: channels kept.
        features: length of the vector.
        dropout: probability of dropping one of its numbers in training.
        norm: a name of `choices.NORMS`.
        joined: use all maps, averaged down to the coarsest, not the last alone.
    """

    def __init__(
        self,
        channels: list[int],
        cells: int,
        *,
        reduced: int = 32,
        features: int = 128,
        dropout: float = 0.0,
        norm: str = "batch",
        joined: bool = False,
    ) -> None:
        super().__init__()
        self.joined = joined
        self.reduce = ConvBlock(sum(channels) if joined else channels[-1], reduced, 1, norm=norm)
        self.linear = nn.Linear(reduced * cells, features)
        self.act = nn.ReLU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Maps) -> Tensor:
        """Maps to (N, features)."""
        last = maps[-1]
        if self.joined:
            finer = [
                nn.functional.avg_pool2d(found, 2 ** (len(maps) - 1 - level)) for level, found in enumerate(maps[:-1])
            ]
            last = torch.cat([*finer, last], dim=1)
        vector: Tensor = self.dropout(self.act(self.linear(self.reduce(last).flatten(1))))
        return vector


class CoordinateHead(nn.Module):
    """Coordinates by a linear layer, in units of the training shapes' deviation from their mean."""

    relative = True

    def __init__(self, features: int, keypoints: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * keypoints)

    def forward(self, vector: Tensor, _maps: Maps) -> tuple[Tensor, None]:
        """(N, features) to points, (N, K, 2)."""
        flat: Tensor = self.linear(vector)
        return flat.reshape(flat.shape[0], -1, 2), None


class SimccHead(nn.Module):
    """Two distributions a point, over columns and over rows, read at their mean (SimCC, Li et al. 2022).

    Args:
        features: length of the vector.
        keypoints: number of points K.
        bins: cells along each axis.
    """

    relative = False

    def __init__(self, features: int, keypoints: int, bins: int = 112) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * keypoints * bins)
        self.bins = bins

    def forward(self, vector: Tensor, _maps: Maps) -> tuple[Tensor, Tensor]:
        """(N, features) to points, (N, K, 2), fractions of the crop, and logits, (N, K, 2, bins)."""
        flat: Tensor = self.linear(vector)
        logits = flat.reshape(flat.shape[0], -1, 2, self.bins)
        centres = (torch.arange(self.bins, device=flat.device, dtype=logits.dtype) + 0.5) / self.bins
        return (logits.softmax(dim=-1) * centres).sum(dim=-1), logits


class HeatmapHead(nn.Module):
    """A map a point, read at its mean, which is sub-pixel (integral regression, Sun et al. 2018).

    A pyramid's finest map is used as it is; of other backbones the coarsest is enlarged step by step
    (Xiao et al. 2018).

    Args:
        channels: of the backbone's maps.
        sides: of the backbone's maps, cells.
        keypoints: number of points K.
        norm: a name of `choices.NORMS`.
        pyramid: whether the maps are a pyramid's.
        width: channels in between.
    """

    relative = False

    def __init__(
        self, channels: list[int], sides: list[int], keypoints: int, *, norm: str, pyramid: bool, width: int = 48
    ) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.grow = nn.ModuleList()
        before, side = (channels[0], sides[0]) if pyramid else (channels[-1], sides[-1])
        while side < sides[0]:
            self.grow.append(ConvBlock(before, width, norm=norm))
            before, side = width, side * 2
        if side != sides[0]:
            raise UsageError("--head heatmap: this backbone's maps do not double in size", "take another --backbone")
        self.last = nn.Conv2d(before, keypoints, 1)

    def forward(self, _vector: Tensor | None, maps: Maps) -> tuple[Tensor, Tensor]:
        """Maps to points, (N, K, 2), fractions of the crop, and logits, (N, K, H, W)."""
        found = maps[0] if self.pyramid else maps[-1]
        for layer in self.grow:
            found = layer(nn.functional.interpolate(found, scale_factor=2.0, mode="nearest"))
        logits: Tensor = self.last(found)
        height, width = logits.shape[2:]
        chance = logits.flatten(2).softmax(dim=-1).reshape(logits.shape)
        columns = (torch.arange(width, device=logits.device, dtype=logits.dtype) + 0.5) / width
        rows = (torch.arange(height, device=logits.device, dtype=logits.dtype) + 0.5) / height
        x = (chance.sum(dim=2) * columns).sum(dim=-1)
        y = (chance.sum(dim=3) * rows).sum(dim=-1)
        return torch.stack([x, y], dim=-1), logits


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


def new_head(
    name: str, features: int, channels: list[int], sides: list[int], keypoints: int, *, norm: str, pyramid: bool
) -> CoordinateHead | SimccHead | HeatmapHead:
    """A head by name.

    Raises:
        UsageError: there is none of that name.
    """
    if name == "coordinates":
        return CoordinateHead(features, keypoints)
    if name == "simcc":
        return SimccHead(features, keypoints)
    if name == "heatmap":
        return HeatmapHead(channels, sides, keypoints, norm=norm, pyramid=pyramid)
    raise UsageError(f"--head must be one of {', '.join(HEADS)}, not {name!r}")
