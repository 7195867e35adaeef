"""From a picture to the keypoints of all its faces: detect, turn upright, find keypoints, leave out what is no face."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from kpedge.boxes import turned_box
from kpedge.faces import Detection, Face
from kpedge.geometry import Image, box_overlaps_image
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.keypoints import KeypointPredictor

BATCH = 64
"""Most crops that one run of the keypoint model is given."""


class FacePipeline:
    """Finds faces and their keypoints in pictures.

    Attributes:
        detector: finds the boxes.
        predictor: finds the keypoints; where its model has a face score, it decides what is a face.
        keep_rejected: give faces that the predictor rejects, too: without keypoints.
    """

    def __init__(self, detector: FaceDetector, predictor: KeypointPredictor, *, keep_rejected: bool = False) -> None:
        self.detector = detector
        self.predictor = predictor
        self.keep_rejected = keep_rejected

    def __call__(self, image: Image) -> tuple[Face, ...]:
        """The faces of a picture, by falling score of the detector.

        Args:
            image: uint8 (H, W, 3), blue-green-red.
        """
        height, width = image.shape[:2]
        shown = []
        for found in self.detector(image):
            roll = self._roll(found)
            turned = turned_box(found.box, roll)
            if box_overlaps_image(turned, width, height):
                shown.append((found.box, turned, roll))
        faces: list[Face] = []
        for start in range(0, len(shown), BATCH):
            boxes, turned_boxes, rolls = zip(*shown[start : start + BATCH], strict=True)
            answers = self.predictor(image, turned_boxes, rolls=rolls)
            faces += [replace(face, box=box) for face, box in zip(answers, boxes, strict=True)]
        return tuple(face for face in faces if self.keep_rejected or len(face.keypoints))

    def _roll(self, found: Detection) -> float:
        """In-plane rotation of a face by its five points, radians; 0 where it is too small to matter."""
        roll = float(self.detector.model.card.scheme.roll(np.asarray(found.points)))
        return roll if abs(roll) > SMALL_ROLL else 0.0


SMALL_ROLL = math.radians(10)
"""Faces that are turned by less are left as they are: the keypoint model is trained on them, and the five points of a
small face tell its roll less exactly than that.
"""
