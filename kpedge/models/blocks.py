"""Building blocks of stages 2 and 3, and folding away what only training needs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kpedge.core.choices import NORMS
from kpedge.core.errors import UsageError

GROUPS = 8
"""Groups of a group normalisation (Wu & He 2018); every width used here can be divided by it."""


def new_norm(kind: str, channels: int) -> nn.Module:
    """A normalisation layer for feature maps (N, channels, H, W).

    Raises:
        UsageError: there is no such kind.
    """
    makers: dict[str, Callable[[], nn.Module]] = {
        "batch": lambda: nn.BatchNorm2d(channels),
        "group": lambda: nn.GroupNorm(GROUPS if channels % GROUPS == 0 else 1, channels),
        "layer": lambda: nn.GroupNorm(1, channels),
        "instance": lambda: nn.InstanceNorm2d(channels, affine=True),
        "none": nn.Identity,
    }
    if kind not in makers:
        raise UsageError(f"--norm must be one of {', '.join(NORMS)}, not {kind!r}")
    return makers[kind]()


class ConvBlock(nn.Module):
    """Convolution, normalisation, ReLU.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel: side of the kernel.
        stride: of the convolution; padding keeps an even size, divided by the stride.
        groups: of the convolution.
        norm: a name of `NORMS`.
        activate: end with a ReLU.
    """

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
        self.norm = new_norm(norm, outputs)
        self.act: nn.Module = nn.ReLU() if activate else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        result: Tensor = self.act(self.norm(self.conv(maps)))
        return result

    def folded(self) -> nn.Module:
        """The same function with the batch normalisation inside the convolution's weights."""
        if not isinstance(self.norm, nn.BatchNorm2d):
            return self
        conv = fuse_conv_bn_eval(self.conv, self.norm)
        return nn.Sequential(conv, self.act) if isinstance(self.act, nn.ReLU) else conv


class RepBlock(nn.Module):
    """A 3x3 convolution that trains as three branches, 3x3, 1x1 and identity, each with batch normalisation, and runs
    as one convolution (RepVGG, Ding et al. 2021).

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: of the convolution; the identity branch is there only for 1 and equal channels.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.wide = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.wide_norm = nn.BatchNorm2d(outputs)
        self.point = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.point_norm = nn.BatchNorm2d(outputs)
        self.identity_norm = nn.BatchNorm2d(inputs) if stride == 1 and inputs == outputs else None
        self.act = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        total = self.wide_norm(self.wide(maps)) + self.point_norm(self.point(maps))
        if self.identity_norm is not None:
            total = total + self.identity_norm(maps)
        result: Tensor = self.act(total)
        return result

    def folded(self) -> nn.Module:
        """The same function as one convolution and a ReLU."""
        branches = [(self.wide, self.wide_norm), (self.point, self.point_norm)]
        if self.identity_norm is not None:
            channels = self.identity_norm.num_features
            identity = nn.Conv2d(channels, channels, 1, bias=False)
            with torch.no_grad():
                identity.weight.copy_(torch.eye(channels)[:, :, None, None])
            branches.append((identity, self.identity_norm))
        fused = [fuse_conv_bn_eval(conv.eval(), norm) for conv, norm in branches]
        conv, *others = fused
        with torch.no_grad():
            for other in others:
                conv.weight += nn.functional.pad(other.weight, (1, 1, 1, 1))
            conv.bias = nn.Parameter(torch.stack([one.bias for one in fused if one.bias is not None]).sum(dim=0))
        return nn.Sequential(conv, self.act)


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow (MobileNetV2, Sandler et al. 2018).

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: of the depthwise convolution; the input is added for 1 and equal channels.
        widen: factor of the channels in between.
        norm: a name of `NORMS`.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, *, widen: int = 3, norm: str = "batch") -> None:
        super().__init__()
        middle = inputs * widen
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


def fold(network: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode without what only training needs: batch normalisation goes into the
    convolutions' weights, parallel branches become one convolution, dropout goes.
    """
    return _folded(copy.deepcopy(network).eval())


def _folded(module: nn.Module) -> nn.Module:
    own = getattr(module, "folded", None)
    if own is not None:
        result: nn.Module = own()
        return result
    if isinstance(module, nn.Dropout):
        return nn.Identity()
    for name, child in list(module.named_children()):
        setattr(module, name, _folded(child))
    return module
