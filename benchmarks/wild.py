"""A detector and a keypoint model where nobody prepared the photo: one table, on photos that neither was trained on.

    python benchmarks/wild.py export/detector.onnx export/stage3.onnx --frames FRAMES --crops CROPS --out wild.json

FRAMES and CROPS are folders of prepared sets by name, as `wild_sets.py` makes them. Models and the joint score are
chosen on the validation split; `--split test` is for reporting and skips the sets without one.

Keypoints: mean distance, % of the root of the box's area. "Offset removed": each point's mean error over the set is
taken off first, since sets place their points differently. A rotated face has the box that follows from its points.

Faces: IoU 0.5, photos with a longer side of 640 px. `predict` is what the command returns: average precision of its
scores, recall, precision, and of the faces found with five labelled points the share whose points are right, within a
tenth of the box. It follows the joint score of the keypoint model's card, of `--joint`, or of `--fit`, which finds it
on these photos; without one, two thresholds. With `--write` the fitted one is written into a checkpoint's card.
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

from kpedge.core.boxes import convention_centre, convention_middle, rotated_box
from kpedge.core.card import KEYPOINTS_NAME, SCORE_NAME, ModelCard
from kpedge.core.files import write_json
from kpedge.core.geometry import box_size, compose, crop, crop_transform, invert, pixels_to_fractions, transform_points
from kpedge.core.joint_score import JOINT_THRESHOLD, LOWEST, JointScore, logit
from kpedge.core.keypoints import FACES5
from kpedge.data.accessories import GLASSES, MASK, draw_accessory
from kpedge.data.frames import FrameSet, open_frames
from kpedge.data.packed import PreparedSet, open_set
from kpedge.data.split import SPLITS
from kpedge.evaluation.detection_metrics import FrameDetections, average_precision, match
from kpedge.export.load import open_model
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.keypoints import KeypointPredictor
from kpedge.runtime.looks import relative_error
from kpedge.runtime.models import VERIFIED
from kpedge.runtime.pipeline import FacePipeline
from kpedge.runtime.pose import head_poses

POINT_SETS = ("youtube68", "helen_afw68", "utk_pseudo21", "mask_ilc-points")
FACE_SETS = ("facemask", "portraits", "mask_ilc", "afw_boxes", "people_pseudo", "flickr_pseudo")
BACKGROUND, MAIN = "noface", "faces21"
SIDE = 640
ALARMS, TURNED = 0.008, 0.25
"""Share of background photos in which a face may be found, and the part of it in their rotated copies."""
VARIANT_WEIGHT = 0.15
"""Weight, in the fit, of candidates in photos that were darkened or rotated; 0.5 of those of other sets."""
HIGHEST = 12
"""Background photos whose scores the operating point follows from."""
RIGHT = 0.1
"""Largest mean error of five points that are right, in sides of the box."""
Image = np.ndarray
Change = Callable[[int, Image, np.ndarray], Image]


# ---------------------------------------------------------------- keypoints


def cut(
    source: PreparedSet, row: int, card: ModelCard, *, roll: float = 0.0, scale: float = 1.0, shift: Any = (0, 0)
) -> tuple[Image, np.ndarray]:
    """A crop, blue-green-red, and its points, fractions; `roll` rotates the photo, radians."""
    box = rotated_box(source.boxes[row], -roll)
    way = crop_transform(box, card.size, card.crop, roll=-roll, scale=scale, shift=tuple(shift))
    _, to_region = source.photo_from_region(row)
    image = crop(source.region(row), compose(way, invert(to_region)), card.size, border=card.crop.border)
    return image, pixels_to_fractions(transform_points(way, source.keypoints[row]), card.size)


def errors_in(
    model: Any, cuts: Sequence[tuple[Image, np.ndarray]], change: Change | None = None, scales: Any = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Errors (N, K, 2), fractions of the box, and scores (N,)."""
    crops = [one if change is None else change(number, one, points) for number, (one, points) in enumerate(cuts)]
    if model.card.colour == "grey":
        crops = [cv2.cvtColor(one, cv2.COLOR_BGR2GRAY)[..., None] for one in crops]
    parts = [model(np.array(crops[start : start + 64])) for start in range(0, len(crops), 64)]
    points, scores = (np.concatenate([part[name] for part in parts]) for name in (KEYPOINTS_NAME, SCORE_NAME))
    factor = (1 + 2 * model.card.crop.widen) * np.asarray(scales)
    return (points - np.array([truth for _, truth in cuts])) * np.reshape(factor, (-1, 1, 1)), scores


def face_errors(errors: np.ndarray) -> np.ndarray:
    """Mean distance of each face's labelled points, %."""
    return 100 * np.nanmean(np.linalg.norm(errors, axis=2), axis=1)


def without_offset(errors: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Errors less each point's mean, which is that of its mirror image, of the points that are labelled."""
    errors = errors[:, np.isfinite(errors).any(axis=(0, 2))] if np.isnan(errors).all(axis=(0, 2)).any() else errors
    mean = np.nanmean(errors, axis=0)
    if len(mean) == len(mirror):
        mean = (mean + mean[mirror] * (-1, 1)) / 2
    return errors - mean


def keypoint_rows(model: Any, crops: Path, split: str) -> dict[str, dict[str, float]]:
    """The rows of the points, and of the face score."""
    card, out = model.card, {}

    def add(name: str, values: np.ndarray) -> None:
        if len(values):
            out[name] = {"mean": round(float(np.mean(values)), 3), "n": len(values)}
            print(f"{name:55s} {out[name]['mean']:7.2f}  of {out[name]['n']}", flush=True)

    source = open_set(crops / MAIN)
    rows = source.indices(split)
    plain = [cut(source, row, card) for row in rows]
    errors, size = face_errors(errors_in(model, plain)[0]), box_size(source.boxes[rows])
    poses = head_poses(source.keypoints[rows], source.scheme, (640, 640), focal=2000.0)
    yaw = np.array([abs(pose.yaw) if pose else 0 for pose in poses])
    roll = np.abs(np.degrees(source.scheme.roll(source.keypoints[rows])))
    chosen = {
        "60 px and more": size >= 60,
        "under 30 px": size < 30,
        "yaw over 35": yaw > 35,
        "roll over 15": roll > 15,
    }
    add(f"{MAIN}, true boxes", errors)
    for name, some in chosen.items():
        add(f"{MAIN}, {name}", errors[some])
    for noise in (0.05, 0.1):
        rng = np.random.default_rng(0)
        scales = np.exp(rng.uniform(-noise, noise, len(rows)))
        shifts = rng.uniform(-noise, noise, (len(rows), 2)) / (1 + 2 * card.crop.widen)
        cuts = [cut(source, row, card, scale=s, shift=t) for row, s, t in zip(rows, scales, shifts, strict=True)]
        add(f"{MAIN}, box noise {noise:.0%}", face_errors(errors_in(model, cuts, scales=scales)[0]))
    for degrees in (30, 45, 60):
        cuts = [cut(source, row, card, roll=math.radians(side * degrees)) for side in (-1, 1) for row in rows]
        add(f"{MAIN}, rotated by {degrees}", face_errors(errors_in(model, cuts)[0]))
    large = [one for one, side in zip(plain, size, strict=True) if side >= 40]

    def dress(kind: str) -> Change:
        return lambda number, image, points: draw_accessory(
            image, points * card.size - 0.5, card.scheme, np.random.default_rng(number), kind
        )

    changes: dict[str, Change] = {"drawn masks": dress(MASK), "drawn dark glasses": dress(GLASSES)}
    for light in (0.1, 0.04):
        changes[f"brightness {light:g}"] = lambda _n, image, _p, light=light: cv2.convertScaleAbs(image, alpha=light)
    changes["shrunk to 16 px"] = lambda _n, image, _p: cv2.resize(
        cv2.resize(image, (24, 24), interpolation=cv2.INTER_AREA), image.shape[:2]
    )
    for name, change in changes.items():
        add(f"{MAIN}, {name}", face_errors(errors_in(model, large, change)[0]))
    for name in POINT_SETS:
        source = open_set(crops / name)
        if len(rows := source.indices(split)):
            errors, _ = errors_in(model, [cut(source, row, card) for row in rows])
            add(f"{name}, offset removed", face_errors(without_offset(errors, card.scheme.mirror_order)))
    source = open_set(crops / "aflw5")
    if len(rows := source.indices(split)):
        errors, _ = errors_in(model, [cut(source, row, card) for row in rows])
        aside = nose_aside(source.keypoints[rows][:, [card.scheme.points.index(name) for name in FACES5.points]])
        errors = face_errors(without_offset(errors, card.scheme.mirror_order))
        for low, high in ((0, 0.1), (0.1, 0.25), (0.25, 9)):
            add(f"aflw5, nose aside {low:g} to {high:g} of the height", errors[(aside >= low) & (aside < high)])
    for name in FACE_SETS:
        source = open_set(crops / name)
        if len(rows := source.indices(split)):
            scores = errors_in(model, [cut(source, row, card) for row in rows])[1]
            add(f"accepted, {name}", 100.0 * (scores >= card.threshold))
    for name in (MAIN, BACKGROUND, "hard"):
        source = open_set(crops / name)
        scores = errors_in(model, [cut(source, row, card) for row in source.negatives(split)])[1]
        add(f"negatives accepted, {name}", 100.0 * (scores >= card.threshold))
    return out


def nose_aside(points: np.ndarray) -> np.ndarray:
    """How far the nose tip lies beside the line from eyes to mouth, in its length, of five points (N, 5, 2)."""
    eyes, mouth = points[:, :2].mean(axis=1), points[:, 3:].mean(axis=1)
    down = mouth - eyes
    across = np.stack([down[:, 1], -down[:, 0]], axis=1)
    return np.abs(((points[:, 2] - (eyes + mouth) / 2) * across).sum(axis=1)) / (down**2).sum(axis=1)


# ---------------------------------------------------------------- faces


@dataclass(frozen=True)
class Frame:
    """A photo at 640 px: labels, and what may be faces in it as rows of detector score, keypoint score, expected error,
    size, support (`JointScore`), box (4) and five points (10); `rotated` from its rotated copies, where they were
    searched.
    """

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
    five = [pipeline.predictor.model.card.scheme.points.index(name) for name in FACES5.points]
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
                seen.append([*about, *(detection.box * zoom), *(face.keypoints[five].ravel() * zoom)])
            found.append(np.array(seen, dtype=float).reshape(-1, 19))
        out.append(Frame(boxes * zoom, points * zoom, source.ignore[rows], found[0], [*found, found[0][:0]][1]))
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
    """Average precision, recall, precision, and the share of right points among the faces found."""
    found, right = [], []
    for frame in frames:
        rows, scores = faces_of(frame, rule)
        counts = ~frame.ignore & (box_size(frame.boxes) >= smallest) if len(frame.boxes) else frame.ignore
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
