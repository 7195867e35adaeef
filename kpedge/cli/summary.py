"""`kpedge summary`: what a network is made of."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, Json, examples
from kpedge.core.errors import UsageError
from kpedge.core.extras import importable
from kpedge.core.files import record_output, refuse_existing, write_text
from kpedge.core.model_zoo import resolve_weights
from kpedge.models.registry import BACKBONES, HEADS

app = typer.Typer()


@app.command(
    epilog=examples(
        "kpedge summary stage1",
        "kpedge summary stage3 --as-trained",
        "kpedge summary runs/mine",
        "kpedge summary stage2 --backbone resnet18 --json",
        "kpedge summary stage1 --svg stage1.svg",
    )
)
def summary(
    name: Annotated[str, typer.Argument(help="Name of a network, or a model: released name, run folder, checkpoint.")],
    scheme: Annotated[str | None, typer.Option(help="Keypoint scheme of a network. (default: faces21)")] = None,
    backbone: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(BACKBONES)}, or of torchvision. (default: the recipe's)")
    ] = None,
    head: Annotated[str | None, typer.Option(help=f"One of {', '.join(HEADS)}. (default: the recipe's)")] = None,
    as_trained: Annotated[
        bool, typer.Option("--as-trained", help="Include the layers that export folds away.")
    ] = False,
    svg: Annotated[Path | None, typer.Option(help="SVG file for a drawing of the network.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Print the layers of a network with output shapes, parameters and floating-point operations per crop."""
    from dataclasses import asdict, replace

    importable("torch", "train")
    from kpedge.core.card import COLOURS
    from kpedge.core.keypoints import scheme_named
    from kpedge.models.checkpoint import load_checkpoint
    from kpedge.models.keypoint_model import ARCHITECTURES, build_network
    from kpedge.models.summary import network_svg, summarise
    from kpedge.training.recipes import FIXED_NETWORKS, RECIPES, network_options

    chosen: dict[str, Any] = {
        key: value for key, value in (("backbone", backbone), ("head", head)) if value is not None
    }
    fixed = [*chosen, *(["scheme"] if scheme else [])] if name not in ARCHITECTURES else chosen
    if fixed and (name in FIXED_NETWORKS or name not in ARCHITECTURES):
        raise UsageError(f"{name} has no choice of {' or '.join(fixed)}", "leave the flag out, or ask for stage2")
    if svg:
        refuse_existing(svg, force=force)
    if name in ARCHITECTURES:
        config = replace(RECIPES[name], **chosen)
        architecture = {"name": name, "options": network_options(name, config), "folded": not as_trained}
        network = build_network(architecture, len(scheme_named(scheme or "faces21")))
        size = ARCHITECTURES[name].size
        shape = (COLOURS[config.colour], size, size)
    else:
        loaded = load_checkpoint(resolve_weights(name))
        model = loaded.model(name)
        network = (model if as_trained else model.folded()).network
        height, width, channels = loaded.card.nominal_input_shape
        shape = (channels, height, width)
    layers = summarise(network, shape)
    parameters, flops = sum(layer.parameters for layer in layers), sum(layer.flops for layer in layers)
    if svg:
        write_text(svg, network_svg(name, shape, layers))
        record_output(svg)
        output.say(f"drawing: {svg}")
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
