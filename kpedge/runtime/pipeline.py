"""From a picture to the keypoints of all its faces: detect, turn upright, find keypoints, leave out what is no face."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from kpedge.boxes import box_of_points, turned_box
from kpedge.faces import Face
from kpedge.geometry import Box, Image, box_overlaps_image
from kpedge.keypoints import FACES21
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.keypoints import KeypointPredictor
from kpedge.runtime.models import open_finders
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
    nearer to the boxes that the keypoint model was trained on than a detected one. Where the model's scheme has no such
    rule, once.

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
    ) -> None:
        """Open the models; the arguments are those of `kpedge.runtime.models.open_finders`."""
        self.detector, self.predictor = open_finders(
            detector, keypoints, side=side, threshold=threshold, threads=threads, provider=provider
        )
        self.keep_rejected = keep_rejected

    def __call__(self, image: Image) -> tuple[Face, ...]:
        """The faces of a picture, by falling score of the detector.

        Args:
            image: uint8 (H, W, 3), blue-green-red.

        Returns:
            Faces, each with the detector's box, and the keypoints and score of the keypoint model.
        """
        scheme = self.detector.model.card.scheme
        found = [(one.box, float(scheme.roll(one.points))) for one in self.detector(image)]
        faces = self._look(image, found)
        if self.predictor.model.card.scheme == FACES21:
            again = [place for place, face in faces.items() if len(face.keypoints)]
            points = [faces[place].keypoints for place in again]
            boxes = [(box_of_points(one), float(FACES21.roll(one))) for one in points]
            faces |= {again[place]: face for place, face in self._look(image, boxes).items()}
        given = (replace(face, box=found[place][0]) for place, face in faces.items())
        return tuple(face for face in given if self.keep_rejected or len(face.keypoints))

    def _look(self, image: Image, boxes: Iterable[tuple[Box, float]]) -> dict[int, Face]:
        """The answers for boxes and rolls, by number; without those whose crop would lie outside the image."""
        height, width = image.shape[:2]
        shown: list[tuple[int, Box, float]] = []
        for number, (box, roll) in enumerate(boxes):
            roll = roll if abs(roll) > SMALL_ROLL else 0.0
            turned = turned_box(box, roll)
            if box_overlaps_image(turned, width, height):
                shown.append((number, turned, roll))
        faces: dict[int, Face] = {}
        for start in range(0, len(shown), BATCH):
            part: Sequence[tuple[int, Box, float]] = shown[start : start + BATCH]
            answers = self.predictor(image, [box for _, box, _ in part], rolls=[roll for _, _, roll in part])
            faces |= {number: face for (number, _, _), face in zip(part, answers, strict=True)}
        return faces
