"""torchvision's MobileNetV3-Small."""

from __future__ import annotations

from torch import Tensor, nn

from kpedge.models.backbones.backbone import ONLY_BATCH, Backbone, Maps

STAGE_ENDS = (1, 3, 8, 12)
"""Indices of torchvision's `features` after which a map is taken: the last layers at strides 4, 8, 16 and 32."""


class MobileNetV3(Backbone):
    """torchvision's MobileNetV3-Small (Howard et al. 2019), untrained, without its classifier."""

    excludes = {"norm": ONLY_BATCH}
    scalable = False

    def __init__(self, inputs: int, *, norm: str = "batch", width: float = 1.0) -> None:
        from torchvision.models import mobilenet_v3_small

        super().__init__(inputs)
        layers = list(mobilenet_v3_small(weights=None).features)
        layers[0][0] = nn.Conv2d(inputs, 16, 3, 2, padding=1, bias=False)
        starts = (0, *(end + 1 for end in STAGE_ENDS[:-1]))
        self.stages = nn.ModuleList(
            nn.Sequential(*layers[start : end + 1]) for start, end in zip(starts, STAGE_ENDS, strict=True)
        )
        self.channels = [16, 24, 48, 576]

    def forward(self, pixels: Tensor) -> Maps:
        """float32 (N, C, H, W) to maps at strides 4, 8, 16 and 32."""
        maps, results = pixels, []
        for stage in self.stages:
            maps = stage(maps)
            results.append(maps)
        return results
