"""Looks at faces: what the keypoint model makes of crops around boxes, and further crops where the first do not fit."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kpedge.core.boxes import rotated_box
from kpedge.core.faces import Face
from kpedge.core.geometry import MIN_SIDE, Box, Image, as_box, box_overlaps_image
from kpedge.core.joint_score import logit
from kpedge.runtime.keypoints import KeypointPredictor

BATCH = 64  # most crops that one run of the keypoint model is given
SMALL_ROLL = math.radians(10)
"""Faces that are rotated by less are left as they are: the keypoint model is trained on them, and the five points of a
small face give its roll less exactly than that.
"""
MOVED = 0.1
"""How far a box may be from the one that follows from its points, in its sides, before that one is looked at."""
TURNED = 0.12
"""Mean expected error of a face's points, in their mean distance from their mean, above which other rotations of its
box are looked at."""
TURNED_CLEARER = 0.6  # share of that error which the points of a rotated crop may have at most to take their place
LOOKS = 2  # most further looks at a face
LATER = 0.6
"""How much higher, in logits, the face score of a further look has to be: the best of several is higher by chance."""
FARTHEST, SIZES = 0.5, (0.5, 2.0)
"""How far the middle of a face's box may be from that of the given one, in its sides, and their ratios: others are of
another face.
"""

SAME_FACE = 0.8
"""Mean distance between the points of two faces, in that of the second one's points from their mean, below which both
are one face."""

Placed = tuple[Box, float]  # a box, and the roll of the face in it, radians


def faces_in_boxes(predictor: KeypointPredictor, image: Image, boxes: Sequence[ArrayLike]) -> tuple[Face, ...]:
    """Faces in boxes of any convention, at any in-plane rotation.

    Where the box or the roll that follow from the points differ from those of the crop, the next crop is cut by them;
    where the points stay uncertain, crops rotated by quarter turns are tried. The crop with the smallest expected error
    decides. A model without a face score, or whose points do not show how large a face is, sees each box once.

    Args:
        predictor: the keypoint model; its threshold decides what is a face.
        image: uint8 (H, W, 3), blue-green-red.
        boxes: each x1 y1 x2 y2, pixels of the image.

    Returns:
        A face for each box, in their order, with that box; without keypoints if the box shows none.

    Raises:
        DataError: a box is not one, or lies outside the image.
    """
    if not (predictor.model.card.has_score and predictor.boxes.gives_size):
        return predictor(image, boxes)
    every = KeypointPredictor(predictor.model, threshold=0.0)
    first = dict(enumerate(every(image, boxes)))
    given = {number: (_square(as_box(box)), 0.0) for number, box in enumerate(boxes)}
    faces = _settle(every, image, given, first)
    doubtful = [number for number, face in faces.items() if relative_error(face) > TURNED]
    errors = {number: TURNED_CLEARER * relative_error(faces[number]) for number in doubtful}
    for turn in (math.pi / 2, -math.pi / 2, math.pi) if doubtful else ():
        rotated = {number: (given[number][0], turn) for number in doubtful}
        for number, face in _settle(every, image, rotated, look(image, rotated.items(), every)).items():
            if relative_error(face) < errors[number]:
                faces[number], errors[number] = face, relative_error(face)
    threshold, found = predictor.threshold, []
    later = 1 / (1 + math.exp(-logit(threshold) - LATER)) if threshold else 0.0
    for number, once in first.items():
        face = replace(faces[number], box=once.box)
        is_face = (face.score or 0.0) >= (threshold if faces[number] is once else later)
        found.append(face if is_face else Face(face.box, np.empty((0, 2)), face.score, scheme=face.scheme))
    return tuple(found)


def _settle(
    predictor: KeypointPredictor, image: Image, given: dict[int, Placed], faces: dict[int, Face]
) -> dict[int, Face]:
    """Faces by number, each looked at again where its points say that it lies elsewhere than its crop."""
    faces, placed = dict(faces), {number: given[number] for number in faces}
    for _ in range(LOOKS):
        if not placed:
            break
        boxes, rolls = predictor.boxes(np.array([faces[number].keypoints for number in placed]))
        nearer = {
            number: (box, roll)
            for (number, before), box, roll in zip(placed.items(), boxes, rolls, strict=True)
            if _moved(before, box, roll) and _same_face(given[number][0], box)
        }
        better = {
            number: face
            for number, face in look(image, nearer.items(), predictor).items()
            if relative_error(face) < relative_error(faces[number])
        }
        faces, placed = faces | better, {number: nearer[number] for number in better}
    return faces


def _square(box: Box) -> Box:
    """The square that a crop of a box shows."""
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).max() / 2
    return np.concatenate([middle - half, middle + half])


def _difference(box: Box, other: Box) -> tuple[float, float]:
    """How far the middle of another box is, in sides of a box, and the ratio of their sides."""
    side = float(box[2] - box[0])
    return float(np.abs(other[:2] + other[2:] - box[:2] - box[2:]).max()) / 2 / side, float(other[2] - other[0]) / side


def _moved(before: Placed, box: Box, roll: float) -> bool:
    """Whether a crop of the box would show something else than the one before."""
    distance, ratio = _difference(before[0], box)
    angle = abs(math.remainder(roll - before[1], 2 * math.pi))
    return distance > MOVED or not 1 / (1 + MOVED) < ratio < 1 + MOVED or angle > SMALL_ROLL


def _same_face(given: Box, box: Box) -> bool:
    """Whether the box may be of the face in the given one."""
    distance, ratio = _difference(given, box)
    return distance < FARTHEST and SIZES[0] < ratio < SIZES[1]


def relative_error(face: Face) -> float:
    """Mean expected error of a face's points, in their mean distance from their mean; 0 where it is not known."""
    if face.expected_errors is None or not len(face.keypoints):
        return 0.0
    return float(face.expected_errors.mean() / max(_spread(face), 1e-6))


def distinct(faces: dict[int, Face]) -> dict[int, Face]:
    """Faces by number without those whose points are those of an earlier one: several boxes may lead to one face."""
    kept: dict[int, Face] = {}
    points: list[NDArray[np.float64]] = []
    spreads: list[float] = []
    for number, face in sorted(faces.items()):
        if len(face.keypoints):
            distances = np.linalg.norm(np.reshape(points, (-1, *face.keypoints.shape)) - face.keypoints, axis=2)
            if (distances.mean(axis=1) < SAME_FACE * np.array(spreads)).any():
                continue
            points.append(face.keypoints)
            spreads.append(_spread(face))
        kept[number] = face
    return kept


def _spread(face: Face) -> float:
    """Mean distance of a face's points from their mean."""
    return float(np.linalg.norm(face.keypoints - face.keypoints.mean(axis=0), axis=1).mean())


def look(image: Image, boxes: Iterable[tuple[int, Placed]], predictor: KeypointPredictor) -> dict[int, Face]:
    """Answers for numbered boxes and rolls; without those whose crop would lie outside the image, or is none."""
    height, width = image.shape[:2]
    shown: list[tuple[int, Box, float]] = []
    for number, (box, roll) in boxes:
        roll = roll if abs(roll) > SMALL_ROLL else 0.0
        if box[2] - box[0] >= MIN_SIDE and box_overlaps_image(rotated_box(box, roll), width, height):
            shown.append((number, box, roll))
    faces: dict[int, Face] = {}
    for start in range(0, len(shown), BATCH):
        part: Sequence[tuple[int, Box, float]] = shown[start : start + BATCH]
        answers = predictor(image, [box for _, box, _ in part], rolls=[roll for _, _, roll in part])
        faces |= {number: face for (number, _, _), face in zip(part, answers, strict=True)}
    return faces
