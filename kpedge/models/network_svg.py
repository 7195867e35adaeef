"""A drawing of a network: its layers from top to bottom, as they are called."""

import html
import math
from collections.abc import Sequence

from kpedge.models.summary import LayerSummary

ROW, GAP, NARROWEST, WIDEST = 30, 8, 40.0, 300.0
COLOURS = {"Conv": "#c9ddf5", "Linear": "#f5dcc0", "Norm": "#d6ecd2", "Pool": "#e6d5ef", "LU": "#f4efc4"}
"""Part of a layer's kind -> its colour; others are grey."""


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
        about = f"{layer.name}   {'×'.join(map(str, layer.output))}"
        about += f"   {layer.parameters:,} parameters" if layer.parameters else ""
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
