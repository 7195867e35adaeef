"""Train the face branch of a stage 3 on what detectors take for faces; its points and expected errors stay as they are.

    python benchmarks/face_branch.py stage3.pt --detector detector.onnx --frames FRAMES --crops CROPS --out new.pt

FRAMES and CROPS are folders of prepared sets by name, as `wild_sets.py` makes them. Each detector searches the training
frames, as they are and once more mirrored, rotated, shrunk or darkened, background frames five times; what it finds is
looked at as `predict` does, and the last crop counts as a face (IoU of .5 with one), as none (below .3), or not at all.
Crops of the sets are added, since boxes are also given. With `--samples` the crops are kept in a folder, so that a run
that was stopped only looks for those that are missing. The rest of the network is frozen, so its outputs for all crops
are computed once. Calibration is that of the validation crops of faces21; the threshold accepts `--mistakes` of the set
`hard`, what a detector takes for faces in photos without any.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from wild import SIDE, rotate
from wild_points import BACKGROUND, FACE_SETS, MAIN, POINT_SETS, cut

from kpedge.core.card import SCORE_NAME, ModelCard
from kpedge.core.files import atomic_folder
from kpedge.core.geometry import iou
from kpedge.core.joint_score import LOWEST
from kpedge.data.frames import open_frames
from kpedge.data.packed import open_set
from kpedge.evaluation.score_metrics import calibrate
from kpedge.export.load import open_model
from kpedge.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kpedge.models.keypoint_model import KeypointModel, empty_model, weights_hash
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.keypoints import KeypointPredictor
from kpedge.runtime.pipeline import FacePipeline

CROP_SETS = (MAIN, *POINT_SETS, "aflw5", *FACE_SETS, BACKGROUND, "hard", "free-background")
EPOCHS, BATCH, RATE, DROPOUT, SMOOTHING = 12, 512, 2e-3, 0.2, 0.02
NEGATIVES, CROPS, CROP_NEGATIVES = 4.0, 0.7, 1.0
"""Samples an epoch for each detected face: negatives that were detected, crops of faces, and negatives of sets."""
COLUMNS = ("crops", "labels", "weights")
Sample = tuple[np.ndarray, bool, float]
"""A crop, uint8 (H, W, C), whether it shows a face, and how often it is drawn."""
Samples = tuple[np.ndarray, ...]
"""Maps, vectors, labels, weights, and whether they were detected, of samples."""


class KeptCrops:
    """A keypoint model that keeps its crops: its scores are their numbers, from 1; 0 is the score of a crop in which
    nothing can be seen.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.card = model, model.card
        self.crops: list[np.ndarray] = []

    def __call__(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """The model's outputs, numbers instead of scores."""
        self.crops += list(crops.copy())
        numbers = np.arange(1, len(self.crops) + 1, dtype=np.float32)[-len(crops) :]
        return {**self.model(crops), SCORE_NAME: numbers}


def changed(
    image: np.ndarray, boxes: np.ndarray, background: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A frame and its boxes, perhaps mirrored, rotated, shrunk and darkened."""
    if rng.random() < 0.5:
        image, boxes = (
            image[:, ::-1].copy(),
            boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (image.shape[1] - 1) * np.array((1, 0, 1, 0)),
        )
    if rng.random() < 0.5:
        degrees = rng.uniform(-180, 180) if background else 150 * rng.uniform(-1, 1) ** 3
        image, boxes, _ = rotate(image, boxes, np.zeros((len(boxes), 5, 2)), degrees)
    if rng.random() < 0.6:
        factor = math.exp(rng.uniform(math.log(0.4), 0))
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        boxes = boxes * factor
        if rng.random() < 0.7:  # stays small: the search would enlarge it
            height, width = (max(side, SIDE) for side in small.shape[:2])
            image = np.full((height, width, 3), int(rng.integers(0, 255)), np.uint8)
            image[: small.shape[0], : small.shape[1]] = small
        else:
            image = small
    return cv2.convertScaleAbs(image, alpha=rng.uniform(0.06, 1) if rng.random() < 0.3 else 1.0), boxes


def detected(path: Path, keypoints: Any, frames: Path, rng: np.random.Generator) -> Iterator[Sample]:
    """What a detector takes for faces in the training frames."""
    model = KeptCrops(keypoints)
    detector = FaceDetector(open_model(path), threshold=LOWEST, side=SIDE)
    pipeline = FacePipeline(KeypointPredictor(model, threshold=0.0), detector)
    for name in (MAIN, *FACE_SETS, BACKGROUND):
        source = open_frames(frames / name)
        print(f"{path}: {name}", flush=True)
        for frame in source.frames("train"):
            rows = source.faces(int(frame))
            for number in range(5 if name == BACKGROUND else 2):
                image, boxes = np.ascontiguousarray(source.image(int(frame))), source.boxes[rows]
                if number:
                    image, boxes = changed(image, boxes, name == BACKGROUND, rng)
                turned = bool(number) and name == BACKGROUND and rng.random() < 0.4
                for detection, face in pipeline.candidates(image, rotated=turned):
                    if not face.score:
                        continue
                    shown, _ = pipeline.predictor.boxes(face.keypoints[None])
                    overlap, shared = iou(np.array([detection.box, shown[0]]), boxes)
                    is_face = overlap.max(initial=0) >= 0.5 and not source.ignore[rows][overlap.argmax()]
                    if is_face or max(overlap.max(initial=0), shared.max(initial=0)) < 0.3:
                        weight = 1.0 if is_face else math.sqrt(min(max(2 * detection.score, 0.1), 2))
                        yield model.crops[int(face.score) - 1], is_face, weight
                model.crops.clear()


def prepared(crops: Path, card: ModelCard, rng: np.random.Generator) -> Iterator[Sample]:
    """Two crops of each face and negative of the prepared sets, disturbed but for the first of a face."""
    for name in CROP_SETS:
        source = open_set(crops / name)
        for is_face, rows in ((True, source.indices("train")), (False, source.negatives("train"))):
            for row in rows:
                for number in range(2):
                    image = disturbed(source, row, card, rng if number or not is_face else None)
                    if rng.random() < 0.15:
                        image = cv2.convertScaleAbs(image, alpha=rng.uniform(0.05, 1))
                    if rng.random() < 0.3:
                        image = image[:, ::-1]
                    yield cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2GRAY)[..., None], is_face, 1.0


def disturbed(source: Any, row: int, card: ModelCard, rng: np.random.Generator | None) -> np.ndarray:
    """A crop, rotated by up to 65 degrees, scaled and moved if there are random numbers."""
    if rng is None:
        return cut(source, row, card)[0]
    roll, scale = rng.uniform(-1, 1, 2) ** 3 * (math.radians(65), 0.25)
    shift = 0.15 * rng.uniform(-1, 1, 2) ** 3
    return cut(source, row, card, roll=roll, scale=math.exp(scale), shift=shift)[0]


def features(model: KeypointModel, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coarsest map and the neck's vector of crops, float16."""
    network: Any = model.network
    last, vectors = [], []
    with torch.inference_mode():
        for start in range(0, len(crops), BATCH):
            pixels = torch.from_numpy(np.array(crops[start : start + BATCH])).permute(0, 3, 1, 2).float()
            maps = network.backbone(model.normalise(pixels))
            last.append(maps[-1].half().numpy())
            vectors.append(network.neck(maps).half().numpy())
    return np.concatenate(last), np.concatenate(vectors)


def train(network: Any, samples: Samples) -> None:
    """Train the branch and the layer that reads it."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    maps, vectors, labels, weights, detected = samples
    groups = [np.flatnonzero((labels == is_face) & (detected == found)) for found in (1, 0) for is_face in (1, 0)]
    shares = (1.0, NEGATIVES, CROPS, CROP_NEGATIVES)
    counts = [min(int(share * len(groups[0])), len(group)) for share, group in zip(shares, groups, strict=True)]
    parameters = [*network.face_branch.parameters(), *network.face.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * (sum(counts) // BATCH) + 1)
    network.face_branch.train()
    for epoch in range(EPOCHS):
        drawn = [
            rng.choice(group, count, replace=False, p=weights[group] / weights[group].sum())
            for group, count in zip(groups, counts, strict=True)
        ]
        order, losses = rng.permutation(np.concatenate(drawn)), []
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            strength = 1 + 0.05 * torch.randn(BATCH, 1)
            vector, last = (torch.from_numpy(values[rows].astype(np.float32)) for values in (vectors, maps))
            own = network.face_branch(last * strength[:, :, None, None])
            inputs = nn.functional.dropout(torch.cat([vector * strength, own], dim=1), DROPOUT)
            target = torch.from_numpy(labels[rows]) * (1 - SMOOTHING) + SMOOTHING / 2
            loss = nn.functional.binary_cross_entropy_with_logits(network.face(inputs).squeeze(1), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {EPOCHS}  loss {np.mean(losses):.4f}", flush=True)
    network.face_branch.eval()


def logits_of(network: Any, maps: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The logits of the face score."""
    with torch.inference_mode():
        branch = network.face_branch(torch.from_numpy(maps).float())
        return network.face(torch.cat([torch.from_numpy(vectors).float(), branch], dim=1)).squeeze(1).numpy()


def gather(samples: Iterator[Sample], model: KeypointModel, kept: Path | None, detected: bool) -> Samples:
    """The samples' maps, vectors, labels, weights, and whether they were detected; their crops are kept in a file."""
    if kept is not None and kept.exists():
        crops, labels, weights = (np.load(kept / f"{name}.npy", mmap_mode="r") for name in COLUMNS)
    else:
        columns = [np.array(column) for column in zip(*samples, strict=True)]
        crops, labels, weights = columns
        if kept is not None:
            with atomic_folder(kept) as folder:
                for name, column in zip(COLUMNS, columns, strict=True):
                    np.save(folder / f"{name}.npy", column)
    print(f"{len(labels)} crops, {labels.sum()} of them of faces", flush=True)
    return *features(model, crops), labels.astype(np.float32), weights, np.full(len(labels), detected)


def with_branch(checkpoint: Checkpoint) -> tuple[ModelCard, KeypointModel]:
    """The model with a fresh face branch, its other weights as they are, and its card."""
    architecture = checkpoint.card.architecture
    options = {**architecture["options"], "face_branch": True}
    card: Any = replace(checkpoint.card, architecture={**architecture, "options": options})
    model = empty_model(card)
    kept = {name: value for name, value in checkpoint.state.items() if not name.startswith("network.face")}
    model.load_state_dict(kept, strict=False)
    return card, model.eval()


def calibrated(model: KeypointModel, crops: Path, card: ModelCard, mistakes: float) -> float:
    """Calibrate the score on validation crops, and find the threshold that accepts this share of the set `hard`."""
    main, hard = open_set(crops / MAIN), open_set(crops / "hard")
    faces, negatives, taken = (
        logits_in(model, source, card, rows)
        for source, rows in (
            (main, main.indices("validation")),
            (main, main.negatives("validation")),
            (hard, hard.negatives("validation")),
        )
    )
    slope, offset = calibrate(faces, negatives)
    model.calibration.copy_(torch.tensor([slope, offset]))
    limit = slope * float(np.quantile(taken, 1 - mistakes)) + offset
    return round(1 / (1 + math.exp(-limit)), 3)


def logits_in(model: KeypointModel, source: Any, card: ModelCard, rows: np.ndarray) -> np.ndarray:
    """The logits of the face score of crops of a set."""
    images = [cv2.cvtColor(cut(source, row, card)[0], cv2.COLOR_BGR2GRAY)[..., None] for row in rows]
    return logits_of(model.network, *features(model, np.array(images)))


def main() -> None:
    """Collect, train, calibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--detector", type=Path, action="append", required=True)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--crops", type=Path, required=True)
    parser.add_argument("--mistakes", type=float, default=0.015)
    parser.add_argument("--samples", type=Path, help="folder for the crops")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    checkpoint = load_checkpoint(options.checkpoint)
    (card, model), rng = with_branch(checkpoint), np.random.default_rng(0)
    keypoints = open_model(options.checkpoint)
    sources = [(detected(path, keypoints, options.frames, rng), True) for path in options.detector]
    sources.append((prepared(options.crops, card, rng), False))
    found = []
    for number, (samples, from_detector) in enumerate(sources):
        kept = options.samples and options.samples / f"{number}"
        found.append(gather(samples, model, kept, from_detector))
    train(model.network, tuple(np.concatenate(columns) for columns in zip(*found, strict=True)))
    threshold = calibrated(model, options.crops, card, options.mistakes)
    # the joint score has to be fitted again
    card = replace(card, threshold=threshold, joint=None, weights_sha256=weights_hash(model))
    config = {**checkpoint.config, "face_branch": True}
    save_checkpoint(options.out, Checkpoint(card, model.state_dict(), config, checkpoint.progress, checkpoint.resume))
    print(f"{options.out}: calibration {model.calibration.tolist()}, threshold {threshold}")


if __name__ == "__main__":
    main()
