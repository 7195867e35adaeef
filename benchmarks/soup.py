"""A checkpoint between two of one network: weights in proportion, normalisation measured anew, the score calibrated.

    python benchmarks/soup.py released.pt new.pt --share 0.7 --out between.pt SET [SET …]

Between the weights that a training started from and those that it ended with lie models that keep more of what the
first were good at (Wortsman et al. 2022). SET are the sets that the second was trained on, in that order; statistics of
batch normalisation are those of `--batches` batches as its training drew them, calibration and threshold those of the
validation splits.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from kpedge.datasets.packed import open_set
from kpedge.models.checkpoint import load_checkpoint, save_checkpoint
from kpedge.training.config import TrainConfig
from kpedge.training.loop import snapshot
from kpedge.training.setup import set_up
from kpedge.training.validation import validate, validation_data


def main() -> None:
    """Mix, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--share", type=float, action="append", required=True, help="of the second; repeatable")
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--out", type=Path, required=True, help="{} in the name stands for the share")
    options = parser.parse_args()
    first, second = load_checkpoint(options.first), load_checkpoint(options.second)
    config = TrainConfig.from_dict(second.config)
    made = set_up("stage3", [open_set(path) for path in options.sets], config, "cpu", None, print)
    data = validation_data(made.samplers, second.card)
    batches = []
    for batch in made.mixture.batches(1, config.batch_size):
        batches.append(torch.from_numpy(batch.crops))
        if len(batches) == options.batches:
            break
    for share in options.share:
        model = second.model(str(options.second))
        state = {
            name: torch.lerp(first.state[name], value, share) if value.is_floating_point() else value
            for name, value in second.state.items()
        }
        model.load_state_dict(state)
        norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        model.train()
        with torch.inference_mode():
            for crops in batches:
                model.raw(crops)
        model.eval()
        for norm in norms:
            norm.momentum = 0.1
        result = validate(model, data)
        training = {
            **second.card.training,
            "between": {"first": first.card.weights_sha256, "second": second.card.weights_sha256, "share": share},
        }
        card = replace(second.card, training=training)
        path = Path(str(options.out).format(share))
        offsets = second.resume.get("objective", {}).get("offsets.values")
        kept = {} if offsets is None else {"objective": {"offsets.values": offsets}}  # training may go on from here
        save_checkpoint(path, snapshot(model, card, config, second.progress, result, kept))
        print(path, f"{result.accuracy.nme_box:.4%}", result.face and result.face.threshold, flush=True)


if __name__ == "__main__":
    main()
