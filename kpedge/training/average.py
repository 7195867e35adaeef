"""The moving average of weights."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class WeightAverage(Generic[Model]):
    """An exponential moving average of a model's weights and buffers (Polyak & Juditsky 1992). It is smoother than the
    last step's weights, and nearly as good as a fall of the learning rate to zero, at any time.

    Attributes:
        model: the averaged model, in evaluation mode.
        decay: share of the old average kept in each step; less in the first steps, so that the start is forgotten.
        steps: steps averaged so far.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.model: Model = copy.deepcopy(model).eval()
        self.model.requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights as they are now."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        own, new = list(self.model.state_dict().values()), list(model.state_dict().values())
        floats = [(mine, theirs) for mine, theirs in zip(own, new, strict=True) if mine.is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in floats], [theirs for _, theirs in floats], 1 - decay)
        for mine, theirs in zip(own, new, strict=True):
            if not mine.is_floating_point():
                mine.copy_(theirs)

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Go on from an earlier average."""
        self.model.load_state_dict(state)
        self.steps = steps
