import numpy as np
import pytest

from kpedge.core.errors import DataError, UsageError
from kpedge.core.keypoints import (
    BUILT_IN,
    FACES5,
    FACES21,
    conversion,
    convert_points,
    scheme_named,
)
from kpedge.core.scheme import KeypointScheme, mirror_pairs, read_scheme, scheme_of_names

SCHEMES = {name: scheme_named(name) for name in BUILT_IN}


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=str)
def test_mirror_order_undoes_itself(scheme):
    order = scheme.mirror_order
    assert (order[order] == np.arange(len(scheme))).all()
    for left, right in scheme.mirror:
        assert scheme.points[left].replace("left", "right") == scheme.points[right]


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=str)
def test_scheme_survives_json(scheme):
    assert KeypointScheme.from_dict(scheme.to_dict()) == scheme


def test_faces21_is_what_the_labels_have():
    assert len(FACES21) == 21
    assert FACES21.points[18] == "nose_tip"
    unpaired = set(range(21)) - {i for pair in FACES21.mirror for i in pair}
    assert unpaired == {11, 13, 14, 15, 18}


@pytest.mark.parametrize("degrees", [-170, -30, 0, 10, 90, 179])
def test_roll_is_the_angle_a_face_was_turned_by(degrees):
    upright = np.random.default_rng(0).normal(size=(21, 2))
    for left, right in FACES21.mirror:
        upright[right] = upright[left] * (-1, 1)
        upright[left, 0], upright[right, 0] = -abs(upright[left, 0]), abs(upright[left, 0])
    angle = np.deg2rad(degrees)
    turned = upright @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    assert np.rad2deg(FACES21.roll(turned)) == pytest.approx(degrees)
    assert FACES21.roll(np.stack([turned, upright])).shape == (2,)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mirror": [[0, 5], [0, 4]]}, "two mirror pairs"),
        ({"skeleton": [[0, 21]]}, "outside 0..20"),
        ({"points": ["a"] * 21}, "unique"),
        ({"parts": {"all": [0, 1]}}, "exactly one part"),
        ({"pupils": [16]}, "not a keypoint scheme"),
    ],
)
def test_a_scheme_that_contradicts_itself_is_refused(change, words):
    with pytest.raises(DataError, match=words):
        KeypointScheme.from_dict({**FACES21.to_dict(), **change})


def test_unknown_scheme_names_the_known_ones():
    with pytest.raises(UsageError) as caught:
        scheme_named("faces22")
    assert "faces21" in caught.value.advice


def test_what_cards_and_sets_say_of_the_first_schemes_stays():
    """Hashes of prepared sets and the cards of released models hold these."""
    faces21, faces5 = FACES21.to_dict(), FACES5.to_dict()
    assert set(faces21) == set(faces5) == {"name", "points", "mirror", "skeleton", "parts", "pupils"}
    assert faces21["mirror"] == [[0, 5], [1, 4], [2, 3], [6, 9], [7, 8], [10, 12], [16, 17], [19, 20]]
    assert faces21["skeleton"][:3] == [[0, 1], [1, 2], [3, 4]]
    assert faces21["parts"] == {
        "brows": [0, 1, 2, 3, 4, 5],
        "eyes": [6, 7, 8, 9, 16, 17],
        "nose": [10, 11, 12, 18],
        "mouth": [13, 14, 15, 19, 20],
    }
    assert (faces21["pupils"], faces5["pupils"]) == ([16, 17], [0, 1])
    assert faces5["parts"] == {"eyes": [0, 1], "nose": [2], "mouth": [3, 4]}
    assert (faces5["mirror"], faces5["skeleton"]) == ([[0, 1], [3, 4]], [[3, 4]])


@pytest.mark.parametrize(
    ("name", "points", "whole"),
    [("faces5", 5, False), ("kaggle15", 15, False), ("faces21", 21, True), ("ibug68", 68, True), ("wflw98", 98, True)],
)
def test_schemes_tell_each_others_points(name, points, whole):
    scheme = scheme_named(name)
    assert len(scheme) == points
    assert scheme.pupils is not None
    assert scheme.can_mirror
    assert conversion(scheme, FACES5).is_whole
    assert conversion(scheme, FACES21).is_whole == whole
    assert conversion(scheme, scheme).known.tolist() == list(range(points))
    for other in SCHEMES.values():  # mirrored and converted is converted and mirrored
        face = np.random.default_rng(0).normal(size=(3, points, 2))
        one = convert_points(face[:, scheme.mirror_order], scheme, other)
        assert np.allclose(one, convert_points(face, scheme, other)[:, other.mirror_order], equal_nan=True)


def test_the_68_points_become_the_21():
    """By the table of the course's own description of its points."""
    ibug, face = scheme_named("ibug68"), np.random.default_rng(0).normal(size=(68, 2))
    places = [17, 19, 21, 22, 24, 26, 36, 39, 42, 45, 31, 33, 35, 51, (62, 66), 57, range(36, 42), range(42, 48)]
    places += [30, 48, 54]
    wanted = [face[list(place)].mean(axis=0) if not isinstance(place, int) else face[place] for place in places]
    assert np.allclose(convert_points(face, ibug, FACES21), wanted)
    face[37] = np.nan
    found = convert_points(face, ibug, FACES21)
    assert np.isnan(found).all(axis=1).nonzero()[0].tolist() == [16], "a mean of what is not all labelled is not known"
    assert ibug.pupil_centres(face)[1] == pytest.approx(face[42:48].mean(axis=0))
    assert np.isnan(ibug.pupil_centres(face)[0]).all()


def test_points_become_points_of_another_dtype_and_shape():
    points = np.random.default_rng(0).normal(size=(2, 3, 21, 2)).astype(np.float32)
    five = convert_points(points, FACES21, FACES5)
    assert five.shape == (2, 3, 5, 2)
    assert five.dtype == np.float64
    assert convert_points(np.empty((0, 21, 2)), FACES21, FACES5).shape == (0, 5, 2)


# A user's own scheme


OWN = """
name = "owl"
points = ["L_tuft", "R_tuft", "left eye", "right eye", "beak", "beakTipLeft", "beakTipRight"]
skeleton = [["left eye", "beak", "right eye"]]
[parts]
tufts = ["L_tuft", "R_tuft"]
[derived]
left_pupil = ["left eye"]
right_pupil = ["right eye"]
nose_tip = ["beak", "beakTipLeft", "beakTipRight"]
"""


def test_a_scheme_is_read_from_toml(tmp_path):
    path = tmp_path / "owl.toml"
    path.write_text("\ufeff" + OWN, encoding="utf-8")
    owl = scheme_named(str(path))
    assert owl == read_scheme(path)
    assert owl.name == "owl"
    assert owl.mirror == ((0, 1), (2, 3), (5, 6)), "names tell what is not given"
    assert owl.skeleton == ((2, 4), (4, 3))
    assert owl.parts == {"tufts": (0, 1), "eyes": (2, 3), "face": (4, 5, 6)}
    assert owl.pupils == ((2,), (3,))
    assert KeypointScheme.from_dict(owl.to_dict()) == owl
    found = convert_points(np.arange(14.0).reshape(7, 2), owl, FACES5)
    assert np.allclose(found, [(4, 5), (6, 7), (10, 11), (np.nan, np.nan), (np.nan, np.nan)], equal_nan=True)
    path.write_text('points = ["a", "b"]\nmirror = []\n')
    plain = scheme_named(str(path))
    assert (plain.name, plain.mirror, plain.skeleton, plain.pupils, plain.can_mirror) == ("owl", (), (), None, False)
    assert plain.parts == {"face": (0, 1)}
    path.write_text('points = ["a"]\n')
    assert scheme_named(str(path)).can_mirror, "one point has no other to be taken for"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("points = [", "not a TOML file"),
        ("", "'points' must be a list"),
        ("points = []", "'points' must be a list"),
        ('points = ["a", 3]', "'points' must be a list"),
        ('points = ["a", "a"]', "unique"),
        ('name = 3\npoints = ["a"]', "'name' a word"),
        ('points = ["a"]\ncolour = 3', "'colour' is no field"),
        ('points = ["a", "b"]\nmirror = [["a", "c"]]', "'mirror' names 'c'"),
        ('points = ["a", "b"]\nmirror = [["a"]]', "pairs of names"),
        ('points = ["a", "b", "c"]\nmirror = [["a", "b"], ["a", "c"]]', "two mirror pairs"),
        ('points = ["a", "b"]\nmirror = "ab"', "'mirror' must be a list"),
        ('points = ["a", "b"]\nskeleton = [[0, 1]]', "'skeleton' must hold lists of names"),
        ('points = ["a"]\nparts = ["a"]', "'parts' must be a table"),
        ('points = ["a"]\n[parts]\none = ["a"]\ntwo = ["a"]', "exactly one part"),
        ('points = ["a"]\n[derived]\nb = []', "'derived' must hold lists"),
        ('points = ["a"]\n[derived]\na = ["a"]', "its own already"),
    ],
)
def test_a_broken_file_says_what_is_wrong_and_where(tmp_path, text, words):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        scheme_named(str(path))
    assert str(path) in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_told(tmp_path):
    with pytest.raises(DataError, match=r"mine\.toml"):
        scheme_named(str(tmp_path / "mine.toml"))
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"mine\.toml: not a (text|TOML) file"):
        scheme_named(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize(
    ("points", "pairs"),
    [
        (["left_eye", "right_eye", "nose"], [(0, 1)]),
        (["right_eye", "left_eye"], [(1, 0)]),
        (["Left Eye", "Right Eye", "LEFT", "RIGHT"], [(0, 1), (2, 3)]),
        (["l_ear", "r_ear", "ear_l_top", "ear_r_top", "eye-L", "eye-R"], [(0, 1), (2, 3), (4, 5)]),
        (["eyeLeft", "eyeRight", "lip", "rim"], [(0, 1)]),
        (
            ["left_eye_left_corner", "left_eye_right_corner", "right_eye_left_corner", "right_eye_right_corner"],
            [(0, 3), (1, 2)],
        ),
        (["left_only", "cleft", "lr", "rl"], []),
    ],
)
def test_names_tell_which_points_swap(points, pairs):
    assert mirror_pairs(points) == pairs


PARTS = {
    "brows": "left_eyebrow_3, left_eyebrow_inner_end, leftEyeBrowRight, lefteyebrow",
    "eyes": "left_iris, eyelid, leftEye, LEye, eye_left, lefteye2",
    "nose": "Nose Tip, nosetip, noseLeftAlarTop",
    "mouth": "upper_lip, mouth-left, underLipBottom, upperlip, LIPS 12",
    "jaw": "chin, midJawlineLeft, contour_left1",
    "ears": "left_ear, LEFT_EAR, leftear, REar, EarL, earlobe",
    "face": "point_7, tear_duct, leftTear, rear_left, beard, clip, ellipse_3, machine",
}


@pytest.mark.parametrize("part", PARTS)
def test_names_tell_the_part(part):
    for point in PARTS[part].split(", "):
        assert scheme_of_names("one", [point]).parts == {part: (0,)}, point
