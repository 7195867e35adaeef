"""The plain backbone with MobileNetV2's blocks."""

from torch import Tensor, nn

from kpedge.models.backbones.plain import Plain
from kpedge.models.blocks import ConvBlock


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow (MobileNetV2, Sandler et al. 2018); add the input where shapes
    allow.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str) -> None:
        super().__init__()
        middle = 3 * inputs
        self.layers = nn.Sequential(
            ConvBlock(inputs, middle, 1, norm=norm),
            ConvBlock(middle, middle, 3, stride, groups=middle, norm=norm),
            ConvBlock(middle, outputs, 1, norm=norm, activate=False),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, maps: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        result: Tensor = self.layers(maps)
        return maps + result if self.residual else result


class Mobile(Plain):
    """`Plain` with inverted residuals in place of full convolutions."""

    def block(self, inputs: int, outputs: int, stride: int, norm: str) -> nn.Module:
        """One layer of a stage."""
        return InvertedResidual(inputs, outputs, stride, norm)
