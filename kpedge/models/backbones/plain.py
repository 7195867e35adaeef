"""The plain backbone: 3x3 convolutions in a row."""

from torch import Tensor, nn

from kpedge.models.backbones.backbone import Backbone, Maps
from kpedge.models.blocks import ConvBlock

LAYERS = ((16, 1), (32, 1), (48, 2), (80, 2))
"""Channels and number of convolutions at strides 2, 4, 8 and 16. Chosen by onnxruntime's time on one core: full
convolutions of 16 channels and more run at the processor's peak there, depthwise ones far below it."""

MULTIPLE = 16
"""Channels come in multiples of this: AVX-512 works on 16 at a time, and PyTorch 2.15 crashes on such processors in the
backward pass of 1x1 convolutions of other numbers."""


class Plain(Backbone):
    """Convolutions in a row, the first of each resolution with a stride of 2: no branches, nothing to wait for."""

    def __init__(self, inputs: int, *, norm: str = "batch", width: float = 1.0) -> None:
        super().__init__(inputs)
        scaled = [(max(MULTIPLE, round(channels * width / MULTIPLE) * MULTIPLE), depth) for channels, depth in LAYERS]
        (stem, _), *rest = scaled
        self.stem = ConvBlock(inputs, stem, 3, 2, norm=norm)
        self.stages = nn.ModuleList()
        before = stem
        for after, depth in rest:
            layers = [
                self.block(before, after, 2, norm),
                *(self.block(after, after, 1, norm) for _ in range(depth - 1)),
            ]
            self.stages.append(nn.Sequential(*layers))
            before = after
        self.channels = [channels for channels, _ in rest]

    def block(self, inputs: int, outputs: int, stride: int, norm: str) -> nn.Module:
        """One layer of a stage."""
        return ConvBlock(inputs, outputs, 3, stride, norm=norm)

    def forward(self, pixels: Tensor) -> Maps:
        """float32 (N, C, H, W) to maps at strides 4, 8 and 16."""
        maps, results = self.stem(pixels), []
        for stage in self.stages:
            maps = stage(maps)
            results.append(maps)
        return results
