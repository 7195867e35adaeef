"""Layers, shapes, parameters and floating-point operations of a network, measured by running it once, and a drawing."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# of the drawing, pixels; and part of a layer's kind -> its colour: others are grey
ROW, GAP, NARROWEST, WIDEST = 30, 8, 40.0, 300.0
COLOURS = {"Conv": "#c9ddf5", "Linear": "#f5dcc0", "Norm": "#d6ecd2", "Pool": "#e6d5ef", "LU": "#f4efc4"}


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


def network_svg(title: str, shape: Sequence[int], layers: Sequence[LayerSummary]) -> str:
    """The layers of `summarise` as boxes, as wide as the logarithm of their outputs' size, with names, shapes and
    parameters, below an input of so many channels, height and width.
    """
    largest = max(math.prod(layer.output) for layer in layers)
    lines = [f"{title}: input {'×'.join(map(str, shape))}, {sum(layer.parameters for layer in layers):,} parameters"]
    parts = [f'<text x="{GAP}" y="20" class="title">{html.escape(lines[0])}</text>']
    middle = GAP + WIDEST / 2
    for number, layer in enumerate(layers):
        y = 32 + number * (ROW + GAP)
        width = NARROWEST + (WIDEST - NARROWEST) * math.log1p(math.prod(layer.output)) / math.log1p(largest)
        colour = next((colour for part, colour in COLOURS.items() if part in layer.kind), "#e4e4e4")
        about = f"{layer.name}: {'×'.join(map(str, layer.output))}"
        about += f", {layer.parameters:,} parameters" if layer.parameters else ""
        if number:
            parts.append(f'<path d="M{middle} {y - GAP}v{GAP}"/>')
        parts += [
            f'<rect x="{middle - width / 2:.1f}" y="{y}" width="{width:.1f}" height="{ROW}" rx="4" fill="{colour}"/>',
            f'<text x="{middle}" y="{y + 20}" text-anchor="middle">{html.escape(layer.kind)}</text>',
            f'<text x="{2 * middle}" y="{y + 20}">{html.escape(about)}</text>',
        ]
    height = 32 + len(layers) * (ROW + GAP) + GAP
    style = "text{font:13px sans-serif}.title{font-weight:bold}path,rect{stroke:#777}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" viewBox="0 0 760 {height}">'
    return "\n".join(
        [head, f'<style>{style}</style><rect width="760" height="{height}" fill="#fff"/>', *parts, "</svg>\n"]
    )
