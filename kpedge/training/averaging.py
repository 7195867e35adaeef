"""The moving average of weights: PyTorch's, with a decay that grows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a model's weights and buffers (Polyak & Juditsky 1992), in evaluation mode.

    It is smoother than the last step's weights, and nearly as good as a learning rate that falls to 0, at any time.
    Its first steps have a smaller decay, so that the start is forgotten.
    """

    def update(averaged: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
        count = int(steps)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averaged, current, count)  # type: ignore[no-untyped-call]

    averaged = AveragedModel(model, multi_avg_fn=update, use_buffers=True)  # type: ignore[arg-type]
    averaged.requires_grad_(False)
    return averaged.eval()


def resume_average(averaged: AveragedModel, state: dict[str, Tensor], steps: int) -> None:
    """Go on from an earlier average."""
    averaged.module.load_state_dict(state)
    averaged.n_averaged.copy_(torch.tensor(steps))
