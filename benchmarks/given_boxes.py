"""Points in boxes that are given: of other conventions, disturbed, and of rotated faces, with and without correction.

    python benchmarks/given_boxes.py export/stage3.onnx CROPS/faces21 --background CROPS/noface --split test

CROPS/… are prepared sets. "once" is the crop of the box as it stands, "corrected" what `faces_in_boxes` makes of it:
mean error in % of the labelled box, share of accepted faces in %, and crops for a face.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from wild import rotate

from kpedge.core.faces import Face
from kpedge.core.geometry import transform_points
from kpedge.data.packed import PreparedSet, open_set
from kpedge.export.load import open_model
from kpedge.runtime.keypoints import KeypointPredictor
from kpedge.runtime.looks import faces_in_boxes

CASES: dict[str, tuple[float, float, float, float]] = {
    "as labelled": (0, 1, 0, 0),
    "noise of 10 %": (0.1, 1, 0, 0),
    "noise of 20 %": (0.2, 1, 0, 0),
    "0.7 times as large": (0, 0.7, 0, 0),
    "0.8 times as large": (0, 0.8, 0, 0),
    "1.25 times as large": (0, 1.25, 0, 0),
    "1.4 times as large, 0.1 higher": (0, 1.4, 0.1, 0),
    **{f"rotated by {degrees}": (0, 1, 0, degrees) for degrees in (15, 30, 45, 60, 90, 135, 180)},
}
"""Noise and scale of the box, its shift upwards in sides, and degrees by which the photo is rotated."""


class CountingModel:
    """A model that counts its crops."""

    def __init__(self, model: Any) -> None:
        self.model, self.card, self.crops = model, model.card, 0

    def __call__(self, crops: np.ndarray) -> Any:
        """The model's outputs."""
        self.crops += len(crops)
        return self.model(crops)


def around(source: PreparedSet, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels around a face, its box and its points in them."""
    _, way = source.photo_from_region(row)
    box = transform_points(way, source.boxes[row].reshape(2, 2)).ravel()
    return np.ascontiguousarray(source.region(row)), box, transform_points(way, source.keypoints[row])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--background", type=Path, help="set of photos without a face")
    parser.add_argument("--split", default="validation")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    model: Any = CountingModel(open_model(options.model))
    every, strict = KeypointPredictor(model, threshold=0.0), KeypointPredictor(model)

    def look(image: np.ndarray, box: np.ndarray) -> tuple[tuple[Face, Face], tuple[bool, bool]]:
        (kept,), (found,) = (faces_in_boxes(one, image, [box]) for one in (every, strict))
        (once,) = every(image, [box])
        return (once, kept), ((once.score or 0) >= strict.threshold, len(found.keypoints) > 0)

    faces, rng = open_set(options.faces), np.random.default_rng(0)
    for name, (noise, scale, up, degrees) in CASES.items():
        errors, accepted, model.crops = [], [], 0
        for row in faces.indices(options.split):
            for angle in (-degrees, degrees) if degrees else (0,):
                image, box, points = around(faces, row)
                if angle:
                    image, (box,), (points,) = rotate(image, box[None], points[None], angle)
                side, middle = box[2] - box[0], (box[:2] + box[2:]) / 2 - (0, up * (box[2] - box[0]))
                half = side * scale * math.exp(rng.uniform(-noise, noise)) / 2
                middle = middle + side * rng.uniform(-noise, noise, 2)
                found, taken = look(image, np.concatenate([middle - half, middle + half]))
                off = [np.nanmean(np.linalg.norm(face.keypoints - points, axis=1)) / side for face in found]
                errors.append(off)
                accepted.append(taken)
        figures = 100 * np.array([np.mean(errors, axis=0), np.mean(accepted, axis=0)])
        crops = (model.crops / len(errors) - 1) / 2  # `look` asks once, and twice with correction
        print(
            f"{name:32s} error once, corrected {figures[0].round(2)} accepted {figures[1].round(1)} crops {crops:.1f}"
        )
    for path in (options.background,) if options.background else ():
        source = open_set(path)
        alarms = [look(*around(source, row)[:2])[1] for row in source.negatives(options.split)]
        print(f"background accepted once, corrected, of {len(alarms)}: {np.sum(alarms, axis=0)}")


if __name__ == "__main__":
    main()
