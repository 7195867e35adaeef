"""How well boxes of heads, as other sets label them, map to the one box convention (docs/coordinates.md).

Each labelled box of 24 pixels or more is mapped to ours and given to the released stage 3. The box that follows from
the points it finds is the next to be given, four rounds in all; the last is what the face's box should have been. Faces
that a round rejects, or whose last score is 0.9 or less, are left out.

    python benchmarks/box_conventions.py FACEMASK PORTRAITS --json benchmarks/results/box_conventions.json

The folders hold photos and a `boxes.csv` (docs/data-formats.md); its column `label`, where there is one, tells groups.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from kpedge.core.boxes import HEAD, HEAD_ABOVE, HEAD_SIDE, box_of_points, to_convention
from kpedge.core.files import write_json
from kpedge.core.geometry import Image, box_overlaps_image, box_size, iou
from kpedge.core.images import read_image
from kpedge.core.machine import cpu_name, versions
from kpedge.core.model_zoo import resolve_model
from kpedge.data.formats import read_format
from kpedge.runtime.keypoints import KeypointPredictor
from kpedge.runtime.sessions import OnnxModel

MODEL = "stage3"
SMALLEST = 24.0
"""Shorter side of the smallest labelled box that is measured, pixels."""
ROUNDS = 4
SCORE = 0.9
PERCENTILES = {"p10": 10, "median": 50, "p90": 90}
EVERY = "all"


def settled_box(predictor: KeypointPredictor, image: Image, box: np.ndarray) -> np.ndarray | None:
    """The box (4,) that follows from the points found in it, after `ROUNDS`; None where the model sees no face."""
    score = 0.0
    for _ in range(ROUNDS):
        if not box_overlaps_image(box, image.shape[1], image.shape[0]):
            return None
        (face,) = predictor(image, [box])
        if not len(face.keypoints):
            return None
        score, box = face.score or 0.0, box_of_points(face.keypoints)
    return box if score > SCORE else None


def groups(path: Path) -> dict[int, str]:
    """Line of a `boxes.csv` -> what its column `label` holds; empty without that column."""
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        found = {}
        for row in rows:
            if row.get("label"):
                found[rows.line_num] = row["label"]
        return found


def percentiles(values: np.ndarray, *names: str) -> dict[str, float]:
    """Those of `PERCENTILES` that are named."""
    return {name: round(float(np.percentile(values, PERCENTILES[name])), 3) for name in names}


def describe(labelled: np.ndarray, settled: np.ndarray) -> dict[str, dict[str, float]]:
    """How labelled boxes (N, 4), and they mapped to ours, lie to the settled ones (N, 4)."""
    size, height = box_size(labelled), labelled[:, 3] - labelled[:, 1]
    offset = (settled[:, :2] + settled[:, 2:] - labelled[:, :2] - labelled[:, 2:]) / 2
    mapped = to_convention(labelled, HEAD)
    found = {
        "side_to_root_of_area": percentiles((settled[:, 2] - settled[:, 0]) / size, "p10", "median", "p90"),
        "down_in_heights": percentiles(offset[:, 1] / height, "p10", "median", "p90"),
    }
    for name, boxes in (("iou_labelled", labelled), ("iou_mapped", mapped)):
        values = np.array([iou(one[None], other[None])[0, 0] for one, other in zip(boxes, settled, strict=True)])
        found[name] = percentiles(values, "p10", "median") | {"share_over_half": round(float((values > 0.5).mean()), 3)}
    return found


def measure(predictor: KeypointPredictor, folder: Path) -> dict[str, dict]:
    """Label -> boxes tried, faces kept, and how their boxes lie; `EVERY` for all of a folder."""
    labels = read_format(folder, None, "boxes")
    label_of = groups(labels.root / labels.files[0])
    tried: dict[str, int] = {}
    kept: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for photo, rows in labels.by_photo().items():
        image = read_image(labels.root / photo, stored=True)
        for row in rows:
            if (row.box[2:] - row.box[:2]).min() < SMALLEST:
                continue
            names = [EVERY, *([label_of[row.line]] if row.line in label_of else [])]
            box = settled_box(predictor, image, to_convention(row.box[None], HEAD)[0])
            for name in names:
                tried[name] = tried.get(name, 0) + 1
                if box is not None:
                    kept.setdefault(name, []).append((row.box, box))
    found = {}
    for name in sorted(tried, key=lambda name: (name != EVERY, name)):
        pairs = kept.get(name, [])
        found[name] = {"boxes": tried[name], "faces": len(pairs)}
        if pairs:
            found[name] |= describe(*(np.array(side) for side in zip(*pairs, strict=True)))
    return found


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = OnnxModel(resolve_model(MODEL), threads=1)
    predictor = KeypointPredictor(model)
    sets = {folder.resolve().name: measure(predictor, folder) for folder in options.folders}
    for name, rows in sets.items():
        for label, row in rows.items():
            print(f"{name}, {label}: {row['faces']} of {row['boxes']} boxes")
            for what, values in list(row.items())[2:]:
                print(f"    {what}: " + ", ".join(f"{at} {value:.3f}" for at, value in values.items()))
    if options.json:
        document = {
            "cpu": cpu_name(),
            "versions": versions(),
            "model": {"name": model.card.name, "weights_sha256": model.card.weights_sha256},
            "smallest_px": SMALLEST,
            "rounds": ROUNDS,
            "score_over": SCORE,
            "mapping": {"side_to_root_of_area": HEAD_SIDE, "up_in_heights": HEAD_ABOVE},
            "sets": sets,
        }
        write_json(options.json, document)


if __name__ == "__main__":
    main()
