"""When the detector runs, and when it does not: by time, not by the number of frames."""

import itertools
import math

import numpy as np
import pytest
from fake_live import clip_frames, counting_tracker, empty, errors_by_face, scene

from kpedge.bench.clip import Sway
from kpedge.core.boxes import box_of_points
from kpedge.core.geometry import box_size
from kpedge.runtime.tracker import DETECTION_INTERVAL, MAX_AGE, SHORT_INTERVAL, STAGES

FACE = (160, 120, 80)


@pytest.fixture(scope="module")
def shared():
    """Models that are opened once; each test gets a tracker without memories."""
    return counting_tracker()


@pytest.fixture
def tracker(shared):
    shared.reset()
    shared.max_faces, shared.detection_interval = 10, DETECTION_INTERVAL
    shared.detector.calls = 0
    shared.predictor.model.runs.clear()
    return shared


def searches(tracker, image, times):
    """The times at which the detector ran."""
    at = []
    for time_s in times:
        before = tracker.detector.calls
        tracker(image, float(time_s))
        at += [float(time_s)] * (tracker.detector.calls - before)
    return np.array(at)


@pytest.mark.parametrize(("rate", "within"), [(10, 0.2), (29.97, DETECTION_INTERVAL), (60, 0.2), (24, 1.0)])
def test_while_faces_are_followed_it_searches_by_time(tracker, rate, within):
    tracker.detection_interval = within
    at = searches(tracker, scene(FACE)[0], np.arange(0, 3.2, 1 / rate))
    assert at[0] == 0
    gaps = np.diff(at)
    assert (gaps >= within - 1e-5).all()
    assert (gaps < within + 1 / rate + 1e-5).all()


def test_a_search_that_is_due_is_not_put_off_by_rounding(tracker):
    times = np.cumsum([0.1] * 31)  # 0.1 + 0.1 + 0.1 is not 0.3
    at = searches(tracker, scene(FACE)[0], times)
    assert np.diff(at) == pytest.approx([DETECTION_INTERVAL] * (len(at) - 1))


def test_time_stamps_that_stumble_do_not_matter(tracker):
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.exponential(0.04, 80))
    at = searches(tracker, scene(FACE)[0], times)
    assert at[0] == times[0]
    for last, following in itertools.pairwise(at):
        due = times[times >= last + DETECTION_INTERVAL - 1e-6]
        assert following == due[0]
    assert times[-1] - at[-1] < DETECTION_INTERVAL


def test_where_nobody_is_it_searches_more_often(tracker):
    at = searches(tracker, empty(), np.arange(0, 2, 1 / 60))
    assert (np.diff(at) >= SHORT_INTERVAL - 1e-5).all()
    assert (np.diff(at) < SHORT_INTERVAL + 1 / 60 + 1e-5).all()


def test_where_nobody_is_a_slow_camera_has_each_frame_searched(tracker):
    assert len(searches(tracker, empty(), np.arange(0, 2, 0.2))) == 10


def test_it_hurries_no_more_than_it_is_told(tracker):
    tracker.detection_interval = 0.05
    at = searches(tracker, empty(), np.arange(0, 1, 1 / 60))
    assert np.diff(at).mean() == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize(("rate", "offset_s"), [(10, 0.49), (30, 0.02), (60, 0.27)])
def test_a_second_face_is_found_in_time(tracker, rate, offset_s):
    tracker.detection_interval = 0.3
    one, two = scene((90, 120, 70))[0], scene((90, 120, 70), (240, 120, 70))[0]
    found = None
    for number in range(round(2 * rate)):
        time_s = number / rate
        faces = tracker(two if time_s >= offset_s else one, time_s)
        if len(faces) == 2:
            found = time_s
            break
    assert found is not None
    assert offset_s <= found <= offset_s + 0.3 + 1 / rate + 1e-6


def test_the_first_face_is_found_at_once(tracker):
    times = np.arange(0, 0.5, 1 / 30)
    found = [time_s for time_s in times if tracker(scene(FACE)[0] if time_s > 0.2 else empty(), time_s)]
    assert found[0] <= 0.2 + SHORT_INTERVAL + 1 / 30


def test_a_lost_face_is_searched_for_in_the_same_frame(tracker):
    for number in range(4):
        tracker(scene(FACE)[0], number / 30)
    assert tracker.detector.calls == 1
    faces = tracker(scene((70, 70, 60))[0], 4 / 30)
    assert tracker.detector.calls == 2
    assert len(faces) == 1, "it is found where it is now"


def test_every_photo_of_a_slideshow_has_its_face(tracker):
    """At two photos a second, each face in another place."""
    for number in range(8):
        place = (70 + 40 * (number % 3), 80 + 30 * (number % 2), 60 + 10 * (number % 4))
        faces = tracker(scene(place)[0], number / 2)
        assert len(faces) == 1
        assert errors_by_face(faces, scene(place)[1], place[2]).max() < 0.05


def test_while_one_of_two_is_missing_it_hurries_and_then_gives_up(tracker):
    two, one = scene((90, 120, 70), (240, 120, 70))[0], scene((90, 120, 70))[0]
    for number in range(4):
        assert len(tracker(two, number / 30)) == 2
    at = searches(tracker, one, np.arange(4, 150) / 30)
    missing = at[at < MAX_AGE]
    assert (np.diff(missing) < SHORT_INTERVAL + 1 / 30 + 1e-5).all()
    assert len(missing) >= 6
    later = at[at > MAX_AGE + 0.2]
    assert np.diff(later) == pytest.approx([DETECTION_INTERVAL] * (len(later) - 1), abs=1 / 30)


@pytest.mark.parametrize(("prefer", "kept"), [("largest", 70), ("centre", 160)])
def test_a_full_tracker_turns_to_the_face_that_is_preferred(tracker, prefer, kept):
    """A small face in the middle, and then a large one aside."""
    tracker.max_faces, tracker.prefer = 1, prefer
    alone, both = scene((160, 120, 40))[0], scene((160, 120, 40), (70, 120, 90))[0]
    for number in range(round(30 * (DETECTION_INTERVAL + 0.2))):
        (face,) = tracker(alone if number < 3 else both, number / 30)
    assert (face.box[0] + face.box[2]) / 2 == pytest.approx(kept, abs=10)
    tracker.prefer = "largest"


def test_without_a_limit_of_time_it_searches_only_when_a_face_is_missing(tracker):
    tracker.detection_interval = math.inf
    assert len(searches(tracker, scene(FACE)[0], np.arange(0, 3, 1 / 30))) == 1
    assert len(searches(tracker, empty(), np.arange(3, 3.5, 1 / 30))) >= 4


def test_a_new_video_is_searched_at_once(tracker):
    image = scene(FACE)[0]
    tracker(image, 5.0)
    tracker(image, 4.9)
    assert tracker.detector.calls == 2
    tracker(scene(FACE, size=(400, 300))[0], 4.91)
    assert tracker.detector.calls == 3


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_frame_takes_one_run_of_the_model_for_all_faces(tracker, count):
    tracker.max_faces = count
    images, _ = clip_frames(20, count, size=(640, 480), sway=Sway())
    runs = tracker.predictor.model.runs
    for number, image in enumerate(images):
        assert len(tracker(image, number / 30)) == count
        if number:
            assert runs == [count]
        runs.clear()


def test_a_frame_with_nobody_takes_no_run_of_the_model(tracker):
    tracker(empty(), 0.0)
    tracker(empty(), 0.01)
    assert tracker.predictor.model.runs == []


def test_a_search_looks_at_new_faces_only(tracker):
    frames = math.ceil(2 * DETECTION_INTERVAL * 30) + 1
    for number in range(frames):
        tracker(scene(FACE)[0], number / 30)
    assert tracker.detector.calls == 3
    assert sum(tracker.predictor.model.runs) == frames + 1, "once more when it was found, and in no later search"


def test_the_stages_of_a_frame_are_timed(tracker):
    image = scene(FACE)[0]
    tracker(image, 0.0)
    assert set(tracker.stage_seconds) <= set(STAGES)
    assert {"detect", "crop", "keypoints", "track", "smooth"} <= set(tracker.stage_seconds)
    tracker(image, 0.01)
    assert "detect" not in tracker.stage_seconds, "nothing of the frame before"
    assert {"crop", "keypoints", "track", "smooth"} <= set(tracker.stage_seconds)
    assert all(seconds >= 0 for seconds in tracker.stage_seconds.values())


def drifting(tracker, side):
    """Make the keypoint model of a tracker see a face of its own in boxes that are too small, unsure of it."""
    predict, state_type = tracker._predict, type(tracker._state)

    def drift(image, boxes, rolls):
        found = predict(image, boxes, rolls)
        for row in np.flatnonzero(box_size(boxes) < 0.8 * side):
            zoom = box_size(boxes[row]) / box_size(found.boxes[row])
            found.points[row] = boxes[row, :2] + zoom * (found.points[row] - found.boxes[row, :2])
            found.boxes[row], found.scores[row] = box_of_points(found.points[row]), 0.9
            found.errors[row] = 0.06 * box_size(boxes[row])
        return found

    tracker._predict = drift
    points = tracker._state.points + 0.3 * (tracker._state.points.mean(axis=1, keepdims=True) - tracker._state.points)
    tracker._state = state_type(points, tracker._state.speeds, tracker._state.velocity)


@pytest.mark.parametrize("max_faces", [1, 5])
def test_a_face_that_the_model_doubts_is_searched_again_and_put_right(max_faces):
    tracker = counting_tracker(max_faces=max_faces, smooth=False)
    image, truth = scene((320, 240, 120), size=(640, 480))
    for number in range(2):
        tracker(image, number / 30)
    drifting(tracker, 120)
    searched = tracker.detector.calls
    faces = tracker(image, 2 / 30)
    assert tracker.detector.calls == searched + 1
    assert errors_by_face(faces, truth, 120).max() < 0.03
    assert [face.id for face in faces] == [1]
