"""Readers of formats with points: label.txt of any scheme, .pts, WFLW, Kaggle, MTFL's own lists, the course's lists."""

import shutil

import numpy as np
import pytest
from conftest import make_photos, noise_photo

from kpedge.core.boxes import FACE, POINTS, box_of_points
from kpedge.core.errors import DataError
from kpedge.core.keypoints import FACES5, FACES21, convert_points, scheme_named
from kpedge.core.scheme import read_scheme, scheme_of_names
from kpedge.data.check import check, label_preview
from kpedge.data.formats import matching_formats, read_format
from kpedge.data.formats.label import format_row, read_labels
from kpedge.data.packed import open_set
from kpedge.data.preparation import PrepareOptions, prepare


@pytest.fixture
def ours(tmp_path):
    return read_labels(make_photos(tmp_path / "ours", 5), FACES21)


def face_of(count, seed=0, side=60.0, middle=(100.0, 90.0)):
    """Points that do not lie in one place."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (count, 2)) * side + middle


def grey_photo(path, size=(200, 180)):
    noise_photo(path, sum(path.name.encode()), size)


# label.txt


@pytest.mark.parametrize("name", ["faces5", "kaggle15", "faces21", "ibug68", "wflw98"])
def test_the_number_of_columns_tells_the_scheme(tmp_path, name):
    scheme = scheme_named(name)
    row = format_row("my photo.png", np.array([60.0, 50, 140, 130]), face_of(len(scheme)))
    (tmp_path / "label.txt").write_text(f"{row}\n{row} 7\n")
    labels = read_format(tmp_path)
    assert (matching_formats(tmp_path)[0], labels.scheme, len(labels.rows)) == ("label", scheme, 1)
    assert [problem.kind for problem in labels.problems] == ["columns"]


def test_a_scheme_of_ones_own_lies_beside_the_labels_or_is_asked_for(tmp_path):
    rows = [format_row("a.png", np.array([0.0, 0, 9, 9]), face_of(7, seed=seed)) for seed in range(3)]
    (tmp_path / "label.txt").write_text("\n".join(rows))
    with pytest.raises(DataError, match="rows of 7 points, for which kpedge has no scheme") as raised:
        read_format(tmp_path)
    assert "scheme.toml" in raised.value.advice
    own = '"l_eye", "r_eye", "nose_tip", "hat", "l_ear", "r_ear", "chin"'
    (tmp_path.parent / "own.toml").write_text(f"points = [{own}]\n")
    assert read_format(tmp_path, read_scheme(tmp_path.parent / "own.toml")).rows[0].keypoints.shape == (7, 2)
    shutil.move(tmp_path.parent / "own.toml", tmp_path / "scheme.toml")
    labels = read_format(tmp_path)
    assert labels.scheme.points[3] == "hat"
    assert labels.scheme.mirror == ((0, 1), (4, 5))
    only_nose = read_format(tmp_path, FACES5)
    assert np.isfinite(only_nose.rows[0].keypoints).all(axis=1).tolist() == [False, False, True, False, False]


def test_points_that_are_not_labelled_are_nan_nan(tmp_path):
    points = face_of(5)
    points[2] = np.nan
    row = format_row("a.png", np.array([60.0, 50, 140, 130]), points)
    assert row.split()[9:11] == ["nan", "nan"]
    half = row.replace("nan nan", "nan 4")
    (tmp_path / "label.txt").write_text(f"{row}\n{half}\n{row.replace('60', 'nan', 1)}\n")
    labels = read_format(tmp_path)
    assert labels.rows[0].labelled.tolist() == [True, True, False, True, True]
    assert [problem.kind for problem in labels.problems] == ["not a number"] * 2
    assert "column 10 is 'nan', not a finite number; a point that is not labelled is nan nan" in str(labels.problems[0])
    assert "column 2 is 'nan'" in str(labels.problems[1])


def test_label_files_of_three_points_are_not_mtfl(tmp_path):
    row = format_row("a.png", np.array([60.0, 50, 140, 130]), face_of(3))
    (tmp_path / "label.txt").write_text(f"{row}\n")
    three = scheme_of_names("three", ["left_eye", "right_eye", "mouth"])
    assert matching_formats(tmp_path)[0] == "mtfl"
    assert matching_formats(tmp_path, three)[0] == "label"
    (tmp_path / "scheme.toml").write_text('points = ["left_eye", "right_eye", "mouth"]\n')
    assert matching_formats(tmp_path)[0] == "label"
    assert read_format(tmp_path).rows[0].keypoints.shape == (3, 2)


def test_faces_without_any_point_are_neither_face_nor_background(tmp_path):
    folder = make_photos(tmp_path / "photos", 12)
    rows = (folder / "label.txt").read_text().splitlines()
    rows[4] = " ".join([*rows[4].split()[:5], *["nan"] * 42])
    (folder / "label.txt").write_text("\n".join(rows) + "\n")
    hidden = np.array(rows[4].split()[1:5], float)
    prepare(folder, tmp_path / "set", PrepareOptions(test=0))
    prepared = open_set(tmp_path / "set")
    mine = prepared.photo == prepared.photos.index("004.png")
    assert mine.any()
    assert not (mine & (prepared.face == 1)).any()
    middle = (hidden[:2] + hidden[2:]) / 2
    for box in prepared.boxes[mine]:
        side = 1.5 * (box[2] - box[0])
        assert np.abs((box[:2] + box[2:]) / 2 - middle).max() > side / 2, "a negative shows the middle of that face"


# .pts


def write_pts(path, points, count=None):
    lines = "\n".join(f"{x:.6f} {y:.6f}" for x, y in points)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"version: 1\nn_points:  {count or len(points)}\n{{\n{lines}\n}}\n")


@pytest.fixture
def pts(tmp_path):
    root = tmp_path / "300w"
    for number, folder in enumerate(("01_Indoor", "01_Indoor", "02_Outdoor")):
        write_pts(root / folder / f"face {number}.pts", face_of(68, seed=number))
        grey_photo(root / folder / f"face {number}.{('png', 'JPG', 'jpeg')[number]}")
    return root


def test_pts_files_count_from_one(pts):
    labels = read_format(pts)
    assert (labels.format, labels.scheme.name, labels.convention) == ("pts", "ibug68", FACE)
    photos = ["01_Indoor/face 0.png", "01_Indoor/face 1.JPG", "02_Outdoor/face 2.jpeg"]
    assert [row.photo for row in labels.rows] == photos
    assert np.allclose(labels.rows[2].keypoints, face_of(68, seed=2) - 1, atol=1e-5)
    assert np.allclose(labels.rows[2].box, box_of_points(labels.rows[2].keypoints, labels.scheme))
    assert np.allclose(read_format(pts, None, "pts0").rows[2].keypoints, face_of(68, seed=2), atol=1e-5)
    one = read_format(pts / "02_Outdoor" / "face 2.pts")
    assert [row.photo for row in one.rows] == ["face 2.jpeg"]


def test_broken_pts_files_are_named(pts):
    folder = pts / "03"
    write_pts(folder / "short.pts", face_of(68), 70)
    write_pts(folder / "profile.pts", face_of(39))
    write_pts(folder / "one.pts", np.full((68, 2), 7.0))
    (folder / "empty.pts").write_text("")
    (folder / "text.pts").write_bytes(b"\x80\x81")
    (folder / "open.pts").write_text("version: 1\nn_points: 2\n{\n1 2\n")
    (folder / "huge.pts").write_text(f"n_points: {'9' * 5000}\n{{ 1 2 }}")
    write_pts(folder / "alone.pts", face_of(68))
    problems = {problem.where: problem for problem in read_format(pts).problems}
    assert {where: problem.kind for where, problem in problems.items()} == {
        "03/short.pts": "columns",
        "03/profile.pts": "columns",
        "03/one.pts": "box without area",
        "03/empty.pts": "form",
        "03/text.pts": "not a text file",
        "03/open.pts": "columns",
        "03/huge.pts": "columns",
    }
    assert "39 points, expected 68 (ibug68)" in str(problems["03/profile.pts"])
    report, _ = check(pts)
    assert ("missing photo", "03/alone.pts:1") in {(problem.kind, problem.where) for problem in report.problems}


@pytest.mark.parametrize("folder", ["testset", "test", "TestSet", "helen/testset"])
def test_a_test_folder_of_pts_is_the_test_split(pts, tmp_path, folder):
    """Helen and LFPW have `trainset` and `testset`; 300-W's own folders say nothing."""
    assert read_format(pts).test is None
    for number in range(2):
        write_pts(pts / folder / f"{number}.pts", face_of(68, seed=number))
        grey_photo(pts / folder / f"{number}.png")
    (pts / "02_Outdoor").rename(pts / "trainset")
    kept = tuple(f"{folder}/{number}.png" for number in range(2))
    for name in ("pts", "pts0"):
        assert read_format(pts, None, name).test == kept
    assert read_format(pts / folder).test is None, "nothing else is there: it is to be split"
    (pts / "test_images.txt").write_text("trainset/face 2.jpeg\n")
    report = prepare(pts, tmp_path / "set", PrepareOptions(validation=0))
    assert (report.counts["train"]["photos"], report.counts["test"]["photos"]) == (4, 1), "a list goes before"
    (pts / "test_images.txt").unlink()
    report = prepare(pts, tmp_path / "of its own", PrepareOptions(validation=0))
    assert (report.counts["train"]["photos"], report.counts["test"]["photos"]) == (3, 2)
    report = prepare(pts, tmp_path / "no test", PrepareOptions(validation=0, test=0))
    assert (report.counts["train"]["photos"], report.counts["test"]["photos"]) == (5, 0)


def test_points_that_nobody_named_have_numbers_and_a_note(tmp_path):
    write_pts(tmp_path / "a.pts", face_of(31))
    grey_photo(tmp_path / "a.png")
    labels = read_format(tmp_path)
    assert (labels.scheme.name, labels.scheme.points[30]) == ("points31", "31")
    assert "the 31 points have no names" in labels.remarks[0]
    assert label_preview(labels, side=120).shape[2] == 3
    own = scheme_of_names("mine", [f"part_{number}" for number in range(31)])
    assert read_format(tmp_path, own).scheme == own, "as many points are taken by position"


# WFLW


def wflw_row(points, rect, photo, attributes="0 1 0 0 1 0"):
    return " ".join([*(f"{value:.6f}" for value in points.ravel()), *map(str, rect), attributes, photo])


@pytest.fixture
def wflw(tmp_path):
    root = tmp_path / "wflw"
    folder = root / "WFLW_annotations" / "list_98pt_rect_attr_train_test"
    folder.mkdir(parents=True)
    for split, numbers in (("train", (0, 1, 2)), ("test", (3,))):
        lines = []
        for number in numbers:
            grey_photo(root / "WFLW_images" / "7--Cheering" / f"{number}.jpg")
            lines.append(wflw_row(face_of(98, seed=number), (60, 50, 150, 140), f"7--Cheering/{number}.jpg"))
        (folder / f"list_98pt_rect_attr_{split}.txt").write_text("\n".join(lines) + "\n")
    subsets = root / "WFLW_annotations" / "list_98pt_test"
    subsets.mkdir()
    row = " ".join(wflw_row(face_of(98, seed=3), (), "7--Cheering/3.jpg", "").split())
    (subsets / "list_98pt_test.txt").write_text(row)
    (subsets / "list_98pt_test_blur.txt").write_text(row)
    return root


def test_wflw_lists_are_read_once(wflw):
    labels = read_format(wflw)
    assert (labels.format, labels.scheme.name, labels.convention) == ("wflw", "wflw98", POINTS)
    assert [row.photo for row in labels.rows] == [f"WFLW_images/7--Cheering/{number}.jpg" for number in (3, 0, 1, 2)]
    assert labels.test == ("WFLW_images/7--Cheering/3.jpg",)
    assert labels.rows[1].box.tolist() == [60, 50, 150, 140]
    assert np.allclose(labels.rows[1].keypoints, face_of(98), atol=1e-5)
    assert dict(labels.dropped) == {"attributes": 4}
    folder = wflw / "WFLW_annotations" / "list_98pt_rect_attr_train_test"
    (folder / "list_98pt_rect_attr_train.txt").unlink()
    alone = read_format(folder / "list_98pt_rect_attr_test.txt")
    assert (alone.root, alone.rows[0].photo) == (wflw, "WFLW_images/7--Cheering/3.jpg")
    for path in folder.iterdir():
        path.unlink()
    without_boxes = read_format(wflw)
    assert (len(without_boxes.rows), without_boxes.convention) == (1, FACE)
    assert np.allclose(without_boxes.rows[0].box, box_of_points(face_of(98, seed=3), without_boxes.scheme), atol=1e-4)


# MTFL's own lists


def test_mtfls_own_lists_have_attributes_and_a_test_split(tmp_path, ours):
    (tmp_path / "net").mkdir()
    for name, rows in (("training", ours.rows[:3]), ("testing", ours.rows[3:])):
        lines = []
        for row in rows:
            shutil.copy(ours.root / row.photo, tmp_path / "net" / row.photo)
            x, y = convert_points(row.keypoints, FACES21, FACES5).T
            lines.append(" " + " ".join([f"net\\{row.photo}", *(f"{value:.4f}" for value in (*x, *y)), "1 2 2 3"]))
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    labels = read_format(tmp_path)
    assert (labels.format, len(labels.rows), labels.problems) == ("mtfl", 5, ())
    assert labels.test == ("net/003.png", "net/004.png")
    assert dict(labels.dropped) == {"attributes": 5}
    for row, own in zip(labels.rows, ours.rows, strict=True):
        assert np.allclose(row.keypoints, convert_points(own.keypoints, FACES21, FACES5), atol=1e-3)


# the course's lists


def test_lists_of_a_prepared_set_give_back_boxes_and_points(tmp_path):
    folder = make_photos(tmp_path / "photos", 12, faces=2)
    own = read_labels(folder, FACES21)
    report = prepare(folder, tmp_path / "set", PrepareOptions(validation=0.2, test=0.2))
    with pytest.raises(DataError, match="is a prepared set"):
        read_format(tmp_path / "set")
    (folder / "label.txt").unlink()
    for name in ("train.txt", "validation.txt", "test.txt"):
        shutil.copy(tmp_path / "set" / name, folder)
    labels = read_format(folder)
    assert (labels.format, labels.scheme, labels.convention, len(labels.rows)) == ("course-lists", FACES21, FACE, 24)
    wanted = {(row.photo, round(row.box[0], 3)): row for row in own.rows}
    for row in labels.rows:
        same = wanted[row.photo, round(row.box[0], 3)]
        assert np.abs(row.box - same.box).max() < 2e-6
        assert np.abs(row.keypoints - same.keypoints).max() < 2e-6
    assert len(labels.test) == report.counts["test"]["photos"]
    assert labels.dropped["negatives"] == sum(split["negatives"] for split in report.counts.values())
    again = prepare(folder, tmp_path / "again", PrepareOptions(validation=0.2))
    assert again.counts["test"]["faces"] == report.counts["test"]["faces"]


def test_boxes_of_lists_are_widened_and_points_count_from_their_corner(tmp_path):
    (tmp_path / "train.txt").write_text(f"a b.png 10 20 100 110 {' '.join(map(str, range(42)))} 1\n")
    (row,) = read_format(tmp_path, None, "course-lists").rows
    assert (row.photo, row.box.tolist(), row.keypoints[1].tolist()) == ("a b.png", [25, 35, 85, 95], [12, 23])


def test_a_list_of_photos_is_no_list_of_faces(ours):
    (ours.root / "label.txt").unlink()
    (ours.root / "train.txt").write_text("./000.png\n./001.png\n")
    with pytest.raises(DataError, match="nor the labels of another format"):
        matching_formats(ours.root)[0]


def test_when_two_formats_fit_it_is_said_which_was_taken(ours):
    (ours.root / "boxes.csv").write_text("image,x1,y1,x2,y2\n000.png,1,2,30,40\n")
    assert "read as label; it could also be boxes" in read_format(ours.root).remarks[0]
