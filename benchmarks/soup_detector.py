"""`soup.py` for a detector: SET are frame sets, the threshold is that of their validation splits.

python benchmarks/soup_detector.py released.pt new.pt --share 0.7 --out between{}.pt FRAMES [FRAMES …] [--validate]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from kpedge.datasets.frame_sampling import FrameSampler
from kpedge.datasets.frames import open_frames
from kpedge.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kpedge.models.keypoint_model import weights_hash
from kpedge.training.config import DetectorConfig
from kpedge.training.detector_loop import to_tensors
from kpedge.training.detector_validation import validate_detector


def main() -> None:
    """Mix, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--share", type=float, action="append", required=True)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--validate", action="store_true", help="choose the threshold; it takes a while")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    first, second = load_checkpoint(options.first), load_checkpoint(options.second)
    config = DetectorConfig.from_dict(second.config)
    sets = [open_frames(path) for path in options.sets]
    sampler = FrameSampler(sets, config.size, config.jitter(), config.seed, config.faceless_times)
    order, size = sampler.order(1), config.batch_size
    places = [range(start * size, (start + 1) * size) for start in range(options.batches)]
    views = [[sampler.sample(*map(int, order[place]), 1, place) for place in batch] for batch in places]
    batches = [to_tensors(batch)[0] for batch in views]
    for share in options.share:
        model = second.model(str(options.second))
        model.load_state_dict(
            {
                name: torch.lerp(first.state[name], value, share) if value.is_floating_point() else value
                for name, value in second.state.items()
            }
        )
        norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        model.train()
        with torch.inference_mode():
            for frames in batches:
                model.raw(frames)  # type: ignore[operator]
        model.eval()
        for norm in norms:
            norm.momentum = 0.1
        between = {"first": first.card.weights_sha256, "second": second.card.weights_sha256, "share": share}
        training = {**second.card.training, "between": between}
        card = replace(second.card, training=training, weights_sha256=weights_hash(model), threshold=0.88, accuracy={})
        if options.validate:
            result = validate_detector(model, card, sets)  # type: ignore[arg-type]
            card = replace(card, threshold=result.threshold, accuracy={"validation": result.to_dict()})
            print(result.threshold, result.record())
        weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        path = Path(str(options.out).format(share))
        save_checkpoint(path, Checkpoint(card, weights, second.config, second.progress))
        print(path, flush=True)


if __name__ == "__main__":
    main()
