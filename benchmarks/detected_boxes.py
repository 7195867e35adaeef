"""Stage 3 from detected boxes beside stage 3 from labelled ones: what a box that nobody drew costs.

    python benchmarks/detected_boxes.py faces21 --list faces21/test_images.txt --side 320 \
        --out benchmarks/results/detected_boxes.json

`faces21` is a folder of photos with label.txt files; without --list, all photos but those on its own test list are
taken. Errors are means over points, fractions of the root of the labelled box's area. Only faces that the detector
found (IoU 0.5) are compared, and how many it found is told.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from kpedge.core.boxes import box_of_points
from kpedge.core.files import write_text
from kpedge.core.geometry import box_overlaps_image, box_size, iou
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES21
from kpedge.core.machine import cpu_name, versions
from kpedge.core.model_zoo import resolve_model
from kpedge.data.formats import read_format
from kpedge.data.labels import TEST_LIST, read_photo_list
from kpedge.runtime.detector import FaceDetector, detector_model
from kpedge.runtime.keypoints import KeypointPredictor, keypoint_model
from kpedge.runtime.looks import SMALL_ROLL
from kpedge.runtime.sessions import OnnxModel

SMALLEST = 32.0
"""Side of the labelled box, pixels of the photo, from which on faces are compared."""
WAYS = ("labelled", "detected", "detected, upright", "detected, upright over 10 degrees", "detected, second look")
"""Where the box of the crop comes from."""


def measure(folder: Path, photo_list: Path | None, side: int, detector: str, model: str) -> dict[str, Any]:
    """Errors of every face that is found, by way."""
    labels = read_format(folder, FACES21)
    by_photo = labels.by_photo()
    kept = read_photo_list(folder / TEST_LIST, labels)[0] if (folder / TEST_LIST).is_file() else []
    photos = read_photo_list(photo_list, labels)[0] if photo_list else [one for one in by_photo if one not in kept]
    finder = FaceDetector(detector_model(OnnxModel(resolve_model(detector))), side=side)
    predictor = KeypointPredictor(keypoint_model(OnnxModel(resolve_model(model))), threshold=0.0)
    scheme = finder.model.card.scheme
    errors: dict[str, list[float]] = {way: [] for way in WAYS}
    rejected: list[bool] = []
    sizes: list[float] = []
    faces = 0
    for photo in photos:
        image = read_image(labels.root / photo, stored=True)
        height, width = image.shape[:2]
        rows = [row for row in by_photo[photo] if box_overlaps_image(row.box, width, height)]
        faces += sum(float(box_size(row.box)) >= SMALLEST for row in rows)
        found = list(finder(image))
        for row in rows:
            if not found or box_size(row.box) < SMALLEST:
                continue
            overlaps = iou(row.box[None], np.array([one.box for one in found]))[0]
            if overlaps.max() < 0.5:
                continue
            one = found[int(overlaps.argmax())]
            roll = float(scheme.roll(one.points))
            large = roll if abs(roll) > SMALL_ROLL else 0.0
            answers = {
                "labelled": predictor(image, [row.box])[0],
                "detected": predictor(image, [one.box])[0],
                "detected, upright": predictor(image, [one.box], rolls=[roll])[0],
                WAYS[3]: predictor(image, [one.box], rolls=[large])[0],
            }
            second = box_of_points(answers["detected"].keypoints)
            answers[WAYS[4]] = predictor(image, [second])[0]
            for way, face in answers.items():
                off = np.linalg.norm(face.keypoints - row.keypoints, axis=1).mean() / box_size(row.box)
                errors[way].append(float(off))
            rejected.append((answers[WAYS[3]].score or 0.0) < (predictor.model.card.threshold or 0.0))
            sizes.append(float(box_size(row.box)))
    return {
        "side": side,
        "smallest_px": SMALLEST,
        "faces": faces,
        "found": len(sizes),
        "rejected_by_the_keypoint_model": int(np.count_nonzero(rejected)),
        "nme": {way: round(float(np.mean(values)), 5) for way, values in errors.items()},
        "over_10_percent": {way: round(float(np.mean(np.array(values) > 0.1)), 5) for way, values in errors.items()},
    }


def main() -> None:
    """Measure and print, or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--list", type=Path, help="only these photos")
    parser.add_argument(
        "--side", type=int, action="append", help="longer side at which photos are searched; repeatable"
    )
    parser.add_argument("--detector", default="detector")
    parser.add_argument("--model", default="stage3")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [
        measure(options.folder, options.list, side, options.detector, options.model) for side in options.side or [320]
    ]
    document = {"photos": options.list.name if options.list else "without the test list", "cpu": cpu_name()}
    text = json.dumps({**document, "versions": versions(), "rows": rows}, indent=1) + "\n"
    if options.out:
        write_text(options.out, text)
    print(text)


if __name__ == "__main__":
    main()
