"""Label folders and hard negatives for training on the sets of boxes and points of data/README.md.

    python benchmarks/wild_sets.py labels DATA OUT --json conventions.json
    python benchmarks/wild_sets.py hard export/detector.onnx OUT --of PHOTOS SET [--of PHOTOS SET …]

`labels`: sets of points become folders with a label.txt whose boxes follow from the points. Sets of boxes become some
whose boxes are of our convention: the released stage 3 finds the points in each box, takes the box that follows, and
repeats that, four rounds in all. The medians of side and height over faces with a last score over 0.9 are the set's own
convention, by which each box is mapped. Where the settled box overlaps the mapped one by an IoU of 0.6 or more, it is
taken instead, and its eyes, nose tip and mouth corners are the face's five points for the detector. OUT/NAME is for
`kpedge data prepare --frames`, OUT/NAME-faces has the same boxes without points, for `--pointless`.

`hard`: a prepared set of what a detector takes for faces in PHOTOS without any, split as SET, which was prepared of
them: boxes from a score of `LOWEST` on, at 320 and 640 pixels, the best `MOST` of each photo.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np

from kpedge.core.boxes import box_of_points, rotated_box
from kpedge.core.files import atomic_folder, write_json
from kpedge.core.geometry import MIN_SIDE, box_overlaps_image, box_size, iou
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES5, FACES21, scheme_named
from kpedge.core.model_zoo import resolve_model
from kpedge.data.pack_crops import PrepareOptions, face_region
from kpedge.data.packed import LAYOUT, open_set
from kpedge.data.split import SPLITS
from kpedge.data.storage import SetWriter
from kpedge.runtime.detector import FaceDetector, detector_model
from kpedge.runtime.keypoints import KeypointPredictor, keypoint_model
from kpedge.runtime.sessions import OnnxModel

POINTS = {"helen_afw68": scheme_named("ibug68"), "aflw5": FACES5, "utk_pseudo21": FACES21, "mask_ilc": FACES21}
BOXES = ("facemask", "portraits", "mask_ilc", "afw_boxes", "people_pseudo", "flickr_pseudo")
FIVE = [FACES21.points.index(name) for name in FACES5.points]
NO_POINTS = np.full((len(FACES21), 2), np.nan)
ROUNDS, SMALLEST, SCORE, AGREE = 4, 24.0, 0.9, 0.6
SMALLEST_FACE = 14.0
"""Smaller faces are left out of the crops for the face score."""
LOWEST, MOST = 0.04, 12
ROLL = 0.17
"""Roll of a detected box, radians, from which on its crop is cut rotated."""


def rows_of(path: Path) -> list[list[str]]:
    """The rows below the header."""
    with path.open(newline="", encoding="utf-8-sig") as stream:
        return list(csv.reader(stream))[1:]


def line(name: str, box: np.ndarray, points: np.ndarray) -> str:
    """A row of label.txt."""
    return " ".join([f"images/{name}", *(f"{value:.2f}" for value in (*box, *points.reshape(-1)))])


def write_labels(folder: Path, images: Path, lines: list[str]) -> None:
    """A folder with a link to the photos, and their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "images").is_symlink():
        (folder / "images").symlink_to(images.resolve())
    (folder / "label.txt").write_text("\n".join(lines) + "\n")


def label_points(root: Path, out: Path) -> dict[str, int]:
    """The sets of points."""
    counts = {}
    for name, scheme in POINTS.items():
        lines = []
        for row in rows_of(root / name / ("points21_pseudo.csv" if name in BOXES else "points.csv")):
            points = np.array(row[5 : 5 + 2 * len(scheme)], float).reshape(-1, 2)
            lines.append(line(row[0], box_of_points(points, scheme), points))
        target = f"{name}-points" if name in BOXES else name
        write_labels(out / target, root / name / "images", lines)
        counts[target] = len(lines)
    return counts


def settle(predictor: KeypointPredictor, image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The box that follows from the points found in it after some rounds, and those points."""
    score, points = 0.0, NO_POINTS
    for _ in range(ROUNDS):
        if not box_overlaps_image(box, image.shape[1], image.shape[0]):
            return None
        (face,) = predictor(image, [box])
        if not len(face.keypoints):
            return None
        score, points, box = face.score or 0.0, face.keypoints, box_of_points(face.keypoints)
    return (box, points) if score > SCORE else None


def label_boxes(root: Path, out: Path, name: str, predictor: KeypointPredictor) -> dict[str, Any]:
    """A set of boxes."""
    teacher: dict[str, list[np.ndarray]] = {}
    if name in POINTS:
        for row in rows_of(root / name / "points21_pseudo.csv"):
            teacher.setdefault(row[0], []).append(np.array(row[5:47], float).reshape(-1, 2))
    faces: list[tuple[str, np.ndarray, tuple[np.ndarray, np.ndarray] | None]] = []
    images: dict[str, np.ndarray] = {}
    for row in rows_of(root / name / "boxes.csv"):
        photo, box = row[0], np.array(row[1:5], float)
        if photo not in images:
            images = {photo: read_image(root / name / "images" / photo, stored=True)}
        w, h = box[2:] - box[:2]
        if min(w, h) <= MIN_SIDE / 2:
            continue
        settled = None
        if min(w, h) >= SMALLEST:
            half, middle = 0.45 * np.sqrt(w * h), (box[:2] + box[2:]) / 2 - (0, 0.03 * h)
            settled = settle(predictor, images[photo], np.concatenate([middle - half, middle + half]))
        for points in teacher.get(photo, ()):
            if iou(box_of_points(points)[None], box[None])[0, 0] > 0.4:
                settled = (box_of_points(points), points)
        faces.append((photo, box, settled))
    labelled, ours = (
        np.array(side) for side in zip(*((box, one[0]) for _, box, one in faces if one is not None), strict=True)
    )
    factors = (ours[:, 2] - ours[:, 0]) / box_size(labelled)
    downs = (ours[:, [1, 3]] - labelled[:, [1, 3]]).sum(axis=1) / 2 / (labelled[:, 3] - labelled[:, 1])
    factor, down = float(np.median(factors)), float(np.median(downs))
    frames, alone, taken = [], [], 0
    for photo, box, settled in faces:
        middle = (box[:2] + box[2:]) / 2 + (0, down * (box[3] - box[1]))
        half = factor * np.sqrt(np.prod(box[2:] - box[:2])) / 2
        mapped, points = np.concatenate([middle - half, middle + half]), NO_POINTS.copy()
        if settled is not None and iou(settled[0][None], mapped[None])[0, 0] >= AGREE:
            mapped, taken = settled[0], taken + 1
            points[FIVE] = settled[1][FIVE]
        frames.append(line(photo, mapped, points))
        if mapped[2] - mapped[0] >= SMALLEST_FACE:
            alone.append(line(photo, mapped, NO_POINTS))
    ignored = root / name / "unlabelled_faces.csv"
    for kind, lines in (("", frames), ("-faces", alone)):
        write_labels(out / f"{name}{kind}", root / name / "images", lines)
        if ignored.is_file():
            (out / f"{name}{kind}" / ignored.name).write_text(ignored.read_text())
    spread = {
        key: np.percentile(values, [10, 50, 90]).round(3).tolist()
        for key, values in (("side", factors), ("down", downs))
    }
    return {
        "boxes": len(faces),
        "settled": len(ours),
        "agree_and_taken": taken,
        "faces_for_the_score": len(alone),
        **spread,
    }


def pack_hard_negatives(detector: Path, out: Path, pairs: list[list[Path]]) -> dict[str, dict[str, int]]:
    """A prepared set of the detector's mistakes."""
    model = detector_model(OnnxModel(detector, threads=1))
    options = PrepareOptions(name="hard negatives", terms="as of the background photos")
    photos: list[str] = []
    counts = {split: {"photos": 0, "faces": 0, "negatives": 0} for split in SPLITS}
    with atomic_folder(out) as folder, SetWriter(folder, LAYOUT) as writer:
        for root, prepared in pairs:
            known = open_set(prepared)
            split_of = {known.photos[photo]: int(split) for photo, split in zip(known.photo, known.split, strict=True)}
            for photo, number in sorted(split_of.items()):
                image, split = read_image(root / photo, stored=True), SPLITS[number]
                found = [one for side in (320, 640) for one in FaceDetector(model, threshold=LOWEST, side=side)(image)]
                photos.append(f"{root.name}/{photo}")
                counts[split]["photos"] += 1
                for one in sorted(found, key=lambda one: -one.score)[:MOST]:
                    roll = float(model.card.scheme.roll(one.points))
                    box = rotated_box(one.box, roll if abs(roll) > ROLL else 0.0)
                    if box[2] - box[0] < 8:
                        continue
                    region, origin, factor = face_region(image, box, options)
                    about = {"photo": len(photos) - 1, "origin": origin, "factor": factor}
                    writer.add(region, split, boxes=box, keypoints=NO_POINTS, face=False, **about)
                    counts[split]["negatives"] += 1
        sources = [open_set(prepared).source_sha256[:16] for _, prepared in pairs]
        writer.finish(
            {
                "name": options.name,
                "terms": options.terms,
                "source_sha256": "-".join([model.card.weights_sha256[:16], *sources]),
                "settings": {
                    "size": options.size,
                    "context": options.context,
                    "rule": options.rule.to_dict(),
                    "lowest": LOWEST,
                    "most": MOST,
                },
                "counts": counts,
                "problems": [],
                "keypoints": FACES21.to_dict(),
                "photos": photos,
            }
        )
    return counts


def main() -> None:
    """Write what is asked for, print what was fitted or counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    labels = commands.add_parser("labels")
    labels.add_argument("root", type=Path)
    labels.add_argument("out", type=Path)
    labels.add_argument("--json", type=Path)
    hard = commands.add_parser("hard")
    hard.add_argument("detector", type=Path)
    hard.add_argument("out", type=Path)
    hard.add_argument("--of", type=Path, nargs=2, action="append", required=True, metavar=("PHOTOS", "SET"))
    options = parser.parse_args()
    if options.command == "hard":
        print(options.out, pack_hard_negatives(options.detector, options.out, options.of))
        return
    document: dict[str, Any] = {"points": label_points(options.root, options.out)}
    predictor = KeypointPredictor(keypoint_model(OnnxModel(resolve_model("stage3"), threads=1)))
    for name in BOXES:
        document[name] = label_boxes(options.root, options.out, name, predictor)
        print(name, document[name], flush=True)
    if options.json:
        write_json(options.json, document)


if __name__ == "__main__":
    main()
