"""The face detector: whole frames in, boxes, scores and five points out.

A small anchor-free network in the line of YuNet (Wu, Peng & Yu 2023): depthwise-separable convolutions, a feature
pyramid (Lin et al. 2017) of three levels, one head for all of them. Every cell of the three maps, 8, 16 and 32 pixels
apart, says whether it shows a face's middle, how good its box is, where that box lies, and where eyes, nose tip and
mouth corners are. A box is a square, as the convention wants it (docs/coordinates.md).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from kpedge.core.keypoints import FACES5
from kpedge.models.blocks import ConvBlock
from kpedge.models.fold import fold

STRIDES = (8, 16, 32)  # pixels between neighbouring cells, on each level
POINTS = len(FACES5)
OUTPUTS = 16
"""Numbers a cell gives: logits of a face and of its box's quality, the box's middle (2), five points (10), half the
box's side. The last is not used: PyTorch 2.15 fails to train 1x1 convolutions whose channels are no multiple of 16.
"""
LARGEST = 6.0  # largest logarithm of half a box's side, in strides: beyond any frame, and finite
BRIGHT = 72.0  # mean grey level to which darker frames are brightened, by a detector that does so
MAX_GAIN = 16.0
GAIN_STEP = 8  # the mean is that of every eighth pixel along x and y
RARE = -4.0  # Where the logit of a face starts: most cells show none (Lin et al. 2017, focal loss).


class Separable(nn.Module):
    """A depthwise 3x3 convolution and a 1x1 one (MobileNet, Howard et al. 2017), with the input added where shapes
    allow.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ConvBlock(inputs, inputs, 3, stride, groups=inputs), ConvBlock(inputs, outputs, 1, activate=False)
        )
        self.residual = stride == 1 and inputs == outputs
        self.act = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        found = self.layers(maps)
        result: Tensor = self.act(maps + found if self.residual else found)
        return result


class Detector(nn.Module):
    """The network: a stem of channels at half and quarter resolution; three levels with their channels (`widths`) and
    blocks behind the one that halves the resolution (`depths`); merged levels and head with `neck` channels.
    """

    def __init__(
        self,
        stem: tuple[int, int] = (16, 32),
        widths: tuple[int, int, int] = (48, 64, 96),
        depths: tuple[int, int, int] = (1, 3, 3),
        neck: int = 48,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvBlock(3, stem[0], 3, 2), Separable(stem[0], stem[1], 2))
        self.level8 = nn.Sequential(
            ConvBlock(stem[1], widths[0], 3, 2), *(Separable(widths[0], widths[0]) for _ in range(depths[0]))
        )
        self.level16 = nn.Sequential(
            Separable(widths[0], widths[1], 2), *(Separable(widths[1], widths[1]) for _ in range(depths[1]))
        )
        self.level32 = nn.Sequential(
            Separable(widths[1], widths[2], 2), *(Separable(widths[2], widths[2]) for _ in range(depths[2]))
        )
        self.lateral = nn.ModuleList(ConvBlock(width, neck, 1, activate=False) for width in widths)
        self.merge = nn.ModuleList(Separable(neck, neck) for _ in widths)
        self.head = nn.Sequential(Separable(neck, neck))
        self.out = nn.Conv2d(neck, OUTPUTS, 1)
        with torch.no_grad():
            self.out.weight.normal_(0, 0.01)
            self.out.bias.zero_()  # type: ignore[union-attr]
            self.out.bias[0] = RARE  # type: ignore[index]

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float32 (N, 3, H, W) to a map of `OUTPUTS` channels for each of `STRIDES`."""
        fine = self.level8(self.stem(frames))
        middle = self.level16(fine)
        coarse = self.level32(middle)
        third = self.lateral[2](coarse)
        second = self.lateral[1](middle) + functional.interpolate(third, scale_factor=2.0, mode="nearest")
        first = self.lateral[0](fine) + functional.interpolate(second, scale_factor=2.0, mode="nearest")
        levels = (first, second, third)
        found = [self.out(self.head(torch.relu(merge(maps)))) for merge, maps in zip(self.merge, levels, strict=True)]
        return found[0], found[1], found[2]


class DetectorModel(nn.Module):
    """The module that is trained, checked and exported: raw uint8 frames in, decoded boxes, scores and points out.

    Pixels are multiplied by `scale`; folding leaves that to the weights. With `brighten` those of dark frames are first
    multiplied, by at most `MAX_GAIN`, so that their mean is `BRIGHT`. Black does not count: frames are padded with it.
    """

    def __init__(self, network: nn.Module, *, scale: float = 1 / 255, brighten: bool = False) -> None:
        super().__init__()
        self.network = network
        self.scale = scale
        self.brighten = brighten

    def raw(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames, uint8 (N, H, W, 3), to what the network says: its numbers, (N, A, `OUTPUTS`), and the cells that say
        it, float32 (A, 3): x and y of the middle, pixels of the frame, and the stride.
        """
        maps = self.maps(frames.permute(0, 3, 1, 2).to(torch.float32))
        cells = torch.cat([_cells(level, stride) for level, stride in zip(maps, STRIDES, strict=True)], dim=1)
        return to_rows(maps), cells.T

    def sampled(self, pixels: Tensor) -> Tensor:
        """Every eighth pixel along x and y, of (N, 3, H, W)."""
        return functional.interpolate(pixels, scale_factor=1 / GAIN_STEP, mode="nearest")

    def maps(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Pixels, float32 (N, 3, H, W), 0 to 255, to the network's maps."""
        if self.brighten:
            some = self.sampled(pixels)
            light = some.sum(dim=(1, 2, 3), keepdim=True)
            light = light / (some.clamp(max=1.0).sum(dim=(1, 2, 3), keepdim=True) + 1)
            pixels = pixels * (BRIGHT / (light + 1)).clamp(1.0, MAX_GAIN)
        found: tuple[Tensor, ...] = self.network(self.scale * pixels)
        return found

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frames, uint8 (N, H, W, 3), H and W multiples of the largest stride, to what
        `kpedge.core.card.DetectorCard.outputs` names: boxes, float32 (N, A, 4), pixels of the frame; scores, (N, A),
        from 0 to 1: the geometric mean of both probabilities, as in YuNet; points, (N, A, 5, 2), pixels of the
        frame.
        """
        rows, cells = self.raw(frames)
        boxes, points = decode(rows, cells)
        return boxes, face_scores(rows), points

    def folded(self) -> DetectorModel:
        """A copy without what only training needs; it computes the same numbers up to rounding."""
        twin = copy.deepcopy(self).eval()
        twin.network = fold(self.network)
        first = next(module for module in twin.network.modules() if isinstance(module, nn.Conv2d))
        with torch.no_grad():
            first.weight.mul_(self.scale)
        twin.scale = 1.0
        return twin


def _cells(level: Tensor, stride: int) -> Tensor:
    """Middles, in pixels of the frame, and stride of a level's cells, float32 (3, H * W)."""
    height, width = level.shape[2:]
    x, y = (
        torch.arange(count, device=level.device, dtype=torch.float32) * stride + (stride - 1) / 2
        for count in (width, height)
    )
    places = (x[None, :].expand(height, width), y[:, None].expand(height, width))
    return torch.stack([*places, torch.full_like(places[0], float(stride))]).flatten(1)


def to_rows(maps: Sequence[Tensor]) -> Tensor:
    """The maps of all levels as one row a cell, (N, A, `OUTPUTS`)."""
    return torch.cat([level.flatten(2) for level in maps], dim=2).transpose(1, 2)


def face_scores(rows: Tensor) -> Tensor:
    """Scores (N, A) from the network's numbers (N, A, `OUTPUTS`): the root of a product of sigmoids, without the
    sigmoid, whose smallest values onnxruntime rounds to zero.
    """
    return torch.exp(-0.5 * functional.softplus(-rows.transpose(1, 2)[:, :2]).sum(dim=1))


def decode(rows: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (N, A, 4) and points (N, A, 5, 2), pixels of the frame, from the network's numbers (N, A, `OUTPUTS`).

    The cells come last in between: so onnxruntime works along long rows, three times as fast.
    """
    numbers, place, stride = rows.transpose(1, 2), cells.T[:2], cells.T[2:]
    found = numbers[:, 2:14] * stride + place.repeat(1 + POINTS, 1)
    half = torch.exp(numbers[:, 14:15].clamp(max=LARGEST)) * stride
    boxes = torch.cat([found[:, :2] - half, found[:, :2] + half], dim=1).transpose(1, 2)
    return boxes, torch.unflatten(found[:, 2:].transpose(1, 2), 2, (POINTS, 2))
