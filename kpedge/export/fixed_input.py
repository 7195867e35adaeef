"""Models of one input size, for runtimes that know neither free sizes nor, some of them, uint8."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kpedge.core.card import Card
from kpedge.models.detector import GAIN_STEP, DetectorModel, decode, face_scores, to_rows
from kpedge.models.normalise import PerCropNormalisation

if TYPE_CHECKING:
    from kpedge.models.build import KpedgeModel

EDGE = 640  # height and width of a detector's frames by default: what the released one is used at


class FixedInputModel(nn.Module):
    """A folded model for inputs of one size, that of a detector's card: the middles of its cells are constants, so no
    shape is computed. Pixels come as (N, H, W, C), or (N, C, H, W) with `channels_first`.
    """

    cells: Tensor

    def __init__(self, model: KpedgeModel, card: Card, *, channels_first: bool = False) -> None:
        super().__init__()
        self.model = model
        self.channels_first = channels_first
        if isinstance(model, DetectorModel):
            with torch.no_grad():
                cells = model.raw(torch.zeros((1, *card.dummy_input_shape), dtype=torch.uint8))[1]
            self.register_buffer("cells", cells.clone())

    def forward(self, pixels: Tensor) -> Any:
        """Pixels from 0 to 255, of any type, to the model's outputs."""
        pixels = pixels.to(torch.float32)
        if not self.channels_first:
            pixels = pixels.permute(0, 3, 1, 2)
        if not isinstance(self.model, DetectorModel):
            return self.model.from_pixels(pixels)
        rows = to_rows(self.model.maps(pixels))
        boxes, points = decode(rows, self.cells)
        return boxes, face_scores(rows), points


class StepwiseNormalisation(nn.Module):
    """`PerCropNormalisation` whose means are taken axis by axis: with a mean over all 12,544 pixels at once, outputs of
    ExecuTorch were off by 1e-5, probably from the rounding of a long sum in float32.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 (N, C, H, W) to the same shape."""
        centred = pixels - _mean(pixels)
        return centred / (_mean(centred.square()).sqrt() + 1.0)


def for_litert(model: KpedgeModel) -> KpedgeModel:
    """A copy of a model that measures a dark frame's brightness by slicing: LiteRT's nearest-neighbour resizing takes
    other pixels than PyTorch's, which moved boxes of dark frames by up to 5 pixels.
    """
    twin = copy.deepcopy(model)
    if isinstance(twin, DetectorModel):
        twin.sampled = lambda pixels: pixels[:, :, ::GAIN_STEP, ::GAIN_STEP]  # type: ignore[method-assign]
    return twin


def for_xnnpack(model: KpedgeModel) -> KpedgeModel:
    """A copy of a model that normalises crops by `StepwiseNormalisation`, and whose PReLUs with a single slope are the
    LeakyReLUs that they are: ExecuTorch 1.5 fails on those PReLUs that follow a convolution.
    """
    twin = copy.deepcopy(model)
    for name, layer in list(twin.named_modules()):
        if isinstance(layer, PerCropNormalisation):
            twin.set_submodule(name, StepwiseNormalisation())
        elif isinstance(layer, nn.PReLU) and layer.num_parameters == 1:
            twin.set_submodule(name, nn.LeakyReLU(layer.weight.item()))
    return twin


def _mean(values: Tensor) -> Tensor:
    for axis in (3, 2, 1):
        values = values.mean(dim=axis, keepdim=True)
    return values


def fixed_model(
    model: KpedgeModel, card: Card, *, dtype: Any, channels_first: bool = False
) -> tuple[nn.Module, Tensor]:
    """A model for one input of the card's size, in evaluation mode, and an example of its input."""
    height, width, channels = card.dummy_input_shape
    shape = (1, channels, height, width) if channels_first else (1, height, width, channels)
    return FixedInputModel(model, card, channels_first=channels_first).eval(), torch.zeros(shape, dtype=dtype)
