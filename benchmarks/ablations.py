"""The course's questions, one run each: one thing changed, everything else the recipe of stage 2, an equal budget.

    python benchmarks/ablations.py --data data/faces21 --out runs/ablations          # runs what is not there yet
    python benchmarks/ablations.py --out runs/ablations --collect                    # results/ablations.json

`benchmarks/tables.py` makes the tables of docs/ablations.md from the results.

A run that is there is not run again. Each is a plain `kpedge train stage2`; its command is in the results.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kpedge.core.files import write_json
from kpedge.core.machine import cpu_name, versions

RESULTS = Path(__file__).resolve().parent / "results" / "ablations.json"
BUDGET = "--epochs 20 --ema-decay 0.998 --precision bfloat16 --threads 1"
"""Of every run. The shorter average of weights suits the short run."""


@dataclass(frozen=True)
class Trial:
    """One run: the question it belongs to, what is said of it, and its flags."""

    question: str
    name: str
    flags: str

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return "_".join(word.strip("-").replace(".", "p") for word in self.flags.split()) or "recipe"


PLAIN_PIXELS = "--brightness 0 --contrast 0 --blur 0 --noise 0 --jpeg 0 --downscale 0 --occlusion 0"
UNMOVED = "--no-mirror --roll 0 --scale 0 --shift 0"
TRIALS = [
    Trial("The recipe, six seeds", "seed 0", ""),
    Trial("The recipe, six seeds", "seed 1", "--seed 1"),
    Trial("The recipe, six seeds", "seed 2", "--seed 2"),
    Trial("The recipe, six seeds", "seed 3", "--seed 3"),
    Trial("The recipe, six seeds", "seed 4", "--seed 4"),
    Trial("The recipe, six seeds", "seed 5", "--seed 5"),
    Trial("Input normalisation", "none: pixels from 0 to 255", "--normalise none"),
    Trial("Input normalisation", "constants: -1 to 1", "--normalise fixed"),
    Trial("Augmentation", "no mirroring", "--no-mirror"),
    Trial("Augmentation", "no rotation", "--roll 0"),
    Trial("Augmentation", "no moved and scaled boxes", "--scale 0 --shift 0"),
    Trial(
        "Augmentation",
        "boxes moved and scaled evenly, by up to 6 and 5 %",
        "--scale 0.05 --shift 0.06 --jitter-exponent 1",
    ),
    Trial("Augmentation", "no brightness and contrast", "--brightness 0 --contrast 0"),
    Trial("Augmentation", "no blur, noise, JPEG", "--blur 0 --noise 0 --jpeg 0"),
    Trial("Augmentation", "no small faces imitated", "--downscale 0"),
    Trial("Augmentation", "no occluders", "--occlusion 0"),
    Trial("Augmentation", "pixels untouched", PLAIN_PIXELS),
    Trial("Augmentation", "none at all", f"{UNMOVED} {PLAIN_PIXELS}"),
    Trial("SGD or Adam, and the learning rate", "SGD, 0.03", "--optimizer sgd --lr 0.03 --weight-decay 5e-4"),
    Trial("SGD or Adam, and the learning rate", "SGD, 0.1", "--optimizer sgd --lr 0.1 --weight-decay 5e-4"),
    Trial("SGD or Adam, and the learning rate", "SGD, 0.3", "--optimizer sgd --lr 0.3 --weight-decay 5e-4"),
    Trial("SGD or Adam, and the learning rate", "Nesterov, 0.1", "--optimizer nesterov --weight-decay 5e-4 --lr 0.1"),
    Trial("SGD or Adam, and the learning rate", "Adam, 0.001", "--optimizer adam --lr 1e-3 --weight-decay 0"),
    Trial("SGD or Adam, and the learning rate", "Adam, 0.004", "--optimizer adam --lr 4e-3 --weight-decay 0"),
    Trial("SGD or Adam, and the learning rate", "Adam, 0.016", "--optimizer adam --lr 1.6e-2 --weight-decay 0"),
    Trial("SGD or Adam, and the learning rate", "RMSprop, 0.0004", "--optimizer rmsprop --lr 4e-4 --weight-decay 0"),
    Trial("SGD or Adam, and the learning rate", "Adagrad, 0.02", "--optimizer adagrad --lr 0.02 --weight-decay 0"),
    Trial("Adam first, SGD after", "over after half", "--optimizer adam-sgd --sgd-lr 0.05 --weight-decay 5e-4"),
    Trial("Schedule", "constant", "--schedule constant"),
    Trial("Schedule", "step: a tenth after each third", "--schedule step"),
    Trial("Schedule", "multi-step: a tenth after 60 and 85 %", "--schedule multi-step"),
    Trial("Schedule", "one cycle", "--schedule one-cycle"),
    Trial("Normalisation layers", "none", "--norm none"),
    Trial("Normalisation layers", "none, a tenth of the rate", "--norm none --lr 4e-4"),
    Trial("Normalisation layers", "group", "--norm group"),
    Trial("Normalisation layers", "instance", "--norm instance"),
    Trial("Backbone and head", "three branches a layer (RepVGG)", "--backbone rep"),
    Trial("Backbone and head", "inverted residuals (MobileNetV2)", "--backbone mobile"),
    Trial("Backbone and head", "feature pyramid", "--backbone pyramid"),
    Trial("Backbone and head", "feature pyramid, heatmaps", "--backbone pyramid --head heatmap"),
    Trial("Backbone and head", "SimCC", "--head simcc"),
    Trial("Backbone and head", "ResNet-18", "--backbone resnet18"),
    Trial("Loss", "mean squared error", "--loss mse"),
    Trial("Loss", "L1", "--loss l1"),
    Trial("Loss", "wing", "--loss wing"),
    Trial("Loss", "distance", "--loss euclidean"),
    Trial("Against overfitting", "dropout 0.2", "--dropout 0.2"),
    Trial("Against overfitting", "no weight decay", "--weight-decay 0"),
    Trial("Against overfitting", "no average of weights", "--ema-decay 0"),
    Trial("Start and colour", "Xavier", "--init xavier"),
    Trial("Start and colour", "orthogonal", "--init orthogonal"),
    Trial("Start and colour", "PyTorch's default", "--init torch"),
    Trial("Six times as long", "the recipe", "--epochs 120"),
    Trial("Six times as long", "no augmentation at all", f"--epochs 120 {UNMOVED} {PLAIN_PIXELS}"),
    Trial("Start and colour", "colour", "--colour bgr --saturation 0.3 --hue 10 --grey 0.1"),
]


def run(data: Path, out: Path) -> None:
    """Train every trial whose run is not complete."""
    for number, trial in enumerate(TRIALS, 1):
        folder = out / trial.folder
        if (folder / "done").exists():
            continue
        command = [sys.executable, "-m", "kpedge", "train", "stage2", "--data", str(data), "--out", str(folder)]
        command += [*BUDGET.split(), *trial.flags.split(), "--resume"]
        print(f"{number}/{len(TRIALS)} {trial.question}: {trial.name}", flush=True)
        if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode:
            print(f"failed: {shlex.join(command)}", flush=True)
            continue
        (folder / "done").touch()


def collect(out: Path) -> None:
    """Write the results of the runs that are there."""
    rows = []
    for trial in TRIALS:
        folder = out / trial.folder
        if not (folder / "done").exists():
            continue
        history = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
        best = min(history, key=lambda record: float(record["val_nme"]))
        rows.append(
            {
                "question": trial.question,
                "name": trial.name,
                "command": f"kpedge train stage2 --data faces21 $BUDGET {trial.flags}".strip(),
                "val_nme": float(best["val_nme"]),
                "val_failure": float(best["val_failure"]),
                "train_loss": float(history[-1]["train_keypoint_loss"]),
                "val_mse": float(history[-1]["val_mse"]),
                "seconds_per_epoch": round(float(np.median([float(record["seconds"]) for record in history])), 2),
            }
        )
    document = {"budget": BUDGET, "cpu": cpu_name(), "versions": versions(), "trials": rows}
    write_json(RESULTS, document)


def markdown() -> str:
    """The results as Markdown: a table per question, each difference next to that between seeds."""
    trials = json.loads(RESULTS.read_text())["trials"]
    seeds = [100 * row["val_nme"] for row in trials if row["question"].startswith("The recipe")]
    base, noise = float(np.mean(seeds)), float(np.std(seeds, ddof=1))
    parts = [f"Recipe: {base:.2f} % of the box, standard deviation of {len(seeds)} seeds {noise:.2f}."]
    for question in dict.fromkeys(row["question"] for row in trials):
        lines = [f"### {question}", "", "| change | error, % | difference | faces over 10 % | seconds an epoch |"]
        lines.append("| --- | ---: | ---: | ---: | ---: |")
        for row in (row for row in trials if row["question"] == question):
            error = 100 * row["val_nme"]
            # A single run against the mean of the seeds: both vary.
            within = abs(error - base) < 2 * noise * (1 + 1 / len(seeds)) ** 0.5
            lines.append(
                f"| {row['name']} | {error:.2f} | {error - base:+.2f}{' (noise)' if within else ''} "
                f"| {100 * row['val_failure']:.1f} % | {row['seconds_per_epoch']:.1f} |"
            )
        commands = [row["command"] for row in trials if row["question"] == question]
        parts.append("\n".join(lines) + "\n\n" + "\n".join(f"    {command}" for command in commands))
    return "\n\n".join(parts)


def main() -> None:
    """Run or collect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="prepared set")
    parser.add_argument("--out", type=Path, help="folder of the runs")
    parser.add_argument("--collect", action="store_true")
    options = parser.parse_args()
    if options.collect:
        collect(options.out)
    else:
        run(options.data, options.out)


if __name__ == "__main__":
    main()
