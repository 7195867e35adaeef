"""Layers, shapes, parameters and floating-point operations of a network, measured by running it once."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One layer."""

    name: str  # its name in the network
    kind: str  # its class
    output: tuple[int, ...]  # shape of its output for one crop, without the batch
    parameters: int  # number of its own parameters
    flops: int  # floating-point operations for one crop, a multiplication and an addition counted as two


def layer_flops(layer: nn.Module, output: Tensor) -> int:
    """Operations that a layer needs for an output of shape (1, ...): exact for what the stages use."""
    elements = output.numel()
    if isinstance(layer, nn.Conv2d):
        kernel = layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels // layer.groups
        return elements * (2 * kernel + (layer.bias is not None) - 1)
    if isinstance(layer, nn.Linear):
        return elements * (2 * layer.in_features + (layer.bias is not None) - 1)
    if isinstance(layer, nn.PReLU | nn.ReLU):
        return elements
    if isinstance(layer, nn.modules.batchnorm._NormBase | nn.GroupNorm):
        return 2 * elements
    if isinstance(layer, nn.AvgPool2d):
        side = layer.kernel_size if isinstance(layer.kernel_size, int) else layer.kernel_size[0]
        return elements * side * side
    return 0


def summarise(network: nn.Module, input_shape: tuple[int, int, int]) -> list[LayerSummary]:
    """Run a network on one crop of shape C, H, W and describe every layer that has no layers of its own."""
    rows: list[LayerSummary] = []

    def watch(name: str, layer: nn.Module) -> None:
        def record(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            parameters = sum(parameter.numel() for parameter in module.parameters())
            shape = tuple(output.shape[1:])
            rows.append(LayerSummary(name, type(module).__name__, shape, parameters, layer_flops(module, output)))

        hooks.append(layer.register_forward_hook(record))

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    for name, layer in network.named_modules():
        if not list(layer.children()):
            watch(name, layer)
    was_training = network.training
    try:
        network.eval()
        with torch.inference_mode():
            network(torch.zeros(1, *input_shape))
    finally:
        for hook in hooks:
            hook.remove()
        network.train(was_training)
    return rows
