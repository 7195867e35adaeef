"""A checkpoint between two of one network: weights in proportion, batch statistics and threshold measured again.

    python benchmarks/mix_weights.py stage3 released.pt new.pt --share 0.4 --out mixed.pt SET [SET …]

Between the weights that a training started from and those that it ended with lie models that keep more of what the
first were good at (Wortsman et al. 2022). SET are the sets that the second was trained on, in that order: statistics
of batch normalisation are those of `--batches` of their batches, calibration and threshold those of their validation
splits.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from kpedge.data.frames import is_frame_set, open_frames
from kpedge.data.packed import open_set
from kpedge.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kpedge.models.keypoint_model import weights_hash
from kpedge.training.config import DetectorConfig, TrainConfig
from kpedge.training.distributed import World
from kpedge.training.loop import build


def main() -> None:
    """Mix, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--share", type=float, required=True, help="of the second")
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--threshold", type=float, help="instead of the best on the validation splits")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    first, second = load_checkpoint(options.first), load_checkpoint(options.second)
    config = (DetectorConfig if options.recipe == "detector" else TrainConfig).from_dict(second.config)
    sets = [open_frames(path) if is_frame_set(path) else open_set(path) for path in options.sets]
    world = World()
    task: Any = build(options.recipe, sets, config, world, None, print)
    mixed = {
        name: torch.lerp(first.state[name], value, options.share) if value.is_floating_point() else value
        for name, value in second.state.items()
    }
    task.model.load_state_dict(mixed)
    norms = [layer for layer in task.model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    task.model.train()
    with torch.inference_mode():
        for inputs, *_ in islice(task.batches(1, world, 0), options.batches):
            task.model.raw(inputs)
    task.model.eval()
    result = task.validate(task.model, world)
    card = task.describe(task.card, task.model, result)
    if options.threshold is not None:
        card = replace(card, threshold=options.threshold)
    between = {"first": first.card.weights_sha256, "second": second.card.weights_sha256, "share": options.share}
    training = {**second.card.training, "between": between}
    card = replace(card, training=training, weights_sha256=weights_hash(task.model))
    state = {name: tensor.detach().clone() for name, tensor in task.model.state_dict().items()}
    offsets = {name: value for name, value in second.resume.get("loss", {}).items() if name == "offsets.values"}
    bias = {"loss": offsets} if offsets else {}
    save_checkpoint(options.out, Checkpoint(card, state, second.config, second.progress, bias))
    print(options.out, result.record())


if __name__ == "__main__":
    main()
