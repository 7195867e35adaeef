"""Checkpoints of the course that kpedge grew from (docs/course.md): other names, and outputs in pixels of the crop."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kpedge.core.card import ModelCard
from kpedge.core.errors import ModelError
from kpedge.core.files import read_json
from kpedge.core.geometry import CropRule
from kpedge.core.keypoints import scheme_named
from kpedge.core.model_zoo import resolve_model
from kpedge.models.keypoint_model import empty_model, weights_hash
from kpedge.models.stage1 import Stage1

SIDE = 112
SHAPES = {
    "conv1_1": (8, 1, 5, 5),
    "conv2_1": (16, 8, 3, 3),
    "conv2_2": (16, 16, 3, 3),
    "conv3_1": (24, 16, 3, 3),
    "conv3_2": (24, 24, 3, 3),
    "conv4_1": (40, 24, 3, 3),
    "conv4_2": (80, 40, 3, 3),
    "ip1": (128, 1280),
    "ip2": (128, 128),
    "landmarks": (42, 128),
}
"""Layer of stage 1 -> shape of its weight, in the network's order. The course's students call them as they like."""
PRELUS = [f"prelu{name}" for name in ("1_1", "2_1", "2_2", "3_1", "3_2", "4_1", "4_2", "_ip1", "_ip2")]
PARTS = ("weight", "bias")
SPREAD = 0.03  # unit of the outputs: about the standard deviation of the points, fractions of the crop


def read_course(state: Mapping[str, Tensor]) -> tuple[ModelCard, dict[str, Tensor]] | None:
    """The card and the weights of stage 1 with the weights of a course checkpoint, stage 1, stage 2 (batch
    normalisation at up to four places) or stage 3 (whose face branch is dropped); None where it is none.

    Layers are recognised by order and shape. Outputs are taken for pixels of a 112-pixel crop, or for fractions of it,
    whichever they look like, and become what kpedge trains: offsets from the mean shape.
    """
    kept = {name: tensor.detach().float() for name, tensor in state.items() if "cls" not in name}
    layers = [name.rpartition(".")[0] for name, one in kept.items() if name.endswith("weight") and one.ndim > 1]
    if [tuple(kept[f"{name}.weight"].shape) for name in layers] != list(SHAPES.values()):
        return None
    slopes = [tensor for name, tensor in kept.items() if name.endswith("weight") and tensor.shape == (1,)]
    norms = [name.rpartition(".")[0] for name in kept if name.endswith("running_mean")]
    places = {8: "norm1", 16: "norm2", 24: "norm3", 80: "norm4"}
    sizes = [len(kept[f"{name}.running_mean"]) for name in norms]
    if len(slopes) not in (1, len(PRELUS)) or sizes not in ([], list(places)):
        return None
    own = {f"{new}.{part}": kept[f"{old}.{part}"] for new, old in zip(SHAPES, layers, strict=True) for part in PARTS}
    own |= {f"{name}.weight": slope for name, slope in zip(PRELUS, slopes * (9 // len(slopes)), strict=True)}
    for old, size in zip(norms, sizes, strict=True):
        own |= {f"{places[size]}.{name.rpartition('.')[2]}": kept[name] for name in kept if name.startswith(f"{old}.")}
    return _standardised(own, {"norm": "batch"} if norms else {})


def _standardised(own: dict[str, Tensor], options: dict[str, Any]) -> tuple[ModelCard, dict[str, Tensor]]:
    """The card, and the weights with outputs as offsets from the released models' mean shape, in units of `SPREAD`."""
    network = Stage1(21, **options).eval()
    network.load_state_dict(own)
    with torch.no_grad():
        outputs = network(torch.randn(16, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))
    in_pixels = bool(outputs.abs().median() > 2)
    scale, offset = (1 / SIDE, 0.5 / SIDE) if in_pixels else (1.0, 0.0)
    released = read_json(resolve_model("stage1", ".json"), ModelError)
    mean_shape = np.array(released["mean_shape"])
    own["landmarks.weight"] = own["landmarks.weight"] * scale / SPREAD
    own["landmarks.bias"] = (
        own["landmarks.bias"] * scale + offset - torch.as_tensor(mean_shape).float().flatten()
    ) / SPREAD
    origin = f"a checkpoint of the course, with outputs in {'pixels' if in_pixels else 'fractions'} of the crop"
    card = ModelCard(
        name="stage1",
        task="keypoints",
        architecture={"name": "stage1", "options": options},
        colour="grey",
        scheme=scheme_named("faces21"),
        crop=CropRule(),
        size=SIDE,
        mean_shape=mean_shape,
        training={"sets": [], "recipe": {}, "start": None, "origin": origin},
    )
    model = empty_model(card)
    model.network.load_state_dict(own)
    model.spread.fill_(SPREAD)
    return replace(card, weights_sha256=weights_hash(model)), model.state_dict()
