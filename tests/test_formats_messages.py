"""What labels of other tools are told that are nearly right: how it is said, and what is still read."""

import json
import os

import cv2
import numpy as np
import pytest

from kpedge.boxes import box_of_points
from kpedge.datasets.check import check
from kpedge.datasets.convert import convert
from kpedge.datasets.formats import guess_format, read_format
from kpedge.datasets.labels import format_row
from kpedge.errors import DataError, UsageError
from kpedge.keypoints import FACES21_MEAN


def photo(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, (90, 120, 3), np.uint8))


@pytest.fixture
def faces(tmp_path):
    """Two photos with a face each; the boxes are those that follow from the 21 points."""
    root = tmp_path / "faces"
    lines = []
    for number in range(2):
        photo(root / f"{number}.png", number)
        points = FACES21_MEAN * 60 + (20 + number, 15)
        points[14] += (4, 3)  # the mouth's middle, which the five points of MTFL do not tell
        points[:6] -= (0, 5)
        lines.append(format_row(f"{number}.png", box_of_points(points), points))
    (root / "label.txt").write_text("\n".join(lines))
    return root


@pytest.mark.parametrize("header", ["image,x1,y1,x2,y2", "filename,xmin,ymin,xmax,ymax", "File,a,b,c,d,kind"])
def test_boxes_with_any_header(tmp_path, header):
    photo(tmp_path / "a.png")
    (tmp_path / "boxes.csv").write_text(f"{header}\na.png,3,4,50,60\na.png;3;4;50;60\n")
    labels = read_format(tmp_path)
    assert [row.box.tolist() for row in labels.rows] == [[3, 4, 50, 60]]
    assert [str(problem).partition(";")[2] for problem in labels.problems] == [" commas are to part the columns"]


def test_a_table_of_widths_is_not_read_as_corners(tmp_path):
    (tmp_path / "boxes.csv").write_text("image,x,y,width,height\na.png,3,4,50,60\n")
    with pytest.raises(DataError, match="called 'width', expected image,x1,y1,x2,y2"):
        read_format(tmp_path)
    (tmp_path / "boxes.csv").write_text("a.png,x,y,z,60\na.png,3,4,50,60\n")
    assert [problem.where for problem in read_format(tmp_path).problems] == ["boxes.csv:1"]


def test_a_broken_first_row_does_not_hide_mtfl(tmp_path):
    row = " lfw\\a.jpg 10 30 20 12 28 10 10 20 30 30 1 2 2 3"
    (tmp_path / "training.txt").write_text(f"{row} 7\n{row}\n{row}\n")
    assert guess_format(tmp_path) == "mtfl"
    labels = read_format(tmp_path)
    assert (len(labels.rows), [problem.where for problem in labels.problems]) == (2, ["training.txt:1"])


def test_the_test_folder_of_voc(tmp_path):
    for split in ("train", "test"):
        photo(tmp_path / split / "a.png", len(split))
        box = "<xmin>3</xmin><ymin>4</ymin><xmax>30</xmax><ymax>40</ymax>"
        objects = f"<object><name>face</name><bndbox>{box}</bndbox></object>"
        (tmp_path / split / "a.xml").write_text(f"<annotation><filename>a.png</filename>{objects}</annotation>")
    assert read_format(tmp_path).test == ("test/a.png",)


def test_the_test_split_of_voc_with_blanks_in_names(tmp_path):
    for number, name in enumerate(("a b", "c", "d 1")):
        photo(tmp_path / "photos" / f"{name}.png", number)
    rows = [f"{name}.png,3,4,30,40" for name in ("a b", "c", "d 1")]
    (tmp_path / "photos" / "boxes.csv").write_text("\n".join(rows))
    (tmp_path / "photos" / "test_images.txt").write_text("a b.png\nd 1.png\n")
    convert(tmp_path / "photos", tmp_path / "voc", "voc")
    assert read_format(tmp_path / "voc").test == ("JPEGImages/a b.png", "JPEGImages/d 1.png")


def test_cvats_own_form_is_named(tmp_path):
    (tmp_path / "annotations.xml").write_text(
        "<?xml version='1.0'?>\n<annotations><version>1.1</version></annotations>"
    )
    assert "of CVAT export COCO" in str(read_format(tmp_path).problems[0])


def test_a_category_that_is_not_there(tmp_path):
    content = {"images": [], "annotations": [{"category_id": 1}], "categories": [{"id": 1, "name": "head"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="no annotation of a face, of a category called cat") as raised:
        read_format(tmp_path, only=["cat"])
    assert "categories: head" in raised.value.advice


def test_labels_without_their_photos(tmp_path):
    (tmp_path / "labels").mkdir()
    for name in "ab":
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    report, _ = check(tmp_path / "labels")
    assert {problem.kind for problem in report.problems} == {"missing photo"}
    assert "give the folder that holds labels and photos" in report.findings[0].advice


def test_a_broken_row_of_yolo_is_no_class(tmp_path):
    photo(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n0,0.5,0.5,0.2,0.2\n")
    labels = read_format(tmp_path)
    assert (len(labels.rows), len(labels.problems), labels.remarks) == (1, 1, ())


def test_yolo_in_pixels(tmp_path):
    for name in "abc":
        photo(tmp_path / f"{name}.png", ord(name))
        (tmp_path / f"{name}.txt").write_text("0 50 40 20 20\n")
    (tmp_path / "labels").mkdir()
    for name in "abc":
        (tmp_path / f"{name}.txt").rename(tmp_path / "labels" / f"{name}.txt")
    report, _ = check(tmp_path, label_format="yolo")
    assert "fractions of the photo" in report.findings[0].advice


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match=r"no label\.txt in this folder"):
        guess_format(tmp_path)
    may = os.access  # root may read everything
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "a.json" and may(path, mode))
    with pytest.raises(DataError, match=r"a\.json: cannot be read: permission denied"):
        guess_format(tmp_path)


def test_nothing_is_written_into_the_folder_that_is_read(faces):
    with pytest.raises(UsageError, match="lies in"):
        convert(faces, faces / "coco", "coco")
    assert not (faces / "coco").exists()
    convert(faces / "label.txt", faces / "coco", "coco")


def test_a_box_that_fewer_points_do_not_give_is_counted(faces, tmp_path):
    assert convert(faces, tmp_path / "pts", "pts").dropped == {}, "it follows again"
    dropped = convert(faces, tmp_path / "mtfl", "mtfl").dropped
    assert dropped["boxes that do not follow from the points"] == 2
    alone = convert(tmp_path / "pts", tmp_path / "mtfl of pts", "mtfl").dropped
    assert set(alone) == {"points that faces5 does not have"}, "pts has no boxes"
