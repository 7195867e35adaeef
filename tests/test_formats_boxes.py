"""Pascal VOC and YOLO."""

import numpy as np
import pytest
from conftest import noise_photo

from kpedge.cli.main import main
from kpedge.core.boxes import HEAD, POINTS
from kpedge.core.errors import DataError
from kpedge.core.keypoints import FACES5
from kpedge.data.check import check
from kpedge.data.formats import matching_formats, read_format
from kpedge.data.frames import open_frames
from kpedge.data.preparation import FrameOptions, prepare

OBJECT = "<object><name>{}</name><difficult>{}</difficult><bndbox>{}</bndbox></object>"


def corners(*values):
    names = ("xmin", "ymin", "xmax", "ymax")
    return "".join(f"<{name}>{value}</{name}>" for name, value in zip(names, values, strict=False))


def annotation(path, name, *objects, size=(160, 120)):
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    path.write_text(
        f"<annotation><folder>x</folder><filename>{name}</filename><size><width>{width}</width>"
        f"<height>{height}</height></size>{''.join(objects)}</annotation>"
    )


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "voc"
    for number, name in enumerate(("a.jpg", "b.png", "c.png")):
        noise_photo(root / "JPEGImages" / name, number)
    annotation(
        root / "Annotations" / "a.xml",
        "a.jpg",
        OBJECT.format("with_mask", 0, corners(1, 1, 160, 120)),
        OBJECT.format("none", 0, corners(11, 21, 30, 40.5)),
        OBJECT.format("with_mask", 1, corners(100, 100, 110, 110)),
    )
    annotation(root / "Annotations" / "b.xml", "b", OBJECT.format("none", 0, corners(5, 5, 50, 60)))
    annotation(root / "Annotations" / "c.xml", "")
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "test.txt").write_text("b  1\n")
    return root


def test_voc_counts_pixels_from_one_and_both_corners_belong_to_the_box(voc):
    labels = read_format(voc)
    assert (labels.format, labels.boxes_only, labels.convention, labels.problems) == ("voc", True, HEAD, ())
    assert [row.photo for row in labels.rows] == ["JPEGImages/a.jpg", "JPEGImages/a.jpg", "JPEGImages/b.png"]
    assert labels.rows[0].box.tolist() == [-0.5, -0.5, 159.5, 119.5], "the whole photo"
    assert labels.rows[1].box.tolist() == [9.5, 19.5, 29.5, 40]
    assert {name: [box.tolist() for box in boxes] for name, boxes in labels.ignored.items()} == {
        "JPEGImages/a.jpg": [[98.5, 98.5, 109.5, 109.5]]
    }
    assert labels.background == ("JPEGImages/c.png",)
    assert labels.test == ("JPEGImages/b.png",)
    assert "with_mask (2), none (2); --label selects" in labels.remarks[0]
    assert len(read_format(voc, only=["none"]).rows) == 2
    with pytest.raises(DataError, match="no object is called cat") as raised:
        read_format(voc / "Annotations" / "a.xml", only=["cat"])
    assert "with_mask" in raised.value.advice
    assert [row.photo for row in read_format(voc / "Annotations" / "b.xml").rows] == ["JPEGImages/b.png"]


def test_voc_becomes_a_frame_set_in_which_difficult_faces_are_ignored(voc, tmp_path):
    prepare(voc, tmp_path / "set", FrameOptions(validation=0))
    frames = open_frames(str(tmp_path / "set"))
    assert frames.ignore.tolist() == [False, False, True, False]
    assert frames.info["settings"]["boxes"] == "head"
    assert main(["data", "prepare", str(voc), "--out", str(tmp_path / "one"), "--frames", "--label", "none"]) == 0
    assert len(open_frames(tmp_path / "one").ignore) == 2


def test_xml_beside_the_photos_and_files_that_are_no_labels(tmp_path):
    noise_photo(tmp_path / "a.png")
    annotation(tmp_path / "a.xml", "C:\\somewhere\\a.png", OBJECT.format("face", 0, corners(3, 4, 50, 60)))
    labels = read_format(tmp_path)
    assert [row.photo for row in labels.rows] == ["a.png"]
    broken = {
        "cut": "<annotation><object>",
        "empty": "",
        "other": "<html></html>",
        "entity": '<!DOCTYPE a [<!ENTITY b "cc">]><annotation><filename>&b;</filename></annotation>',
        "bomb": '<?xml version="1.0"?><!DOCTYPE z [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>',
        "outside": '<!DOCTYPE a SYSTEM "file:///etc/hostname"><annotation/>',
    }
    for name, content in broken.items():
        (tmp_path / f"{name}.xml").write_text(content)
    (tmp_path / "wide.xml").write_bytes('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>'.encode("utf-16"))
    found = {problem.where: problem.kind for problem in read_format(tmp_path, None, "voc").problems}
    assert found == {
        "cut.xml": "not XML",
        "empty.xml": "not XML",
        "other.xml": "form",
        "entity.xml": "document type",
        "bomb.xml": "document type",
        "outside.xml": "document type",
        "wide.xml": "document type",
    }


def test_broken_objects_of_voc_are_named(voc):
    file = voc / "Annotations" / "b.xml"
    objects = [
        corners(5, 5, 50),
        corners(5, 5, "x", 9),
        corners(50, 5, 5, 9),
        corners(*["nan"] * 4),
        corners(5, 5, 50, 60),
    ]
    annotation(file, "b.png", *(OBJECT.format("face", 0, one) for one in objects), size=(0, 0))
    problems = read_format(voc).problems
    assert [(p.kind, p.where) for p in problems] == [
        ("box", "Annotations/b.xml, object 1"),
        ("not a number", "Annotations/b.xml, object 2"),
        ("box without area", "Annotations/b.xml, object 3"),
        ("not a number", "Annotations/b.xml, object 4"),
    ]
    assert all(problem.photo == "JPEGImages/b.png" for problem in problems)


# YOLO


@pytest.fixture
def yolo(tmp_path):
    root = tmp_path / "yolo"
    for number, name in enumerate(("train/a", "train/b", "test/c")):
        noise_photo(root / "images" / f"{name}.png", number)
        (root / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
    (root / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 1 1\n1 0.25 0.25 0.1 0.2\n")
    (root / "labels" / "train" / "b.txt").write_text("\n")
    (root / "labels" / "test" / "c.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text("train: images/train\nnc: 2\nnames: ['head', \"dog\"]  # two\n")
    return root


def test_yolo_counts_fractions_from_the_edge(yolo):
    labels = read_format(yolo)
    assert (labels.format, labels.boxes_only, labels.convention, labels.problems) == ("yolo", True, HEAD, ())
    boxes = {row.photo: row.box.tolist() for row in labels.rows[::-1]}
    assert boxes["images/train/a.png"] == [-0.5, -0.5, 159.5, 119.5]
    assert np.allclose(labels.rows[2].box, [31.5, 17.5, 47.5, 41.5])
    assert labels.background == ("images/train/b.png",)
    assert labels.test == ("images/test/c.png",)
    assert "dog (2), head (1)" in labels.remarks[0]
    assert len(read_format(yolo, only=["head"]).rows) == 1


@pytest.mark.parametrize(
    "names",
    ["names:\n  0: head\n  1: dog\n", "names:\n- head\n- 'dog'\n", "names: {0: head, 1: dog}\n", "names: [head, dog]"],
)
def test_names_of_classes_are_read_however_they_are_written(yolo, names):
    (yolo / "data.yaml").write_text(f"nc: 2\n{names}\nval: x\n")
    assert len(read_format(yolo, only=["dog"]).rows) == 2
    (yolo / "data.yaml").unlink()
    (yolo / "classes.txt").write_text("head\ndog\n")
    assert len(read_format(yolo, only=["dog"]).rows) == 2
    (yolo / "classes.txt").unlink()
    assert len(read_format(yolo, only=["1"]).rows) == 2


def test_yolo_pose_has_points(yolo):
    points = "0.1 0.2 2 0.3 0.2 1 0.2 0.3 2 0.15 0.4 0 0.25 0.4 2"
    (yolo / "data.yaml").write_text("kpt_shape: [5, 3]\nnames: [face]\n")
    for name in ("train/a", "test/c"):
        (yolo / "labels" / f"{name}.txt").write_text(f"0 0.2 0.3 0.3 0.4 {points}\n")
    labels = read_format(yolo)
    assert (labels.boxes_only, labels.scheme, labels.convention) == (False, FACES5, POINTS)
    row = labels.rows[0]
    assert np.allclose(row.keypoints[0], [0.1 * 160 - 0.5, 0.2 * 120 - 0.5])
    assert row.labelled.tolist() == [True, True, True, False, True]
    assert row.visible.tolist() == [True, False, True, True, True]
    (yolo / "data.yaml").write_text("kpt_shape:\n  - 7\n  - 2\n")
    for name in ("train/a", "test/c"):
        (yolo / "labels" / f"{name}.txt").write_text("0 0.2 0.3 0.3 0.4 " + "0 0 " + "0.1 0.2 " * 6)
    row = read_format(yolo).rows[0]
    assert row.labelled.tolist() == [False, *[True] * 6]
    (yolo / "data.yaml").write_text("kpt_shape: [7, 5]\n")
    with pytest.raises(DataError, match=r"kpt_shape must be \[points, 2 or 3\]"):
        read_format(yolo)


def test_labels_beside_the_photos(tmp_path):
    noise_photo(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("face\n")
    assert matching_formats(tmp_path)[0] == "yolo"
    assert [row.photo for row in read_format(tmp_path).rows] == ["a.jpg"]
    assert check(tmp_path)[0].problems == ()
