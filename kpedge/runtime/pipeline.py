"""From a picture to the keypoints of all its faces: detect, turn upright, find keypoints, leave out what is no face."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.boxes import GUESSES, PointBoxes, guessed, turned_box
from kpedge.faces import Face
from kpedge.geometry import MIN_SIDE, Box, Image, box_overlaps_image
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.keypoints import KeypointPredictor
from kpedge.runtime.models import LOWEST, JointScore, open_finders
from kpedge.shelf import DEFAULT_DETECTOR, DEFAULT_MODEL

BATCH = 64
"""Most crops that one run of the keypoint model is given."""
SMALL_ROLL = math.radians(10)
"""Faces that are turned by less are left as they are: the keypoint model is trained on them, and the five points of a
small face tell its roll less exactly than that.
"""


class FacePipeline:
    """Finds faces and their keypoints in pictures.

    A face is looked at twice: the second crop is cut around the box that follows from the points of the first, which is
    nearer to the boxes that the keypoint model was trained on than a detected one. Where its points do not tell how
    large a face is, once. Where they do not tell how its boxes lie to detected ones, the first look is at several.

    Attributes:
        detector: finds the boxes.
        predictor: finds the keypoints; where its model has a face score, it decides what is a face.
        keep_rejected: give faces that the predictor rejects, too: without keypoints.
    """

    def __init__(
        self,
        detector: str | Path | FaceDetector = DEFAULT_DETECTOR,
        keypoints: str | Path | KeypointPredictor = DEFAULT_MODEL,
        *,
        side: int | None = None,
        threshold: float | None = None,
        threads: int = 1,
        provider: str = "cpu",
        keep_rejected: bool = False,
        joint: JointScore | None = None,
    ) -> None:
        """Open the models; the arguments are those of `kpedge.runtime.models.open_finders`.

        With `joint`, and a keypoint model with a face score, one score of both models decides what is a face, instead
        of one threshold after the other; `threshold`, 0.5 when None, is of that score, which faces then have.
        """
        self.detector, self.predictor = open_finders(
            detector, keypoints, side=side, threshold=threshold, threads=threads, provider=provider
        )
        self.keep_rejected = keep_rejected
        card = self.predictor.model.card
        self._joint, self._threshold = joint if card.has_score else None, 0.5 if threshold is None else threshold
        if self._joint is not None:
            self.detector = FaceDetector(self.detector.model, threshold=LOWEST, side=self.detector.side)
            self.predictor = KeypointPredictor(self.predictor.model, threshold=0.0)
        self._boxes = PointBoxes(card.scheme, card.mean_shape, card.crop)
        self._first: KeypointPredictor | None = None
        if card.has_score and self._boxes.tells_size and not self._boxes.knows_faces:
            self._first = KeypointPredictor(self.predictor.model, threshold=0.0)  # the next looks decide

    def __call__(self, image: Image) -> tuple[Face, ...]:
        """The faces of a picture, by falling score of the detector.

        Args:
            image: uint8 (H, W, 3), blue-green-red.

        Returns:
            Faces, each with the detector's box, and the keypoints and score of the keypoint model.
        """
        scheme = self.detector.model.card.scheme
        found = self.detector(image)
        rolls = np.array([float(scheme.roll(one.points)) for one in found])
        boxes = self._boxes.of_faces(np.array([one.box for one in found]).reshape(-1, 4), rolls)
        if self._first is None:
            faces = self._look(image, enumerate(zip(boxes, rolls.tolist(), strict=True)), self.predictor)
        else:
            faces = self._guess(image, boxes, rolls, self._first)
        for _ in range(0 if not self._boxes.tells_size else 1 if self._first is None else 2):
            again = [place for place, face in faces.items() if len(face.keypoints)]
            if again:
                boxes, rolls = self._boxes(np.array([faces[place].keypoints for place in again]))
                nearer = zip(again, zip(boxes, rolls.tolist(), strict=True), strict=True)
                faces |= self._look(image, nearer, self.predictor)
        if self._joint is not None:
            faces = {place: self._judged(face, found[place].score, self._joint) for place, face in faces.items()}
        given = (replace(face, box=found[place].box) for place, face in faces.items())
        return tuple(face for face in given if self.keep_rejected or len(face.keypoints))

    def _judged(self, face: Face, found: float, joint: JointScore) -> Face:
        """A face with the score of both models; without keypoints where that is too low."""
        score = float(joint(np.array([found]), np.array([face.score]))[0])
        if score >= self._threshold:
            return replace(face, score=score)
        return Face(box=face.box, keypoints=np.empty((0, 2)), score=score)

    def _guess(
        self, image: Image, boxes: NDArray[np.float64], rolls: NDArray[np.float64], predictor: KeypointPredictor
    ) -> dict[int, Face]:
        """The answers for the best of several sizes of each box, by number."""
        several = zip(guessed(boxes).reshape(-1, 4), np.repeat(rolls, len(GUESSES)).tolist(), strict=True)
        best: dict[int, Face] = {}
        for number, face in self._look(image, enumerate(several), predictor).items():
            place = number // len(GUESSES)
            if place not in best or (face.score or 0) > (best[place].score or 0):
                best[place] = face
        return best

    def _look(
        self, image: Image, boxes: Iterable[tuple[int, tuple[Box, float]]], predictor: KeypointPredictor
    ) -> dict[int, Face]:
        """Answers for numbered boxes and rolls; without those whose crop would lie outside the image, or is none."""
        height, width = image.shape[:2]
        shown: list[tuple[int, Box, float]] = []
        for number, (box, roll) in boxes:
            roll = roll if abs(roll) > SMALL_ROLL else 0.0
            turned = turned_box(box, roll)
            if box[2] - box[0] >= MIN_SIDE and box_overlaps_image(turned, width, height):
                shown.append((number, turned, roll))
        faces: dict[int, Face] = {}
        for start in range(0, len(shown), BATCH):
            part: Sequence[tuple[int, Box, float]] = shown[start : start + BATCH]
            answers = predictor(image, [box for _, box, _ in part], rolls=[roll for _, _, roll in part])
            faces |= {number: face for (number, _, _), face in zip(part, answers, strict=True)}
        return faces
