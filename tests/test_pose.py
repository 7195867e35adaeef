import math

import cv2
import numpy as np
import pytest
from conftest import PHOTOS, SAMPLE
from hypothesis import given, settings
from hypothesis import strategies as st

from kpedge.core.errors import UsageError
from kpedge.core.images import read_image
from kpedge.core.keypoints import BUILT_IN, FACES5, FACES21, convert_points, scheme_named
from kpedge.core.scheme import KeypointScheme, scheme_of_names
from kpedge.data.formats import read_format
from kpedge.data.formats.label import parse_row
from kpedge.runtime.pose import HEAD, head_poses

SIZE = (640, 480)
FOCAL = 320 / math.tan(math.radians(30))
MODEL = np.array([HEAD.get(name, (0.0, 0.6, -0.1)) for name in FACES21.points])
quickly = settings(deadline=None, max_examples=60)


USED = np.array([name in HEAD for name in FACES21.points])


def turned(yaw: float, pitch: float, roll: float, of: np.ndarray = MODEL) -> np.ndarray:
    """The head's points (K, 3), turned: first about the axis through the ears, then the neck's, then the camera's."""
    y, p, r = np.radians([yaw, pitch, roll])
    up = np.array([[1, 0, 0], [0, math.cos(p), math.sin(p)], [0, -math.sin(p), math.cos(p)]])
    aside = np.array([[math.cos(y), 0, -math.sin(y)], [0, 1, 0], [math.sin(y), 0, math.cos(y)]])
    over = np.array([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    return of @ (over @ aside @ up).T


def seen(points: np.ndarray, at: tuple[float, float, float] = (0, 0, 10), focal: float = FOCAL) -> np.ndarray:
    """Points (21, 3) of a head at x, y, z from the camera in the picture, (21, 2)."""
    there = points + at
    return there[:, :2] / there[:, 2:] * focal + (np.array(SIZE) - 1) / 2


def straight(points: np.ndarray) -> np.ndarray:
    """The shortest turn, (3, 3), of what lies in the direction of the middle of points (21, 2) to before the camera."""
    middle = (points[USED].mean(axis=0) - (np.array(SIZE) - 1) / 2) / FOCAL
    axis = np.array([middle[1], -middle[0], 0])
    length = np.linalg.norm(axis)
    return cv2.Rodrigues(axis / max(length, 1e-12) * math.atan(length))[0]


def from_head(head: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll of points (21, 3) of a turned head, by the formulas of docs/coordinates.md."""
    matrix = np.linalg.lstsq(MODEL, head, rcond=None)[0].T
    yaw, pitch = math.asin(matrix[2, 0]), math.atan2(-matrix[2, 1], matrix[2, 2])
    return np.degrees([yaw, pitch, math.atan2(matrix[1, 0], matrix[0, 0])])


def around(difference: np.ndarray) -> np.ndarray:
    """Differences of angles, -180 to 180."""
    return (difference + 180) % 360 - 180


def angles(points: np.ndarray, scheme: KeypointScheme = FACES21, size=SIZE, **options) -> np.ndarray:
    (pose,) = head_poses(points[None], scheme, size, **options)
    return np.array([pose.yaw, pose.pitch, pose.roll])


def test_the_head_is_symmetric_and_measured_in_distances_between_the_pupils():
    assert set(HEAD) < set(FACES21.points)
    order = FACES21.mirror_order
    known = np.array([name in HEAD for name in FACES21.points])
    assert np.allclose(MODEL[order][known] * (-1, 1, 1), MODEL[known])
    assert np.allclose(np.array(HEAD["right_pupil"]) - HEAD["left_pupil"], (1, 0, 0))


@quickly
@given(*(st.floats(-70, 70), st.floats(-45, 45), st.floats(-180, 180)), st.floats(-2, 2), st.floats(6, 60))
def test_known_turns_are_found_again(yaw, pitch, roll, x, distance):
    head = turned(yaw, pitch, roll)
    points = seen(head, (x, -x / 2, distance))
    wanted = from_head(head @ straight(points).T)
    assert np.allclose(around(angles(points) - wanted), 0, atol=0.4)


def test_signs():
    """Looking to the picture's right, the nose lies right of the pupils' middle; looking up, it comes nearer to them;
    and with a roll the picture's right eye hangs lower."""
    left, right, nose = (FACES21.points.index(name) for name in ("left_pupil", "right_pupil", "nose_tip"))
    for yaw, pitch, roll in ((25, 0, 0), (0, 20, 0), (0, 0, 15)):
        points, straight = seen(turned(yaw, pitch, roll)), seen(turned(0, 0, 0))
        beside = (points[nose] - (points[left] + points[right]) / 2)[0]
        below = (points[nose] - (points[left] + points[right]) / 2)[1]
        level = (straight[nose] - (straight[left] + straight[right]) / 2)[1]
        found = angles(points)
        if yaw:
            assert beside > 5
            assert found[0] > 20
        if pitch:
            assert below < level - 3
            assert found[1] > 12
        if roll:
            assert points[right][1] > points[left][1] + 5
            assert found[2] > 10
            assert found[2] == pytest.approx(math.degrees(FACES21.roll(points)), abs=0.2)


@quickly
@given(st.floats(-4, 4), st.floats(-3, 3), st.floats(8, 20))
def test_a_head_that_looks_into_the_camera_has_no_yaw_and_pitch_wherever_it_is(x, y, distance):
    ray = np.array([x, y, distance]) / math.sqrt(x * x + y * y + distance * distance)
    axis = np.cross((0, 0, 1), ray)
    length = np.linalg.norm(axis)
    turn = cv2.Rodrigues(axis / max(length, 1e-12) * math.asin(length))[0]
    here = angles(seen(MODEL, (0, 0, np.linalg.norm([x, y, distance]))))
    assert np.abs(here).max() < 0.7  # the middle of the points in the picture is not quite that of the head
    assert np.allclose(angles(seen(MODEL @ turn.T, (x, y, distance))), here, atol=0.15)


@quickly
@given(st.floats(-60, 60), st.floats(-40, 40), st.floats(-90, 90), st.integers(0, 99))
def test_a_mirrored_picture_has_the_opposite_yaw_and_roll(yaw, pitch, roll, seed):
    rng = np.random.default_rng(seed)
    points = seen(turned(yaw, pitch, roll), (1, -0.5, 9)) + rng.normal(0, 0.5, (21, 2))
    mirrored = (points * (-1, 1) + (SIZE[0] - 1, 0))[FACES21.mirror_order]
    assert np.allclose(angles(mirrored), angles(points) * (-1, 1, -1), atol=1e-6)


@quickly
@given(st.floats(-40, 40), st.floats(-30, 30), st.floats(-170, 170), st.integers(0, 99))
def test_a_turned_picture_turns_the_roll_and_nothing_else(yaw, pitch, roll, seed):
    rng = np.random.default_rng(seed)
    points = seen(turned(yaw, pitch, 0), (1, -0.5, 9)) + rng.normal(0, 0.5, (21, 2))
    r, middle = math.radians(roll), (np.array(SIZE) - 1) / 2
    way = np.array([[math.cos(r), -math.sin(r)], [math.sin(r), math.cos(r)]])
    off = angles((points - middle) @ way.T + middle) - angles(points) - (0, 0, roll)
    assert np.allclose(around(off), 0, atol=1e-6)


def test_noise_does_not_flip_a_head():
    """Nearly flat things have two poses that look alike: noise of 2 % of the pupils' distance takes not the other."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(300):
        truth = rng.uniform((-65, -40, -180), (65, 40, 180))
        distance = rng.uniform(8, 30)
        points = seen(turned(*truth), (0, 0, distance)) + 0.02 * FOCAL / distance * rng.normal(0, 1, (21, 2))
        wanted = from_head(turned(*truth) @ straight(points).T)
        worst = max(worst, np.abs(around(angles(points) - wanted)).max())
    assert worst < 12


def test_a_smile_and_raised_brows_are_no_nod():
    """What a plain solver takes for ten degrees and more (docs/coordinates.md)."""
    point = FACES21.points.index
    for pitch in (-20, -10, 0, 10, 20):
        head = turned(0, pitch, 0)
        smile, raised = head.copy(), head.copy()
        smile[[point("mouth_left_corner"), point("mouth_right_corner")]] += [(-0.08, -0.12, 0), (0.08, -0.12, 0)]
        smile[point("upper_lip_top")] -= (0, 0.05, 0)
        raised[:6, 1] -= 0.1
        before = angles(seen(head))[1]
        assert abs(angles(seen(smile))[1] - before) < 3
        assert abs(angles(seen(raised))[1] - before) < 1.5


def test_many_faces_are_as_each_alone():
    points = np.array([seen(turned(10 * number, -5 * number, number)) for number in range(-4, 5)])
    together = [(one.yaw, one.pitch, one.roll) for one in head_poses(points, FACES21, SIZE)]
    assert np.allclose(together, [angles(one) for one in points], atol=1e-6)
    assert head_poses(np.empty((0, 21, 2)), FACES21, SIZE) == []


def test_missing_points_are_left_out():
    far = (0, 0, 200)  # without perspective it does not matter which points the camera looks at
    points, whole = seen(turned(20, 10, 5), far, focal=2e4), seen(turned(-30, 5, 0), far, focal=2e4)
    points[[0, 7, 12, 20]] = np.nan
    points[14, 0] = np.nan  # a point that is not used
    first, second = head_poses(np.array([points, whole]), FACES21, SIZE, focal=2e4)
    assert np.allclose((first.yaw, first.pitch, first.roll), (20, 10, 5), atol=0.1)
    assert np.allclose((second.yaw, second.pitch, second.roll), (-30, 5, 0), atol=0.1)


def test_points_that_do_not_tell_a_pose_give_none():
    whole = seen(turned(20, 10, 5))
    few, noseless, nowhere = whole.copy(), whole.copy(), np.full((21, 2), np.nan)
    few[4:] = np.nan
    noseless[[index for index, name in enumerate(FACES21.points) if "nose" in name or "brow" in name]] = np.nan
    noseless[[13, 14, 15]] = np.nan
    one_place, line = np.full((21, 2), 100.0), whole.copy()
    line[:, 1] = line[:, 0] * 0.3
    infinite = whole.copy()
    infinite[:, 0] = np.inf
    poses = head_poses(np.array([few, noseless, nowhere, one_place, line, infinite, whole]), FACES21, SIZE)
    assert [pose is None for pose in poses] == [True] * 6 + [False]
    for flat in (one_place, line):
        assert head_poses(flat[None], FACES21, SIZE) == [None]


def test_a_scheme_needs_enough_points_of_the_head():
    points = seen(turned(15, -10, 5), (0, 0, 200), focal=2e4)
    five = angles(convert_points(points, FACES21, FACES5), FACES5, focal=2e4)
    assert np.allclose(five, (15, -10, 5), atol=0.1)
    eyes = KeypointScheme("eyes", ("left_pupil", "right_pupil"), ((0, 1),), (), {"eyes": (0, 1)}, ((0,), (1,)))
    other = KeypointScheme("other", tuple("abcdef"), (), (), {"all": tuple(range(6))}, None)
    assert head_poses(np.zeros((3, 2, 2)), eyes, SIZE) == [None] * 3
    assert head_poses(np.zeros((1, 6, 2)), other, SIZE) == [None]


def head_of(scheme: KeypointScheme, seed: int = 0) -> np.ndarray:
    """The head's points (K, 3) in a scheme: by name, eyelids around the pupils; what is no part of it is anywhere."""
    anywhere = np.random.default_rng(seed).uniform(-1, 1, (len(scheme), 3))
    points = np.array([HEAD.get(name, at) for name, at in zip(scheme.points, anywhere, strict=True)])
    for pupil, group in scheme.derived.items():
        lids = [index for index in group if scheme.points[index] not in HEAD]
        if pupil in HEAD and lids:
            corners = points[[index for index in group if index not in lids]]
            middle = (len(group) * np.array(HEAD[pupil]) - corners.sum(axis=0)) / len(lids)
            around = points[lids] - points[lids].mean(axis=0)
            points[lids] = middle + 0.1 * around
    return points


OWN = scheme_of_names(
    "own",
    ["beak", "beak_top", "left_lens", "right_lens", "whisker", *(f"{side}_lip_{end}" for side in "lr" for end in "ab")],
    derived={
        "nose_tip": (0, 1),
        "left_pupil": (2,),
        "right_pupil": (3,),
        "mouth_left_corner": (5, 6),
        "mouth_right_corner": (7, 8),
    },
)
"""A scheme of which no point, but some means, are the head's."""


@pytest.mark.parametrize("scheme", [*map(scheme_named, BUILT_IN), OWN], ids=lambda scheme: scheme.name)
def test_points_of_any_scheme_tell_the_pose(scheme):
    far = (0, 0, 200)  # without perspective it does not matter which points the camera looks at
    truth = [(20, 10, 5), (-30, -5, 0), (0, 25, -40), (45, 0, 120)]
    points = np.array([seen(turned(*angles, of=head_of(scheme)), far, focal=2e4) for angles in truth])
    poses = head_poses(points, scheme, SIZE, focal=2e4)
    assert np.allclose([(pose.yaw, pose.pitch, pose.roll) for pose in poses], truth, atol=0.1)
    # A point that no head has, or that is not labelled, spoils nothing.
    groups = {name: (index,) for index, name in enumerate(scheme.points)} | scheme.derived
    used = {index for name, group in groups.items() if name in HEAD for index in group}
    unused = sorted(set(range(len(scheme))) - used)
    points[1, unused] = np.nan
    if len(scheme) > 9:
        points[2, [scheme.points.index("left_eye_outer"), scheme.points.index("upper_lip_top")]] = np.nan
    poses = head_poses(points, scheme, SIZE, focal=2e4)
    assert np.allclose([(pose.yaw, pose.pitch, pose.roll) for pose in poses], truth, atol=0.1)


def test_the_focal_length_counts():
    near = seen(turned(30, 10, 0), (0, 0, 6), focal=300.0)
    assert np.allclose(angles(near, focal=300.0), angles(seen(turned(30, 10, 0), (0, 0, 6))), atol=0.2)
    assert abs(angles(near, focal=3000.0)[0] - angles(near, focal=300.0)[0]) > 1


def test_wrong_use_is_told():
    with pytest.raises(UsageError, match="21"):
        head_poses(np.zeros((21, 2)), FACES21, SIZE)
    with pytest.raises(UsageError, match="focal length"):
        head_poses(np.zeros((1, 21, 2)), FACES21, SIZE, focal=-3.0)
    with pytest.raises(UsageError, match="width"):
        head_poses(np.zeros((1, 21, 2)), FACES21, (0, 480))


def test_the_sample_photo_looks_nearly_straight_into_the_camera():
    name, _, points = parse_row((SAMPLE / "label.txt").read_text(), FACES21)
    height, width = read_image(SAMPLE / name).shape[:2]
    yaw, pitch, roll = angles(points, size=(width, height))
    assert abs(yaw) < 5
    assert abs(pitch) < 8
    assert roll == pytest.approx(math.degrees(FACES21.roll(points)), abs=3)


@pytest.mark.photos
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photos are not at hand")
def test_labelled_faces_look_into_the_camera_on_average():
    labels = read_format(PHOTOS, FACES21)
    large = [row for row in labels.rows if row.box[2] - row.box[0] >= 40]
    poses = [head_poses(row.keypoints[None], FACES21, SIZE, focal=2000.0)[0] for row in large]
    assert all(pose is not None for pose in poses)
    found = np.array([(pose.yaw, pose.pitch, pose.roll) for pose in poses])
    assert np.abs(np.median(found, axis=0)).max() < 3
    off = found[:, 2] - np.degrees([FACES21.roll(row.keypoints) for row in large])
    assert np.median(np.abs((off + 180) % 360 - 180)) < 1.5


@pytest.mark.parametrize("seed", range(12))
def test_it_agrees_with_opencv_about_a_head_that_is_the_generic_one(seed):
    rng = np.random.default_rng(seed)
    truth = rng.uniform((-50, -30, -40), (50, 30, 40))
    points = seen(turned(*truth), (1, 0.5, 12)) + rng.normal(0, 0.1, (21, 2))
    camera = np.array([[FOCAL, 0, 319.5], [0, FOCAL, 239.5], [0, 0, 1]])
    done, turn, _ = cv2.solvePnP(MODEL[USED], points[USED], camera, None, flags=cv2.SOLVEPNP_SQPNP)
    assert done
    wanted = from_head(MODEL @ cv2.Rodrigues(turn)[0].T @ straight(points).T)
    assert np.allclose(angles(points), wanted, atol=2.0)
