"""The public names: `kpedge.track`, `kpedge.FacePipeline`, and the types of their results."""

import dataclasses

import cv2
import numpy as np
import pytest
from conftest import PHOTOS
from fake_live import ListSource, clip_frames, errors_by_face, scene, write_video

import kpedge
from kpedge.bench.clip import Sway
from kpedge.core.errors import SourceError
from kpedge.runtime.smoothing import Smoothing

VIDEOS = PHOTOS.parent / "videos"


@pytest.fixture(scope="module")
def clip():
    return clip_frames(8, sway=Sway(), rate=25.0)


@pytest.fixture(scope="module")
def video(clip, tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", clip[0], 25.0)


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_the_faces_of_a_video_frame_by_frame(video, clip, kind):
    numbers = []
    for frame, faces in kpedge.track(kind(video)):
        assert isinstance(frame, kpedge.Frame)
        assert frame.image.shape == (240, 320, 3)
        assert frame.time_s == pytest.approx(frame.number / 25)
        (face,) = faces
        assert isinstance(face, kpedge.Face)
        assert isinstance(face.pose, kpedge.Pose)
        assert face.id == 1
        assert errors_by_face(faces, clip[1].truth(frame.number), clip[1].side).max() < 0.04
        numbers.append(frame.number)
    assert numbers == list(range(8))


def test_a_source_that_is_open_already_is_closed_at_the_end(clip):
    source = ListSource(clip[0][:3])
    assert len(list(kpedge.track(source))) == 3
    assert source.closed == 1


def test_a_source_is_closed_when_nobody_wants_more(clip):
    source = ListSource(clip[0])
    frames = kpedge.track(source)
    next(frames)
    frames.close()
    assert source.closed == 1
    assert source.taken == 1


def test_a_source_is_closed_when_it_fails(clip):
    source = ListSource(clip[0][:2], problem=SourceError("gone"))
    with pytest.raises(SourceError, match="gone"):
        list(kpedge.track(source))
    assert source.closed == 1


def test_a_tracker_of_ones_own_begins_anew_with_each_video(video):
    tracker = kpedge.FaceTracker(max_faces=2, smooth=Smoothing(min_cutoff=1.0))
    first, second = ([faces[0] for _, faces in kpedge.track(video, tracker)] for _ in range(2))
    assert {face.id for face in first} == {1}
    assert {face.id for face in second} == {2}, "another video, another person"
    for one, other in zip(first, second, strict=True):
        assert (one.keypoints == other.keypoints).all()


def test_a_loaded_model_tracks_as_kpedge_track_does(clip):
    blobs = np.full((240, 320, 3), 120, np.uint8)
    rng = np.random.default_rng(0)
    for x, y, radius in rng.integers(3, (320, 240, 20), (150, 3)).tolist():
        cv2.circle(blobs, (x, y), radius, rng.integers(0, 256, 3).tolist(), -1)
    images = [*clip[0][:3], blobs, blobs]
    ways = [kpedge.track(ListSource(images)), kpedge.load().track(ListSource(images))]
    counts, others = ([len(faces) for _, faces in way] for way in ways)
    assert counts == others == [1, 1, 1, 0, 0]


def test_a_video_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"missing\.mp4"):
        list(kpedge.track(tmp_path / "missing.mp4"))


def test_a_picture_without_a_face_has_none():
    assert kpedge.FacePipeline()(scene()[0]) == ()


def test_results_as_plain_types():
    face = kpedge.Face(np.array([1.23456, 2, 3, 4]), np.full((2, 2), 0.12345), 0.98765, np.array([0.5, 1.23456]))
    plain = {"box": [1.235, 2, 3, 4], "score": 0.988, "keypoints": [[0.123, 0.123]] * 2, "errors": [0.5, 1.235]}
    assert face.to_dict() == plain
    whole = dataclasses.replace(face, id=7, pose=kpedge.Pose(1.23456, -2.0, 179.999), score=None, expected_errors=None)
    assert whole.to_dict() == {
        "id": 7,
        "box": plain["box"],
        "score": None,
        "keypoints": plain["keypoints"],
        "pose": {"yaw": 1.23, "pitch": -2.0, "roll": 180.0},
    }
    assert list(whole.to_dict()) == ["id", "box", "score", "keypoints", "pose"]


@pytest.mark.photos
@pytest.mark.skipif(not VIDEOS.is_dir(), reason=f"the real videos are not here: {VIDEOS.parent.name}/{VIDEOS.name}")
@pytest.mark.parametrize(
    "name", ["again", "bird", "book", "brother", "eat", "help", "cap12_edit", "head-pose-face-detection-female"]
)
def test_one_person_of_a_real_video_is_one_person_throughout(name):
    (path,) = VIDEOS.glob(f"{name}.*")
    found, missed = set(), 0
    for count, (frame, faces) in enumerate(kpedge.track(path), 1):  # noqa: B007
        missed += not faces
        found |= {face.id for face in faces}
        assert len(faces) <= 1
        for face in faces:
            assert np.isfinite(face.keypoints).all()
            assert (face.box[:2] >= -20).all()
            assert (face.box[2:] <= np.array(frame.image.shape[1::-1]) + 20).all()
    assert found == {1}
    assert count > 20
    assert missed <= 0.01 * count
