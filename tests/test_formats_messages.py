"""What labels of other tools are told that are nearly right: how it is said, and what is still read."""

import json

import pytest
from conftest import noise_photo

from kpedge.cli.main import main
from kpedge.core.boxes import box_of_points
from kpedge.core.errors import DataError, UsageError
from kpedge.core.keypoints import FACES5, FACES21_MEAN, scheme_named
from kpedge.data.check import check
from kpedge.data.convert import convert
from kpedge.data.formats import FORMATS, matching_formats, read_format
from kpedge.data.formats.label import format_row

SMALL = (120, 90)


@pytest.fixture
def faces(tmp_path):
    """Two photos with a face each; the boxes are those that follow from the 21 points."""
    root = tmp_path / "faces"
    lines = []
    for number in range(2):
        noise_photo(root / f"{number}.png", number, size=SMALL)
        points = FACES21_MEAN * 60 + (20 + number, 15)
        points[14] += (4, 3)  # the mouth's middle, which the five points of MTFL do not tell
        points[:6] -= (0, 5)
        lines.append(format_row(f"{number}.png", box_of_points(points), points))
    (root / "label.txt").write_text("\n".join(lines))
    return root


@pytest.mark.parametrize("header", ["image,x1,y1,x2,y2", "filename,xmin,ymin,xmax,ymax", "File,a,b,c,d,kind"])
def test_boxes_with_any_header(tmp_path, header):
    noise_photo(tmp_path / "a.png", size=SMALL)
    (tmp_path / "boxes.csv").write_text(f"{header}\na.png,3,4,50,60\na.png;3;4;50;60\n")
    labels = read_format(tmp_path)
    assert [row.box.tolist() for row in labels.rows] == 2 * [[3, 4, 50, 60]]
    assert labels.problems == ()


def test_a_table_of_widths_is_not_read_as_corners(tmp_path):
    (tmp_path / "boxes.csv").write_text("image,x,y,width,height\na.png,3,4,50,60\n")
    with pytest.raises(DataError, match="called 'width', expected image,x1,y1,x2,y2"):
        read_format(tmp_path)
    (tmp_path / "boxes.csv").write_text("a.png,x,y,z,60\na.png,3,4,50,60\n")
    assert [problem.where for problem in read_format(tmp_path).problems] == ["boxes.csv:1"]


def test_a_broken_first_row_does_not_hide_mtfl(tmp_path):
    row = " lfw\\a.jpg 10 30 20 12 28 10 10 20 30 30 1 2 2 3"
    (tmp_path / "training.txt").write_text(f"{row} 7\n{row}\n{row}\n")
    assert matching_formats(tmp_path)[0] == "mtfl"
    labels = read_format(tmp_path)
    assert (len(labels.rows), [problem.where for problem in labels.problems]) == (2, ["training.txt:1"])


@pytest.mark.parametrize("kept", ["test", "testset"])
def test_the_test_folder_of_voc(tmp_path, kept):
    for split in ("train", kept):
        noise_photo(tmp_path / split / "a.png", len(split), size=SMALL)
        box = "<xmin>3</xmin><ymin>4</ymin><xmax>30</xmax><ymax>40</ymax>"
        objects = f"<object><name>face</name><bndbox>{box}</bndbox></object>"
        (tmp_path / split / "a.xml").write_text(f"<annotation><filename>a.png</filename>{objects}</annotation>")
    assert read_format(tmp_path).test == (f"{kept}/a.png",)


def test_the_test_split_of_voc_with_blanks_in_names(tmp_path):
    for number, name in enumerate(("a b", "c", "d 1")):
        noise_photo(tmp_path / "photos" / f"{name}.png", number, size=SMALL)
    rows = [f"{name}.png,3,4,30,40" for name in ("a b", "c", "d 1")]
    (tmp_path / "photos" / "boxes.csv").write_text("\n".join(rows))
    (tmp_path / "photos" / "test_images.txt").write_text("a b.png\nd 1.png\n")
    convert(tmp_path / "photos", tmp_path / "voc", "voc")
    assert read_format(tmp_path / "voc").test == ("JPEGImages/a b.png", "JPEGImages/d 1.png")


def test_labels_without_their_photos(tmp_path):
    (tmp_path / "labels").mkdir()
    for name in "ab":
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    report, _ = check(tmp_path / "labels")
    assert {problem.kind for problem in report.problems} == {"missing photo"}
    assert "give the folder that holds labels and photos" in report.findings[0].advice


def test_a_broken_row_of_yolo_is_no_class(tmp_path):
    noise_photo(tmp_path / "a.png", size=SMALL)
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n0,0.5,0.5,0.2,0.2\n")
    labels = read_format(tmp_path)
    assert (len(labels.rows), len(labels.problems), labels.remarks) == (1, 1, ())


def test_yolo_in_pixels(tmp_path):
    for name in "abc":
        noise_photo(tmp_path / f"{name}.png", ord(name), size=SMALL)
        (tmp_path / f"{name}.txt").write_text("0 50 40 20 20\n")
    (tmp_path / "labels").mkdir()
    for name in "abc":
        (tmp_path / f"{name}.txt").rename(tmp_path / "labels" / f"{name}.txt")
    report, _ = check(tmp_path, label_format="yolo")
    assert "fractions of the photo" in report.findings[0].advice


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match=r"a\.json: JSON without images and annotations"):
        matching_formats(tmp_path)[0]
    (tmp_path / "a.json").unlink()
    (tmp_path / "a.json").symlink_to(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"a\.json"):
        matching_formats(tmp_path)[0]


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


def told(root, name="auto"):
    """Message and advice of what cannot be read."""
    with pytest.raises(DataError) as raised:
        read_format(root, None, name)
    return str(raised.value), raised.value.advice


@pytest.mark.parametrize("name", ["auto", "coco"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", ":1: not JSON (cut off?)"),
        ('{"images": [\n{"id": 1', ":2: not JSON (cut off?)"),
        ('{"file": "a.p', ":1: not JSON (cut off?)"),
        ('{\n"images": 1,}', ":2: not JSON: "),
        ('{"images": []}', ": JSON without images and annotations"),
        ("[1, 2]", ": JSON without images and annotations"),
    ],
)
def test_json_that_is_not_coco_is_named(tmp_path, name, content, message):
    path = tmp_path / "a.json"
    path.write_text(content)
    (tmp_path / "convert.json").write_text("{")  # ours, and no labels
    said, advice = told(tmp_path, name)
    assert said.startswith(f"{path}{message}")
    assert "export" in advice
    assert told(path)[0].startswith(f"{path}{message}")


def test_what_lies_where_no_labels_are_is_told(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    assert "the folder is empty" in told(root)[0]
    noise_photo(root / "in" / "a.png", size=SMALL)
    said, advice = told(root)
    assert "1 photo, and no label.txt" in said
    assert "--format background" in advice
    assert "ibug68-csv" not in advice, "nothing there can be labels of any format"
    assert told(root / "in" / "a.png") == (f"{root}/in/a.png: this is a photo", "give its folder")
    (root / "points.mat").write_bytes(b"MATLAB")
    assert all(name in told(root)[1] for name in FORMATS)
    assert "no labels of a format that kpedge knows" in told(root / "points.mat")[0]


@pytest.mark.parametrize("flag", [3, -1, 0.5])
def test_a_visibility_that_coco_does_not_have_is_a_problem(tmp_path, flag):
    face = {"image_id": 7, "category_id": 1, "bbox": [3, 4, 20, 30]}
    content = {
        "images": [{"id": 7, "file_name": "a.png"}],
        "annotations": [
            {**face, "id": 1, "keypoints": [4, 5, 2, 6, 7, 1, 0, 0, 0]},
            {**face, "id": 2, "keypoints": [4, 5, 2, 6, 7, flag, 0, 0, 0]},
        ],
        "categories": [{"id": 1, "name": "face", "keypoints": ["a", "b", "c"]}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    labels = read_format(tmp_path)
    assert [row.labelled.tolist() for row in labels.rows] == [[True, True, False]]
    assert [(problem.kind, str(problem)) for problem in labels.problems] == [
        ("visibility", f"a.json, annotation 2: v of keypoint 2 is {flag:g}, expected 0, 1 or 2")
    ]


def test_points_that_never_follow_are_told(faces, tmp_path, capsys):
    said = "of ibug68's 68 points 18 follow from faces21; the other 50 are not labelled"
    assert said in read_format(faces, scheme_named("ibug68")).remarks
    assert read_format(faces, FACES5).remarks == (), "all of them follow"
    for command in (["check"], ["prepare", "--out", str(tmp_path / "set")]):
        for _ in range(2):  # the second time the prepared set is there
            assert main(["data", command[0], str(faces), "--scheme", "ibug68", *command[1:]]) == 0
            assert capsys.readouterr().err.count(f"note: {said}") == 1
    boxes = tmp_path / "boxes"
    convert(faces, boxes, "boxes")
    assert read_format(boxes, scheme_named("ibug68")).remarks == (), "it has no points at all"
