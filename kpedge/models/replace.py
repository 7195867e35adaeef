"""Other activations and pooling in a network than its own."""

from torch import nn

from kpedge.core.errors import UsageError
from kpedge.models.registry import ACTIVATIONS, POOLINGS

Size = int | tuple[int, int]
ACTIVATION_LAYERS = (nn.ReLU, nn.PReLU, nn.Hardswish)  # the networks' own; gates of MobileNetV3 are none


def replace_layers(network: nn.Module, activation: str, pooling: str) -> None:
    """Replace all activations of a network by a name of `ACTIVATIONS` or any class of `torch.nn` that takes no
    arguments, and all poolings by a name of `POOLINGS`; where a name is empty nothing changes.

    Raises:
        UsageError: there is no such layer, or it needs arguments.
    """
    for name, layer in list(network.named_modules()):
        if activation and isinstance(layer, ACTIVATION_LAYERS):
            try:
                network.set_submodule(name, ACTIVATIONS[activation]())
            except TypeError as error:
                raise UsageError(f"--activation {activation}: {error}", "choose one without arguments") from error
        elif pooling and isinstance(layer, nn.AvgPool2d | nn.MaxPool2d):
            network.set_submodule(name, POOLINGS[pooling](layer.kernel_size, layer.stride, layer.padding))


def lp_pool(kernel: Size, stride: Size, padding: Size) -> nn.Module:
    """The square root of the sum of squares of each window."""
    pool = nn.LPPool2d(2.0, kernel, stride)
    if not padding:
        return pool
    height, width = padding if isinstance(padding, tuple) else (padding, padding)
    return nn.Sequential(nn.ZeroPad2d((width, width, height, height)), pool)
