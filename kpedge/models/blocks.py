"""Building blocks that networks share."""

from torch import Tensor, nn

from kpedge.models.registry import NORMS

GROUPS = 8  # groups of a group normalisation (Wu & He 2018); every width used here can be divided by it


def group_norm(channels: int) -> nn.Module:
    """Group normalisation, or layer normalisation where the channels cannot be divided into groups."""
    return nn.GroupNorm(GROUPS if channels % GROUPS == 0 else 1, channels)


def layer_norm(channels: int) -> nn.Module:
    """Normalisation over all channels and places of a sample."""
    return nn.GroupNorm(1, channels)


def instance_norm(channels: int) -> nn.Module:
    """Normalisation of each channel of a sample."""
    return nn.InstanceNorm2d(channels, affine=True)


class ConvBlock(nn.Module):
    """Convolution, normalisation (a name of `NORMS`), ReLU; padding keeps an even size, divided by the stride."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        norm: str = "batch",
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=norm == "none")
        self.norm = NORMS[norm](outputs)
        self.act: nn.Module = nn.ReLU() if activate else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        result: Tensor = self.act(self.norm(self.conv(maps)))
        return result
