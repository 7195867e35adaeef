"""Starting weights."""

from typing import Any

import torch
from torch import Tensor, nn

from kpedge.core.errors import UsageError
from kpedge.core.registry import parse_arguments
from kpedge.models.registry import INITIALISATIONS


def initialise(network: nn.Module, scheme: str, arguments: str = "") -> None:
    """Set the weights of convolutions and linear layers; those named by the network's `outputs` start small, so that a
    keypoint network starts at the mean face and not at random points.

    PyTorch's default draws weights with variance 1 / (3 fan-in), 5.6 times less than a PReLU of slope 0.25 needs to
    pass a signal on. Over the ten layers of stage 1, which has no normalisation layers, the signal shrinks so far that
    the output hardly depends on the image; gradient descent then learns the last bias, the mean face, and stays there.
    Kaiming's normal initialisation for that slope (He et al. 2015) keeps the variance.

    The scheme is a name of `INITIALISATIONS`, a function of `torch.nn.init`, or one's own, which take keyword
    `arguments` as in "std=0.01"; "torch" changes nothing.

    Raises:
        UsageError: there is no such scheme, or it does not take the arguments or a weight of the network.
    """
    set_weight: Any = INITIALISATIONS[scheme]
    options = parse_arguments(arguments, "--init-args")
    if set_weight is keep:
        return
    slope = 0.25 if any(isinstance(layer, nn.PReLU) for layer in network.modules()) else 0.0
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            try:
                set_weight(layer.weight, **({"slope": slope} if scheme in INITIALISATIONS else {}), **options)
            except (TypeError, ValueError) as error:
                raise UsageError(f"--init {scheme}: {name}: {error}", "see --init-args") from error
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            if name in getattr(network, "outputs", ()):
                with torch.no_grad():
                    layer.weight.mul_(0.1)


def kaiming(weight: Tensor, slope: float) -> object:
    """He et al. 2015."""
    return nn.init.kaiming_normal_(weight, a=slope, nonlinearity="leaky_relu")


def xavier(weight: Tensor, slope: float) -> object:
    """Glorot & Bengio 2010."""
    return nn.init.xavier_normal_(weight, gain=nn.init.calculate_gain("leaky_relu", slope))


def orthogonal(weight: Tensor, slope: float) -> object:
    """Saxe et al. 2014."""
    return nn.init.orthogonal_(weight, gain=nn.init.calculate_gain("leaky_relu", slope))


def keep(weight: Tensor, slope: float) -> object:
    """PyTorch's default: the weight stays as it is."""
    del slope
    return weight
