"""The plain backbone, trained with parallel branches."""

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kpedge.models.backbones.backbone import ONLY_BATCH
from kpedge.models.backbones.plain import Plain


class RepBlock(nn.Module):
    """A 3x3 convolution that trains as three branches, 3x3, 1x1 and, for a stride of 1 and equal channels, identity,
    each with batch normalisation, and runs as one convolution (RepVGG, Ding et al. 2021).
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


class Rep(Plain):
    """`Plain` with RepVGG's branches: folded, it is the plain backbone again."""

    excludes = {"norm": ONLY_BATCH}

    def block(self, inputs: int, outputs: int, stride: int, norm: str) -> nn.Module:
        """One layer of a stage."""
        return RepBlock(inputs, outputs, stride)
