"""Faces that are followed: where their points are, and who is who. With the released models."""

import numpy as np
import pytest
from fake_live import SIZE, clip_frames, counting_tracker, empty, errors_by_face, scene

from kpedge.bench.clip import STILL, FaceClip, Sway
from kpedge.core.boxes import boxes_of_points
from kpedge.core.errors import KpedgeError, ModelError, UsageError
from kpedge.runtime.pipeline import FacePipeline
from kpedge.runtime.smoothing import SmoothState
from kpedge.runtime.tracker import MAX_AGE, MAX_FACES, SMALLEST, FaceTracker

FRAME_S = 1 / 30
MOVING = Sway(shift=0.15, zoom=0.1, roll=12)


@pytest.fixture
def tracker():
    return FaceTracker()


def ids(faces):
    return [face.id for face in faces]


def follow(tracker, images, start_s=0.0, step_s=FRAME_S):
    """The faces of each picture, one after the other."""
    return [tracker(image, start_s + number * step_s) for number, image in enumerate(images)]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "size", "smooth"), [(1, SIZE, True), (2, SIZE, False), (5, (640, 480), True)])
def test_swaying_faces_are_followed(count, size, smooth):
    tracker = FaceTracker() if smooth else FaceTracker(smooth=False)
    images, clip = clip_frames(60, count, size=size, sway=MOVING)
    seen = follow(tracker, images)
    assert [ids(faces) for faces in seen] == [list(range(1, count + 1))] * 60
    off = np.array([errors_by_face(faces, clip.truth(number), clip.side) for number, faces in enumerate(seen)])
    assert off.max() < 0.04
    assert off.mean() < 0.025


def test_a_number_stays_with_its_person():
    tracker = FaceTracker()
    images, clip = clip_frames(40, 5, size=(640, 480), sway=MOVING)
    owners = []
    for number, faces in enumerate(follow(tracker, images)):
        found = np.array([face.keypoints.mean(axis=0) for face in faces])
        away = np.linalg.norm(found[:, None] - clip.truth(number).mean(axis=1), axis=2)
        owners.append(away.argmin(axis=1).tolist())
    assert sorted(owners[0]) == list(range(5))
    assert owners == [owners[0]] * 40


def test_two_who_pass_each_other_keep_their_numbers(tracker):
    owners = []
    for number in range(50):
        along = number / 49
        image, truth = scene((70 + 180 * along, 60, 60), (250 - 180 * along, 180, 60))
        faces = tracker(image, number * FRAME_S)
        assert ids(faces) == [1, 2]
        assert errors_by_face(faces, truth, 60).max() < 0.05
        owners.append(int(np.argmin([face.keypoints[:, 1].mean() for face in faces])))
    assert len(set(owners)) == 1


def test_the_result_is_whole(tracker):
    image, truth = scene((160, 120, 90))
    (face,) = tracker(image, 0.0)
    assert face.keypoints.shape == (21, 2)
    assert face.keypoints.dtype == face.box.dtype == np.float64
    assert face.box == pytest.approx(boxes_of_points(face.keypoints[None])[0])
    assert face.box == pytest.approx(boxes_of_points(truth)[0], abs=0.1 * 90)
    assert 0.9 < face.score <= 1
    assert face.expected_errors.shape == (21,)
    assert (face.expected_errors > 0).all()
    assert face.expected_errors.max() < 0.1 * 90


def test_results_of_earlier_frames_stay_as_they_were(tracker):
    images, _ = clip_frames(6, sway=MOVING)
    kept, copies = [], []
    for number, image in enumerate(images):
        (face,) = tracker(image, number * FRAME_S)
        kept.append(face)
        copies.append((face.keypoints.copy(), face.box.copy(), face.expected_errors.copy()))
    for face, (keypoints, box, errors) in zip(kept, copies, strict=True):
        assert (face.keypoints == keypoints).all()
        assert (face.box == box).all()
        assert (face.expected_errors == errors).all()


def test_the_frame_itself_is_left_alone(tracker):
    image, _ = scene((160, 120, 90))
    before = image.copy()
    for number in range(3):
        tracker(image, number * FRAME_S)
    assert (image == before).all()
    image.setflags(write=False)
    assert tracker(image, 1.0)


def test_without_smoothing_points_are_those_of_the_model():
    plain, steady = FaceTracker(smooth=False), FaceTracker()
    images, _ = clip_frames(12, sway=STILL, noise=6.0)
    raw = np.array([faces[0].keypoints for faces in follow(plain, images)])
    smooth = np.array([faces[0].keypoints for faces in follow(steady, images)])
    assert (raw[0] == smooth[0]).all(), "the first points are nobody's successors"
    shake = [np.linalg.norm(np.diff(points, axis=0), axis=2).mean() for points in (raw, smooth)]
    assert shake[1] < 0.5 * shake[0]
    again = follow(FaceTracker(smooth=False), images[-1:])
    off = np.linalg.norm(again[0][0].keypoints - raw[-1], axis=1).mean()
    assert off < 0.01 * FaceClip(size=SIZE).side, "no memory of the frames before"


def test_following_finds_the_same_points_as_searching_each_frame():
    """What is looked for around the last points must not drift away from the face."""
    tracker, pipeline = FaceTracker(smooth=False), FacePipeline()
    images, clip = clip_frames(60, sway=Sway(shift=0.3, zoom=0.3, roll=25))
    for number, faces in enumerate(follow(tracker, images)):
        if number % 10 == 9:
            (face,), (fresh,) = faces, pipeline(images[number])
            assert np.linalg.norm(face.keypoints - fresh.keypoints, axis=1).mean() < 0.025 * clip.side


@pytest.mark.parametrize("degrees", [-40, 40])
def test_a_head_that_is_tilted_far_is_followed(tracker, degrees):
    clip = FaceClip(size=SIZE, sway=Sway(shift=0, zoom=0, roll=abs(degrees), frequency=np.sign(degrees) * 0.25))
    turned = []
    for number in range(45):
        (face,) = tracker(clip.frame(number), number * FRAME_S)
        assert errors_by_face([face], clip.truth(number), clip.side).max() < 0.05
        turned.append(tracker.predictor.model.card.scheme.roll(face.keypoints))
    assert np.degrees(max(turned, key=abs)) == pytest.approx(degrees, abs=6)


def test_a_still_picture_stays_still():
    tracker = FaceTracker(smooth=False)
    image, _ = scene((160, 120, 90))
    points = np.array([faces[0].keypoints for faces in follow(tracker, [image] * 30)])
    assert np.linalg.norm(points[-1] - points[10], axis=1).max() < 0.003 * 90


def test_a_face_that_leaves_at_the_edge_is_lost_and_its_number_is_not_given_again(tracker):
    seen = []
    for number in range(60):
        x = 160 + 6 * number
        seen.append(ids(tracker(scene((x, 120, 80))[0], number * FRAME_S)))
    assert seen[0] == [1]
    first_gone = seen.index([])
    assert 15 < first_gone < 35
    assert seen[:first_gone] == [[1]] * first_gone
    assert seen[first_gone:] == [[]] * (60 - first_gone)
    back = follow(tracker, [scene((160, 120, 80))[0]] * 5, start_s=60 * FRAME_S)
    assert ids(back[-1]) == [2]


def test_a_face_that_vanishes_at_once_is_lost_at_once(tracker):
    follow(tracker, [scene((160, 120, 80))[0]] * 5)
    assert tracker(empty(), 5 * FRAME_S) == ()
    assert tracker(empty(), 6 * FRAME_S) == ()


def back_after(away_s, place, step_s=FRAME_S):
    """The numbers of a face before and after it was away, and it comes back at a place."""
    tracker = FaceTracker()
    before = follow(tracker, [scene((120, 120, 60))[0]] * 6, step_s=step_s)
    gone = follow(tracker, [empty()] * round(away_s / step_s), start_s=6 * step_s, step_s=step_s)
    assert gone == [()] * len(gone)
    start_s = (6 + len(gone)) * step_s
    after = follow(tracker, [scene(place)[0]] * 6, start_s=start_s, step_s=step_s)
    return ids(before[-1]), ids(after[-1])


def test_a_face_that_comes_back_soon_keeps_its_number():
    assert back_after(0.5, (120, 120, 60)) == ([1], [1])
    assert back_after(0.5, (150, 120, 66)) == ([1], [1])


def test_a_face_that_comes_back_late_gets_a_new_number():
    assert back_after(MAX_AGE + 0.4, (120, 120, 60)) == ([1], [2])


def test_a_face_elsewhere_or_of_another_size_gets_a_new_number():
    assert back_after(0.4, (250, 120, 60)) == ([1], [2])
    assert back_after(0.4, (120, 120, 110)) == ([1], [2])


def test_a_face_that_jumps_is_found_again_and_keeps_its_number_when_it_is_near(tracker):
    follow(tracker, [scene((120, 120, 60))[0]] * 6)
    near = follow(tracker, [scene((168, 120, 60))[0]] * 8, start_s=6 * FRAME_S)
    assert ids(near[-1]) == [1]
    truth = scene((168, 120, 60))[1]
    assert errors_by_face(near[-1], truth, 60).max() < 0.04


def test_numbers_are_never_given_twice(tracker):
    image = scene((160, 120, 80))[0]
    given = []
    for _ in range(3):
        given += ids(tracker(image, 0.0))
        tracker.reset()
    given += ids(tracker(image, 7.0))
    given += ids(tracker(image, 3.0))  # an older frame
    given += ids(tracker(scene((160, 120, 80), size=(322, 240))[0], 3.1))  # another size
    assert given == [1, 2, 3, 4, 5, 6]


def test_a_frame_of_the_same_time_goes_on(tracker):
    images, clip = clip_frames(8, sway=MOVING)
    seen = [tracker(image, 1.0) for image in images]
    assert [ids(faces) for faces in seen] == [[1]] * 8
    assert errors_by_face(seen[-1], clip.truth(7), clip.side).max() < 0.08


def test_a_gap_of_hours_begins_anew(tracker):
    image, truth = scene((160, 120, 80))
    follow(tracker, [image] * 3)
    faces = tracker(image, 7200.0)
    assert ids(faces) == [2]
    assert errors_by_face(faces, truth, 80).max() < 0.04


def test_two_tracks_on_one_face_become_one(tracker):
    image, truth = scene((100, 120, 80), (220, 120, 80))
    first = follow(tracker, [image] * 3)[-1][0]
    left = first.box[0] < 160
    state = tracker._state
    tracker._state = SmoothState(state.points[[0, 0]], state.speeds[:, [0, 0]], state.velocity[[0, 0]])
    alone, truth = scene((100 if left else 220, 120, 80))
    after = follow(tracker, [alone] * 60, start_s=3 * FRAME_S)
    assert {tuple(ids(faces)) for faces in after} == {(first.id,)}
    assert [one.id for one in tracker.tracks] == [first.id]
    assert errors_by_face(after[-1], truth, 80).max() < 0.04


def test_at_most_so_many_faces_are_followed():
    images, _ = clip_frames(1, 5, size=(640, 480))
    for most in (1, 3):
        seen = [ids(faces) for faces in follow(FaceTracker(max_faces=most), images * 40)]
        assert seen == [list(range(1, most + 1))] * 40
    assert FaceTracker().max_faces == MAX_FACES


def test_a_threshold_that_is_changed_takes_effect(tracker):
    image, _ = scene((160, 120, 80))
    (face,) = tracker(image, 0.0)
    tracker.predictor.threshold = 1.0
    assert face.score < 1.0
    follow(tracker, [empty()], start_s=0.1)
    assert follow(tracker, [image] * 20, start_s=0.2) == [()] * 20
    tracker.predictor.threshold = 0.1
    assert len(follow(tracker, [image] * 8, start_s=1.0)[-1]) == 1


def test_a_threshold_of_nothing_still_loses_faces_that_leave():
    tracker = FaceTracker(threshold=0.0)
    for number in range(60):
        faces = tracker(scene((160 + 8 * number, 120, 80))[0], number * FRAME_S)
        for face in faces:
            assert np.isfinite(face.keypoints).all()
            assert (face.box[:2] < SIZE).all()
            assert (face.box[2:] > 0).all()
    assert faces == ()


@pytest.mark.parametrize("kind", ["black", "white", "noise", "stripes"])
def test_pictures_without_a_face_give_none(tracker, kind):
    rng = np.random.default_rng(1)
    for number in range(12):
        image = {
            "black": np.zeros((240, 320, 3), np.uint8),
            "white": np.full((240, 320, 3), 255, np.uint8),
            "noise": rng.integers(0, 256, (240, 320, 3), dtype=np.uint8),
            "stripes": np.tile(np.array([0, 255], np.uint8).repeat(8), (240, 20))[..., None].repeat(3, axis=2),
        }[kind]
        assert tracker(image, number / 10) == ()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 5), (33, 1000)])
def test_tiny_frames_give_nothing(tracker, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert follow(tracker, [image] * 3) == [()] * 3


def test_a_large_frame_is_searched_and_followed(tracker):
    image, truth = scene((2400, 1500, 900), size=(4000, 3000))
    for number in range(3):
        faces = tracker(image, number * FRAME_S)
        assert ids(faces) == [1]
        assert errors_by_face(faces, truth, 900).max() < 0.04


def test_a_face_that_shrinks_to_nothing_is_given_up():
    tracker, last = FaceTracker(), None
    for number in range(80):
        side = 60 * 0.96**number
        faces = tracker(scene((160, 120, side))[0], number * FRAME_S)
        if faces:
            last = side
            assert faces[0].box[2] - faces[0].box[0] >= 0.9 * SMALLEST
    assert faces == ()
    assert 4 < last < 16


def test_a_face_that_is_only_partly_in_the_picture_is_followed(tracker):
    images = [scene((160 + min(number, 30) * 4.2, 120, 80))[0] for number in range(45)]
    seen = follow(tracker, images)
    assert [ids(faces) for faces in seen] == [[1]] * 45, "a third of the face lies beyond the edge at the end"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model": "stage1"}, "stage1 cannot track faces"),
        ({"model": "detector"}, "it finds no keypoints"),
        ({"detector": "stage3"}, "give a detector|no faces in an image"),
        ({"max_faces": 0}, "--max-faces must be at least 1, not 0"),
        ({"max_faces": -3}, "--max-faces must be at least 1, not -3"),
        ({"detection_interval": 0.0}, "--detection-interval must be above 0, not 0"),
        ({"detection_interval": -1.0}, "--detection-interval must be above 0, not -1"),
        ({"detection_interval": float("nan")}, "--detection-interval must be above 0, not nan"),
        ({"threshold": 1.5}, "threshold must be from 0 to 1, not 1.5"),
        ({"threshold": -0.1}, "threshold must be from 0 to 1, not -0.1"),
        ({"max_side": 8}, "--max-side must be at least"),
        ({"provider": "abacus"}, "abacus"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, told):
    with pytest.raises(UsageError, match=told) as raised:
        FaceTracker(**settings)
    assert "\n" not in str(raised.value)


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"nothing\.onnx"):
        FaceTracker(model=tmp_path / "nothing.onnx")


def test_open_models_are_taken_as_they_are():
    tracker = counting_tracker(max_faces=2)
    again = FaceTracker(tracker.predictor, tracker.detector)
    assert again.detector is tracker.detector
    assert again.predictor is tracker.predictor


@pytest.mark.parametrize(
    "image", [None, np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8), "no such photo.jpg"], ids=str
)
def test_what_is_no_image_is_named(tracker, image):
    with pytest.raises(KpedgeError):
        tracker(image, 0.0)


def test_a_time_that_is_not_given_is_that_of_the_clock(tracker, monkeypatch):
    now, (image, _) = [10.0], scene((160, 120, 90))
    monkeypatch.setattr("kpedge.runtime.tracker.time.monotonic", lambda: now[0])
    given = []
    for passed in (0.04, 0.04, 100.0):
        now[0] += passed
        given += ids(tracker(image[..., ::-1], colour="rgb"))
    assert given == [1, 1, 2]
    with pytest.raises(UsageError, match="nan"):
        tracker(image, float("nan"))
