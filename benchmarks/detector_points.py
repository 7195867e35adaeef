"""How well the detector's five points tell where eyes, nose and mouth are, and how a face is turned.

On the validation photos of a frame set, as they are and turned by some angles: of the faces that are found (an IoU of
0.5 and more with the labelled box), the mean distance of the five points, in sides of the box, and the difference
between the roll of the found points and that of the labelled ones. A rigid, upright face would be off by the turn.

    python benchmarks/detector_points.py FRAMESET [--side 640] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import cv2
import numpy as np

from kpedge.core.boxes import convention_centre, convention_middle
from kpedge.core.files import refuse_existing, write_text
from kpedge.core.geometry import box_size, iou, transform_points
from kpedge.core.keypoints import FACES5
from kpedge.core.machine import describe
from kpedge.core.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from kpedge.data.frames import open_frames
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.models import open_finders

TURNS = (0, 15, 30)
"""Degrees by which the photos are turned, both ways."""
SMALLEST = 32.0
"""Side of the smallest face that counts, pixels of the picture that is searched."""


def measure(detector: FaceDetector, frames: Path, turn: float) -> dict[str, float]:
    """The figures for photos that are turned by so many degrees."""
    source = open_frames(frames)
    away, off, rolls = [], [], []
    for number in map(int, source.frames("validation")):
        rows = source.faces(number)
        image = np.ascontiguousarray(source.image(number))
        height, width = image.shape[:2]
        way = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, 1.0)
        image = cv2.warpAffine(image, way, (width, height))
        sides = box_size(source.boxes[rows])
        middle = convention_centre(transform_points(way, convention_middle(source.boxes[rows])), sides)
        boxes = np.concatenate([middle - sides[:, None] / 2, middle + sides[:, None] / 2], axis=1)
        points = transform_points(way, source.points[rows])
        for found in detector(image):
            if not len(boxes):
                break
            overlap = iou(found.box[None], boxes)[0]
            row = int(overlap.argmax())
            labelled = np.isfinite(points[row]).all() and not source.ignore[rows][row]
            if overlap[row] < 0.5 or not labelled or sides[row] * detector.side / max(height, width) < SMALLEST:
                continue
            away.append(float(np.linalg.norm(found.points - points[row], axis=1).mean() / sides[row]))
            roll = math.degrees(float(FACES5.roll(points[row])))
            rolls.append(roll)
            off.append((math.degrees(float(FACES5.roll(found.points))) - roll + 180) % 360 - 180)
    return {
        "turn": turn,
        "faces": len(away),
        "points": round(float(np.mean(away)), 4),
        "roll_of_the_labels": round(float(np.mean(rolls)), 2),
        "roll_off_mean": round(float(np.mean(off)), 2),
        "roll_off_median_size": round(float(np.median(np.abs(off))), 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--detector", default=DEFAULT_DETECTOR)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--force", action="store_true")
    arguments = parser.parse_args()
    if arguments.out:
        refuse_existing(arguments.out, force=arguments.force)
    detector, _ = open_finders(arguments.detector, DEFAULT_MODEL, side=arguments.side)
    rows = [measure(detector, arguments.frames, turn) for one in TURNS for turn in sorted({-one, one})]
    document = {"machine": describe(), "side": arguments.side, "smallest_px": SMALLEST, "rows": rows}
    text = json.dumps(document, indent=1)
    if arguments.out:
        write_text(arguments.out, text + "\n")
    print(text)


if __name__ == "__main__":
    main()
