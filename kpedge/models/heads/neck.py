"""From feature maps to one vector."""

import torch
from torch import Tensor, nn

from kpedge.models.backbones.backbone import Maps
from kpedge.models.blocks import ConvBlock
from kpedge.models.heads.head import MapShapes

REDUCED = 32  # channels that are kept


class Neck(nn.Module):
    """The maps as one vector: a 1x1 convolution to few channels keeps the linear layer behind it small, and keeps where
    things are, which pooling would throw away. Merged maps are all used, averaged down to the coarsest, of others
    the last alone.
    """

    def __init__(self, maps: MapShapes, features: int, *, dropout: float = 0.0, norm: str = "batch") -> None:
        super().__init__()
        self.joined = maps.merged
        self.reduce = ConvBlock(sum(maps.channels) if self.joined else maps.channels[-1], REDUCED, 1, norm=norm)
        self.linear = nn.Linear(REDUCED * maps.sides[-1] ** 2, features)
        self.act = nn.ReLU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Maps) -> Tensor:
        """Maps to (N, features)."""
        last = maps[-1]
        if self.joined:
            finer = [nn.functional.avg_pool2d(one, 2 ** (len(maps) - 1 - level)) for level, one in enumerate(maps[:-1])]
            last = torch.cat([*finer, last], dim=1)
        vector: Tensor = self.dropout(self.act(self.linear(self.reduce(last).flatten(1))))
        return vector
