"""Samples a second for training: from a prepared set, and by decoding the photo for every sample, in one run.

Both sides give the same crops, which is checked, and use one thread. Rounds are interleaved; the ratio is taken
within a round.

    python benchmarks/sampling.py PHOTOS PREPARED [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np

from kpedge.core.geometry import CropRule, crop, crop_transform
from kpedge.core.images import read_image
from kpedge.core.machine import describe
from kpedge.data.packed import PreparedSet, open_set
from kpedge.data.sampling import CropSampler, Jitter


def from_photos(photos: Path, source: PreparedSet, indices: np.ndarray) -> list[np.ndarray]:
    """Decode, crop and resize the photo of each face."""
    crops = []
    for index in indices:
        photo = read_image(photos / source.photos[source.photo[index]], stored=True)
        crops.append(crop(photo, crop_transform(source.boxes[index], 112, CropRule()), 112, colour="grey"))
    return crops


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--faces", type=int, default=400, help="faces a round, drawn from the training split")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    source = open_set(arguments.prepared)
    rng = np.random.default_rng(0)
    train = source.indices("train")
    plain = CropSampler(source, 112, "grey", CropRule())
    jittered = CropSampler(source, 112, "grey", CropRule(), Jitter(mirror=True, roll=10, scale=0.1, shift=0.1))
    rates: dict[str, list[float]] = {"photos": [], "prepared": [], "prepared, jittered": []}
    for round_ in range(arguments.rounds + 1):  # the first fills the page cache and is not counted
        indices = rng.choice(train, min(arguments.faces, len(train)), replace=False)
        began = time.perf_counter()
        decoded = from_photos(arguments.photos, source, indices)
        middle = time.perf_counter()
        crops, _ = plain.batch(indices)
        late = time.perf_counter()
        jittered.batch(indices, epoch=round_)
        end = time.perf_counter()
        if not (crops == np.stack(decoded)).all():
            raise SystemExit("the two sides differ")
        if round_:
            for name, seconds in zip(rates, (middle - began, late - middle, end - late), strict=True):
                rates[name].append(len(indices) / seconds)
    ratios = [b / a for a, b in zip(rates["photos"], rates["prepared"], strict=True)]
    result = {
        "machine": describe(),
        "threads": 1,
        "rounds": arguments.rounds,
        "faces_a_round": len(indices),
        "samples_a_second": {name: round(float(np.median(values)), 1) for name, values in rates.items()},
        "ratio_prepared_to_photos": round(float(np.median(ratios)), 2),
        "ratio_by_round": [round(ratio, 2) for ratio in ratios],
    }
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
