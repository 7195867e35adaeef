"""`kpedge summary`: what a network is made of."""

from __future__ import annotations

from typing import Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import Json, Scheme, examples


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("kpedge summary stage1", "kpedge summary stage1 --json"))(summary)


def summary(
    name: Annotated[str, typer.Argument(help="Name of a network.")],
    scheme: Scheme = "faces21",
    as_json: Json = False,
) -> None:
    """Print the layers of a network with output shapes, parameters and floating-point operations a crop."""
    from dataclasses import asdict

    from kpedge.errors import UsageError
    from kpedge.extras import importable

    importable("torch", "train")
    from kpedge.card import COLOURS
    from kpedge.keypoints import scheme_named
    from kpedge.models.keypoint_model import ARCHITECTURES, build_network
    from kpedge.models.summary import summarise

    if name not in ARCHITECTURES:
        raise UsageError(f"no network is called {name!r}", f"known: {', '.join(sorted(ARCHITECTURES))}")
    network = build_network({"name": name}, len(scheme_named(scheme)))
    shape = (COLOURS[network.colour], network.size, network.size)
    layers = summarise(network, shape)
    parameters, flops = sum(layer.parameters for layer in layers), sum(layer.flops for layer in layers)
    if as_json:
        output.result_json(
            {
                "input": list(shape),
                "parameters": parameters,
                "flops": flops,
                "layers": [asdict(layer) for layer in layers],
            },
            indent=1,
        )
        return
    rows = [
        (layer.name, layer.kind, "×".join(map(str, layer.output)), f"{layer.parameters:,}", f"{layer.flops:,}")
        for layer in layers
    ]
    total = ("total", f"input {'×'.join(map(str, shape))}", "", f"{parameters:,}", f"{flops:,}")
    output.table(("layer", "kind", "output", "parameters", "FLOPs"), [*rows, total], left=2)
