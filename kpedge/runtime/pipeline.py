"""From an image to the keypoints of all its faces: detect, rotate upright, find keypoints, reject what is no face."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kpedge.core.faces import Detection, Face
from kpedge.core.geometry import Image
from kpedge.core.joint_score import JOINT_THRESHOLD, LOWEST
from kpedge.core.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from kpedge.runtime.detector import FaceDetector, FrameModel
from kpedge.runtime.inputs import to_image
from kpedge.runtime.keypoints import SCALES, CropModel, KeypointPredictor, scaled_boxes
from kpedge.runtime.looks import distinct, faces_in_boxes, look, relative_error
from kpedge.runtime.mirrored import MirrorAveraged
from kpedge.runtime.models import joint_score, open_finders, released_partner

DOUBTFUL = 0.065  # mean expected error, in the points' mean distance, above which a face may be upside down
CLEARER = 0.75  # share of that error which the points of the crop rotated by 180 degrees may have at most


class FacePipeline:
    """Finds faces and their keypoints in images.

    The keypoint model sees a face twice: the second crop is cut around the box that follows from the points of the
    first, which is nearer to the boxes that the model was trained on than a detected one. Where its points do not show
    how large a face is, once. Where they do not show how its boxes relate to detected ones, the first crops have
    several sizes.

    What is a face is decided by the pair's joint score if the keypoint model's card has one for this detector.
    Otherwise, if onnxruntime runs the detector, the released keypoint model that has one for it finds the faces; the
    model gives their points, and rejects those below its own threshold. Without such a partner the detector's
    threshold decides and then the keypoint model's. An image without a face is searched again, rotated by 90, 180 and
    270 degrees.

    Attributes:
        detector: finds the boxes.
        predictor: finds the keypoints.
        joint: the joint score; None if there is none, or if one of the models came with settings of its own.
        keep_rejected: keep detected boxes that turn out not to be faces, without keypoints.
        rotations: whether images without a face are searched again.
        threshold, max_side: as they were given; None for the models' own.
    """

    def __init__(
        self,
        model: str | Path | CropModel | KeypointPredictor = DEFAULT_MODEL,
        detector: str | Path | FrameModel | FaceDetector = DEFAULT_DETECTOR,
        *,
        max_side: int | None = None,
        threshold: float | None = None,
        threads: int = 1,
        provider: str = "cpu",
        backend: str = "auto",
        keep_rejected: bool = False,
        rotations: bool = True,
        flip_test: bool = False,
    ) -> None:
        """Open the models; the arguments are those of `kpedge.load`, and both may be open already."""
        with_settings = isinstance(model, KeypointPredictor) or isinstance(detector, FaceDetector)
        self.detector, self.predictor = open_finders(
            detector, model, side=max_side, threads=threads, provider=provider, backend=backend
        )
        card = self.predictor.model.card
        if flip_test:
            own = self.predictor.threshold if card.has_score else None
            self.predictor = KeypointPredictor(MirrorAveraged(self.predictor.model), threshold=own)
        self.keep_rejected, self.rotations = keep_rejected, rotations
        self.threshold, self.max_side = threshold, max_side
        self.joint = None if with_settings else joint_score(self.detector.model.card, card)
        self._finder: FacePipeline | None = None
        partner = None if with_settings or self.joint is not None else released_partner(self.detector.model)
        if partner is not None:
            self._finder = FacePipeline(
                partner, self.detector.model, max_side=max_side, threshold=threshold, keep_rejected=True
            )
        elif threshold is not None and not isinstance(model, KeypointPredictor):
            self.predictor = KeypointPredictor(self.predictor.model, threshold=threshold)
        if self.joint is not None:
            self.detector = FaceDetector(self.detector.model, threshold=LOWEST, side=self.detector.side)
            self.predictor = KeypointPredictor(self.predictor.model, threshold=0.0)
        self._boxes = self.predictor.boxes
        self._first: KeypointPredictor | None = None
        if card.has_score and self._boxes.gives_size and not self._boxes.relates_to_ours:
            self._first = KeypointPredictor(self.predictor.model, threshold=0.0)  # the next looks decide

    def __call__(self, image: Any) -> tuple[Face, ...]:
        """The faces of an image, by falling score of the detector.

        Args:
            image: uint8 (H, W, 3), blue-green-red, or another image as `kpedge.load` takes it.

        Returns:
            Faces, each with the detector's box, the keypoints, and the joint score (also where it is that of the
            released pair) or that of the keypoint model.
        """
        image = to_image(image)
        if self._finder is not None:
            return self._with_own_points(image, self._finder)
        longer = max(image.shape[:2])
        faces = [self._decide(*pair, longer) for pair in self.candidates(image)]
        if self.rotations and not any(len(face.keypoints) for face in faces):
            faces += [self._decide(*pair, longer, rotated=True) for pair in self.candidates(image, rotated=True)]
        return tuple(face for face in faces if self.keep_rejected or len(face.keypoints))

    def in_boxes(self, image: Any, boxes: Sequence[ArrayLike]) -> tuple[Face, ...]:
        """Faces in boxes that are given instead of detected: see `faces_in_boxes`."""
        return faces_in_boxes(KeypointPredictor(self.predictor.model, threshold=self.threshold), to_image(image), boxes)

    def candidates(self, image: Image, *, rotated: bool = False) -> list[tuple[Detection, Face]]:
        """Everything that may be a face: what the detector found, and what the keypoint model makes of it.

        Of boxes that lead to the same points, the one with the highest score stays.

        Args:
            image: uint8 (H, W, 3), blue-green-red.
            rotated: search the image rotated by 90, 180 and 270 degrees instead.
        """
        scheme = self.detector.model.card.scheme
        found = self.detector.search_rotated(image) if rotated else self.detector(image)
        rolls = np.array([float(scheme.roll(one.points)) for one in found])
        boxes = self._boxes.from_detector(np.array([one.box for one in found]).reshape(-1, 4), rolls)
        faces = self._look(image, boxes, rolls)
        doubtful = {
            place: (boxes[place], float(rolls[place]))
            for place, face in faces.items()
            if relative_error(face) > DOUBTFUL
        }
        if doubtful:
            flipped = [(place, (box, roll + math.pi)) for place, (box, roll) in doubtful.items()]
            other = self._refine(image, look(image, flipped, self.predictor))
            for place, face in other.items():
                if len(face.keypoints) and relative_error(face) < CLEARER * relative_error(faces[place]):
                    faces[place] = face
        return [(found[place], replace(face, box=found[place].box)) for place, face in distinct(faces).items()]

    def _with_own_points(self, image: Image, finder: "FacePipeline") -> tuple[Face, ...]:
        """The faces that the released pair finds, with the points of this keypoint model, or without if it rejects
        them.
        """
        finder.rotations = self.rotations
        found, scheme = finder(image), finder.predictor.model.card.scheme
        numbers = [number for number, face in enumerate(found) if len(face.keypoints)]
        rolls = np.array([float(scheme.roll(found[number].keypoints)) for number in numbers])
        boxes = np.array([found[number].box for number in numbers]).reshape(-1, 4)
        own = distinct(self._look(image, self._boxes.from_detector(boxes, rolls), rolls))
        seen = {numbers[place]: face for place, face in own.items()}
        faces = []
        for number, face in enumerate(found):
            if number in seen:
                accepted = len(seen[number].keypoints) > 0
                faces.append(replace(seen[number], box=face.box, score=face.score if accepted else seen[number].score))
            elif not len(face.keypoints):
                faces.append(replace(face, scheme=self.predictor.model.card.scheme))
        return tuple(face for face in faces if self.keep_rejected or len(face.keypoints))

    def _look(self, image: Image, boxes: NDArray[np.float64], rolls: NDArray[np.float64]) -> dict[int, Face]:
        """What the keypoint model makes of boxes (N, 4), by number."""
        if self._first is None:
            faces = look(image, enumerate(zip(boxes, rolls.tolist(), strict=True)), self.predictor)
        else:
            faces = self._guess(image, boxes, rolls, self._first)
        return self._refine(image, faces)

    def _refine(self, image: Image, faces: dict[int, Face]) -> dict[int, Face]:
        """The faces of crops around the boxes that follow from their points, by number."""
        for _ in range(0 if not self._boxes.gives_size else 1 if self._first is None else 2):
            again = [place for place, face in faces.items() if len(face.keypoints)]
            if again:
                boxes, turns = self._boxes(np.array([faces[place].keypoints for place in again]))
                nearer = zip(again, zip(boxes, turns, strict=True), strict=True)
                faces = faces | look(image, nearer, self.predictor)
        return faces

    def _decide(self, detection: Detection, face: Face, longer: int, *, rotated: bool = False) -> Face:
        """A face with its joint score, without keypoints if that is too low; as it is where there is no joint score."""
        if self.joint is None or not len(face.keypoints):
            return face
        size = float(detection.box[2] - detection.box[0]) / longer
        score = self.joint(
            detector=detection.score,
            keypoints=face.score or 0.0,
            error=relative_error(face),
            size=size,
            support=detection.support,
        )
        threshold = JOINT_THRESHOLD if self.threshold is None else self.threshold
        if score >= (max(threshold, self.joint.rotated) if rotated else threshold):
            return replace(face, score=score)
        return Face(box=face.box, keypoints=np.empty((0, 2)), score=score, scheme=face.scheme)

    def _guess(
        self, image: Image, boxes: NDArray[np.float64], rolls: NDArray[np.float64], predictor: KeypointPredictor
    ) -> dict[int, Face]:
        """The answers for the best of several sizes of each box, by number."""
        several = zip(scaled_boxes(boxes).reshape(-1, 4), np.repeat(rolls, len(SCALES)).tolist(), strict=True)
        best: dict[int, Face] = {}
        for number, face in look(image, enumerate(several), predictor).items():
            place = number // len(SCALES)
            if place not in best or (face.score or 0) > (best[place].score or 0):
                best[place] = face
        return best
