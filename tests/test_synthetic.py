"""Synthetic photos: the same every time, labels that fit the pictures, faces that are made like real ones."""

import functools
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import rendered

from kpedge.core.boxes import box_of_points
from kpedge.core.errors import OutputError, UsageError
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES21, FACES21_MEAN
from kpedge.data.formats.label import read_labels
from kpedge.runtime.pose import head_poses
from kpedge.synthetic import SYNTHETIC_FORM, render_photo, write_synthetic
from kpedge.synthetic.light import draw_light
from kpedge.synthetic.person import draw_person
from kpedge.synthetic.portrait import draw_portrait
from kpedge.synthetic.pose import View

SEED = 5
MANY = 100
"""Faces over which statistics are taken."""


@functools.cache
def faces():
    """The main face of each of many photos."""
    return [rendered(number).faces[-1] for number in range(MANY)]


def upright(points):
    """Points (N, 21, 2) turned upright, from the middle of their boxes, in sides of them."""
    boxes = np.array([box_of_points(face) for face in points])
    sides = boxes[:, 2] - boxes[:, 0]
    around = points - points.mean(axis=1, keepdims=True)
    turn = np.exp(-1j * FACES21.roll(points))[:, None]
    flat = (around @ (1, 1j)) * turn / sides[:, None]
    return np.stack([flat.real, flat.imag], axis=-1)


@pytest.mark.slow
def test_in_the_wild_heads_turn_by_any_angle_and_faces_are_covered_or_large():
    drawn = {number: render_photo(SEED, number, wild=True) for number in range(32, 46)}
    assert max(abs(face.pose.yaw) for one in drawn.values() for face in one.faces) > 80
    assert max(abs(face.pose.yaw) for face in faces()) < 80
    frames = [render_photo(SEED, number, frame=True, wild=True) for number in range(12, 20)]
    assert max((face.box[3] - face.box[1]) / one.image.shape[0] for one in frames for face in one.faces) > 0.6
    covered = [not np.array_equal(drawn[number].image, with_accessories_off(number)) for number in range(32, 38)]
    assert 0 < sum(covered) < 6


def with_accessories_off(number):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kpedge.synthetic.scene.draw_accessory", lambda image, *_: image)
        return render_photo(SEED, number, wild=True).image


def grey_at(image, point):
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (0, 0), 1.0)
    x, y = np.round(point).astype(int)
    inside = 0 <= x < grey.shape[1] and 0 <= y < grey.shape[0]
    return float(grey[y, x]) if inside else np.nan


def test_a_photo_follows_from_seed_and_number_alone():
    first = render_photo(3, 7)
    render_photo(3, 8)
    render_photo(4, 7)
    again = render_photo(3, 7)
    np.testing.assert_array_equal(first.image, again.image)
    for one, other in zip(first.faces, again.faces, strict=True):
        np.testing.assert_array_equal(one.points, other.points)


def test_what_a_photo_holds():
    sizes = []
    for number in range(40):
        shot = rendered(number)
        height, width = shot.image.shape[:2]
        assert shot.image.dtype == np.uint8
        assert shot.image.shape[2] == 3
        assert 1 <= len(shot.faces) <= 2
        for face in shot.faces:
            assert face.points.shape == (21, 2)
            assert np.isfinite(face.points).all()
            np.testing.assert_array_equal(face.box, box_of_points(face.points))
        box = shot.faces[-1].box
        middle = (box[:2] + box[2:]) / 2
        assert (middle > 0).all()
        assert (middle < (width, height)).all()
        sizes.append(box[2] - box[0])
    assert 12 < min(sizes) < 65 < max(sizes) < 170


@pytest.mark.slow
def test_points_are_made_like_those_of_real_faces():
    shapes = upright(np.array([face.points for face in faces()]))
    middle = shapes.mean(axis=0)
    real = FACES21_MEAN - FACES21_MEAN.mean(axis=0)
    assert np.abs(middle - real).max() < 0.03, "the mean face, in sides of the box"
    uneven = middle - middle[FACES21.mirror_order] * (-1, 1)
    assert np.all(np.abs(uneven) < 8 * shapes.std(axis=0) / np.sqrt(MANY)), "four standard errors of a middle point"
    spread = np.sqrt(((shapes - middle) ** 2).sum(axis=-1).mean(axis=0))
    assert spread.min() > 0.015
    assert spread.max() < 0.10


def test_pose_agrees_with_what_the_points_tell():
    known, told = [], []
    for face in faces():
        corner, side = face.box[:2], face.box[2] - face.box[0]
        # As a camera sees it that looks at the face: the pose is told for one, wherever the face is in the photo.
        points = face.points - corner + 1.5 * side
        pose = head_poses(points[None], FACES21, (round(4 * side), round(4 * side)))[0]
        known.append((face.pose.yaw, face.pose.pitch, face.pose.roll))
        told.append((pose.yaw, pose.pitch, pose.roll))
    known, told = np.array(known), np.array(told)
    off = np.median(np.abs(known - told), axis=0)
    assert (off < (3, 6, 2)).all(), "yaw, pitch, roll, degrees"
    turned = np.abs(known[:, 0]) > 15
    assert turned.sum() > 5
    assert (np.sign(told[turned, 0]) == np.sign(known[turned, 0])).all()


def test_pictures_show_what_the_labels_say():
    darker = {"pupil": [], "mouth": []}
    for number in range(MANY):
        image, points = rendered(number).image, faces()[number].points
        for pupil, outer, brow in ((16, 6, 0), (17, 9, 5)):
            cheek = points[outer] + 0.6 * (points[outer] - points[brow])
            darker["pupil"].append(grey_at(image, cheek) - grey_at(image, points[pupil]))
        chin = points[15] + 0.8 * (points[15] - points[13])
        darker["mouth"].append(grey_at(image, chin) - grey_at(image, points[14]))
    for place, found in darker.items():
        known = np.array(found)[np.isfinite(found)]
        assert np.mean(known > 0) > 0.7, f"{place}: mostly darker than the skin beside it"


def test_points_lie_on_the_face_and_in_order():
    for face in faces():
        pose = face.pose
        if abs(pose.yaw) > 25 or abs(pose.pitch) > 20:
            continue
        level = face.points @ (1, 1j) * np.exp(-1j * FACES21.roll(face.points))
        x, y = level.real, level.imag
        assert (np.diff(x[[0, 1, 2, 3, 4, 5]]) > 0).all()
        assert (np.diff(x[[6, 16, 7, 8, 17, 9]]) > 0).all()
        assert (np.diff(x[[10, 11, 12]]) > 0).all()
        assert (np.diff(x[[19, 14, 20]]) > 0).all()
        assert (np.diff(y[[2, 7, 18, 11, 13, 14, 15]]) > 0).all()


def bald(number, yaw):
    """A head without hair and glasses, turned, and its points; 40 pixels per distance between the pupils."""
    rng = np.random.default_rng(number)
    person = replace(draw_person(rng), hair=None, glasses=None)
    return draw_portrait(person, View(yaw, 0.0, 0.0, (0.0, 0.0, 0.0), 20.0), draw_light(rng), 40.0, rng)


@pytest.mark.parametrize("side", [-1, 1])
def test_hidden_points_lie_at_the_outline(side):
    far, near = ((9, 5), (6, 0)) if side > 0 else ((6, 0), (9, 5))
    for number in range(6):
        head = bald(number, 62.0 * side)
        away = cv2.distanceTransform((head.alpha < 0.5).astype(np.uint8), cv2.DIST_L2, 5)
        within = cv2.distanceTransform((head.alpha >= 0.5).astype(np.uint8), cv2.DIST_L2, 5)
        columns, rows = np.round(head.points).astype(int).T
        assert away[rows, columns].max() < 0.15 * head.scale, "no point floats before the face"
        for index in far:
            assert within[rows[index], columns[index]] < 0.2 * head.scale
        for index in near:
            assert within[rows[index], columns[index]] > 0.3 * head.scale
        assert head.points[9, 0] > head.points[6, 0]


def test_frames():
    counts = set()
    for number in range(16):
        shot = render_photo(SEED, number, frame=True)
        height, width = shot.image.shape[:2]
        assert 320 <= max(width, height) <= 640
        counts.add(len(shot.faces))
        for face in shot.faces:
            middle = (face.box[:2] + face.box[2:]) / 2
            assert (middle > 0).all()
            assert (middle < (width, height)).all()
    assert len(counts) >= 3


def test_background():
    for frame in (False, True):
        shot = render_photo(SEED, 0, frame=frame, background=True)
        assert not shot.faces
        assert shot.image.std() > 0


def test_written_set(tmp_path):
    seen = []
    report = write_synthetic(tmp_path / "set", 6, seed=2, background=2, progress=lambda *at: seen.append(at))
    assert seen == [(number, 8) for number in range(1, 9)]
    labels = read_labels(tmp_path / "set", FACES21)
    assert not labels.problems
    assert len(labels.rows) == report.faces >= 6
    assert report.photos == 6
    assert report.background == 2
    assert len(list((tmp_path / "set" / "background").iterdir())) == 2
    by_photo = labels.by_photo()
    assert sorted(by_photo) == [f"{number:06}.jpg" for number in range(6)]
    for number, (name, rows) in enumerate(sorted(by_photo.items())):
        made = render_photo(2, number)
        assert read_image(tmp_path / "set" / name).shape == made.image.shape
        for row, face in zip(rows, made.faces, strict=True):
            np.testing.assert_allclose(row.keypoints, face.points, atol=1e-5)
            np.testing.assert_allclose(row.box, face.box, atol=1e-5)
    record = json.loads((tmp_path / "set" / "synthetic.json").read_text())
    assert record["synthetic"] == SYNTHETIC_FORM
    assert (record["seed"], record["count"], record["faces"]) == (2, 6, report.faces)


def test_files_are_the_same_on_every_run_and_in_every_set(tmp_path):
    write_synthetic(str(tmp_path / "few"), 3, seed=9)
    write_synthetic(tmp_path / "again", 3, seed=9)
    write_synthetic(tmp_path / "more", 5, seed=9, background=1)
    for path in sorted((tmp_path / "few").iterdir()):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name
        if path.suffix == ".jpg":
            assert path.read_bytes() == (tmp_path / "more" / path.name).read_bytes(), path.name


@pytest.mark.slow
def test_frames_without_faces_have_no_row(tmp_path):
    report = write_synthetic(tmp_path / "set", 24, seed=1, frames=True)
    assert report.background > 0
    labels = read_labels(tmp_path / "set", FACES21)
    named = {row.photo for row in labels.rows}
    assert len(named) + report.background == report.photos == 24
    assert len(list((tmp_path / "set" / "background").iterdir())) == report.background


@pytest.mark.parametrize(
    "call",
    [
        lambda out: write_synthetic(out, 0),
        lambda out: write_synthetic(out, 1.5),
        lambda out: write_synthetic(out, 1, seed=-1),
        lambda out: render_photo(-1, 0),
        lambda out: render_photo(0, "1"),
    ],
)
def test_counts_are_whole_numbers(call, tmp_path):
    with pytest.raises(UsageError):
        call(tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_a_set_is_not_overwritten_unasked(tmp_path):
    write_synthetic(tmp_path / "set", 1)
    write_synthetic(tmp_path / "set", 1, seed=1)
    (tmp_path / "set" / "label.txt").write_text("corrected by hand\n")
    with pytest.raises(OutputError, match="exists already"):
        write_synthetic(tmp_path / "set", 2)
    assert write_synthetic(tmp_path / "set", 2, force=True).photos == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"precious")
    with pytest.raises(OutputError, match="no synthetic set"):
        write_synthetic(tmp_path / "mine", 1, force=True)
    assert (tmp_path / "mine" / "photo.jpg").read_bytes() == b"precious"


def test_an_interrupted_set_is_continued(tmp_path, monkeypatch):
    def stop(done, _total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_synthetic(tmp_path / "set", 4, seed=9, progress=stop)
    assert not (tmp_path / "set").exists()
    with next(tmp_path.glob(".set*/journal.jsonl")).open("a") as journal:
        journal.write('{"rows": [')  # cut off by a crash
    rendered = []
    monkeypatch.setattr(
        "kpedge.synthetic.write.render_photo",
        lambda seed, index, **how: (rendered.append(index), render_photo(seed, index, **how))[1],
    )
    seen = []
    write_synthetic(tmp_path / "set", 4, seed=9, progress=lambda *at: seen.append(at))
    assert rendered == [2, 3]
    assert seen == [(3, 4), (4, 4)], "the time that remains is reckoned from what is rendered now"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    write_synthetic(tmp_path / "whole", 4, seed=9)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "set" / path.name).read_bytes(), path.name
    with pytest.raises(KeyboardInterrupt):
        write_synthetic(tmp_path / "other", 4, seed=9, progress=stop)
    rendered.clear()
    write_synthetic(tmp_path / "other", 3, seed=8)
    assert rendered == [0, 1, 2], "another set is not mixed with it"
