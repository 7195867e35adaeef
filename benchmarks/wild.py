"""A detector and a keypoint model where nobody prepared the photo: one table, on validation photos.

    python benchmarks/wild.py export/detector.onnx export/stage3.onnx --frames FRAMES --crops CROPS --out released.json

FRAMES and CROPS are folders of prepared sets (docs/training.md), by name. Only photos of the validation split are
looked at, of sets with one that nothing was trained on (`TESTS`) those of the test split, too. Models are ONNX files
or, with PyTorch, checkpoints.

Keypoints: mean distance, % of the root of the box's area; with "offset removed" each point's mean error over the set
is taken off first, as sets place their points differently. A face that is turned has the box that follows from its
turned points. Detection: IoU 0.5, photos with a longer side of 640 px. `predict` is what the command does with the two
models at their own thresholds; "joint" is one score of both, `--joint A B C`: a face where A · logit(detector) +
B · logit(stage 3, second look) + C > 0, of the boxes from a detector's score of `LOWEST` on; `--fit` finds A, B and C
on these photos.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kpedge.boxes import convention_centre, convention_middle, turned_box
from kpedge.card import KEYPOINTS_NAME, SCORE_NAME
from kpedge.datasets.frames import FrameSet, open_frames
from kpedge.datasets.packed import PreparedSet, open_set
from kpedge.datasets.wearing import wear
from kpedge.files import write_json
from kpedge.geometry import box_size, compose, crop, crop_transform, invert, pixels_to_fractions, transform_points
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.keypoints import KeypointPredictor
from kpedge.runtime.models import VERIFIED
from kpedge.runtime.pipeline import FacePipeline
from kpedge.runtime.pose import head_poses
from kpedge.runtime.sessions import OnnxModel
from kpedge.training.detection_metrics import FrameDetections, average_precision, match

TESTS = ("youtube68", "facemask", "portraits", "noface")
SIDE = 640
LOWEST = 0.1
Rule = Callable[["Candidates"], np.ndarray]


class Eager:
    """A checkpoint, called like an ONNX file."""

    def __init__(self, path: Path) -> None:
        import torch

        from kpedge.models.checkpoint import load_checkpoint

        torch.set_num_threads(1)
        checkpoint = load_checkpoint(path)
        self.card, self.module, self._torch = checkpoint.card, checkpoint.model(str(path)).folded().eval(), torch

    def __call__(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Named outputs of a batch."""
        with self._torch.inference_mode():
            found = self.module(self._torch.from_numpy(inputs))
        found = found if isinstance(found, tuple) else (found,)
        return {name: one.numpy() for name, one in zip(self.card.outputs, found, strict=True)}


def opened(path: Path) -> Any:
    """A model from an ONNX file or a checkpoint."""
    return Eager(path) if path.suffix == ".pt" else OnnxModel(path, threads=1)


def held_out(source: Any, name: str, *, frames: bool = False, negatives: bool = False) -> np.ndarray:
    """Rows of a set that nothing was trained on."""
    pick = source.frames if frames else source.negatives if negatives else source.indices
    splits = ("validation", "test") if name in TESTS else ("validation",)
    return np.concatenate([pick(split) for split in splits])


# ---------------------------------------------------------------- keypoints


def cut(
    source: PreparedSet, row: int, card: Any, *, turn: float = 0.0, scale: float = 1.0, shift: Sequence[float] = (0, 0)
) -> tuple[np.ndarray, np.ndarray]:
    """A crop, blue-green-red, and its points, fractions; `turn` as if the photo had been turned, radians."""
    box = turned_box(source.boxes[row], -turn) if turn else source.boxes[row]
    way = crop_transform(box, card.size, card.crop, roll=-turn, scale=scale, shift=(shift[0], shift[1]))
    _, to_region = source.photo_from_region(row)
    image = crop(source.region(row), compose(way, invert(to_region)), card.size, border=card.crop.border)
    return image, pixels_to_fractions(transform_points(way, source.keypoints[row]), card.size)


def answer(model: Any, crops: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs for blue-green-red crops."""
    grey = model.card.colour == "grey"
    inputs = np.array([cv2.cvtColor(one, cv2.COLOR_BGR2GRAY)[..., None] if grey else one for one in crops])
    parts = [model(inputs[start : start + 64]) for start in range(0, len(inputs), 64)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def point_errors(
    model: Any, cuts: Sequence[tuple[np.ndarray, np.ndarray]], change: Callable | None = None, scale: Any = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Errors (N, K, 2), fractions of the box, and the scores."""
    crops = [one if change is None else change(number, one, points) for number, (one, points) in enumerate(cuts)]
    found = answer(model, crops)
    truth = np.array([points for _, points in cuts])
    factor = (1 + 2 * model.card.crop.widen) * np.asarray(scale)
    return (found[KEYPOINTS_NAME] - truth) * np.reshape(factor, (-1, 1, 1)), found.get(SCORE_NAME, np.ones(len(crops)))


def faces_mean(errors: np.ndarray) -> np.ndarray:
    """Mean distance of each face's labelled points, %."""
    return 100 * np.nanmean(np.linalg.norm(errors, axis=2), axis=1)


def without_offset(errors: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Errors less each point's mean, which is the same as its mirror image's."""
    mean = np.nanmean(errors, axis=0)
    mean = (mean + mean[mirror] * (-1, 1)) / 2
    return errors - mean


def row(values: np.ndarray) -> dict[str, float]:
    """Mean and number."""
    return {"mean": round(float(np.mean(values)), 3) if len(values) else math.nan, "n": len(values)}


def keypoint_rows(model: Any, crops: Path) -> dict[str, dict[str, float]]:
    """The rows of the points, and of the face score."""
    card, out = model.card, {}
    mirror = card.scheme.mirror_order
    source = open_set(crops / "faces21")
    rows = held_out(source, "faces21")
    plain = [cut(source, one, card) for one in rows]
    errors = faces_mean(point_errors(model, plain)[0])
    size = box_size(source.boxes[rows])
    poses = head_poses(source.keypoints[rows], source.scheme, (640, 640), focal=2000.0)
    yaw = np.array([abs(pose.yaw) if pose else 0 for pose in poses])
    roll = np.abs(np.degrees(source.scheme.roll(source.keypoints[rows])))
    out["faces21, true boxes"] = row(errors)
    out["faces21, 60 px and more"] = row(errors[size >= 60])
    out["faces21, under 30 px"] = row(errors[size < 30])
    out["faces21, yaw over 35"] = row(errors[yaw > 35])
    out["faces21, roll over 15"] = row(errors[roll > 15])
    for noise in (0.05, 0.1):
        rng = np.random.default_rng(0)
        scales = np.exp(rng.uniform(-noise, noise, len(rows)))
        shifts = rng.uniform(-noise, noise, (len(rows), 2)) / (1 + 2 * card.crop.widen)
        cuts = [cut(source, one, card, scale=s, shift=t) for one, s, t in zip(rows, scales, shifts, strict=True)]
        out[f"faces21, box noise {noise:.0%}"] = row(faces_mean(point_errors(model, cuts, scale=scales)[0]))
    for degrees in (30, 45, 60):
        both = []
        for way in (-1, 1):
            cuts = [cut(source, one, card, turn=way * math.radians(degrees)) for one in rows]
            both.append(faces_mean(point_errors(model, cuts)[0]))
        out[f"faces21, turned by {degrees}"] = row(np.concatenate(both))

    def dressed(glasses: bool) -> Callable:
        def change(number: int, image: np.ndarray, points: np.ndarray) -> np.ndarray:
            wanted = np.random.default_rng(number).random() * 0.2 + (0.0 if glasses else 0.6)

            class Drawn:
                def __init__(self) -> None:
                    self.rng = np.random.default_rng(number)

                def random(self, count: int) -> np.ndarray:
                    draw = self.rng.random(count)
                    draw[0] = wanted
                    return draw

                def __getattr__(self, name: str) -> Any:
                    return getattr(self.rng, name)

            return wear(image, points * image.shape[0] - 0.5, card.scheme, Drawn())  # type: ignore[arg-type]

        return change

    big = [one for one, side in zip(plain, size, strict=True) if side >= 40]
    out["faces21, drawn masks, 40 px and more"] = row(faces_mean(point_errors(model, big, dressed(False))[0]))
    out["faces21, drawn dark glasses"] = row(faces_mean(point_errors(model, big, dressed(True))[0]))
    for light in (0.1, 0.04):
        dark = point_errors(model, big, lambda _n, image, _p, light=light: cv2.convertScaleAbs(image, alpha=light))[0]
        out[f"faces21, brightness {light:g}"] = row(faces_mean(dark))
    small = point_errors(
        model, big, lambda _n, im, _p: cv2.resize(cv2.resize(im, (24, 24), interpolation=cv2.INTER_AREA), im.shape[:2])
    )[0]
    out["faces21, shrunk to 16 px"] = row(faces_mean(small))
    for name in ("youtube68", "helen_afw68", "utk_pseudo21", "mask_ilc-points"):
        source = open_set(crops / name)
        errors, _ = point_errors(model, [cut(source, one, card) for one in held_out(source, name)])
        out[f"{name}, offset removed"] = row(faces_mean(without_offset(errors, mirror)))
    source = open_set(crops / "aflw5")
    rows = held_out(source, "aflw5")
    errors, _ = point_errors(model, [cut(source, one, card) for one in rows])
    errors = faces_mean(without_offset(errors, mirror))
    points = source.keypoints[rows][:, [16, 17, 18, 19, 20]]
    eyes, mouth = points[:, :2].mean(axis=1), points[:, 3:].mean(axis=1)
    down = mouth - eyes
    across = np.stack([down[:, 1], -down[:, 0]], axis=1)
    aside = np.abs(((points[:, 2] - (eyes + mouth) / 2) * across).sum(axis=1)) / (down**2).sum(axis=1)
    for low, high in ((0, 0.1), (0.1, 0.25), (0.25, 0.45), (0.45, 9)):
        out[f"aflw5, nose aside {low:g} to {high:g} of the height"] = row(errors[(aside >= low) & (aside < high)])
    if not card.has_score:
        return out
    threshold = card.threshold or 0.5
    for name in ("mask_ilc", "facemask", "portraits", "afw_boxes", "people_pseudo", "flickr_pseudo"):
        source = open_set(crops / name)
        _, scores = point_errors(model, [cut(source, one, card) for one in held_out(source, name)])
        out[f"accepted, {name}"] = row(100.0 * (scores >= threshold))
    for name in ("faces21", "noface", "hard"):
        source = open_set(crops / name)
        _, scores = point_errors(model, [cut(source, one, card) for one in held_out(source, name, negatives=True)])
        out[f"negatives accepted, {name}"] = row(100.0 * (scores >= threshold))
    return out


# ---------------------------------------------------------------- detection


class Candidates:
    """What may be faces in a picture: boxes (D, 4), the detector's score, the keypoint model's at both looks."""

    def __init__(self, boxes: np.ndarray, detector: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
        self.boxes, self.detector, self.first, self.second = boxes, detector, first, second


class Recorder:
    """`FacePipeline` with nothing thrown away."""

    def __init__(self, detector: Any, keypoints: Any) -> None:
        finder = FaceDetector(detector, threshold=LOWEST, side=SIDE)
        self.pipeline = FacePipeline(finder, KeypointPredictor(keypoints, threshold=0.0))
        look = self.pipeline._look
        self._looks: list[dict[int, Any]] = []

        def recorded(*arguments: Any) -> dict[int, Any]:
            self._looks.append(look(*arguments))
            return self._looks[-1]

        self.pipeline._look = recorded  # type: ignore[method-assign]
        self._found: tuple = ()

        def finding(image: np.ndarray) -> tuple:
            self._found = finder(image)
            return self._found

        finding.model = finder.model  # type: ignore[attr-defined]
        self.pipeline.detector = finding  # type: ignore[assignment]

    def __call__(self, image: np.ndarray) -> Candidates:
        """All candidates of a picture."""
        self._looks.clear()
        self.pipeline(image)
        places = range(len(self._found))
        looks = [*self._looks, {}, {}][:2]
        first, second = ([getattr(look.get(place), "score", None) for place in places] for look in looks)
        return Candidates(
            np.array([one.box for one in self._found]).reshape(-1, 4),
            np.array([one.score for one in self._found], dtype=float),
            np.array([math.nan if one is None else one for one in first], dtype=float),
            np.array([math.nan if one is None else one for one in second], dtype=float),
        )


def default_rule(detector: Any, keypoints: Any) -> Rule:
    """What 0.1.0 does: the score is the detector's where every threshold is met, else -1."""
    lowest, threshold = VERIFIED * (detector.card.threshold or 0.0), keypoints.card.threshold or 0.0

    def rule(one: Candidates) -> np.ndarray:
        again = np.where(np.isnan(one.second), one.first, one.second)
        kept = (one.detector >= lowest) & (one.first >= threshold) & (again >= threshold)
        return np.where(kept, one.detector, -1.0)

    return rule


def logit(score: np.ndarray) -> np.ndarray:
    """Of scores from 0 to 1, within ±12."""
    score = np.clip(np.nan_to_num(score), 1e-9, 1 - 1e-9)
    return np.clip(np.log(score / (1 - score)), -12, 12)


def joint_rule(a: float, b: float, c: float) -> Rule:
    """One score of both models, above 0 for a face."""

    def rule(one: Candidates) -> np.ndarray:
        second = np.where(np.isnan(one.second), one.first, one.second)
        return a * logit(one.detector) + b * logit(second) + c

    return rule


def turned(image: np.ndarray, boxes: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture turned about its middle, whole, and the boxes of its faces."""
    height, width = image.shape[:2]
    angle = math.radians(degrees)
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    size = math.ceil(width * cos + height * sin), math.ceil(width * sin + height * cos)
    way = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)
    way[:, 2] += (np.array(size) - (width, height)) / 2
    side = boxes[:, 3] - boxes[:, 1]
    middle = convention_centre(transform_points(way, convention_middle(boxes)), side)
    half = side[:, None] / 2
    return cv2.warpAffine(image, way, size, flags=cv2.INTER_LINEAR), np.concatenate([middle - half, middle + half], 1)


Seen = list[tuple[Candidates, np.ndarray, np.ndarray, float]]


def look_at(recorder: Recorder, frames: Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Seen:
    """Candidates, labelled boxes, which to ignore, and the zoom to 640 px, of every frame."""
    return [(recorder(image), boxes, ignore, min(SIDE / max(image.shape[:2]), 2.0)) for image, boxes, ignore in frames]


def frames_of(source: FrameSet, rows: np.ndarray, change: Callable | None = None) -> Iterator[tuple]:
    """Picture, boxes and ignored faces of frames, changed."""
    for frame in rows:
        faces = source.faces(int(frame))
        image, boxes = np.ascontiguousarray(source.image(int(frame))), source.boxes[faces]
        if change is not None:
            image, boxes = change(image, boxes)
        yield image, boxes, source.ignore[faces]


def detections(seen: Seen, rule: Rule | None, smallest: float, *, everything: bool = False) -> list[FrameDetections]:
    """Pictures, at 640 px, with what a rule takes for faces, or everything, and its scores (the detector's when None);
    faces smaller than `smallest` there are ignored.
    """
    out = []
    for found, boxes, ignore, zoom in seen:
        scores = found.detector if rule is None else rule(found)
        kept = scores > (-99.0 if everything else 0.0)
        small = box_size(boxes) * zoom < smallest if len(boxes) else ignore
        out.append(FrameDetections(found.boxes[kept] * zoom, scores[kept], boxes * zoom, ignore | small))
    return out


def detection_row(seen: Seen, rule: Rule | None, threshold: float, smallest: float) -> dict[str, float]:
    """Average precision, recall and precision."""
    matches = match(detections(seen, rule, smallest, everything=rule is None), smallest=smallest)
    precision, recall = matches.at(threshold)
    figures = {"recall": round(100 * recall, 1), "precision": round(100 * precision, 1), "n": matches.faces}
    return {"ap": round(average_precision(matches), 3), **figures}


def detection_rows(detector: Any, keypoints: Any, frames: Path, rules: dict[str, Rule], fit: bool) -> dict[str, Any]:
    """The rows of the detector and of both models together."""
    recorder, out = Recorder(detector, keypoints), {}
    alone = detector.card.threshold or 0.0
    everything: dict[str, Seen] = {}
    for name in (
        "faces21",
        "facemask",
        "portraits",
        "mask_ilc",
        "afw_boxes",
        "people_pseudo",
        "flickr_pseudo",
        "noface",
    ):
        source = open_frames(frames / name)
        everything[name] = look_at(recorder, frames_of(source, held_out(source, name, frames=True)))
    source = open_frames(frames / "faces21")
    rows = held_out(source, "faces21", frames=True)
    for light in (0.2, 0.1, 0.06):
        dark = frames_of(source, rows, lambda im, boxes, light=light: (cv2.convertScaleAbs(im, alpha=light), boxes))
        everything[f"faces21, brightness {light:g}"] = look_at(recorder, dark)
    for degrees in (30, 60, 90):
        both: Seen = []
        for way in (-1, 1):
            both += look_at(
                recorder, frames_of(source, rows[way > 0 :: 2], lambda i, b, d=way * degrees: turned(i, b, d))
            )
        everything[f"faces21, turned by {degrees}"] = both
    if fit:
        out["fit"] = fitted(everything)
        rules["joint"] = joint_rule(*out["fit"]["abc"])
    for name, seen in everything.items():
        if name == "noface":
            row: dict[str, Any] = {"photos": len(seen)}
            row["detector alone"] = sum((one.detector >= alone).any() for one, *_ in seen)
            row |= {which: sum((rule(one) > 0).any() for one, *_ in seen) for which, rule in rules.items()}
            out["faceless photos with an alarm"] = {which: int(value) for which, value in row.items()}
            continue
        smallest = 30.0 if name.startswith("faces21") else 16.0
        out[f"{name}, {smallest:.0f} px and more"] = {
            "detector alone": detection_row(seen, None, alone, smallest),
            **{which: detection_row(seen, rule, 1e-6, smallest) for which, rule in rules.items()},
        }
    heads = everything["afw_boxes"]
    yaws = afw_yaws(frames / "afw_boxes", heads)
    if yaws is not None:
        for low, high in ((0, 30), (45, 60), (75, 105)):
            some: Seen = [
                (found, boxes, ignore | (yaw < low) | (yaw > high), zoom)
                for (found, boxes, ignore, zoom), yaw in zip(heads, yaws, strict=True)
            ]
            out[f"afw_boxes, yaw {low} to {high}"] = {
                which: {
                    key: value for key, value in detection_row(some, rule, 1e-6, 16.0).items() if key != "precision"
                }
                for which, rule in rules.items()
            }
    return out


def afw_yaws(folder: Path, seen: Seen) -> list[np.ndarray] | None:
    """The yaw of every labelled head of the held-out frames; None where the source cannot be found."""
    source = open_frames(folder)
    listed = next((one for one in AFW if one.is_file()), None)
    if listed is None:
        return None
    by_photo: dict[str, list[float]] = {}
    with listed.open(newline="") as stream:
        for one in csv.DictReader(stream):
            by_photo.setdefault(one["image"], []).append(abs(float(one["label"].removeprefix("yaw"))))
    photos = source.info["photos"]
    yaws = [np.array(by_photo[Path(photos[int(frame)]).name]) for frame in held_out(source, "afw_boxes", frames=True)]
    return yaws if all(len(yaw) == len(boxes) for yaw, (_, boxes, *_) in zip(yaws, seen, strict=True)) else None


AFW = (Path("../shared/data/afw_boxes/boxes.csv"))


def fitted(everything: dict[str, Seen]) -> dict[str, Any]:
    """Weights of the joint score by logistic regression over all candidates, faces of 16 px and more; its constant so
    that at most one in 200 faceless photos raises an alarm.
    """
    features, wanted, weights = [], [], []
    for name, seen in everything.items():
        part, labels = [], []
        for frame, (found, *_rest) in zip(detections(seen, None, 16.0, everything=True), seen, strict=True):
            matches = match([frame], smallest=0.0)
            hit = np.zeros(len(found.boxes), bool)
            counted = np.zeros(len(found.boxes), bool)
            counted[matches.box], hit[matches.box] = True, matches.hit
            second = np.where(np.isnan(found.second), found.first, found.second)
            part.append(np.stack([logit(found.detector), logit(second)], axis=1)[counted])
            labels.append(hit[counted])
        features.append(np.concatenate(part))
        wanted.append(np.concatenate(labels))
        weights.append(np.full(len(wanted[-1]), 1.0 if name in ("noface", "faces21") else 0.5))
    x, y, w = np.concatenate(features), np.concatenate(wanted).astype(float), np.concatenate(weights)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    theta = np.zeros(3)
    for _ in range(50):
        chance = 1 / (1 + np.exp(-x @ theta))
        hessian = (x * (w * chance * (1 - chance))[:, None]).T @ x + 1e-3 * np.eye(3)
        theta += np.linalg.solve(hessian, x.T @ (w * (y - chance)) - 1e-3 * theta)
    a, b, c = theta.tolist()
    rule = joint_rule(a, b, 0.0)
    highest = sorted((float(rule(one).max(initial=-99.0)) for one, *_ in everything["noface"]), reverse=True)
    allowed = len(highest) // 100  # one alarm in a hundred faceless photos
    limit = highest[allowed] + 1e-6
    return {"logistic": [round(one, 4) for one in (a, b, c)], "abc": [round(a, 4), round(b, 4), round(-limit, 4)]}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", type=Path)
    parser.add_argument("keypoints", type=Path)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--crops", type=Path, required=True)
    parser.add_argument("--joint", type=float, nargs=3, metavar=("A", "B", "C"))
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--only", choices=("points", "faces"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    detector, keypoints = opened(options.detector), opened(options.keypoints)
    document: dict[str, Any] = {
        "detector": detector.card.weights_sha256,
        "keypoints": keypoints.card.weights_sha256,
        "thresholds": [detector.card.threshold, keypoints.card.threshold],
    }
    if options.only != "faces":
        document["points"] = keypoint_rows(keypoints, options.crops)
        for name, one in document["points"].items():
            print(f"{name:55s} {one['mean']:7.2f}  of {one['n']}", flush=True)
    if options.only != "points":
        rules = {"predict": default_rule(detector, keypoints)}
        if options.joint:
            rules["joint"] = joint_rule(*options.joint)
        document["faces"] = detection_rows(detector, keypoints, options.frames, rules, options.fit)
        for name, one in document["faces"].items():
            print(f"{name:45s} {json.dumps(one)}", flush=True)
    if options.out:
        write_json(options.out, document)


if __name__ == "__main__":
    main()
