"""Label folders of the sets in ../shared/data that kpedge does not read as they are, or whose boxes are not ours.

    python benchmarks/wild_sets.py ../shared/data OUT --json conventions.json

Sets of points (helen_afw68, aflw5, utk_pseudo21, and the 1,074 pseudo-pointed faces of mask_ilc) become folders with a
label.txt; their boxes are those that follow from the points.

Sets of boxes become folders with a label.txt whose boxes are of our convention. The released stage 3 looks for the
points in each box, takes the box that follows, and repeats that, four rounds in all. The median side and height of
those over the labelled boxes, of faces with a last score over 0.9, are the set's own convention; each box is mapped by
it. Where the settled box overlaps the mapped one by 0.6 or more it is taken instead, and its points are the face's five
for the detector (eyes, nose, mouth corners; the rest nan).
OUT/NAME is for frames (`--frames`, boxes and five points), OUT/NAME-faces the same boxes without points, for
`kpedge data prepare --pointless`: faces for the face score alone.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from kpedge.boxes import box_of_points
from kpedge.files import write_json
from kpedge.geometry import box_overlaps_image, box_size, iou
from kpedge.images import read_image
from kpedge.keypoints import FACES5, FACES21, scheme_named
from kpedge.runtime.keypoints import KeypointPredictor, keypoint_model
from kpedge.runtime.sessions import OnnxModel
from kpedge.shelf import find_model

POINTS = {"helen_afw68": scheme_named("ibug68"), "aflw5": FACES5, "utk_pseudo21": FACES21, "mask_ilc": FACES21}
BOXES = ("facemask", "portraits", "mask_ilc", "afw_boxes", "people_pseudo", "flickr_pseudo")
FIVE = (16, 17, 18, 19, 20)
SMALLEST = 24.0
SCORE = 0.9
AGREE = 0.6
SMALLEST_FACE = 14.0
"""Smaller faces are left out of the crops for the face score."""


def rows_of(path: Path) -> list[list[str]]:
    """The rows below the header."""
    with path.open(newline="", encoding="utf-8-sig") as stream:
        return list(csv.reader(stream))[1:]


def line(name: str, box: np.ndarray, points: np.ndarray) -> str:
    """A row of label.txt."""
    return " ".join([f"images/{name}", *(f"{value:.2f}" for value in (*box, *points.reshape(-1)))])


def fresh(folder: Path, images: Path) -> Path:
    """A folder with a link to the photos."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "images"
    if not link.is_symlink():
        link.symlink_to(images.resolve())
    return folder


def pointed(root: Path, out: Path) -> dict[str, int]:
    """The sets of points."""
    counts = {}
    for name, scheme in POINTS.items():
        file = "points21_pseudo.csv" if name == "mask_ilc" else "points.csv"
        lines = []
        for row in rows_of(root / name / file):
            points = np.array(row[5 : 5 + 2 * len(scheme)], float).reshape(-1, 2)
            lines.append(line(row[0], box_of_points(points, scheme), points))
        folder = fresh(out / (f"{name}-points" if name in BOXES else name), root / name / "images")
        (folder / "label.txt").write_text("\n".join(lines) + "\n")
        counts[folder.name] = len(lines)
    return counts


def settle(predictor: KeypointPredictor, image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The box that follows from the points found in it, after four rounds, and those points."""
    score, points = 0.0, None
    for _ in range(4):
        if not box_overlaps_image(box, image.shape[1], image.shape[0]):
            return None
        (face,) = predictor(image, [box])
        if not len(face.keypoints):
            return None
        score, points, box = face.score or 0.0, face.keypoints, box_of_points(face.keypoints)
    return (box, points) if score > SCORE and points is not None else None


def boxed(root: Path, out: Path, name: str, predictor: KeypointPredictor) -> dict:
    """A set of boxes."""
    found: list[tuple[str, np.ndarray, str, tuple[np.ndarray, np.ndarray] | None]] = []
    images: dict[str, np.ndarray] = {}
    teacher: dict[str, list[np.ndarray]] = {}
    if name == "mask_ilc":
        for row in rows_of(root / name / "points21_pseudo.csv"):
            teacher.setdefault(row[0], []).append(np.array(row[5:47], float).reshape(21, 2))
    for row in rows_of(root / name / "boxes.csv"):
        photo, box = row[0], np.array(row[1:5], float)
        if photo not in images:
            images = {photo: read_image(root / name / "images" / photo, stored=True)}
        w, h = box[2:] - box[:2]
        if min(w, h) <= 0.5:
            continue
        answer = None
        if min(w, h) >= SMALLEST:
            half, middle = 0.45 * np.sqrt(w * h), (box[:2] + box[2:]) / 2 - (0, 0.03 * h)
            answer = settle(predictor, images[photo], np.concatenate([middle - half, middle + half]))
        for points in teacher.get(photo, ()):
            ours = box_of_points(points)
            if iou(ours[None], box[None])[0, 0] > 0.4:
                answer = (ours, points)
        found.append((photo, box, row[5] if len(row) > 5 else "", answer))
    report: dict = {"boxes": len(found)}
    kept = [(box, answer[0]) for _, box, _, answer in found if answer is not None]
    labelled, settled = (np.array(side) for side in zip(*kept, strict=True))
    sides = labelled[:, 2:] - labelled[:, :2]
    factor = (settled[:, 2] - settled[:, 0]) / box_size(labelled)
    down = (settled[:, [1, 3]].sum(axis=1) - labelled[:, [1, 3]].sum(axis=1)) / 2 / sides[:, 1]
    side, lower = float(np.median(factor)), float(np.median(down))
    frames, faces, taken = [], [], 0
    for photo, box, _label, answer in found:
        middle = (box[:2] + box[2:]) / 2 + (0, lower * (box[3] - box[1]))
        half = side * np.sqrt(np.prod(box[2:] - box[:2])) / 2
        ours, points = np.concatenate([middle - half, middle + half]), np.full((21, 2), np.nan)
        if answer is not None and iou(answer[0][None], ours[None])[0, 0] >= AGREE:
            ours, taken = answer[0], taken + 1
            points[list(FIVE)] = answer[1][list(FIVE)]
        frames.append(line(photo, ours, points))
        if ours[2] - ours[0] >= SMALLEST_FACE:
            faces.append(line(photo, ours, np.full((21, 2), np.nan)))
    extra = root / name / "unlabelled_faces.csv"
    for kind, lines in (("", frames), ("-faces", faces)):
        folder = fresh(out / f"{name}{kind}", root / name / "images")
        (folder / "label.txt").write_text("\n".join(lines) + "\n")
        if extra.is_file():
            (folder / extra.name).write_text(extra.read_text())
    spread = {"side": np.percentile(factor, [10, 50, 90]).round(3).tolist()}
    spread["down"] = np.percentile(down, [10, 50, 90]).round(3).tolist()
    return report | {"settled": len(kept), "agree_and_taken": taken, "faces_for_the_score": len(faces), **spread}


def main() -> None:
    """Write all folders, print what was fitted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    document: dict = {"pointed": pointed(options.root, options.out)}
    print(document, flush=True)
    predictor = KeypointPredictor(keypoint_model(OnnxModel(find_model("stage3"), threads=1)))
    for name in BOXES:
        document[name] = boxed(options.root, options.out, name, predictor)
        print(name, document[name], flush=True)
    if options.json:
        write_json(options.json, document)


if __name__ == "__main__":
    main()
