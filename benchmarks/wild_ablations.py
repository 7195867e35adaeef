"""What each set and each augmentation is worth to stage 3 in the wild: one left out, everything else the same.

    git show 5737b20:export/stage3.safetensors >first.safetensors  # that of 0.1.0
    python benchmarks/wild_ablations.py --start first.safetensors --crops CROPS --out runs/wild

CROPS is the folder of prepared sets that `release.sh` makes. Each trial is a plain `kpedge train stage3` from the same
weights with an equal budget, measured on validation photos as in `wild_points.py`. `benchmarks/tables.py` makes the
table of docs/ablations.md from the results.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from wild_points import FACE_SETS, MAIN, POINT_SETS, keypoint_rows

from kpedge.core.files import write_json
from kpedge.core.machine import cpu_name, versions
from kpedge.export.load import open_model

RESULTS = Path(__file__).resolve().parent / "results" / "wild_ablations.json"
BUDGET = (
    "--epochs 8 --schedule cosine --lr 1e-3 --extra-ratio 2 --negatives 0.35 --roll 65 --roll-exponent 3.5 --scale 0.12"
    " --shift 0.1 --jitter-exponent 6 --dark 0.1 --accessories 0.1 --occlusion 0.15 --blur 1.2 --downscale 0.2"
    " --precision bfloat16 --threads 1"
)
PHOTOS = ("noface", "hard", "synthetic-background")  # without faces
SETS = ("youtube68", "helen_afw68", "aflw5", "utk_pseudo21", "mask_ilc-points", "synthetic", *FACE_SETS, *PHOTOS)
COLUMNS = {
    "faces21, true boxes": "upright",
    "faces21, under 30 px": "under 30 px",
    "faces21, rotated by 45": "rotated by 45°",
    "faces21, drawn masks": "drawn masks",
    "youtube68, offset removed": "youtube68",
    "helen_afw68, offset removed": "helen_afw68",
    "aflw5, nose aside 0.25 to 9 of the height": "aflw5, turned",
    "accepted, mask_ilc": "street photos accepted",
    "accepted, flickr_pseudo": "in action accepted",
    "negatives accepted, hard": "hard negatives accepted",
}
"""A row of `keypoint_rows` -> what the table calls it."""


@dataclass(frozen=True)
class Trial:
    """One run: its name, the sets that are left out, and further flags."""

    name: str
    without: tuple[str, ...] = ()
    flags: str = ""

    def command(self, start: str, crops: str, out: str) -> list[str]:
        """What is run."""
        extra = [part for name in SETS if name not in self.without for part in ("--extra-data", f"{crops}/{name}")]
        train = ["train", "stage3", "--data", f"{crops}/{MAIN}", *extra, "--init-from", start, "--out", out]
        return [*train, *BUDGET.split(), *self.flags.split()]


WHOLE = "all sets"
TRIALS = [
    *(Trial(f"{WHOLE}, seed {seed}", flags=f"--seed {seed}") for seed in range(3)),
    *(Trial(f"without {name}", (name,)) for name in (*POINT_SETS, "aflw5", "synthetic", "flickr_pseudo")),
    Trial("without faces that have no points", FACE_SETS),
    Trial("without photos that show no face", PHOTOS),
    Trial("rotated by 15 degrees at most", flags="--roll 15"),
    Trial("no drawn masks and glasses", flags="--accessories 0"),
    Trial("no occluders", flags="--occlusion 0"),
]


def run(start: Path, crops: Path, out: Path) -> None:
    """Train and measure every trial that is not in the results, and write them after each."""
    rows = json.loads(RESULTS.read_text())["trials"] if RESULTS.exists() else []
    for number, trial in enumerate(TRIALS, 1):
        if any(row["name"] == trial.name for row in rows):
            continue
        folder = out / trial.name.replace(" ", "-")
        print(f"{number}/{len(TRIALS)} {trial.name}", flush=True)
        command = [sys.executable, "-m", "kpedge", *trial.command(str(start), str(crops), str(folder)), "--force"]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        figures = keypoint_rows(open_model(folder / "last.pt"), crops, "validation")
        shown = {column: figures[column]["mean"] for column in COLUMNS}
        rows.append({"name": trial.name, "command": " ".join(trial.command("FIRST", "CROPS", "OUT")), "figures": shown})
        write_json(RESULTS, {"budget": BUDGET, "cpu": cpu_name(), "versions": versions(), "trials": rows})


def markdown() -> str:
    """The results as Markdown; what lies further from the seeds' mean than chance does is bold."""
    trials = json.loads(RESULTS.read_text())["trials"]
    seeds = [row["figures"] for row in trials if row["name"].startswith(WHOLE)]
    base = {column: float(np.mean([one[column] for one in seeds])) for column in COLUMNS}
    noise = {column: float(np.std([one[column] for one in seeds], ddof=1)) for column in COLUMNS}
    lines = ["### Stage 3 in the wild", "", f"| | {' | '.join(COLUMNS.values())} |", f"|---|{'---:|' * len(COLUMNS)}"]
    lines.append(f"| all sets, mean of {len(seeds)} seeds | {' | '.join(f'{base[one]:.2f}' for one in COLUMNS)} |")
    lines.append(f"| their standard deviation | {' | '.join(f'{noise[one]:.2f}' for one in COLUMNS)} |")
    for row in trials:
        if row["name"].startswith(WHOLE):
            continue
        cells = []
        for column in COLUMNS:
            value = row["figures"][column]
            # A single run against the mean of the seeds: both vary.
            far = abs(value - base[column]) > 3 * noise[column] * (1 + 1 / len(seeds)) ** 0.5
            cells.append(f"**{value:.2f}**" if far else f"{value:.2f}")
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, required=True, help="weights of 0.1.0")
    parser.add_argument("--crops", type=Path, required=True, help="folder of prepared sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    options = parser.parse_args()
    run(options.start, options.crops, options.out)


if __name__ == "__main__":
    main()
