"""A prepared set of what a detector takes for faces in photos that show none: hard negatives for the face score.

    python benchmarks/hard_negatives.py export/detector.onnx OUT --of FACELESS SET [--of FACELESS SET …]

FACELESS is a folder of photos, SET the prepared set that was made of it, whose split by photo is kept. Boxes from a
score of `LOWEST` on, at 320 and 640 pixels, at most `MOST` a photo, the highest first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from kpedge.boxes import turned_box
from kpedge.datasets.packed import SetWriter, open_set
from kpedge.datasets.prepare import PrepareOptions, face_region
from kpedge.datasets.split import SPLITS
from kpedge.files import atomic_folder
from kpedge.images import read_image
from kpedge.keypoints import FACES21
from kpedge.runtime.detector import FaceDetector, detector_model
from kpedge.runtime.sessions import OnnxModel

LOWEST = 0.04
MOST = 12


def main() -> None:
    """Detect, pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--of", type=Path, nargs=2, action="append", required=True, metavar=("FACELESS", "SET"))
    options = parser.parse_args()
    model = detector_model(OnnxModel(options.detector, threads=1))
    settings = PrepareOptions(name="hard negatives", terms="as of the faceless photos")
    photos: list[str] = []
    counts = {split: {"photos": 0, "faces": 0, "negatives": 0} for split in SPLITS}
    sources = []
    with atomic_folder(options.out) as folder, SetWriter(folder) as writer:
        for root, prepared in options.of:
            known = open_set(prepared)
            sources.append(known.source_sha256)
            split_of = {known.photos[photo]: int(split) for photo, split in zip(known.photo, known.split, strict=True)}
            for photo, split in sorted(split_of.items()):
                image = read_image(root / photo, stored=True)
                found = [one for side in (320, 640) for one in FaceDetector(model, threshold=LOWEST, side=side)(image)]
                photos.append(f"{root.name}/{photo}")
                for one in sorted(found, key=lambda one: -one.score)[:MOST]:
                    roll = float(model.card.scheme.roll(one.points))
                    box = turned_box(one.box, roll if abs(roll) > 0.17 else 0.0)
                    if box[2] - box[0] < 8:
                        continue
                    region, origin, factor = face_region(image, box, settings)
                    writer.add(
                        region,
                        boxes=box,
                        keypoints=np.full((len(FACES21), 2), np.nan),
                        face=False,
                        split=split,
                        photo=len(photos) - 1,
                        origin=origin,
                        factor=factor,
                    )
                    counts[SPLITS[split]]["negatives"] += 1
                counts[SPLITS[split]]["photos"] += 1
        writer.finish(
            {
                "name": settings.name,
                "terms": settings.terms,
                "source_sha256": "-".join([model.card.weights_sha256[:16], *(one[:16] for one in sources)]),
                "settings": {"lowest": LOWEST, "most": MOST},
                "counts": counts,
                "problems": [],
                "keypoints": FACES21.to_dict(),
                "photos": photos,
            }
        )
    print(options.out, counts)


if __name__ == "__main__":
    main()
