"""How long each released model takes next to stage 1: onnxruntime, one crop, one thread, interleaved rounds.

python benchmarks/stages.py --json benchmarks/results/stages.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from kpedge.core.files import write_json
from kpedge.core.keypoints import FACES21
from kpedge.core.machine import cpu_name, versions
from kpedge.core.model_zoo import models_folder, released_keypoint_models
from kpedge.export.test_inputs import random_crops
from kpedge.runtime.sessions import OnnxModel
from kpedge.runtime.timing import time_calls

BASE = "stage1"


def measure(files: dict[str, Path], *, rounds: int, calls: int, warmup: int) -> dict:
    """Time files in turn, round after round; ratios are taken within a round.

    Returns:
        name -> median and 95th percentile of a call, milliseconds, the ratio to `BASE`'s time (median over rounds, and
        its range from the 5th to the 95th percentile), and the file's size.
    """
    models = {name: OnnxModel(path, threads=1) for name, path in files.items()}
    crops = {name: random_crops(1, model.card.input_shape) for name, model in models.items()}
    times: dict[str, list[np.ndarray]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            times[name].append(1000 * time_calls(lambda: model(crops[name]), warmup=warmup, count=calls))  # noqa: B023
    base = np.array([np.median(turn) for turn in times[BASE]])
    rows = {}
    for name, turns in times.items():
        ratio = np.array([np.median(turn) for turn in turns]) / base
        rows[name] = {
            "median_ms": round(float(np.median(np.concatenate(turns))), 4),
            "p95_ms": round(float(np.percentile(np.concatenate(turns), 95)), 4),
            "ratio": round(float(np.median(ratio)), 3),
            "ratio_p5": round(float(np.percentile(ratio, 5)), 3),
            "ratio_p95": round(float(np.percentile(ratio, 95)), 3),
            "bytes": files[name].stat().st_size,
        }
    return rows


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--warmup", type=int, default=10)
    options = parser.parse_args()
    files = {name: models_folder() / f"{name}.onnx" for name in released_keypoint_models(FACES21.name)}
    settings = {"rounds": options.rounds, "calls": options.calls, "warmup": options.warmup}
    rows = measure(files, **settings)
    print(f"{cpu_name()}; onnxruntime, one crop a call, one thread; {settings}")
    for name, row in rows.items():
        print(
            f"{name}: {row['median_ms']:.3f} ms (95 %: {row['p95_ms']:.3f}), {row['ratio']:.2f} times {BASE} "
            f"({row['ratio_p5']:.2f} to {row['ratio_p95']:.2f}), {row['bytes'] / 1e6:.2f} MB"
        )
    if options.json:
        document = {"cpu": cpu_name(), "threads": 1, "batch": 1, **settings, "versions": versions(), "models": rows}
        write_json(options.json, document)


if __name__ == "__main__":
    main()
