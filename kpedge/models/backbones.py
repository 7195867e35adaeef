"""Backbones: from normalised pixels to feature maps of falling resolution."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kpedge.core.choices import BACKBONES
from kpedge.core.errors import UsageError
from kpedge.models.blocks import ConvBlock, InvertedResidual, RepBlock

Maps = list[Tensor]
"""Feature maps, each (N, C, H, W), the finest first."""

PLAIN = ((16, 1), (32, 1), (48, 2), (80, 2))
"""Channels and number of convolutions at strides 2, 4, 8 and 16. Chosen by onnxruntime's time on one core: full
convolutions of 16 channels and more run at the processor's peak there, depthwise ones far below it."""

BLOCK = 16
"""Channels come in multiples of this: AVX-512 works on 16 at a time, and PyTorch 2.15 crashes on such processors in the
backward pass of 1x1 convolutions of other numbers."""


def _scaled(width: float) -> list[tuple[int, int]]:
    return [(max(BLOCK, round(channels * width / BLOCK) * BLOCK), depth) for channels, depth in PLAIN]


class Plain(nn.Module):
    """Convolutions in a row, the first of each resolution with a stride of 2: no branches, nothing to wait for.

    Attributes:
        channels: of the maps that `forward` gives.

    Args:
        inputs: channels of the picture.
        norm: a name of `choices.NORMS`.
        width: factor of all channels.
        block: makes a layer from channels in, channels out and stride.
    """

    def __init__(
        self,
        inputs: int,
        *,
        norm: str = "batch",
        width: float = 1.0,
        block: Callable[[int, int, int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        make = block or (lambda before, after, stride: ConvBlock(before, after, 3, stride, norm=norm))
        (stem, _), *rest = _scaled(width)
        self.stem = ConvBlock(inputs, stem, 3, 2, norm=norm)
        self.stages = nn.ModuleList()
        before = stem
        for after, depth in rest:
            layers = [make(before, after, 2), *(make(after, after, 1) for _ in range(depth - 1))]
            self.stages.append(nn.Sequential(*layers))
            before = after
        self.channels = [channels for channels, _ in rest]

    def forward(self, pixels: Tensor) -> Maps:
        """float32 (N, C, H, W) to maps at strides 4, 8 and 16."""
        maps, found = self.stem(pixels), []
        for stage in self.stages:
            maps = stage(maps)
            found.append(maps)
        return found


class ResNet18(nn.Module):
    """torchvision's ResNet-18 (He et al. 2016), untrained, without its classifier.

    Attributes:
        channels: of the maps that `forward` gives.
    """

    def __init__(self, inputs: int) -> None:
        from torchvision.models import resnet18

        super().__init__()
        network = resnet18(weights=None)
        self.conv1 = nn.Conv2d(inputs, 64, 7, 2, padding=3, bias=False)
        self.bn1, self.relu, self.maxpool = network.bn1, network.relu, network.maxpool
        self.layers = nn.ModuleList([network.layer1, network.layer2, network.layer3, network.layer4])
        self.channels = [64, 128, 256, 512]

    def forward(self, pixels: Tensor) -> Maps:
        """float32 (N, C, H, W) to maps at strides 4, 8, 16 and 32."""
        maps, found = self.maxpool(self.relu(self.bn1(self.conv1(pixels)))), []
        for layer in self.layers:
            maps = layer(maps)
            found.append(maps)
        return found

    def folded(self) -> nn.Module:
        """The same function with every batch normalisation inside its convolution."""
        for module in self.modules():
            for conv, norm in (("conv1", "bn1"), ("conv2", "bn2")):
                if isinstance(getattr(module, norm, None), nn.BatchNorm2d):
                    layer: nn.Conv2d = getattr(module, conv)
                    setattr(module, conv, fuse_conv_bn_eval(layer, getattr(module, norm)))
                    setattr(module, norm, nn.Identity())
            shortcut = getattr(module, "downsample", None)
            if isinstance(shortcut, nn.Sequential) and len(shortcut) > 1 and isinstance(shortcut[1], nn.BatchNorm2d):
                narrow: nn.Conv2d = shortcut.get_submodule("0")  # type: ignore[assignment]
                module.downsample = nn.Sequential(fuse_conv_bn_eval(narrow, shortcut[1]))
        return self


class Pyramid(nn.Module):
    """A feature pyramid (Lin et al. 2017): each map with the coarser ones added to it, all of one width.

    Attributes:
        channels: of the maps that `forward` gives.

    Args:
        below: the backbone whose maps are joined.
        width: channels of every map.
    """

    def __init__(self, below: Plain, width: int = 48, *, norm: str = "batch") -> None:
        super().__init__()
        self.below = below
        self.across = nn.ModuleList(
            ConvBlock(channels, width, 1, norm=norm, activate=False) for channels in below.channels
        )
        self.smooth = nn.ModuleList(ConvBlock(width, width, 3, norm=norm) for _ in below.channels)
        self.channels = [width] * len(below.channels)

    def forward(self, pixels: Tensor) -> Maps:
        """float32 (N, C, H, W) to maps at strides 4, 8 and 16, or the finest alone."""
        maps: Maps = [across(found) for across, found in zip(self.across, self.below(pixels), strict=True)]
        for finer in range(len(maps) - 2, -1, -1):
            above = nn.functional.interpolate(maps[finer + 1], scale_factor=2.0, mode="nearest")
            maps[finer] = maps[finer] + above
        return [smooth(found) for smooth, found in zip(self.smooth, maps, strict=False)]

    def keep_finest(self) -> None:
        """Leave out the layers that only the coarser maps need: distributed training waits for every gradient."""
        self.smooth, self.channels = self.smooth[:1], self.channels[:1]


def new_backbone(name: str, inputs: int, *, norm: str, width: float) -> Plain | ResNet18 | Pyramid:
    """A backbone by name.

    Raises:
        UsageError: there is none of that name, or it does not take the options.
    """
    if name == "plain":
        return Plain(inputs, norm=norm, width=width)
    if name == "mobile":
        return Plain(
            inputs, norm=norm, width=width, block=lambda before, after, s: InvertedResidual(before, after, s, norm=norm)
        )
    if name == "pyramid":
        return Pyramid(Plain(inputs, norm=norm, width=width), norm=norm)
    if name not in BACKBONES:
        raise UsageError(f"--backbone must be one of {', '.join(BACKBONES)}, not {name!r}")
    if norm != "batch":
        raise UsageError(f"--backbone {name} is built on batch normalisation", "leave --norm at batch")
    if name == "rep":
        return Plain(inputs, norm=norm, width=width, block=RepBlock)
    if width != 1:
        raise UsageError("--backbone resnet18 has one width", "leave --width at 1")
    return ResNet18(inputs)
