"""A probability map for each point."""

import torch
from torch import Tensor, nn

from kpedge.models.backbones.backbone import Maps
from kpedge.models.blocks import ConvBlock
from kpedge.models.heads.head import Head, MapShapes, cell_centres

WIDTH = 48  # channels in between


class HeatmapHead(Head):
    """A map a point, read at its mean, which is sub-pixel (integral regression, Sun et al. 2018).

    The finest of merged maps is used as it is; of others the coarsest is enlarged step by step (Xiao et al. 2018), and
    cut to the side of the next finer map, whose cells it then shares.
    """

    reads_maps = True
    output = "last"

    def __init__(self, maps: MapShapes, features: int, keypoints: int, *, norm: str) -> None:
        super().__init__(maps, features, keypoints, norm=norm)
        self.source = 0 if maps.merged else -1
        self.grow = nn.ModuleList()
        self.sides = [] if maps.merged else maps.sides[-2::-1]
        before = maps.channels[self.source]
        for _ in self.sides:
            self.grow.append(ConvBlock(before, WIDTH, norm=norm))
            before = WIDTH
        self.last = nn.Conv2d(before, keypoints, 1)

    def forward(self, vector: Tensor | None, maps: Maps) -> tuple[Tensor, Tensor]:
        """Maps to points, (N, K, 2), fractions of the crop, and logits, (N, K, H, W)."""
        last = maps[self.source]
        for layer, side in zip(self.grow, self.sides, strict=True):
            last = layer(nn.functional.interpolate(last, scale_factor=2.0, mode="nearest")[..., :side, :side])
        logits: Tensor = self.last(last)
        chance = logits.flatten(2).softmax(dim=-1).reshape(logits.shape)
        along_x, along_y = chance.sum(dim=2), chance.sum(dim=3)
        x = (along_x * cell_centres(along_x)).sum(dim=-1)
        y = (along_y * cell_centres(along_y)).sum(dim=-1)
        return torch.stack([x, y], dim=-1), logits
