"""Features are measured on the head: the same face gives the same values wherever and however large it is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kpedge
from kpedge.cli.main import main
from kpedge.core.errors import UsageError
from kpedge.core.faces import Face, Features, Pose, rotation_matrix
from kpedge.core.keypoints import FACES5, FACES21, scheme_named
from kpedge.core.model_zoo import sample_photo
from kpedge.runtime.features import POINTS, PUPILS_MM, add_features, face_features, lacking_features

SIZE, FOCAL = (1280, 720), 1000.0
HEAD = np.array([POINTS[name] for name in FACES21.points])
SMILING = {"mouth_left_corner": (-0.08, -0.1, 0), "mouth_right_corner": (0.08, -0.1, 0)}
OPEN = {"lower_lip_bottom": (0, 0.3, 0), "mouth_centre": (0, 0.15, 0)}
BROWS = {f"left_brow_{part}": (0, -0.1, 0) for part in ("inner", "middle", "outer")}
PUPILS = {"left_pupil": (0.04, -0.04, 0), "right_pupil": (0.04, -0.04, 0)}


def moved(*changes: dict) -> np.ndarray:
    """The generic head with points moved, distances between the pupils."""
    head = HEAD.copy()
    for change in changes:
        for name, shift in change.items():
            head[FACES21.points.index(name)] += shift
    return head


def measure(head: np.ndarray, pose=(0.0, 0.0, 0.0), at=(0.0, 0.0, 9.0), scheme=FACES21, focal=FOCAL) -> Features:
    """Features of a head (K, 3) in that pose, at x, y and z, in distances between the pupils, before a camera."""
    there = head @ rotation_matrix(Pose(*pose)).T + np.array(at)
    points = there[:, :2] / there[:, 2:] * focal + (np.array(SIZE) - 1) / 2
    return face_features(points, scheme, Pose(*pose), SIZE, focal=focal)


EXPRESSION = moved(SMILING, OPEN, BROWS, PUPILS)


@settings(deadline=None, max_examples=60)
@given(st.floats(-50, 50), st.floats(-30, 30), st.floats(-180, 180), st.floats(6, 60))
def test_pose_and_distance_change_nothing(yaw, pitch, roll, distance):
    straight, found = measure(EXPRESSION), measure(EXPRESSION, (yaw, pitch, roll), (0, 0, distance))
    for name in ("mouth_open", "mouth_width", "smile", "brow_raise_left", "brow_raise_right"):
        assert getattr(found, name) == pytest.approx(getattr(straight, name), abs=0.25 if name == "smile" else 0.04)
    for name in ("gaze_yaw", "gaze_pitch"):
        assert getattr(found, name) == pytest.approx(getattr(straight, name), abs=4)


def test_an_image_of_another_size_changes_nothing_but_needs_its_focal_length():
    for zoom in (0.1, 3.0):
        points = 200 * HEAD[:, :2] + 600
        pose = Pose(0, 0, 0)
        first = face_features(points, FACES21, pose, SIZE, focal=FOCAL)
        size = (round(zoom * SIZE[0]), round(zoom * SIZE[1]))
        other = face_features(zoom * (points + 0.5) - 0.5, FACES21, pose, size, focal=zoom * FOCAL)
        for name, value in first.to_dict().items():
            assert other.to_dict()[name] == (value and pytest.approx(value, rel=1e-3, abs=2e-3))


@pytest.mark.parametrize(
    ("change", "name", "least"),
    [
        (SMILING, "smile", 0.5),
        (OPEN, "mouth_open", 0.25),
        (SMILING, "mouth_width", 0.1),
        (BROWS, "brow_raise_left", 0.08),
        (PUPILS, "gaze_yaw", 8.0),
        (PUPILS, "gaze_pitch", 8.0),
    ],
)
def test_an_expression_raises_its_feature(change, name, least):
    assert getattr(measure(moved(change)), name) > getattr(measure(HEAD), name) + least


def test_one_brow_is_raised_alone():
    rest, raised = measure(HEAD), measure(moved(BROWS))
    assert raised.brow_raise_right == pytest.approx(rest.brow_raise_right, abs=0.03)


@pytest.mark.parametrize("pose", [(0, 0, 0), (30, 0, 0), (-40, 15, 20)])
def test_the_position_is_that_of_the_eyes_in_mm(pose):
    at = (1.5, -1.0, 12.0)
    eyes = rotation_matrix(Pose(*pose)) @ (0, -0.29, 0.1) + at
    found = measure(EXPRESSION, pose, at)
    assert np.allclose((found.x_mm, found.y_mm, found.z_mm), PUPILS_MM * eyes, atol=0.03 * PUPILS_MM * 12)


def test_lids_give_the_openness_of_eyes_and_schemes_without_them_do_not():
    scheme = scheme_named("ibug68")
    head = np.array([POINTS.get(name, (0.0, 0.2, 0.0)) for name in scheme.points])
    for index, name in enumerate(scheme.points):
        if "_eye_" in name and ("upper" in name or "lower" in name):
            gap = 0.0 if name.startswith("left") else 0.065
            head[index, 1] += gap if "lower" in name else -gap
    found = measure(head, (20, 5, 10), scheme=scheme)
    assert found.eye_open_left == pytest.approx(0, abs=0.03)
    assert found.eye_open_right == pytest.approx(0.31, abs=0.05)
    assert found.gaze_yaw is None  # its pupils are the middles of the lids
    assert measure(HEAD).eye_open_left is None


def test_features_that_a_scheme_has_no_points_for_are_named(capsys):
    assert lacking_features(FACES21) == ["eye_open_left", "eye_open_right"]
    assert lacking_features(scheme_named("ibug68")) == ["gaze_yaw", "gaze_pitch"]
    assert lacking_features(scheme_named("wflw98")) == []
    assert main(["predict", str(sample_photo()), "--json", "--features"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "eye_open_left" in line]
    assert "--model stage3-68" in line


def test_few_points_give_what_they_can():
    head = np.array([POINTS[name] for name in FACES5.points])
    found = measure(head, scheme=FACES5)
    assert found.mouth_width is not None
    assert found.mouth_open is found.gaze_yaw is found.brow_raise_left is None


def test_what_cannot_be_measured_is_none():
    assert face_features(np.full((21, 2), np.nan), FACES21, Pose(0, 0, 0), SIZE) == Features()
    assert face_features(np.zeros((0, 2)), FACES21, Pose(0, 0, 0), SIZE) == Features()
    assert face_features(HEAD[:, :2], FACES21, None, SIZE) == Features()
    turned = measure(HEAD, (80, 0, 0))
    assert turned.smile is None
    assert turned.z_mm is not None
    with pytest.raises(UsageError, match="focal"):
        measure(HEAD, focal=-1.0)


def test_faces_get_features_and_the_pose_that_they_need():
    points = 200 * HEAD[:, :2] + 600
    face = Face(np.array([400.0, 400, 800, 800]), points, 0.9, scheme=FACES21)
    rejected = Face(face.box, np.zeros((0, 2)))
    found = add_features((face, rejected), FACES21, SIZE)
    assert found[0].pose is not None
    assert math.isfinite(found[0].features.z_mm)
    assert found[0].to_dict()["features"]["eye_open_left"] is None
    assert found[1].features == Features()


def test_a_loaded_model_adds_them():
    photo = sample_photo()
    assert kpedge.load()(photo)[0].features is None
    assert kpedge.load(features=True)(photo)[0].features.mouth_width == pytest.approx(0.8, abs=0.2)
