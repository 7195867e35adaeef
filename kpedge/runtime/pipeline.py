"""From a picture to the keypoints of all its faces: detect, turn upright, find keypoints, leave out what is no face."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import rotated_box
from kpedge.core.faces import Face
from kpedge.core.geometry import MIN_SIDE, Box, Image, box_overlaps_image
from kpedge.core.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.keypoints import SCALES, KeypointPredictor, scaled_boxes
from kpedge.runtime.models import open_finders

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
        model: str | Path | KeypointPredictor = DEFAULT_MODEL,
        detector: str | Path | FaceDetector = DEFAULT_DETECTOR,
        *,
        max_side: int | None = None,
        threshold: float | None = None,
        threads: int = 1,
        provider: str = "cpu",
        backend: str = "auto",
        keep_rejected: bool = False,
    ) -> None:
        """Open the models; the arguments are those of `kpedge.load`, and both may be open already."""
        self.detector, self.predictor = open_finders(
            detector, model, side=max_side, threshold=threshold, threads=threads, provider=provider, backend=backend
        )
        self.keep_rejected = keep_rejected
        card = self.predictor.model.card
        self._boxes = self.predictor.boxes
        self._first: KeypointPredictor | None = None
        if card.has_score and self._boxes.gives_size and not self._boxes.relates_to_ours:
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
        boxes = self._boxes.from_detector(np.array([one.box for one in found]).reshape(-1, 4), rolls)
        if self._first is None:
            faces = self._look(image, enumerate(zip(boxes, rolls.tolist(), strict=True)), self.predictor)
        else:
            faces = self._guess(image, boxes, rolls, self._first)
        for _ in range(0 if not self._boxes.gives_size else 1 if self._first is None else 2):
            again = [place for place, face in faces.items() if len(face.keypoints)]
            if again:
                boxes, turns = self._boxes(np.array([faces[place].keypoints for place in again]))
                nearer = zip(again, zip(boxes, turns, strict=True), strict=True)
                faces |= self._look(image, nearer, self.predictor)
        given = (replace(face, box=found[place].box) for place, face in faces.items())
        return tuple(face for face in given if self.keep_rejected or len(face.keypoints))

    def _guess(
        self, image: Image, boxes: NDArray[np.float64], rolls: NDArray[np.float64], predictor: KeypointPredictor
    ) -> dict[int, Face]:
        """The answers for the best of several sizes of each box, by number."""
        several = zip(scaled_boxes(boxes).reshape(-1, 4), np.repeat(rolls, len(SCALES)).tolist(), strict=True)
        best: dict[int, Face] = {}
        for number, face in self._look(image, enumerate(several), predictor).items():
            place = number // len(SCALES)
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
            if box[2] - box[0] >= MIN_SIDE and box_overlaps_image(rotated_box(box, roll), width, height):
                shown.append((number, box, roll))
        faces: dict[int, Face] = {}
        for start in range(0, len(shown), BATCH):
            part: Sequence[tuple[int, Box, float]] = shown[start : start + BATCH]
            answers = predictor(image, [box for _, box, _ in part], rolls=[roll for _, _, roll in part])
            faces |= {number: face for (number, _, _), face in zip(part, answers, strict=True)}
        return faces
