"""The literal recipe of the course that kpedge grew from, and what each fix changes: the table of docs/course.md.

    kpedge data prepare faces21 --out data/faces21
    python benchmarks/course_recipe.py --data data/faces21        # about 25 s per run on one idle core

The recipe: a plain PReLU network with PyTorch's default initialisation, targets in pixels of a 112-pixel crop, the mean
squared error, SGD with a learning rate of 1e-3 and a momentum of 0.5, each crop normalised by its own mean and standard
deviation. Plain PyTorch from top to bottom, so that nothing of kpedge's own recipe helps it. Validation photos only.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kpedge.core.files import write_json
from kpedge.core.geometry import CropRule, crop_square
from kpedge.core.machine import describe
from kpedge.data.packed import PreparedSet, open_set
from kpedge.data.sampling import CropSampler
from kpedge.evaluation.keypoint_metrics import KeypointTruth, measure
from kpedge.models.initialise import initialise
from kpedge.models.stage1 import Stage1

RESULTS = Path(__file__).resolve().parent / "results" / "course_recipe.json"
SIZE = 112
SEEDS = (0, 1)


@dataclass(frozen=True)
class Recipe:
    """What a run does; the defaults are the course's.

    Attributes:
        init: of the weights: "torch" or "kaiming".
        standardised: targets are offsets from the mean shape in units of their standard deviation, not pixels.
        lr, momentum: of SGD.
        schedule: warm-up over the first 5 % of the steps, then a cosine to zero; a constant rate otherwise.
        clip: largest norm of the gradient; none when 0.
        start: the bias of the last layer starts at the mean shape.
        adam: Adam in place of SGD.
        mirror: half of the crops are mirrored.
    """

    init: str = "torch"
    standardised: bool = False
    lr: float = 1e-3
    momentum: float = 0.5
    schedule: bool = False
    clip: float = 0.0
    start: bool = False
    adam: bool = False
    mirror: bool = False


LITERAL = Recipe()
BOTH = Recipe(init="kaiming", standardised=True)
FAST = replace(BOTH, lr=0.2, momentum=0.9, schedule=True, clip=1.0)
RUNS = {
    "the course's recipe": LITERAL,
    "… with a learning rate of 1e-4": replace(LITERAL, lr=1e-4),
    "… with clipping": replace(LITERAL, clip=1.0),
    "… starting at the mean shape": replace(LITERAL, start=True),
    "… with Adam, 1e-3": replace(LITERAL, adam=True),
    "… with Kaiming initialisation": replace(LITERAL, init="kaiming"),
    "… with Kaiming initialisation and clipping": replace(LITERAL, init="kaiming", clip=1.0),
    "… with standardised targets": replace(LITERAL, standardised=True),
    "Kaiming and standardised targets": BOTH,
    "… and momentum 0.9": replace(BOTH, momentum=0.9),
    "… and a rate of 0.2, warm-up, cosine, clipping": FAST,
    "… but PyTorch's initialisation": replace(FAST, init="torch"),
    "… but without clipping": replace(FAST, clip=0.0),
    "… and mirroring": replace(FAST, mirror=True),
}
"""Name -> recipe; a name that begins with … changes the last one without."""


def crops_of(source: PreparedSet, split: str) -> tuple[Tensor, Tensor, KeypointTruth]:
    """The normalised crops of a split, (N, 1, 112, 112), their keypoints in fractions, (N, K, 2), and the truth."""
    indices, rule = source.indices(split), CropRule()
    crops, keypoints = CropSampler(source, SIZE, "grey", rule).batch(indices)
    pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    mean, deviation = pixels.mean((1, 2, 3), keepdim=True), pixels.std((1, 2, 3), keepdim=True)
    sides = np.array([crop_square(box, rule)[2] for box in source.boxes[indices]])
    truth = KeypointTruth(keypoints, sides, source.boxes[indices], source.scheme)
    return (pixels - mean) / (deviation + 1e-7), torch.from_numpy(keypoints).float(), truth


def run(recipe: Recipe, source: PreparedSet, epochs: int, seed: int) -> dict[str, Any]:
    """Train, and give the figures on the validation split after every epoch."""
    torch.manual_seed(seed)
    pixels, keypoints, _ = crops_of(source, "train")
    held_out, _, truth = crops_of(source, "validation")
    mean_shape = keypoints.mean(0)
    deviation = float((keypoints - mean_shape).std())
    scale, offset = (deviation, mean_shape) if recipe.standardised else (1 / SIZE, torch.zeros_like(mean_shape))
    network = Stage1(len(source.scheme))
    initialise(network, recipe.init)
    if recipe.start:
        network.landmarks.bias.data.copy_(((mean_shape - offset) / scale).flatten())
    if recipe.adam:
        optimiser: torch.optim.Optimizer = torch.optim.Adam(network.parameters(), lr=recipe.lr)
    else:
        optimiser = torch.optim.SGD(network.parameters(), lr=recipe.lr, momentum=recipe.momentum)
    steps = epochs * math.ceil(len(pixels) / 64)
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps)) if recipe.schedule else 1.0,
    )
    swap = torch.tensor(source.scheme.mirror_order)
    order = torch.Generator().manual_seed(seed)
    history, began = [], time.process_time()
    for epoch in range(1, epochs + 1):
        network.train()
        for batch in torch.randperm(len(pixels), generator=order).split(64):
            inputs, targets = pixels[batch], keypoints[batch]
            if recipe.mirror:
                flip = torch.rand(len(batch), generator=order) < 0.5
                inputs = torch.where(flip[:, None, None, None], inputs.flip(3), inputs)
                mirrored = (targets * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0]))[:, swap]
                targets = torch.where(flip[:, None, None], mirrored, targets)
            loss = nn.functional.mse_loss(network(inputs).reshape(targets.shape), (targets - offset) / scale)
            optimiser.zero_grad()
            loss.backward()
            if recipe.clip:
                nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            optimiser.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            found = torch.cat([network(part) for part in held_out.split(256)])
        if not torch.isfinite(found).all():
            return {"diverged_in_epoch": epoch}
        predicted = offset + scale * found.reshape(len(held_out), -1, 2)
        figures = measure(predicted.numpy(), truth)
        varies = float(predicted.std(0).mean() / torch.from_numpy(truth.keypoints).float().std(0).mean())
        history.append({"nme_box": figures.nme_box, "mse_112": figures.mse_112, "variation": varies})
    last = {name: round(value, 5) for name, value in history[-1].items()}
    baseline = measure(np.broadcast_to(mean_shape.numpy(), truth.keypoints.shape), truth)
    better = next((n for n, row in enumerate(history, 1) if row["nme_box"] < 0.98 * baseline.nme_box), None)
    return {
        **last,
        "best_nme_box": round(min(row["nme_box"] for row in history), 5),
        "better_than_mean_face_from_epoch": better,
        "mean_face": {"nme_box": round(baseline.nme_box, 5), "mse_112": round(baseline.mse_112, 3)},
        "cpu_s": round(time.process_time() - began, 1),
    }


def table(document: dict[str, Any]) -> str:
    """The table of docs/course.md: for each recipe the last error on the validation photos, seed by seed."""
    lines = ["| recipe | " + " | ".join(f"seed {seed}" for seed in SEEDS) + " | variation |", "|---|---|---|---|"]
    for name in RUNS:
        rows = {row["seed"]: row for row in document["runs"] if row["name"] == name}
        cells = [_error(rows[seed]) if seed in rows else "" for seed in SEEDS]
        varies = [row["variation"] for row in rows.values() if "variation" in row]
        cells.append(f"{sum(varies) / len(varies):.2f}" if varies else "–")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _error(row: dict[str, Any]) -> str:
    diverged = row.get("diverged_in_epoch")
    return f"diverges in epoch {diverged}" if diverged else f"{100 * row['nme_box']:.2f} %"


def main() -> None:
    """Run what is not in the results yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="prepared set")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    source = open_set(arguments.data)
    document = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"runs": []}
    document |= {"epochs": arguments.epochs, "data": source.info["name"], "machine": describe()}
    done = {(row["name"], row["seed"]) for row in document["runs"]}
    for seed in SEEDS:
        for name, recipe in RUNS.items():
            if (name, seed) not in done:
                figures = run(recipe, source, arguments.epochs, seed)
                document["runs"].append({"name": name, "seed": seed, "recipe": asdict(recipe)} | figures)
                write_json(arguments.out, document)
                print(f"seed {seed}  {name}: {_error(figures)}", flush=True)
    print(table(document))


if __name__ == "__main__":
    main()
