"""The plain backbone with a feature pyramid."""

from torch import Tensor, nn

from kpedge.models.backbones.backbone import Backbone, Maps
from kpedge.models.backbones.plain import Plain
from kpedge.models.blocks import ConvBlock

CHANNELS = 48  # of every map


class Pyramid(Backbone):
    """A feature pyramid (Lin et al. 2017): each map with the coarser ones added to it, all of `CHANNELS` channels."""

    merged = True

    def __init__(self, inputs: int, *, norm: str = "batch", width: float = 1.0) -> None:
        super().__init__(inputs)
        self.below = Plain(inputs, norm=norm, width=width)
        self.across = nn.ModuleList(
            ConvBlock(channels, CHANNELS, 1, norm=norm, activate=False) for channels in self.below.channels
        )
        self.smooth = nn.ModuleList(ConvBlock(CHANNELS, CHANNELS, 3, norm=norm) for _ in self.below.channels)
        self.channels = [CHANNELS] * len(self.below.channels)

    def forward(self, pixels: Tensor) -> Maps:
        """float32 (N, C, H, W) to maps at strides 4, 8 and 16, or the finest alone."""
        maps: Maps = [across(one) for across, one in zip(self.across, self.below(pixels), strict=True)]
        for finer in range(len(maps) - 2, -1, -1):
            above = nn.functional.interpolate(maps[finer + 1], scale_factor=2.0, mode="nearest")
            maps[finer] = maps[finer] + above
        return [smooth(one) for smooth, one in zip(self.smooth, maps, strict=False)]

    def keep_finest(self) -> None:
        """Drop the layers that only the coarser maps need."""
        self.smooth, self.channels = self.smooth[:1], self.channels[:1]
