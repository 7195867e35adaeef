"""Keypoint losses: pure functions of the errors (N, K, 2), in units of the training shapes' standard deviation (about
3.4 pixels of a 112-pixel crop), that return a loss for each coordinate.
"""

import math

import torch
from torch import Tensor, nn

BETA = 0.3  # error at which smooth L1 changes from quadratic to linear: about one pixel of 112
WING_WIDTH, WING_CURVATURE = 2.0, 0.4  # wing loss, in the paper's proportion (10 and 2 pixels)
RECTIFIED = 0.1  # rectified wing: an error below this counts as none, as it is within the labels' own error


def smooth_l1(error: Tensor) -> Tensor:
    """Quadratic up to `BETA`, linear beyond (Girshick 2015)."""
    return nn.functional.smooth_l1_loss(error, torch.zeros_like(error), beta=BETA, reduction="none")


def wing(error: Tensor, dead: float = 0.0) -> Tensor:
    """Logarithmic up to `WING_WIDTH`, linear beyond (Feng et al. 2018)."""
    size = error.abs()
    offset = WING_WIDTH - WING_WIDTH * math.log1p((WING_WIDTH - dead) / WING_CURVATURE)
    near = WING_WIDTH * torch.log1p((size - dead).clamp(min=0) / WING_CURVATURE)
    return torch.where(size < WING_WIDTH, near, size - offset)


def rectified_wing(error: Tensor) -> Tensor:
    """Wing loss that ignores errors below `RECTIFIED` (Feng et al. 2020)."""
    return wing(error, RECTIFIED)


def euclidean(error: Tensor) -> Tensor:
    """The distance, which the mean error measures; a small constant keeps its gradient finite at 0."""
    return (error.square().sum(dim=-1, keepdim=True) + 1e-6).sqrt().expand_as(error)
