"""A detector and a keypoint model where nobody prepared the photo: one table, on photos that neither was trained on.

    python benchmarks/wild.py export/detector.onnx export/stage3.onnx --frames FRAMES --crops CROPS --out wild.json

FRAMES and CROPS are folders of prepared sets by name, as `wild_sets.py` makes them. Models and the joint score are
chosen on the validation split; `--split test` is for reporting and skips the sets without one.

Keypoints: `wild_points.py` says how they are measured.

Faces: IoU 0.5, photos searched with a longer side of 640 px, sizes in the photos' own pixels. `predict` is what the
command returns: average precision of its scores, recall, precision, and of the faces found with five labelled points
the share whose points are right, within a tenth of the box. It follows the joint score of the keypoint model's card, of
`--joint`, or of `--fit`, which finds it on these photos; without one, two thresholds. With `--write` the fitted one is
written into a checkpoint's card.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from wild_points import BACKGROUND, FACE_SETS, MAIN, Image, keypoint_rows

from kpedge.core.boxes import convention_centre, convention_middle
from kpedge.core.files import write_json
from kpedge.core.geometry import box_size, transform_points
from kpedge.core.joint_score import JOINT_THRESHOLD, LOWEST, JointScore, logit
from kpedge.core.keypoints import FACES5, convert_points
from kpedge.data.frames import FrameSet, open_frames
from kpedge.data.split import SPLITS
from kpedge.evaluation.detection_metrics import FrameDetections, average_precision, match
from kpedge.export.load import open_model
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.keypoints import KeypointPredictor
from kpedge.runtime.looks import relative_error
from kpedge.runtime.models import VERIFIED
from kpedge.runtime.pipeline import FacePipeline

SIDE = 640
ALARMS, TURNED = 0.008, 0.25
"""Share of background photos in which a face may be found, and the part of it in their rotated copies."""
VARIANT_WEIGHT = 0.15
"""Weight, in the fit, of candidates in photos that were darkened or rotated; 0.5 of those of other sets."""
HIGHEST = 12
"""Background photos whose scores the operating point follows from."""
RIGHT = 0.1
"""Largest mean error of five points that are right, in sides of the box."""


@dataclass(frozen=True)
class Frame:
    """A photo at 640 px, `zoom` times its own size: labels, and what may be faces in it as rows of detector score,
    keypoint score, expected error, size, support (`JointScore`), box (4) and five points (10); `rotated` from its
    rotated copies, where they were searched.
    """

    zoom: float
    boxes: np.ndarray
    points: np.ndarray
    ignore: np.ndarray
    upright: np.ndarray
    rotated: np.ndarray


def rotate(image: Image, boxes: np.ndarray, points: np.ndarray, degrees: float) -> tuple[Image, np.ndarray, np.ndarray]:
    """A whole photo rotated about its middle, with the boxes and points of its faces."""
    height, width = image.shape[:2]
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    size = math.ceil(width * cos + height * sin - 1e-6), math.ceil(width * sin + height * cos - 1e-6)
    way = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)
    way[:, 2] += (np.array(size) - (width, height)) / 2
    side = boxes[:, 3] - boxes[:, 1]
    middle = convention_centre(transform_points(way, convention_middle(boxes)), side)
    half = side[:, None] / 2
    image = cv2.warpAffine(image, way, size, flags=cv2.INTER_LINEAR)
    return image, np.concatenate([middle - half, middle + half], axis=1), transform_points(way, points)


def look_at(
    pipeline: FacePipeline,
    source: FrameSet,
    frames: Sequence[int],
    *,
    light: float = 1,
    degrees: float = 0,
    again: bool,
) -> list[Frame]:
    """What may be faces in frames of a set, with less light or rotated; with `again` in their rotated copies, too."""
    scheme = pipeline.predictor.model.card.scheme
    out = []
    for frame in frames:
        rows = source.faces(int(frame))
        image, boxes, points = np.ascontiguousarray(source.image(int(frame))), source.boxes[rows], source.points[rows]
        if degrees:
            image, boxes, points = rotate(image, boxes, points, degrees)
        if light < 1:
            image = cv2.convertScaleAbs(image, alpha=light)
        zoom = min(SIDE / max(image.shape[:2]), 2.0)
        found = []
        for rotated in (False, True)[: 1 + again]:
            seen = []
            for detection, face in pipeline.candidates(image, rotated=rotated):
                size = float(detection.box[2] - detection.box[0]) / max(image.shape[:2])
                about = detection.score, face.score, relative_error(face), size, detection.support
                five = convert_points(face.keypoints[None], scheme, FACES5)[0]
                seen.append([*about, *(detection.box * zoom), *(five.ravel() * zoom)])
            found.append(np.array(seen, dtype=float).reshape(-1, 19))
        out.append(Frame(zoom, boxes * zoom, points * zoom, source.ignore[rows], found[0], [*found, found[0][:0]][1]))
    return out


Rule = Callable[[np.ndarray, bool], np.ndarray]
"""Candidates (C, 19), and whether they are from rotated copies, to scores; 0 of what is no face."""


def two_thresholds(detector: Any, keypoints: Any) -> Rule:
    """The detector's score where both thresholds are met."""
    lowest = VERIFIED * detector.card.threshold
    return lambda rows, _: np.where((rows[:, 0] >= lowest) & (rows[:, 1] >= keypoints.card.threshold), rows[:, 0], 0.0)


def score(joint: JointScore, row: np.ndarray) -> float:
    """The joint score of a candidate."""
    detector, keypoints, error, size, support = row[:5].tolist()
    return joint(detector=detector, keypoints=keypoints, error=error, size=size, support=support)


def joint_rule(joint: JointScore) -> Rule:
    """The joint score where it is high enough."""

    def rule(rows: np.ndarray, rotated: bool) -> np.ndarray:
        scores = np.array([score(joint, row) for row in rows])
        return scores * (scores >= (joint.rotated if rotated else JOINT_THRESHOLD))

    return rule


def faces_of(frame: Frame, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """What `predict` returns for a frame: rows of candidates, and their scores."""
    for rows, rotated in ((frame.upright, False), (frame.rotated, True)):
        scores = rule(rows, rotated)
        if (scores > 0).any():
            return rows[scores > 0], scores[scores > 0]
    return frame.upright[:0], np.zeros(0)


def face_row(frames: list[Frame], rule: Rule, smallest: float) -> dict[str, float]:
    """Average precision, recall, precision, and the share of right points among the faces found, of faces from a side
    on, pixels of the photo itself.
    """
    found, right = [], []
    for frame in frames:
        rows, scores = faces_of(frame, rule)
        counts = ~frame.ignore & (box_size(frame.boxes) >= smallest * frame.zoom) if len(frame.boxes) else frame.ignore
        found.append(FrameDetections(rows[:, 5:9], scores, frame.boxes, ~counts))
        for box, points in zip(frame.boxes[counts], frame.points[counts], strict=True):
            if len(rows) and np.isfinite(points).all():
                own, side = rows[:, 9:].reshape(-1, 5, 2), box[2] - box[0]
                if np.linalg.norm(own.mean(axis=1) - points.mean(axis=0), axis=1).min() < 0.3 * side:
                    right.append(np.linalg.norm(own - points, axis=2).mean(axis=1).min() < RIGHT * side)
    matches = match(found, smallest=0.0)
    precision, recall = matches.at(1e-6)
    figures = {"recall": round(100 * recall, 1), "precision": round(100 * precision, 1), "n": matches.faces}
    points_right = {"points right": round(100 * float(np.mean(right)), 1)} if right else {}
    return {"ap": round(average_precision(matches), 3), **figures, **points_right}


def fit(everything: dict[str, list[Frame]], detector_sha256: str, main: str, background: str) -> JointScore:
    """Logistic regression over all candidates (faces of 16 px and more); then the constant, and the score of rotated
    copies, so that a face is found in `ALARMS` of such background photos.
    """
    features, labels, weights = [], [], []
    for name, frames in everything.items():
        for frame in frames:
            rows = frame.upright
            truth = FrameDetections(rows[:, 5:9], rows[:, 0], frame.boxes, frame.ignore | (box_size(frame.boxes) < 16))
            matches = match([truth], smallest=0.0)
            features += [inputs(row) for row in rows[matches.box]]
            labels += matches.hit.tolist()
            weight = 1.0 if name in (background, main) else VARIANT_WEIGHT if name.startswith(main) else 0.5
            weights += [weight] * len(matches.box)
    x, y, w = np.array(features), np.array(labels, dtype=float), np.array(weights)
    theta = np.zeros(x.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-x @ theta))
        hessian = (x * (w * chance * (1 - chance))[:, None]).T @ x + 1e-3 * np.eye(len(theta))
        theta += np.linalg.solve(hessian, x.T @ (w * (y - chance)) - 1e-3 * theta)
    frames = everything[background]
    upright, rotated = (
        operating_point([max((float(inputs(row) @ theta) for row in rows), default=-99.0) for rows in column], share)
        for column, share in (
            ([frame.upright for frame in frames], (1 - TURNED) * ALARMS),
            ([frame.rotated for frame in frames], TURNED * ALARMS),
        )
    )
    print("logistic regression:", theta.round(4).tolist(), "operating points:", round(upright, 2), round(rotated, 2))
    return JointScore(
        detector_sha256=detector_sha256,
        **dict(zip(("detector", "keypoints", "error", "size", "support"), theta.tolist(), strict=False)),
        constant=float(theta[-1]) - upright,
        rotated=max(1 / (1 + math.exp(upright - rotated)), JOINT_THRESHOLD),
    )


def operating_point(highest: Sequence[float], share: float) -> float:
    """The score that this share of photos reaches, by a line through the logarithms of the ranks of the highest ones:
    one odd photo moves it less than the quantile.
    """
    scores = np.sort(highest)[::-1][:HIGHEST]
    slope, start = np.polyfit(scores, np.log((np.arange(len(scores)) + 0.5) / len(highest)), 1)
    return float((math.log(share) - start) / slope)


def inputs(row: np.ndarray) -> np.ndarray:
    """What the joint score adds up for a candidate, and 1."""
    return np.array([logit(row[0]), logit(row[1]), *np.log(np.maximum(row[2:5], 1e-4)), 1.0])


def rounded(joint: JointScore) -> JointScore:
    """With four decimals, as a card has it."""
    return replace(
        joint, **{name: round(value, 4) for name, value in joint.to_dict().items() if name != "detector_sha256"}
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", type=Path)
    parser.add_argument("keypoints", type=Path)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--crops", type=Path, required=True)
    parser.add_argument("--split", choices=SPLITS, default="validation")
    parser.add_argument("--joint", help="JSON of a joint score")
    parser.add_argument("--fit", action="store_true", help="fit the joint score on these photos")
    parser.add_argument("--main", default=MAIN, help="frames that are also darkened and rotated")
    parser.add_argument("--background", default=BACKGROUND, help="frames without a face")
    parser.add_argument("--sets", nargs="*", default=FACE_SETS, help="other frames")
    parser.add_argument("--write", type=Path, help="checkpoint whose card gets the fitted joint score")
    parser.add_argument("--only", choices=("points", "faces"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    detector, keypoints = open_model(options.detector), open_model(options.keypoints)
    document: dict[str, Any] = {
        "split": options.split,
        "detector": detector.card.weights_sha256,
        "keypoints": keypoints.card.weights_sha256,
    }
    if options.only != "faces":
        document["points"] = keypoint_rows(keypoints, options.crops, options.split)
    if options.only != "points":
        main, background = options.main, options.background
        pipeline = FacePipeline(
            KeypointPredictor(keypoints, threshold=0.0), FaceDetector(detector, threshold=LOWEST, side=SIDE)
        )
        everything: dict[str, list[Frame]] = {}
        for name in (main, *options.sets, background):
            source = open_frames(options.frames / name)
            if len(frames := source.frames(options.split)):
                everything[name] = look_at(pipeline, source, frames, again=name == background)
        source = open_frames(options.frames / main)
        frames = source.frames(options.split)
        for light in (0.2, 0.1, 0.06):
            everything[f"{main}, brightness {light:g}"] = look_at(pipeline, source, frames, light=light, again=False)
        for degrees in (60, 90, 120, 180):
            halves = (frames[::2], degrees), (frames[1::2], -degrees)
            everything[f"{main}, rotated by {degrees}"] = [
                one for some, angle in halves for one in look_at(pipeline, source, some, degrees=angle, again=True)
            ]
        joint = keypoints.card.joint
        if options.joint or options.fit:
            joint = JointScore.from_dict(json.loads(options.joint)) if options.joint else None
            joint = rounded(joint or fit(everything, detector.card.weights_sha256, main, background))
            document["joint"] = joint.to_dict()
            print(json.dumps(document["joint"]))
        rules = {"two thresholds": two_thresholds(detector, keypoints)}
        if joint is not None:
            rules["joint score"] = joint_rule(joint)
        document["faces"] = {}
        for name, seen in everything.items():
            smallest = 30.0 if name.startswith(main) else 16.0
            title = f"{name}, {smallest:.0f} px and more"
            if name == background:
                title = f"background photos with a face, of {len(seen)}"
                part = {rule: sum(bool(len(faces_of(one, how)[0])) for one in seen) for rule, how in rules.items()}
            else:
                part = {rule: face_row(seen, how, smallest) for rule, how in rules.items()}
                part["detector alone"] = face_row(seen, lambda rows, _: rows[:, 0], smallest)
            document["faces"][title] = part
            print(f"{title:45s} {json.dumps(part)}", flush=True)
        if options.write:
            from kpedge.models.checkpoint import load_checkpoint, save_checkpoint

            checkpoint = load_checkpoint(options.write)
            save_checkpoint(options.write, replace(checkpoint, card=replace(checkpoint.card, joint=joint)))
    if options.out:
        write_json(options.out, document)


if __name__ == "__main__":
    main()
