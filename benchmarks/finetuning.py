"""How many labelled faces finetuning needs, and what to start from: the table and the plot of docs/training.md.

    kpedge data prepare faces21 --out data/faces21 --negatives 2
    kpedge data prepare helen_afw68 --out data/helen --scheme faces21 --negatives 1 --test 0.15 --validation 0.05
    python benchmarks/finetuning.py --synthetic data/synthetic --data data/helen --data data/faces21

Stage 3's recipe for 300 steps of 32 samples on about N faces of photos drawn at random, with three starts: initial
weights, weights trained on synthetic faces alone, and the released ones. The last epoch is measured on the test photos,
so nothing is chosen by them. A second call continues where the first was stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from kpedge.core.files import write_bytes, write_json
from kpedge.core.images import figure_png
from kpedge.core.machine import describe
from kpedge.core.model_zoo import resolve_weights
from kpedge.core.plots import count_along_x, new_figure
from kpedge.data import open_set
from kpedge.data.packed import PreparedSet
from kpedge.data.split import SPLITS
from kpedge.evaluation import evaluate_split
from kpedge.export import open_model
from kpedge.training import RECIPES, train

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PLOT = ROOT / "benchmarks" / "results" / "finetuning.json", ROOT / "docs" / "finetuning.png"
COUNTS, SEEDS, STEPS, BATCH = (50, 100, 200, 400), (0, 1), 300, 32
STARTS = {"from scratch": 4e-3, "from synthetic faces": 2e-3, "from the released weights": 2e-3}
"""Start -> learning rate."""
FAST: dict[str, Any] = {"threads": 1, "precision": "bfloat16"}


def subset(source: PreparedSet, count: int, seed: int) -> PreparedSet:
    """A set with about `count` of its training faces: photos are drawn until their faces suffice."""
    photos = np.random.default_rng(seed).permutation(np.unique(source.photo[source.indices("train")]))
    faces = np.cumsum([(source.face[source.photo == photo] == 1).sum() for photo in photos])
    kept = np.isin(source.photo, photos[: int(np.searchsorted(faces, count)) + 1])
    kept |= source.split != SPLITS.index("train")
    arrays = {item.name: getattr(source, item.name) for item in fields(source) if item.name != "pixels"}
    return replace(source, **{name: row[kept] for name, row in arrays.items() if isinstance(row, np.ndarray)})


def pretrain(source: PreparedSet, out: Path) -> tuple[Path, float]:
    """Stage 3 on synthetic faces alone, 6 epochs; the checkpoint and the seconds that it took."""
    began = time.process_time()
    if not (out / "last.pt").exists() or not (out / "done").exists():
        train("stage3", source, out, replace(RECIPES["stage3"], epochs=6, validate=6, **FAST), force=True)
        (out / "done").write_text(f"{time.process_time() - began:.0f}")
    return out / "last.pt", float((out / "done").read_text())


def run(source: PreparedSet, count: int, start: str, init: Path | None, seed: int, work: Path) -> dict[str, Any]:
    """Train once and measure the last epoch on the test split."""
    few, recipe = subset(source, count, seed), RECIPES["stage3"]
    faces = len(few.indices("train"))
    epochs = round(STEPS / np.ceil(faces * (1 + recipe.negatives) / BATCH))
    config = replace(recipe, epochs=epochs, validate=epochs, lr=STARTS[start], seed=seed, batch_size=BATCH, **FAST)
    began = time.process_time()
    train("stage3", few, work, config, init_from=init, force=True)
    seconds = time.process_time() - began
    accuracy = evaluate_split(open_model(work / "last.pt"), source, "test").accuracy
    return {"faces": faces, "epochs": epochs, "nme_box": round(accuracy.nme_box, 5), "cpu_s": round(seconds, 1)}


def table(document: dict[str, Any]) -> str:
    """The table of docs/training.md: mean error over the seeds, % of the box."""
    lines = ["| faces | " + " | ".join(STARTS) + " |", "|---|" + "---:|" * len(STARTS)]
    for name, figures in document["sets"].items():
        mean, still = (f"{100 * figures[key]:.2f}" for key in ("mean_shape", "released"))
        lines.append(f"| **{name}**: mean shape {mean}, released without finetuning {still} | | | |")
        for count in COUNTS:
            errors = [_mean(document, name, count, start) for start in STARTS]
            cells = ["" if error is None else f"{100 * error:.2f}" for error in errors]
            lines.append(f"| {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(document: dict[str, Any], name: str, count: int, start: str) -> float | None:
    keys = {"set": name, "count": count, "start": start}
    errors = [row["nme_box"] for row in document["runs"] if all(row[key] == value for key, value in keys.items())]
    return sum(errors) / len(errors) if errors else None


def plot(document: dict[str, Any]) -> bytes:
    """Error over the number of training faces, a panel for each set."""
    figure, axes = new_figure(len(document["sets"]), (9.0, 3.6))
    for axis, (name, figures) in zip(axes, document["sets"].items(), strict=True):
        for start in STARTS:
            points = [(count, _mean(document, name, count, start)) for count in COUNTS]
            known = [(count, 100 * error) for count, error in points if error is not None]
            axis.plot(*zip(*known, strict=True), marker="o", label=start)
        axis.axhline(100 * figures["released"], color="C2", linestyle=":", label="released, not finetuned")
        axis.axhline(100 * figures["mean_shape"], color="grey", linestyle="--", label="mean shape")
        axis.set(title=name, xlabel="training faces", ylabel="test error, % of the box", ylim=(0, None))
        count_along_x(axis)
    axes[0].legend(frameon=False, fontsize=8)
    return figure_png(figure)


def main() -> None:
    """Run what is not in the results yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True, help="prepared set; repeatable")
    parser.add_argument("--synthetic", type=Path, required=True, help="prepared set of synthetic faces")
    parser.add_argument("--weights", default="stage3", help="released weights: a name, or a file of an earlier release")
    parser.add_argument("--work", type=Path, default=Path("runs/finetuning"), help="folder of the runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    document = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"sets": {}, "runs": []}
    synthetic, seconds = pretrain(open_set(arguments.synthetic), arguments.work / "synthetic")
    document |= {"machine": describe(), "steps": STEPS, "synthetic_cpu_s": seconds}
    released = resolve_weights(arguments.weights)
    starts = dict(zip(STARTS, (None, synthetic, released), strict=True))
    sets = [open_set(path) for path in arguments.data]
    for source in sets:
        evaluation = evaluate_split(open_model(released), source, "test")
        figures = {"released": evaluation.accuracy.nme_box, "mean_shape": evaluation.mean_face.nme_box}
        document["sets"][source.info["name"]] = {name: round(value, 5) for name, value in figures.items()}
    done = {(row["set"], row["count"], row["start"], row["seed"]) for row in document["runs"]}
    for seed in SEEDS:
        for source in sets:
            for count in COUNTS:
                for start, init in starts.items():
                    key = {"set": source.info["name"], "count": count, "start": start, "seed": seed}
                    if tuple(key.values()) not in done:
                        document["runs"].append(key | run(source, count, start, init, seed, arguments.work / "run"))
                        write_json(arguments.out, document)
                        print(document["runs"][-1], flush=True)
    write_bytes(PLOT, plot(document))
    print(table(document))


if __name__ == "__main__":
    main()
