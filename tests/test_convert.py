"""From format to format and back."""

import json
import shutil

import cv2
import numpy as np
import pytest
from conftest import make_photos, noise_photo

from kpedge.cli.main import main
from kpedge.core.boxes import box_of_points
from kpedge.core.errors import DataError, OutputError, UsageError
from kpedge.core.images import PHOTO_SUFFIXES
from kpedge.core.keypoints import FACES5, FACES21, FACES21_MEAN, scheme_named
from kpedge.core.scheme import read_scheme, scheme_of_names
from kpedge.data.convert import RECORD, convert
from kpedge.data.formats import WRITABLE, coco, read_format
from kpedge.data.formats.label import format_row, read_labels
from kpedge.data.formats.schemes import scheme_toml
from kpedge.data.source import read_source


@pytest.fixture
def hard(tmp_path):
    """Labels with all that may happen: folders, blanks in names, several faces, points beyond the photo or missing."""
    root = tmp_path / "hard"
    rng = np.random.default_rng(5)
    rows = []
    for number, (name, faces) in enumerate({"I/a.png": 1, "I/my photo.png": 2, "II/a.png": 1, "b.jpg": 3}.items()):
        noise_photo(root / name, number)
        for _ in range(faces):
            points = rng.uniform(-30, 190, (21, 2)).round(6)
            if faces == 3:
                points[rng.integers(0, 21, 4)] = np.nan
            low = rng.uniform(-40, 80, 2).round(6)
            rows.append(format_row(name, np.concatenate([low, low + rng.uniform(5, 90, 2).round(6)]), points))
    (root / "label.txt").write_text("\n".join(rows) + "\n")
    (root / "test_images.txt").write_text("II/a.png\n")
    (root / "unlabelled_faces.csv").write_text("image,x1,y1,x2,y2,score\nI/my photo.png,1,2,30,40.5,0.9\n")
    return root


def texts(folder, strip=""):
    """Every row as the label format writes it."""
    rows = read_format(folder).rows
    return sorted(format_row(row.photo.removeprefix(strip), row.box, row.keypoints) for row in rows)


@pytest.mark.parametrize(("target", "prefix"), [("coco", ""), ("yolo", None), ("course-lists", ""), ("label", "")])
def test_there_and_back_every_row_is_the_same(hard, tmp_path, target, prefix):
    report = convert(hard, tmp_path / "there", target)
    assert report.dropped == {}
    assert (report.faces, report.photos, report.problems) == (7, 4, ())
    back = convert(tmp_path / "there", tmp_path / "back", "label")
    assert back.dropped == {}
    if prefix is None:  # in YOLO's folders photos have another place
        strip = [
            line.replace("images/train/", "").replace("images/test/", "")
            for line in (tmp_path / "back" / "label.txt").read_text().splitlines()
        ]
        assert sorted(strip) == sorted((hard / "label.txt").read_text().splitlines())
    elif target == "course-lists":  # its six digits are those of a widened box
        for row, own in zip(texts(tmp_path / "back"), texts(hard), strict=True):
            (name, *numbers), (own_name, *own_numbers) = row.rsplit(" ", 46), own.rsplit(" ", 46)
            assert name == own_name
            assert np.allclose(np.array(numbers, float), np.array(own_numbers, float), atol=2.1e-6, equal_nan=True)
    else:
        assert texts(tmp_path / "back") == sorted((hard / "label.txt").read_text().splitlines())
    for one in (tmp_path / "there", tmp_path / "back"):
        source = read_source(one, None, None, "auto")
        assert [name.removeprefix("images/test/") for name in source.listed] == ["II/a.png"]
        ((name, boxes),) = source.ignored.items()
        assert name.endswith("I/my photo.png")
        assert np.allclose(boxes, [[1, 2, 30, 40.5]], atol=1e-4)
        assert not source.problems


@pytest.mark.parametrize("target", ["voc", "pts", "yolo"])
@pytest.mark.parametrize("suffix", sorted(PHOTO_SUFFIXES))
def test_photos_of_every_ending_find_their_labels(tmp_path, target, suffix):
    root = tmp_path / "set"
    noise_photo(root / "a.png")
    (root / "a.png").rename(root / f"a{suffix}")  # what it holds says what it is
    (root / "label.txt").write_text(format_row(f"a{suffix}", np.array([40, 30, 110, 100]), FACES21_MEAN * 70 + 35))
    assert convert(root, tmp_path / "there", target).faces == 1


@pytest.mark.parametrize("target", ["voc", "boxes", "coco", "yolo"])
def test_boxes_alone_go_anywhere_that_has_boxes(tmp_path, target):
    root = tmp_path / "heads"
    for number, name in enumerate(("a.png", "b, c.png", "d.png")):
        noise_photo(root / name, number)
    rows = ["image,x1,y1,x2,y2,who", "a.png,1.5,2,31.5,40,x", "a.png,-4,5,20,30", '"b, c.png",40,1,70,50']
    (root / "boxes.csv").write_text("\n".join(rows) + "\n")
    report = convert(root, tmp_path / "there", target)
    assert report.dropped == {"attributes": 1}
    assert report.scheme == ""
    back = read_format(tmp_path / "there")
    assert back.boxes_only
    assert back.convention == "head"
    wanted = [[-4, 5, 20, 30], [1.5, 2, 31.5, 40], [40, 1, 70, 50]]
    assert np.allclose(sorted(row.box.tolist() for row in back.rows), wanted, atol=1e-6)
    with pytest.raises(UsageError, match="the format pts holds points, and these labels have none") as raised:
        convert(root, tmp_path / "points", "pts")
    assert target in raised.value.advice


def test_all_that_pts_cannot_hold_is_counted(hard, tmp_path):
    report = convert(hard, tmp_path / "pts", "pts")
    assert report.dropped == {
        "boxes that do not follow from the points": 3,
        "faces after the first of their photo": 1,
        "faces with points that are not labelled": 3,
    }
    assert (report.faces, report.photos) == (3, 3 + 0)
    labels = read_format(tmp_path / "pts")
    assert labels.scheme == FACES21
    own = {row.photo: row for row in read_format(hard).rows[::-1]}
    for row in labels.rows:
        assert np.abs(row.keypoints - own[row.photo].keypoints).max() < 1e-5
    text = (tmp_path / "pts" / "I" / "a.pts").read_text().splitlines()
    assert text[:3] == ["version: 1", "n_points:  21", "{"]
    assert float(text[3].split()[0]) == pytest.approx(own["I/a.png"].keypoints[0, 0] + 1)


def test_points_become_those_of_the_target(tmp_path):
    folder = make_photos(tmp_path / "photos", 4)
    report = convert(folder, tmp_path / "mtfl", "mtfl")
    assert report.dropped == {"boxes that do not follow from the points": 4, "points that faces5 does not have": 64}
    own = read_labels(folder, FACES21)
    five = read_format(tmp_path / "mtfl")
    assert (five.format, five.scheme) == ("mtfl", FACES5)
    assert np.allclose(five.rows[2].keypoints, own.rows[2].keypoints[16:], atol=1e-5)
    with pytest.raises(UsageError, match="98 points of wflw98; 78 of them do not follow from those of faces21"):
        convert(folder, tmp_path / "wflw", "wflw")
    wanted = convert(folder, tmp_path / "five", "label", scheme=FACES5)
    assert wanted.scheme == "faces5"
    assert read_format(tmp_path / "five").rows[0].keypoints.shape == (5, 2)


@pytest.mark.parametrize(("name", "target"), [("ibug68", "ibug68-csv"), ("ibug68", "pts"), ("wflw98", "wflw")])
def test_formats_of_many_points_come_back(tmp_path, name, target):
    scheme, root = scheme_named(name), tmp_path / "many"
    rng = np.random.default_rng(1)
    rows = []
    for number in range(4):
        noise_photo(root / f"{number}.png", number)
        points = rng.uniform(10, 150, (len(scheme), 2)).round(6)
        box = box_of_points(points, scheme) if target != "wflw" else np.array([1.5, 2, 50, 60])
        rows.append(format_row(f"{number}.png", box, points))
    (root / "label.txt").write_text("\n".join(rows))
    (root / "test_images.txt").write_text("3.png\n")
    report = convert(root, tmp_path / "there", target)
    assert report.dropped == {}
    labels = read_format(tmp_path / "there")
    assert (labels.format, labels.scheme) == (target, scheme)
    assert len(read_source(tmp_path / "there", None, None, "auto").listed) == 1
    convert(tmp_path / "there", tmp_path / "back", "label")
    own = {row.photo: row for row in read_format(root).rows}
    for row in read_format(tmp_path / "back").rows:
        same = own[row.photo.rpartition("/")[2]]
        assert np.abs(row.box - same.box).max() < 2e-6
        assert np.abs(row.keypoints - same.keypoints).max() < 2e-6


def test_hidden_points_stay_hidden_where_they_can(tmp_path):
    noise_photo(tmp_path / "in" / "a.png")
    points = [40, 50, 1, 80, 52, 2, 60, 70, 0]
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "face", "keypoints": ["left_eye", "right_eye", "nose"], "skeleton": [[1, 3]]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": points, "bbox": [30, 40, 60, 50]}],
    }
    (tmp_path / "in" / "a.json").write_text(json.dumps(content))
    for target in ("coco", "yolo"):
        assert convert(tmp_path / "in", tmp_path / target, target).dropped == {}
        (row,) = read_format(tmp_path / target).rows
        assert row.visible.tolist() == [False, True, True]
        assert row.labelled.tolist() == [True, True, False]
    scheme = read_format(tmp_path / "coco").scheme
    assert (scheme.points, scheme.skeleton) == (("left_eye", "right_eye", "nose"), ((0, 2),))
    assert read_format(tmp_path / "coco").convention == "points"
    report = convert(tmp_path / "coco", tmp_path / "label", "label")
    assert report.dropped == {"marks of hidden points": 1}
    assert "add --boxes points" in report.remarks[-1]
    labels = read_format(tmp_path / "label")
    assert labels.scheme == scheme, "scheme.toml lies beside labels whose columns do not tell it"
    assert labels.rows[0].box.tolist() == [29.5, 39.5, 89.5, 89.5]


def test_a_scheme_survives_its_toml(tmp_path):
    derived = {"middle": (0, 2)}
    parts = {"eyes": (0, 1), 'od"d': (2,)}
    odd = scheme_of_names("o\\dd", ["l", "r", 'na"me\n'], skeleton=[(0, 1), (2, 0)], parts=parts, derived=derived)
    for scheme in (odd, *map(scheme_named, ("faces5", "kaggle15", "faces21", "ibug68", "wflw98"))):
        (tmp_path / "scheme.toml").write_text(scheme_toml(scheme), encoding="utf-8")
        assert read_scheme(tmp_path / "scheme.toml") == scheme


def test_pixels_in_a_table_become_photos(tmp_path):
    from kpedge.data.formats.kaggle_csv import COLUMNS

    rng = np.random.default_rng(3)
    header = ",".join(f"{name}_{axis}" for name in COLUMNS for axis in "xy")
    rows, pictures = [], rng.integers(0, 255, (2, 96, 96))
    for picture in pictures:
        rows.append(",".join([*(f"{v:.3f}" for v in rng.uniform(9, 90, 30)), " ".join(map(str, picture.ravel()))]))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "training.csv").write_text("\n".join([f"{header},Image", *rows]))
    report = convert(tmp_path / "in", tmp_path / "out", "label")
    assert (report.faces, report.dropped) == (2, {})
    labels = read_format(tmp_path / "out")
    assert [row.photo for row in labels.rows] == ["training/000002.png", "training/000003.png"]
    assert (cv2.imread(str(tmp_path / "out" / labels.rows[1].photo), cv2.IMREAD_GRAYSCALE) == pictures[1]).all()


def test_names_that_a_format_cannot_hold_become_others(tmp_path):
    root = tmp_path / "in"
    names = ["a  b.png", "1 2.png", "x,y.png", "same.png", "same.jpg", "SAME.png"]
    boxes = ["image,x1,y1,x2,y2", *(f'"{name}",1,2,3{n},40' for n, name in enumerate(names))]
    for number, name in enumerate(names):
        noise_photo(root / name, number)
    (root / "boxes.csv").write_text("\n".join(boxes))
    report = convert(root, tmp_path / "voc", "voc")
    assert report.faces == 6
    stems = sorted(path.stem for path in (tmp_path / "voc" / "Annotations").iterdir())
    assert len({stem.lower() for stem in stems}) == 6
    points = " ".join(f"{v} {v + 9}" for v in range(5))
    lines = [f"{name.replace('  ', ' ')} 1 2 30 40 {points}" for name in ("a b.png", "c.png")]
    shutil.rmtree(root)
    noise_photo(root / "a b.png")
    noise_photo(root / "c.png")
    (root / "label.txt").write_text("\n".join(lines))
    assert convert(root, tmp_path / "plain", "label").dropped == {}
    coco = convert(root, tmp_path / "coco", "coco")
    assert coco.dropped == {}
    document = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    document["images"][0]["file_name"] = "7 b.png"
    (tmp_path / "coco" / "annotations.json").write_text(json.dumps(document))
    (tmp_path / "coco" / "a b.png").rename(tmp_path / "coco" / "7 b.png")
    assert convert(tmp_path / "coco", tmp_path / "label", "label").dropped == {"names of photos": 1}
    assert (tmp_path / "label" / "7_b.png").is_file()
    with pytest.raises(UsageError, match=r"'7 b\.png' cannot be the name of a photo there"):
        convert(tmp_path / "coco", tmp_path / "none", "label", photos="none")


def test_no_photo_is_written_outside_the_folder(tmp_path):
    noise_photo(tmp_path / "secret.png")
    (tmp_path / "in").mkdir()
    content = {
        "images": [{"id": 1, "file_name": "../secret.png"}],
        "categories": [{"id": 1, "name": "face", "keypoints": ["a", "b"]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": [4, 5, 2, 8, 9, 2]}],
    }
    (tmp_path / "in" / "a.json").write_text(json.dumps(content))
    convert(tmp_path / "in", tmp_path / "deep" / "out", "label")
    assert sorted(path.name for path in (tmp_path / "deep" / "out").iterdir()) == [
        ".kpedge-written", "convert.json", "label.txt", "scheme.toml", "secret.png",
    ]  # fmt: skip
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_photos_are_copied_linked_or_left(hard, tmp_path):
    convert(hard, tmp_path / "copy", "label")
    assert (tmp_path / "copy" / "b.jpg").read_bytes() == (hard / "b.jpg").read_bytes()
    convert(hard, tmp_path / "link", "coco", photos="link")
    assert (tmp_path / "link" / "I" / "a.png").resolve() == hard / "I" / "a.png"
    convert(hard, tmp_path / "none", "label", photos="none")
    assert sorted(path.name for path in (tmp_path / "none").iterdir()) == [
        ".kpedge-written", RECORD, "label.txt", "test_images.txt", "unlabelled_faces.csv",
    ]  # fmt: skip
    assert (tmp_path / "none" / "label.txt").read_text() == (hard / "label.txt").read_text()
    with pytest.raises(UsageError, match="--photos takes copy, link, none"):
        convert(hard, tmp_path / "x", "label", photos="move")


def test_photos_that_cannot_be_read_are_named_and_left_out(hard, tmp_path):
    (hard / "I" / "a.png").unlink()
    (hard / "II" / "a.png").write_bytes(b"")
    report = convert(hard, tmp_path / "out", "coco")
    assert report.faces == 5
    assert {(problem.kind, problem.photo) for problem in report.problems} == {
        ("missing photo", "I/a.png"),
        ("unreadable photo", "II/a.png"),
    }
    for path in hard.rglob("*.*g"):
        path.unlink()
    with pytest.raises(DataError, match="nothing in it can be used"):
        convert(hard, tmp_path / "nothing", "coco")
    assert not (tmp_path / "nothing").exists()


def test_nothing_of_the_users_is_overwritten(hard, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.txt").write_text("years")
    with pytest.raises(OutputError, match="was not written by kpedge data convert"):
        convert(hard, tmp_path / "mine", "coco", force=True)
    for out in (hard, hard.parent):
        with pytest.raises(UsageError, match="holds the labels to convert"):
            convert(hard, out, "coco", force=True)
    convert(hard, tmp_path / "out", "coco")
    with pytest.raises(OutputError, match="exists already"):
        convert(hard, tmp_path / "out", "label")
    convert(hard, tmp_path / "out", "label", force=True)
    assert not (tmp_path / "out" / "annotations").exists()
    assert (tmp_path / "mine" / "work.txt").read_text() == "years"


def test_a_writer_that_loses_something_is_caught(hard, tmp_path, monkeypatch):
    from dataclasses import replace

    true = coco.FORMAT.write

    def lossy(job):
        labels = job.labels
        rows = tuple(replace(row, keypoints=row.keypoints + 0.01) for row in labels.rows)
        true(replace(job, labels=replace(labels, rows=rows)))

    monkeypatch.setattr(coco, "FORMAT", replace(coco.FORMAT, write=lossy))
    with pytest.raises(DataError, match="are read back"):
        convert(hard, tmp_path / "out", "coco")
    assert not (tmp_path / "out").exists()


def test_convert_on_the_command_line(hard, tmp_path, capsys):
    assert main(["data", "convert", str(hard), "--to", "voc", "--out", str(tmp_path / "voc")]) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(tmp_path / "voc")
    assert "dropped: 136 points" in told.err
    assert "label to voc: 7 faces of 4 photos (boxes alone)" in told.err
    assert "add --boxes face" in told.err
    arguments = ["data", "convert", str(hard), "--to", "coco", "--out", str(tmp_path / "coco"), "--json"]
    assert main(arguments) == 0
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert (report["target_format"], report["faces"], report["dropped"]) == ("coco", 7, {})
    assert "nothing is lost" in told.err
    assert main(arguments) == 1
    assert "add --force to replace it" in capsys.readouterr().err
    assert main([*arguments[:3], "--to", "tfrecord", "--out", str(tmp_path / "x")]) == 2
    assert f"--to takes: {', '.join(WRITABLE)}" in capsys.readouterr().err
