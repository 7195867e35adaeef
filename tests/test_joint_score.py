"""One score of detector and keypoint model, and images searched again, rotated."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import SAMPLE
from fake_detector import Fake

from kpedge.core.boxes import box_of_points
from kpedge.core.card import card_from_json
from kpedge.core.errors import CorruptModelError, UsageError
from kpedge.core.geometry import transform_points
from kpedge.core.images import read_image
from kpedge.core.joint_score import JointScore
from kpedge.core.keypoints import FACES21
from kpedge.core.model_zoo import resolve_model
from kpedge.data.formats.label import read_labels
from kpedge.runtime.detector import FaceDetector, detector_model
from kpedge.runtime.keypoints import KeypointPredictor, keypoint_model
from kpedge.runtime.looks import relative_error
from kpedge.runtime.pipeline import FacePipeline
from kpedge.runtime.sessions import OnnxModel

(ROW,) = read_labels(SAMPLE, FACES21).rows
FIVE = [16, 17, 18, 19, 20]
KEYPOINTS = keypoint_model(OnnxModel(resolve_model("stage3")))
DETECTOR = detector_model(OnnxModel(resolve_model("detector")))
ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@pytest.fixture(scope="module")
def photo():
    return read_image(SAMPLE / ROW.photo)


class Scored:
    """The released stage 3 with another joint score in its card."""

    def __init__(self, joint):
        self.card = replace(KEYPOINTS.card, joint=joint)

    def __call__(self, crops):
        return KEYPOINTS(crops)


class Finder(Fake):
    """A detector that finds the sample's face with a score, in images of the sample's size."""

    def __init__(self, score):
        super().__init__(lambda frame: ([ROW.box], [score]) if len(frame) == 512 else ([], []))

    def __call__(self, frames):
        found = super().__call__(frames)
        return {**found, "points": np.tile(ROW.keypoints[FIVE], (1, found["scores"].shape[1], 1, 1))}


def joint(**values):
    """A joint score for the fake detector."""
    known = {"detector_sha256": Fake(lambda frame: ([], [])).card.weights_sha256}
    weights = {"detector": 1.0, "keypoints": 0.5, "error": -1.0, "size": -0.2, "support": 0.3, "constant": -3.0}
    return JointScore(**{**known, **weights, **values})


def test_the_score_rises_with_both_falls_with_the_error_and_is_finite_everywhere():
    score = joint(constant=0.0)
    values = np.array(
        [
            [
                [score(detector=a, keypoints=b, error=c, size=0.1, support=0.5) for c in (0.0, 0.05, 1e9)]
                for b in (0.0, 0.3, 0.9, 1.0)
            ]
            for a in (0.0, 1e-12, 0.2, 0.5, 0.99, 1.0)
        ]
    )
    assert np.isfinite(values).all()
    assert (np.diff(values, axis=0) >= 0).all()
    assert (np.diff(values, axis=1) >= 0).all()
    assert (np.diff(values, axis=2) <= 0).all()
    assert score(detector=0.7, keypoints=0.5, error=1.0, size=1.0, support=1.0) == pytest.approx(0.7)
    assert score(detector=0.7, keypoints=0.5, error=1.0, size=1.0, support=3.0) > 0.75


def test_it_travels_in_the_card_and_a_damaged_one_is_refused():
    card = replace(KEYPOINTS.card, joint=joint())
    assert card_from_json(card.to_json()).joint == card.joint
    assert card_from_json(replace(card, joint=None).to_json()).joint is None
    older = card.joint.to_dict()
    del older["support"]  # cards had no such weight at first
    assert JointScore.from_dict(older) == joint(support=0.0)
    with pytest.raises(CorruptModelError):
        card_from_json(card.to_json().replace('"keypoints":0.5', '"keypoints":null'))


@pytest.mark.parametrize(("constant", "found"), [(0.0, True), (-20.0, False)])
def test_it_decides_for_its_detector_whatever_the_single_thresholds(photo, constant, found):
    finder = Finder(0.3)
    pipeline = FacePipeline(Scored(joint(constant=constant)), finder, max_side=photo.shape[1], rotations=False)
    faces = pipeline(photo)
    assert len(faces) == found
    if found:
        ((_, face),) = pipeline.candidates(photo)
        size = float(ROW.box[2] - ROW.box[0]) / 512
        expected = pipeline.joint(
            detector=0.3, keypoints=face.score, error=relative_error(face), size=size, support=0.15
        )
        assert faces[0].score == pytest.approx(expected)
        assert finder.card.threshold > 0.3
    pipeline.keep_rejected = True
    assert len(pipeline(photo)) == 1


def test_other_detectors_and_models_with_their_own_settings_keep_two_thresholds():
    other = joint(detector_sha256="another")
    assert FacePipeline(Scored(other), Finder(0.3)).joint is None
    assert FacePipeline(Scored(None), Finder(0.3)).joint is None
    assert FacePipeline(Scored(joint()), Finder(0.3)).joint is not None
    assert FacePipeline(KeypointPredictor(Scored(joint())), Finder(0.3)).joint is None
    assert FacePipeline(Scored(joint()), FaceDetector(Finder(0.3))).joint is None


def test_another_keypoint_model_gives_the_points_of_the_faces_that_the_released_pair_finds(photo):
    for image in (photo, np.asarray(cv2.rotate(photo, cv2.ROTATE_180))):
        (expected,), (face,) = FacePipeline()(image), FacePipeline("stage2")(image)
        assert face.score == expected.score
        assert (face.box == expected.box).all()
        distance = np.linalg.norm(face.keypoints - expected.keypoints, axis=1).mean()
        assert 0 < distance < 0.04 * (face.box[2] - face.box[0])
    (face,) = FacePipeline("stage2", FaceDetector(DETECTOR))(photo)
    assert face.score is None  # a detector with settings of its own decides alone


def test_the_released_partner_is_the_shipped_one_whatever_lies_in_the_folder(tmp_path, monkeypatch, photo):
    (tmp_path / "stage3").mkdir()
    (tmp_path / "stage3" / "best.pt").write_bytes(b"a run of the user's")
    model = resolve_model("stage2")
    monkeypatch.chdir(tmp_path)
    assert len(FacePipeline(model, DETECTOR, flip_test=True)(photo)) == 1


def test_another_keypoint_model_may_reject_what_the_released_pair_finds(photo):
    strict = Scored(None)
    strict.card = replace(strict.card, threshold=1.0)
    pipeline = FacePipeline(strict, DETECTOR)
    assert pipeline(photo) == ()
    pipeline.keep_rejected = True
    rejected = pipeline(photo)[0]
    assert not len(rejected.keypoints)
    assert rejected.score != FacePipeline()(photo)[0].score  # its own score says why


def test_a_threshold_is_one_of_the_score_that_is_returned(photo):
    assert len(FacePipeline("stage2", threshold=0.0)(photo)) > len(FacePipeline("stage2", threshold=0.9)(photo)) == 1
    assert FacePipeline("stage2", threshold=1.0)(photo) == ()
    with pytest.raises(UsageError, match="from 0 to 1"):
        FacePipeline("stage2", threshold=1.5)


@pytest.mark.parametrize("degrees", ROTATIONS)
def test_faces_of_rotated_photos_are_found_with_their_points(photo, degrees):
    height, width = photo.shape[:2]
    way = {
        90: [[0.0, -1.0, height - 1.0], [1.0, 0.0, 0.0]],
        180: [[-1.0, 0.0, width - 1.0], [0.0, -1.0, height - 1.0]],
        270: [[0.0, 1.0, 0.0], [-1.0, 0.0, width - 1.0]],
    }[degrees]
    points = transform_points(np.array(way), ROW.keypoints)
    (face,) = FacePipeline()(np.asarray(cv2.rotate(photo, ROTATIONS[degrees])))
    side = ROW.box[2] - ROW.box[0]
    assert np.linalg.norm(face.keypoints - points, axis=1).mean() < 0.04 * side
    assert np.abs(face.box - box_of_points(points)).max() < 0.35 * side


def test_rotated_copies_are_searched_where_nothing_was_found_and_only_there(photo):
    for rotations, image, searches in ((True, photo, 1), (True, photo * 0, 4), (False, photo * 0, 1)):
        finder = Finder(0.9)
        FacePipeline(KEYPOINTS, finder, max_side=512, rotations=rotations)(image)
        assert len(finder.seen) == 2 * searches, "each search takes two sizes"


class OnlyRotated(FacePipeline):
    """Finds nothing before images are rotated."""

    def candidates(self, image, *, rotated=False):
        return super().candidates(image, rotated=True) if rotated else []


@pytest.mark.parametrize(("rotated", "found"), [(0.5, True), (0.9, False)])
def test_a_rotated_face_may_need_a_higher_score(photo, rotated, found):
    known = {"detector_sha256": DETECTOR.card.weights_sha256, "constant": 0.5}
    known |= dict.fromkeys(("detector", "keypoints", "error", "size"), 0.0)
    pipeline = OnlyRotated(Scored(JointScore(**known, rotated=rotated)), DETECTOR)
    assert bool(pipeline(np.asarray(cv2.rotate(photo, cv2.ROTATE_180)))) == found


def test_a_threshold_is_one_of_the_joint_score(photo):
    score = FacePipeline(Scored(joint()), Finder(0.3), max_side=photo.shape[1])(photo)[0].score
    for threshold, count in ((score - 0.01, 1), (score + 0.01, 0)):
        pipeline = FacePipeline(Scored(joint()), Finder(0.3), max_side=photo.shape[1], threshold=threshold)
        assert len(pipeline(photo)) == count
