"""Faces drawn over a frame."""

from dataclasses import replace

import numpy as np
import pytest

from kpedge.core.drawing import GREY, draw_faces, draw_label, label_of, part_colours, pens
from kpedge.core.faces import Face, ImageFaces, Pose
from kpedge.core.keypoints import FACES21, FACES21_MEAN, scheme_named
from kpedge.core.text import shorten
from kpedge.runtime.overlay import Layers, draw_overlay, mirrored, pose_axes

NONE = Layers(boxes=False, points=False, ids=False)
SIZES = [(240, 320), (960, 1280)]


def face_at(x, y, side, **more):
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2], dtype=np.float64)
    return Face(box=box, keypoints=FACES21_MEAN * side + (x, y), **more)


def backgrounds(height, width):
    busy = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    yield "dark", np.full((height, width, 3), 8, np.uint8)
    yield "bright", np.full((height, width, 3), 250, np.uint8)
    yield "busy", np.repeat(np.repeat(busy, 8, axis=0), 8, axis=1)


def near(image, point, reach):
    """The pixels around a point."""
    x, y = (round(float(value)) for value in point)
    return image[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].reshape(-1, 3).astype(int)


def test_the_frame_is_left_alone_and_nothing_is_drawn_without_faces():
    image = np.random.default_rng(1).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    kept = image.copy()
    drawn = draw_overlay(image, [], FACES21, Layers())
    assert (drawn == kept).all()
    assert not np.shares_memory(drawn, image)
    assert (draw_overlay(image, [face_at(80, 60, 60, id=1, score=0.9)], FACES21, NONE) == kept).all()
    draw_overlay(image, [face_at(80, 60, 60, id=1, score=0.9)], FACES21, Layers(pose=True))
    assert (image == kept).all()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_point_has_the_colour_of_its_part_on_any_background(size):
    height, width = size
    colours = part_colours(FACES21)
    for name, image in backgrounds(height, width):
        for side in (0.2 * height, 0.8 * height):
            face = face_at(width / 2, height / 2, side)
            drawn = draw_overlay(image, [face], FACES21, replace(NONE, points=True))
            for index, point in enumerate(face.keypoints):
                away = np.abs(near(drawn, point, 1) - colours[FACES21.part_of(index)]).sum(axis=1).min()
                assert away < 120, (name, side, FACES21.points[index])
                rim = near(drawn, point, round(pens(image, side).dot) + 2).sum(axis=1).min()
                assert rim < 400, "a rim that is darker than the point and than a bright background"


def test_a_box_has_corners_and_an_open_outline():
    image = np.full((480, 640, 3), 128, np.uint8)
    face = face_at(300, 240, 200)
    changed = (draw_overlay(image, [face], FACES21, replace(NONE, boxes=True)) != image).any(axis=2)
    x1, y1, x2, y2 = face.box.astype(int)
    for x, y in ((x1 + 30, y1), (x2 - 30, y1), (x1, y2 - 30), (x2, y1 + 30)):
        assert changed[y, x]
    for x, y in ((300, y1), (300, y2), (x1, 240), (x2, 240), (300, 240)):
        assert not changed[y - 4 : y + 5, x - 4 : x + 5].any()
    assert not changed[: y1 - 6].any()
    assert not changed[:, x2 + 6 :].any()


def test_labels_say_id_and_score_or_nothing():
    face = face_at(50, 50, 40)
    nothing = replace(face, keypoints=np.zeros((0, 2)))
    assert label_of(face) == ""
    assert label_of(replace(face, id=3)) == "#3"
    assert label_of(replace(face, score=0.987)) == "0.99"
    assert label_of(replace(face, id=3, score=0.5)) == "#3  0.50"
    assert label_of(replace(nothing, score=0.021)) == "no face  0.02"
    image = np.full((120, 160, 3), 90, np.uint8)
    assert (draw_overlay(image, [face], FACES21, replace(NONE, ids=True)) == image).all()
    assert (draw_overlay(image, [replace(face, id=1)], FACES21, replace(NONE, ids=True)) != image).any()


@pytest.mark.parametrize("size", [(24, 32), (96, 96), *SIZES], ids=str)
@pytest.mark.parametrize("place", [(0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5), (-0.2, 1.3)], ids=str)
def test_labels_never_leave_the_frame(size, place):
    """The whole chip is seen: as many of its pixels as in the middle of a large picture."""
    height, width = size
    image = np.full((height, width, 3), 200, np.uint8)
    text, side = "#12  0.98", 0.3 * height
    box = face_at(place[0] * width, place[1] * height, side).box
    taken = []
    draw_label(image, text, box, pens(image, side).text, taken)
    x1, y1, x2, y2 = taken[0]
    assert x1 >= 0
    assert y1 >= 0
    assert x2 <= width
    assert y2 <= height
    changed = np.argwhere((image != 200).any(axis=2))
    # One pixel is what a chip that begins between two may reach further.
    assert (changed.min(axis=0) >= np.floor([y1, x1]) - 1).all()
    assert (changed.max(axis=0) <= np.ceil([y2, x2])).all()
    assert np.ptp(changed[:, 1]) >= x2 - x1 - 3
    assert np.ptp(changed[:, 0]) >= y2 - y1 - 3


def test_labels_avoid_each_other():
    image = np.full((480, 640, 3), 200, np.uint8)
    taken = []
    for _ in range(4):
        draw_label(image, "#1  0.98", face_at(320, 240, 150).box, 12.0, taken)
    for number, one in enumerate(taken):
        for other in taken[number + 1 :]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_a_rejected_box_is_grey_and_says_so():
    image = np.zeros((240, 320, 3), np.uint8)
    face = Face(box=np.array([100.0, 100, 180, 180]), keypoints=np.zeros((0, 2)), score=0.02)
    drawn = draw_overlay(image, [face], FACES21, replace(NONE, boxes=True, points=True, pose=True))
    assert 120 < drawn.max() <= max(GREY)
    assert (drawn == drawn[..., :1]).all(), "no colours"
    accepted = replace(face, keypoints=face_at(140, 140, 80).keypoints)
    assert draw_overlay(image, [accepted], FACES21, replace(NONE, boxes=True)).max() > max(GREY)


def test_faces_partly_or_wholly_outside_are_drawn_without_harm():
    image = np.full((120, 160, 3), 60, np.uint8)
    layers = Layers(pose=True)
    pose = Pose(10, 10, 10)
    for x, y, side in ((0, 0, 80), (160, 60, 80), (80, 120, 300), (-500, 60, 80), (80, 1e7, 80), (80, 60, 1e6)):
        drawn = draw_overlay(image, [face_at(x, y, side, pose=pose)], FACES21, layers)
        assert drawn.shape == image.shape
        if x in (0, 160):
            assert (drawn != image).any()


def test_a_face_far_to_the_right_of_a_panorama_is_drawn_where_it_is():
    image = np.zeros((120, 20_000, 3), np.uint8)
    drawn = draw_overlay(image, [face_at(19_900, 60, 80)], FACES21, Layers())
    columns = np.flatnonzero(drawn.any(axis=(0, 2)))
    assert columns.min() > 19_800


def test_points_that_are_not_known_are_left_out():
    image = np.full((240, 320, 3), 60, np.uint8)
    face = face_at(160, 120, 120, pose=Pose(0, 0, 0))
    unknown = replace(face, keypoints=np.full((21, 2), np.nan))
    assert (draw_overlay(image, [unknown], FACES21, Layers(boxes=False, pose=True)) == image).all()
    some = face.keypoints.copy()
    some[[*range(10), 16, 17]] = np.nan
    drawn = draw_overlay(image, [replace(face, keypoints=some)], FACES21, replace(NONE, points=True))
    assert (drawn[:100] == image[:100]).all()
    assert (drawn[130:] != image[130:]).any()


def test_a_mirror_shows_the_picture_mirrored_with_the_points_on_their_features():
    image = np.zeros((240, 320, 3), np.uint8)
    image[:, :100] = 200
    face = face_at(90, 130, 120)
    plain = draw_overlay(image, [face], FACES21, replace(NONE, points=True, boxes=True))
    mirror = draw_overlay(image, [face], FACES21, replace(NONE, points=True, boxes=True, mirror=True))
    assert np.abs(mirror[:, ::-1].astype(int) - plain).mean() < 1.0
    assert (draw_overlay(image, [], FACES21, replace(NONE, mirror=True)) == image[:, ::-1]).all()


def test_text_in_a_mirror_can_be_read():
    image = np.full((240, 320, 3), 90, np.uint8)
    layers = replace(NONE, ids=True)
    face = face_at(200, 130, 100, id=7, score=0.4)
    other = mirrored(face, 320)
    assert (
        draw_overlay(image, [face], FACES21, replace(layers, mirror=True))
        == draw_overlay(image, [other], FACES21, layers)
    ).all()


@pytest.mark.parametrize(
    ("pose", "axis", "expected"),
    [
        (Pose(0, 0, 0), 0, (1, 0, 0)),
        (Pose(0, 0, 0), 1, (0, -1, 0)),
        (Pose(0, 0, 0), 2, (0, 0, -1)),
        (Pose(90, 0, 0), 2, (1, 0, 0)),
        (Pose(0, 90, 0), 2, (0, -1, 0)),
        (Pose(0, 0, 90), 0, (0, 1, 0)),
        (Pose(90, 0, 90), 2, (0, 1, 0)),
    ],
)
def test_axes_follow_the_signs_of_the_pose(pose, axis, expected):
    assert np.allclose(pose_axes(pose)[axis], expected)
    assert np.allclose(pose_axes(pose) @ pose_axes(pose).T, np.eye(3))


@pytest.mark.parametrize("name", ["ibug68", "wflw98"])
@pytest.mark.parametrize("side", [60, 150, 400])
def test_many_points_leave_the_face_visible_and_themselves_apart(name, side):
    scheme = scheme_named(name)
    image = np.full((600, 600, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    points = 300 + side * rng.uniform(-0.5, 0.5, (len(scheme), 2))
    box = np.array([300 - side / 2, 300 - side / 2, 300 + side / 2, 300 + side / 2])
    plain = replace(scheme, skeleton=())
    drawn = draw_overlay(image, [Face(box=box, keypoints=points)], plain, replace(NONE, points=True))
    covered = (drawn != image).any(axis=2)[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])].mean()
    assert 0.01 < covered < (0.5 if side == 60 else 0.2)
    few, many = pens(image, side, 21), pens(image, side, len(scheme))
    assert 0.4 * few.dot < many.dot < few.dot
    assert few == pens(image, side)


def test_photos_are_drawn_as_videos_are_no_label_under_another_face_or_label():
    image = np.full((240, 320, 3), 90, np.uint8)
    faces = tuple(face_at(90 + 10 * n, 180 - 45 * n, 60, score=0.9, scheme=FACES21) for n in range(3))
    expected = draw_overlay(image, faces, FACES21, Layers())
    assert (ImageFaces("", faces, (320, 240), "faces21").draw(image) == expected).all()
    draw_faces(image, faces, FACES21)
    assert (image == expected).all()


def test_a_caption_that_is_too_long_keeps_its_error_and_the_end_of_the_name():
    assert shorten("17.7% images/helen_3160586857_1.jpg", 32) == "17.7% images/hel~160586857_1.jpg"
    assert shorten("5.0% images/afw_2086996835_2.jpg", 32) == "5.0% images/afw_2086996835_2.jpg"
