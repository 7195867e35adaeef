"""Training samples a second on one core: plain, with the square disturbed, with the pixels disturbed too.

Crops of 112 x 112 in colour and in grey, cut from a prepared set, all disturbances at strong settings; then each
disturbance of the pixels alone, as microseconds that it adds to a sample. Rounds are interleaved.

    python benchmarks/augmentation.py PREPARED [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from kpedge.core.geometry import CropRule
from kpedge.core.machine import describe
from kpedge.data.augmentation import UNDISTURBED, Photometric
from kpedge.data.packed import open_set
from kpedge.data.sampling import CropSampler, Jitter

JITTER = Jitter(mirror=True, roll=20, scale=0.1, shift=0.05)
STRONG = Photometric(
    brightness=0.25,
    contrast=0.5,
    saturation=0.5,
    hue=20,
    blur=2.0,
    noise=15,
    jpeg=0.5,
    lowres=0.4,
    occlusion=0.5,
    grey=0.2,
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--faces", type=int, default=400, help="faces a round, drawn from the training split")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    source = open_set(arguments.prepared)
    rng = np.random.default_rng(0)
    train = source.indices("train")

    def sampler(colour: str, jitter: Jitter, photometric: Photometric) -> CropSampler:
        return CropSampler(source, 112, colour, CropRule(), jitter, 0, photometric)

    sides = {
        f"{name}, {colour}": sampler(colour, jitter, photometric)
        for colour in ("grey", "bgr")
        for name, jitter, photometric in (
            ("plain", Jitter(), UNDISTURBED),
            ("square", JITTER, UNDISTURBED),
            ("square and pixels", JITTER, STRONG),
        )
    }
    alone = {name: sampler("bgr", JITTER, Photometric(**{name: value})) for name, value in asdict(STRONG).items()}
    seconds: dict[str, list[float]] = {name: [] for name in (*sides, *alone)}
    for round_ in range(arguments.rounds + 1):  # the first fills the page cache and is not counted
        indices = rng.choice(train, min(arguments.faces, len(train)), replace=False)
        for name, side in (sides | alone).items():
            began = time.perf_counter()
            side.batch(indices, epoch=round_)
            if round_:
                seconds[name].append((time.perf_counter() - began) / len(indices))
    typical = {name: float(np.median(values)) for name, values in seconds.items()}
    full = [1 / value for value in seconds["square and pixels, bgr"]]
    result = {
        "machine": describe(),
        "threads": 1,
        "rounds": arguments.rounds,
        "faces_a_round": len(indices),
        "jitter": asdict(JITTER),
        "photometric": asdict(STRONG),
        "samples_a_second": {name: round(1 / typical[name]) for name in sides},
        "square_and_pixels_bgr_by_round": [round(rate) for rate in full],
        "microseconds_added_alone": {name: round((typical[name] - typical["square, bgr"]) * 1e6, 1) for name in alone},
    }
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
