"""What labels of other tools are told that are nearly right: how it is said, and what is still read."""

import json

import numpy as np
import pytest
from conftest import noise_photo

from kpedge.cli.main import main
from kpedge.core.boxes import box_of_points
from kpedge.core.errors import DataError, UsageError
from kpedge.core.keypoints import FACES5, FACES21_MEAN, scheme_named
from kpedge.data.check import check
from kpedge.data.convert import convert
from kpedge.data.formats import FORMATS, matching_formats, read_format
from kpedge.data.formats.format import FormatCapabilities as _CAN
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


@pytest.mark.parametrize("folder", ["labels", "."])
def test_yolo_in_pixels_stops_every_command(tmp_path, capsys, folder):
    root = tmp_path / "set"
    for name in "abc":
        noise_photo(root / f"{name}.png", ord(name), size=SMALL)
        (root / folder).mkdir(exist_ok=True)
        (root / folder / f"{name}.txt").write_text("0 50 40 20 20\n")
    out = ["--out", str(tmp_path / "out")]
    for command in (["check"], ["convert", "--to", "boxes", *out], ["prepare", "--frames", *out]):
        assert main(["data", command[0], str(root), *command[1:]]) == 1
        assert "fractions: divide x and width" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("settings", ["names: [face]", "nc: 1"])
def test_classes_beyond_the_settings_of_yolo_are_named(tmp_path, settings):
    noise_photo(tmp_path / "a.png", size=SMALL)
    rows = ["0 .5 .5 .2 .2", "0.0 .5 .5 .2 .2", "1 .5 .5 .2 .2", "-1 .5 .5 .2 .2", "face .5 .5 .2 .2"]
    (tmp_path / "a.txt").write_text("\n".join(rows))
    assert not [one for one in read_format(tmp_path).problems if one.where == "a.txt:3"], "nothing names classes"
    (tmp_path / "data.yaml").write_text(settings)
    labels = read_format(tmp_path)
    assert [row.line for row in labels.rows] == [1, 2]
    assert [(one.kind, one.where) for one in labels.problems] == [("class", f"a.txt:{line}") for line in (3, 4, 5)]


def test_settings_of_yolo_with_impossible_numbers_are_named(tmp_path):
    noise_photo(tmp_path / "a.png", size=SMALL)
    (tmp_path / "a.txt").write_text("0 .5 .5 .2 .2")
    (tmp_path / "data.yaml").write_text("kpt_shape: [.inf, 3]")
    with pytest.raises(DataError, match="kpt_shape must be"):
        read_format(tmp_path)
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "notes.json").write_text('{"categories": [{"id": 1e999, "name": "face"}]}')
    assert len(read_format(tmp_path).rows) == 1


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if _CAN.FILE_PER_PHOTO in form.capabilities])
def test_a_second_label_file_of_a_photo_is_named(faces, tmp_path, capsys, name):
    root = tmp_path / "set"
    convert(faces, root, name)
    first = FORMATS[name].find(root)[0]
    second = first.with_suffix(first.suffix.upper())
    if second.exists():
        pytest.skip("this file system takes both names for one")
    second.write_bytes(first.read_bytes())
    for command in ("check", "convert --to boxes --out", "prepare --frames --out"):
        first_word, *flags = command.split()
        out = [str(tmp_path / first_word)] if flags else []
        assert main(["data", first_word, str(root), *flags, *out]) == 0
        said = capsys.readouterr().err
        assert "1 photo has faces in several files" in said
        assert first.name in said
        assert second.name in said


def test_files_and_photos_that_lose_to_others_are_named(faces, tmp_path):
    convert(faces, tmp_path / "set", "yolo")
    first = tmp_path / "set" / "images" / "train" / "0.png"
    first.with_suffix(".txt").write_text("0 .5 .5 .2 .2")
    first.with_suffix(".bmp").write_bytes(first.read_bytes())
    remarks = "; ".join(read_format(tmp_path / "set").remarks)
    assert "1 file outside labels/ not read: images/train/0.txt" in remarks
    assert "1 photo not used, next to another of that name: images/train/0." in remarks


@pytest.mark.parametrize("fraction", [500, 100])
@pytest.mark.parametrize("name", ["pts", "label"])
def test_fractions_are_recognised_wherever_pixels_are_counted_from(tmp_path, name, fraction):
    """300-W's count from 1, so that all of them lie outside the photo."""
    noise_photo(tmp_path / "a.png", size=SMALL)
    points = FACES21_MEAN * 60 / fraction + 0.1
    cells = [" ".join(map(str, point)) for point in points.tolist()]
    (tmp_path / "a.pts").write_text("\n".join(cells)) if name == "pts" else (tmp_path / "label.txt").write_text(
        format_row("a.png", box_of_points(points), points)
    )
    assert "fractions" in {finding.kind for finding in check(tmp_path)[0].findings}


@pytest.mark.parametrize(
    ("tool", "change", "kind"),
    [
        ("cvat", ("<box ", '<box rotation="30" '), "rotated"),
        ("label-studio", ('"rotation": 0', '"rotation": 30'), "rotated"),
        ("label-studio", ('"image_rotation": 0', '"image_rotation": 90'), "rotated"),
        ("label-studio", ('"rotation": 0', f'"rotation": {10**400}'), "not a number"),
        ("label-studio", ('"original_height": ', f'"original_height": {10**400}'), "not a number"),
        ("cvat", ('"left_eye_inner"', '"left_eye_outer"'), "point twice"),
        ("imglab", ('"left_eye_inner"', '"left_eye_outer"'), "point twice"),
    ],
)
def test_what_a_tool_rotated_or_named_twice_or_cannot_have_measured_is_a_problem(faces, tmp_path, tool, change, kind):
    rows = (faces / "label.txt").read_text().split("\n")
    moved = [[cells[0], *(str(float(cell) + 5) for cell in cells[1:5]), *cells[5:]] for cells in map(str.split, rows)]
    (faces / "label.txt").write_text("\n".join(map(" ".join, moved)))  # else CVAT gets no boxes
    convert(faces, tmp_path / "set", tool)
    path = FORMATS[tool].find(tmp_path / "set")[0]
    assert change[0] in path.read_text()
    path.write_text(path.read_text().replace(*change))
    assert {problem.kind for problem in read_format(tmp_path / "set").problems} == {kind}


@pytest.mark.parametrize("part", ["annotations", "predictions"])
def test_labels_without_a_face_are_an_error(faces, tmp_path, part):
    convert(faces, tmp_path / "set", "label-studio")
    path = tmp_path / "set" / "tasks.json"
    tasks = json.loads(path.read_text())
    for task in tasks:
        done = task.pop("annotations")
        task |= {part: [one | {"was_cancelled": True} for one in done]}
    path.write_text(json.dumps(tasks))
    with pytest.raises(DataError, match="no labelled face in it, only 2 "):
        read_format(tmp_path / "set")


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
    (root / "in" / "set.tar.gz").write_bytes(b"packed")
    assert "unpack" in told(root)[1]
    assert "unpack" in told(root / "in" / "set.tar.gz")[1]
    (root / "points.mat").write_bytes(b"MATLAB")
    assert all(name in told(root)[1] for name in FORMATS)
    (root / "labels.txt").write_text(format_row("in/a.png", np.array([1.0, 2, 30, 40]), np.ones((21, 2))))
    assert told(root)[1] == f"give it by itself: {root / 'labels.txt'}"
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
