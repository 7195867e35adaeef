"""Prepared sets whose training faces have points of a teacher, for the training of a smaller network (distillation).

    python benchmarks/distil_sets.py runs/wide/last.pt CROPS OUT [--share 0.5]

Labels and the teacher's points are averaged; where a face has none, it gets the teacher's if their expected error is
no larger than those of nine in ten labelled faces. The teacher sees each crop and its mirror image. Its points are
moved by the median difference from the set's labels first, since sets place their points differently. Validation and
test faces stay as they are, negatives too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import warnings
from pathlib import Path

import numpy as np

from kpedge.core.files import atomic_folder, write_json
from kpedge.core.geometry import box_size, invert, transform_points
from kpedge.core.model_zoo import resolve_model
from kpedge.data.packed import LAYOUT, PreparedSet, open_set
from kpedge.data.storage import SET_FILE
from kpedge.export.load import open_model
from kpedge.runtime.keypoints import KeypointPredictor, keypoint_model
from kpedge.runtime.looks import relative_error
from kpedge.runtime.mirrored import MirrorAveraged

ENOUGH = 20  # labelled faces from which on a set has a difference of its own, and a limit of expected errors
CLEAR, LIMIT = 90, 0.15  # percentile of the expected errors of labelled faces; the limit where there are too few


def taught(source: PreparedSet, predictor: KeypointPredictor, share: float) -> np.ndarray:
    """The keypoints (N, K, 2) of a set, those of training faces with the teacher's."""
    rows = source.indices("train")
    found, unsure = np.full((len(rows), *source.keypoints.shape[1:]), np.nan), np.zeros(len(rows))
    for number, row in enumerate(rows):
        _, to_region = source.photo_from_region(row)
        box = transform_points(to_region, source.boxes[row].reshape(2, 2)).ravel()
        (face,) = predictor(np.ascontiguousarray(source.region(row)), [box])
        found[number], unsure[number] = transform_points(invert(to_region), face.keypoints), relative_error(face)
    labels, side = source.keypoints[rows], box_size(source.boxes[rows])[:, None, None]
    missing = np.isnan(labels)
    known, limit = ~missing.all(axis=(1, 2)), LIMIT
    if known.sum() >= ENOUGH:
        with warnings.catch_warnings():  # points that no face has
            warnings.simplefilter("ignore")
            moved = np.nan_to_num(np.nanmedian((labels - found)[known] / side[known], axis=0))
        found += (moved + moved[source.scheme.mirror_order] * (-1, 1)) / 2 * side
        limit = float(np.percentile(unsure[known], CLEAR))
    unclear = (unsure > limit)[:, None, None]
    mixed = np.where(missing, np.where(unclear, np.nan, found), share * found + (1 - share) * labels)
    count = np.sum(missing.any(axis=(1, 2)) & ~unclear.ravel())
    print(f"{source.path.name}: {len(rows)} faces, {known.sum()} labelled, {count} with more points of the teacher")
    keypoints = source.keypoints.copy()
    keypoints[rows] = mixed
    return keypoints


def main() -> None:
    """Write a set for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher")
    parser.add_argument("crops", type=Path, help="folder of prepared sets")
    parser.add_argument("out", type=Path, help="folder for those with the teacher's points")
    parser.add_argument("--share", type=float, default=0.5, help="of the teacher, in points that are labelled")
    options = parser.parse_args()
    model = open_model(resolve_model(options.teacher))
    predictor = KeypointPredictor(MirrorAveraged(keypoint_model(model)), threshold=0.0)
    for path in sorted(options.crops.iterdir()):
        source = open_set(path)
        if not len(source.indices("train")) or source.info["name"].startswith("synthetic"):
            continue
        with atomic_folder(options.out / path.name) as folder:
            shutil.copytree(path, folder, dirs_exist_ok=True)
            with np.load(path / LAYOUT.table) as columns:
                np.savez(folder / LAYOUT.table, **{**columns, "keypoints": taught(source, predictor, options.share)})
            teacher = f"{source.source_sha256} {model.card.weights_sha256} {options.share}"
            info = json.loads((path / SET_FILE).read_text(encoding="utf-8"))
            write_json(folder / SET_FILE, {**info, "source_sha256": hashlib.sha256(teacher.encode()).hexdigest()})


if __name__ == "__main__":
    main()
