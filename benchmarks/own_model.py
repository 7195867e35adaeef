"""What `predict` finds with a keypoint model of one's own: by the released pair, and by the detector alone.

    kpedge train stage3 --data CROPS/faces21 --init-from stage3 --epochs 8 --out runs/own
    python benchmarks/own_model.py stage1 runs/own/best.pt --frames FRAMES --out own_model.json

FRAMES is the folder of prepared sets by name that `wild_sets.py` makes. Measured as in `wild.py`, on validation photos.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from wild import SIDE, Frame, face_row
from wild_points import BACKGROUND, MAIN

from kpedge.core.files import write_json
from kpedge.core.keypoints import FACES5, convert_points
from kpedge.core.model_zoo import resolve_model
from kpedge.data.frames import FrameSet, open_frames
from kpedge.export.load import open_model
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.models import search_threshold
from kpedge.runtime.pipeline import FacePipeline

SETS = (MAIN, "facemask", "mask_ilc", "people_pseudo", "flickr_pseudo", BACKGROUND)


def returned(pipeline: FacePipeline, source: FrameSet) -> list[Frame]:
    """What a pipeline returns for the validation photos of a set; all of it counts, whatever its score."""
    scheme, out = pipeline.predictor.model.card.scheme, []
    for number in source.frames("validation"):
        rows, image = source.faces(int(number)), np.ascontiguousarray(source.image(int(number)))
        zoom = min(SIDE / max(image.shape[:2]), 2.0)
        found = [
            [face.score or 0.5, 0, 0, 0, 0, *(face.box * zoom), *(five.ravel() * zoom)]
            for face in pipeline(image)
            for five in convert_points(face.keypoints[None], scheme, FACES5)
        ]
        about = np.array(found, dtype=float).reshape(-1, 19)
        boxes, points = source.boxes[rows] * zoom, source.points[rows] * zoom
        out.append(Frame(zoom, boxes, points, source.ignore[rows], about, about[:0]))
    return out


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    detector, document = open_model(resolve_model("detector")), {}
    for name in options.models:
        model = open_model(resolve_model(name))
        lowest = search_threshold(detector.card, model.card)
        ways = {
            "detector alone": FacePipeline(model, FaceDetector(detector, threshold=lowest, side=SIDE)),
            "released pair": FacePipeline(model, detector, max_side=SIDE),
        }
        figures: dict[str, Any] = {}
        for way, pipeline in ways.items():
            for one in SETS:
                frames = returned(pipeline, open_frames(options.frames / one))
                smallest = 30.0 if one == MAIN else 16.0
                row: Any = face_row(frames, lambda rows, _: rows[:, 0], smallest)
                if one == BACKGROUND:
                    row = {"photos": len(frames), "with a face": sum(len(frame.upright) > 0 for frame in frames)}
                figures.setdefault(way, {})[one] = row
                print(name, way, one, row, flush=True)
        document[model.card.weights_sha256] = {"model": Path(name).name, **figures}
    if options.out:
        write_json(options.out, document)


if __name__ == "__main__":
    main()
