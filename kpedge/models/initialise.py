"""Starting weights."""

from __future__ import annotations

import torch
from torch import nn

from kpedge.core.choices import INITIALISATIONS
from kpedge.core.errors import UsageError


def initialise(network: nn.Module, scheme: str) -> None:
    """Set the weights of convolutions and linear layers; those named by the network's `outputs` start small, so that a
    keypoint network starts at the mean face and not at random points.

    PyTorch's default draws weights with variance 1 / (3 fan-in), 5.6 times less than a PReLU of slope 0.25 needs to
    pass a signal on. Over the ten layers of stage 1, which has no normalisation layers, the signal shrinks so far that
    the output hardly depends on the picture; gradient descent then learns the last bias, the mean face, and stays
    there. Kaiming's normal initialisation for that slope (He et al. 2015) keeps the variance.

    Args:
        network: changed in place; everything but convolutions and linear layers is left.
        scheme: "kaiming" (He et al. 2015), "xavier" (Glorot & Bengio 2010), "orthogonal" (Saxe et al. 2014), or "torch"
            to leave PyTorch's default.

    Raises:
        UsageError: there is no such scheme.
    """
    if scheme not in INITIALISATIONS:
        raise UsageError(f"--init must be one of {', '.join(INITIALISATIONS)}, not {scheme!r}")
    if scheme == "torch":
        return
    slope = 0.25 if any(isinstance(layer, nn.PReLU) for layer in network.modules()) else 0.0
    gain = nn.init.calculate_gain("leaky_relu", slope)
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if scheme == "kaiming":
                nn.init.kaiming_normal_(layer.weight, a=slope, nonlinearity="leaky_relu")
            elif scheme == "xavier":
                nn.init.xavier_normal_(layer.weight, gain=gain)
            else:
                nn.init.orthogonal_(layer.weight, gain=gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            if name in getattr(network, "outputs", ()):
                with torch.no_grad():
                    layer.weight.mul_(0.1)
