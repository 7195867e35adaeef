"""Labels as other tools and other machines write them: each gives the same twelve faces."""

import json
import shutil
import unicodedata

import cv2
import numpy as np
import pytest
from conftest import noise_photo, turned_jpeg

from kpedge.cli.main import main
from kpedge.cli.options import prepared_set
from kpedge.core.boxes import box_of_points
from kpedge.core.errors import DataError
from kpedge.core.keypoints import FACES5, FACES21, FACES21_MEAN, convert_points
from kpedge.data.convert import convert
from kpedge.data.formats import FORMATS, WRITABLE, read_format
from kpedge.data.formats.label import format_row

COUNT, WIDTH, HEIGHT = 12, 160, 120
NAMES = [f"{number:02}.jpg" for number in range(COUNT)]


def face(number):
    """The points of a photo's face, (21, 2): the mean face, a little disturbed, in three decimals."""
    rng = np.random.default_rng(number)
    scale, middle = rng.uniform(40, 60), rng.uniform((60, 50), (100, 70))
    return (FACES21_MEAN * scale + middle + rng.normal(0, 0.4, (21, 2))).round(3)


FACES = [face(number) for number in range(COUNT)]
FIVE = [convert_points(points, FACES21, FACES5) for points in FACES]


def label_lines(names=NAMES):
    return [format_row(name, box_of_points(points), points) for name, points in zip(names, FACES, strict=True)]


def coco_of(keypoints, names=FACES21.points, **image):
    """A COCO document in which `keypoints(points)` are those of each face."""
    images = [{"id": n, "file_name": name, "width": WIDTH, "height": HEIGHT, **image} for n, name in enumerate(NAMES)]
    faces = [{"id": n, "image_id": n, "category_id": 1, "keypoints": keypoints(FACES[n])} for n in range(COUNT)]
    categories = [{"id": 1, "name": "face", "keypoints": list(names)}]
    return {"images": images, "annotations": faces, "categories": categories}


def flat(flag):
    return lambda points: [value for x, y in points.tolist() for value in (x, y, flag)]


@pytest.fixture(scope="module")
def shared_photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(NAMES):
        noise_photo(root / name, number, size=(WIDTH, HEIGHT))
    return root


@pytest.fixture
def photos(shared_photos, tmp_path):
    return shutil.copytree(shared_photos, tmp_path / "set")


def same(root, truth=FACES, tolerance=1e-3, **options):
    """Read a folder, and check its faces against the truth; all photos are found."""
    labels = read_format(root, **options)
    assert labels.problems == ()
    assert len(labels.rows) == COUNT
    rows = sorted(labels.rows, key=lambda row: row.photo.lower())
    for row, points in zip(rows, truth, strict=True):
        assert (labels.root / row.photo).is_file()
        assert np.abs(row.keypoints - points).max() < tolerance
    return labels


# How rows are written


@pytest.mark.parametrize(
    ("separator", "decimal", "end"),
    [(",", ".", ""), (", ", ".", ""), (";", ".", ""), (";", ",", ""), ("\t", ".", ""), (",", ".", "§")],
)
def test_rows_of_tables(photos, separator, decimal, end):
    lines = [
        line.replace(" ", "§").replace(".", decimal).replace(f"{decimal}jpg", ".jpg") + end for line in label_lines()
    ]
    (photos / "label.txt").write_text("\r\n".join(lines).replace("§", separator), encoding="utf-8-sig")
    same(photos)


LABEL_ENDINGS = (".txt", ".csv", ".xml", ".json", ".pts", ".yaml")
ENCODINGS = {
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16 without a mark": lambda text: text.encode("utf-16-be"),
    "utf-32": lambda text: text.encode("utf-32"),
    "utf-8 with a mark": lambda text: text.encode("utf-8-sig"),
    "old Macs' line ends": lambda text: text.replace("\n", "\r").encode(),
    "DOS' end of file": lambda text: text.replace("\n", "\r\n").encode() + b"\x1a",
    "after a power cut": lambda text: text.encode() + bytes(500),
}


@pytest.mark.parametrize("target", [name for name in WRITABLE if FORMATS[name].scheme in (None, FACES5)])
def test_texts_of_other_systems(photos, tmp_path, target):
    """Label files as another system saves them, with their endings in capitals, give the same labels."""
    (photos / "label.txt").write_text("\n".join(label_lines()))
    convert(photos, tmp_path / "there", target)
    truth = read_format(tmp_path / "there", name=target)
    written = [path for path in (tmp_path / "there").rglob("*.*") if path.suffix in LABEL_ENDINGS]
    texts = {path: path.read_text() for path in written if path.name != "convert.json"}
    if target not in ("boxes", "course-lists"):
        texts = {path.rename(path.with_suffix(path.suffix.upper())): text for path, text in texts.items()}
    for name, encode in ENCODINGS.items():
        for path, text in texts.items():
            path.write_bytes(encode(text))
        labels = read_format(tmp_path / "there", name=target)
        assert labels.problems == (), name
        for row, other in zip(labels.rows, truth.rows, strict=True):
            assert row.photo == other.photo
            assert np.array_equal(row.keypoints, other.keypoints, equal_nan=True)


@pytest.mark.parametrize("first", ["# drawn by hand, all of them", "image,left,top,right,bottom", "name x1 y1 x2 y2"])
def test_a_row_that_names_columns_and_a_comment_are_no_labels(photos, first):
    (photos / "label.txt").write_text("\n".join([first, *label_lines()]))
    same(photos)


@pytest.mark.parametrize(
    "form",
    [
        "version : 1\nn_points : 21\n{{\n{}\n}}\n",
        "version: 1\nn_points:  21\n{{\n{}\n",
        "n_points: 21\n{{\n{}\n}}",
        "{}\n",
        "# drawn by hand\nversion: 1.0\nn_points: 21 // of faces21\n{{\n{} # the last\n}}\n",
        "version: 1\nn_points: 21\n{{ {} }}",
    ],
)
@pytest.mark.parametrize("separator", [" ", ", "])
def test_pts_files_of_other_tools(photos, form, separator):
    for name, points in zip(NAMES, FACES, strict=True):
        rows = "\n".join(separator.join(f"{value:.3f}" for value in point) for point in points + 1)
        (photos / name).with_suffix(".pts").write_text(form.format(rows))
    same(photos)


@pytest.mark.parametrize(
    "keypoints",
    [
        flat(True),
        flat("2"),
        lambda points: [[x, y, 2.0] for x, y in points.tolist()],
        lambda points: [[x, y] for x, y in points.tolist()],
        lambda points: [str(value) for x, y in points.tolist() for value in (x, y, 1)],
    ],
)
def test_coco_of_other_tools(photos, keypoints):
    (photos / "a.json").write_text(json.dumps(coco_of(keypoints)))
    same(photos)


def test_points_of_coco_that_are_null_are_not_labelled(photos):
    content = coco_of(lambda points: [[None, None, None], *[[x, y, 2] for x, y in points[1:].tolist()]])
    (photos / "a.json").write_text(json.dumps(content))
    assert {int(row.labelled.sum()) for row in read_format(photos).rows} == {20}


def test_names_that_are_numbers_sort_as_numbers(photos):
    names = sorted(map(str, range(1, 22)))
    order = [int(name) - 1 for name in names]
    (photos / "a.json").write_text(json.dumps(coco_of(lambda points: flat(2)(points[order]), names)))
    same(photos, scheme=FACES21)


def test_yolo_settings_in_a_file_of_any_name(photos):
    (photos / "labels").mkdir()
    for name, points in zip(NAMES, FACES, strict=True):
        box = box_of_points(points)
        size = np.array([WIDTH, HEIGHT])
        middle, side = ((box[:2] + box[2:]) / 2 + 0.5) / size, (box[2:] - box[:2]) / size
        numbers = [*middle, *side, *np.column_stack([(points + 0.5) / size, np.full(21, 2)]).ravel()]
        text = " ".join(["0", *(f"{number:.8f}" for number in numbers)])
        (photos / "labels" / name).with_suffix(".txt").write_text(text)
        (photos / name).rename(photos / "labels" / name)
    (photos / "notes.yml").write_text("author: me\n")
    (photos / "faces-pose.yaml").write_text("kpt_shape:\n  - 21\n  - 3\nnames: {0: face}  # one\nflip_idx: []\n")
    same(photos)
    (photos / "faces-pose.yaml").write_text("kpt_shape: [21, 3\nnames: x\n")
    with pytest.raises(DataError, match=r"faces-pose\.yaml:2: not YAML"):
        read_format(photos)
    (photos / "faces-pose.yaml").write_text("a: " + "[" * 700)
    with pytest.raises(DataError, match=r"faces-pose\.yaml"):
        read_format(photos)


# Formats of other tools


@pytest.mark.parametrize("kind", ["header", "label", "commas"])
def test_celeba_is_told_from_mtfl(photos, kind):
    rows = [" ".join([name, *(f"{v:.3f}" for v in points.ravel())]) for name, points in zip(NAMES, FIVE, strict=True)]
    parts = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    header = [str(COUNT), " ".join(f"{part}_{axis}" for part in parts for axis in "xy")]
    if kind == "label":
        (photos / "label.txt").write_text("\n".join(rows))
    else:
        text = "\n".join([*header, *rows] if kind == "header" else [f"image_id {header[1]}", *rows])
        text = text.replace(" ", ",") if kind == "commas" else text
        (photos / "list_landmarks_align_celeba.txt").write_text(text)
    assert same(photos, FIVE).format == "celeba"
    for path in photos.glob("l*.txt"):
        path.unlink()
    rows = [" ".join([name, *(f"{v:.3f}" for v in points.T.ravel())]) for name, points in zip(NAMES, FIVE, strict=True)]
    (photos / "label.txt").write_text("\n".join(rows))
    assert same(photos, FIVE).format == "mtfl"


def test_retinaface_labels(photos):
    lines = []
    for name, points in zip(NAMES, FIVE, strict=True):
        flags = np.column_stack([points, np.zeros(5)])
        flags[0, 2] = 1
        lines += [f"# {name}", " ".join(map(str, [20, 10, 60, 70, *flags.ravel().tolist(), 0.9]))]
    lines += ["5 5 30 40 " + "-1 -1 -1 " * 5 + "0.2", "x 5 30 40"]
    (photos / "label.txt").write_text("\n".join(lines))
    labels = read_format(photos)
    assert (labels.format, len(labels.rows), len(labels.problems)) == ("retinaface", COUNT + 1, 1)
    assert np.allclose(labels.rows[3].keypoints, FIVE[3])
    assert labels.rows[0].box.tolist() == [19.5, 9.5, 79.5, 79.5]
    assert labels.rows[0].visible.tolist() == [False, True, True, True, True]
    assert not labels.rows[-1].labelled.any()


def test_parts_of_imglab_with_numbers_are_positions(photos):
    parts = [
        "".join(f"<part name='{k:02}' x='{x:.0f}' y='{y:.0f}'/>" for k, (x, y) in enumerate(points.tolist()))
        for points in FACES
    ]
    images = [
        f"<image file='{name}'><box top='10' left='20' width='60' height='70'>{part}</box>"
        "<box top='1' left='1' width='9' height='9' ignore='1'/></image>"
        for name, part in zip(NAMES, parts, strict=True)
    ]
    noise_photo(photos / "empty.png")
    text = "".join([*images, "<image file='empty.png'/>"])
    (photos / "labels_train.xml").write_text(f"<?xml version='1.0'?>\n<dataset><images>{text}</images></dataset>")
    shutil.copy(photos / "labels_train.xml", photos / "labels.xml")
    labels = same(photos, tolerance=0.51)
    assert labels.scheme == FACES21, "their number is that of faces21"
    assert labels.rows[0].box.tolist() == [19.5, 9.5, 79.5, 79.5]
    assert len(labels.ignored) == COUNT
    assert labels.background == ("empty.png",)


@pytest.mark.parametrize("shapes", ["skeleton", "points", "grouped"])
def test_cvats_own_xml(photos, shapes):
    images = []
    for number, (name, points) in enumerate(zip(NAMES, FACES, strict=True)):
        named = [
            f'<points label="{label}" outside="0" occluded="0" points="{x},{y}" group_id="{number + 1}"/>'
            for label, (x, y) in zip(FACES21.points, points.tolist(), strict=True)
        ]
        box = f'<box label="face" xtl="20" ytl="10" xbr="140" ybr="110" group_id="{number + 1}"/>'
        content = {
            "skeleton": f'<skeleton label="face">{"".join(named[::-1])}</skeleton>',
            "points": "".join(named).replace(f' group_id="{number + 1}"', ""),
            "grouped": box + "".join(named),
        }[shapes]
        images.append(f'<image id="{number}" name="{name}" width="{WIDTH}" height="{HEIGHT}">{content}</image>')
    (photos / "annotations.xml").write_text(f"<annotations><version>1.1</version>{''.join(images)}</annotations>")
    labels = same(photos)
    assert (labels.format, labels.scheme.name) == ("cvat", "faces21")
    if shapes == "grouped":
        assert labels.rows[0].box.tolist() == [19.5, 9.5, 139.5, 109.5]


@pytest.mark.parametrize("group", [7, None])
def test_labelme(photos, group):
    for name, points in zip(NAMES, FACES, strict=True):
        shapes = [{"label": "face", "points": [[20, 10], [140, 110]], "group_id": group, "shape_type": "rectangle"}]
        shapes += [
            {"label": label, "points": [point], "group_id": group, "shape_type": "point"}
            for label, point in zip(FACES21.points, points.tolist(), strict=True)
        ]
        document = {"shapes": shapes, "imagePath": f"..\\photos\\{name}", "imageHeight": HEIGHT, "imageWidth": WIDTH}
        (photos / name).with_suffix(".json").write_text(json.dumps(document))
    labels = same(photos)
    assert labels.format == "labelme"
    assert labels.rows[0].box.tolist() == [20, 10, 140, 110]
    with pytest.raises(DataError, match="no object is called nosuch"):
        read_format(photos, only=["nosuch"])
    (photos / NAMES[0]).with_suffix(".json").write_text('{"shapes": [{"shape_type": "point"}, 3]')
    assert [problem.where for problem in read_format(photos).problems] == ["00.json"]


def test_label_studios_own_json(photos):
    tasks, key = [], "keypointlabels"
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    for number, (name, points) in enumerate(zip(NAMES, FACES, strict=True)):
        percent = (points + 0.5) / [WIDTH, HEIGHT] * 100
        results = [
            {**size, "id": label, "type": "keypointlabels", "parentID": "box", "value": {"x": x, "y": y, key: [label]}}
            for label, (x, y) in zip(FACES21.points, percent.tolist(), strict=True)
        ]
        box = {"x": 10.0, "y": 10.0, "width": 80.0, "height": 80.0, "rectanglelabels": ["face"]}
        results.append({**size, "id": "box", "type": "rectanglelabels", "value": box})
        data = {"image": f"/data/upload/1/ab12cd34-{name}"}
        tasks.append({"id": number, "data": data, "annotations": [{"result": results}]})
    tasks.append({"id": 99, "data": {"image": "/data/upload/1/x.jpg"}, "annotations": []})
    (photos / "export.json").write_text(json.dumps(tasks))
    labels = same(photos)
    assert (labels.format, labels.dropped["images without a label"]) == ("label-studio", 1)
    assert np.allclose(labels.rows[0].box, [15.5, 11.5, 143.5, 107.5])


# Names of photos


@pytest.mark.parametrize(
    ("write", "store"),
    [
        (lambda name: f"C:\\Users\\me\\my photos\\{name}", lambda name: name),
        (lambda name: f'"my {name}"', lambda name: f"my {name}"),
        (lambda name: f"file:///my%20{name}?v=1", lambda name: f"my {name}"),
        (lambda name: f"/home/me/faces/{name}", lambda name: f"photos/{name}"),
        (lambda name: name, lambda name: name.replace(".jpg", ".JPG")),
        (lambda name: name.removesuffix(".jpg"), lambda name: name),
        (lambda name: f"v1.{name.removesuffix('.jpg')}", lambda name: f"v1.{name}"),
        (lambda name: f"faces/{name}".replace(".jpg", ".PNG"), lambda name: f"photos/{name}"),
        (lambda name: f"Faces/{name}", lambda name: f"faces/{name}"),
        (
            lambda name: unicodedata.normalize("NFC", f"porträt {name}"),
            lambda name: unicodedata.normalize("NFD", f"porträt {name}"),
        ),
    ],
)
@pytest.mark.parametrize("target", ["label", "coco"])
def test_photos_are_found_however_they_are_named(photos, write, store, target):
    for name in NAMES:
        (photos / store(name)).parent.mkdir(exist_ok=True)
        (photos / name).rename(photos / store(name))
    if target == "label":
        (photos / "label.txt").write_text("\n".join(label_lines(map(write, NAMES))))
    else:
        content = coco_of(flat(2))
        for image in content["images"]:
            image["file_name"] = write(image["file_name"])
        (photos / "a.json").write_text(json.dumps(content))
    labels = read_format(photos)
    assert (len(labels.rows), labels.problems) == (COUNT, ())
    assert all((photos / row.photo).is_file() for row in labels.rows)
    assert len({row.photo for row in labels.rows}) == COUNT


def test_a_photo_of_another_ending_is_not_guessed_where_there_are_two(photos):
    """Nor where the photo of the name is there."""
    (photos / "a.png").write_bytes((photos / NAMES[0]).read_bytes())
    (photos / "a.jpg").write_bytes((photos / NAMES[0]).read_bytes())
    (photos / "label.txt").write_text("\n".join(label_lines(["a", "a.bmp", "a.png", *NAMES[3:]])))
    assert [row.photo for row in read_format(photos).rows[:3]] == ["a", "a.bmp", "a.png"]


# What is certainly wrong


def mirrored(photos):
    order = FACES21.mirror_order
    rows = [format_row(name, box_of_points(p), p[order]) for name, p in zip(NAMES, FACES, strict=True)]
    (photos / "label.txt").write_text("\n".join(rows))


def as_viewers_turn_it(photos):
    for name in NAMES[:3]:
        image = cv2.rotate(cv2.imread(str(photos / name)), cv2.ROTATE_90_COUNTERCLOCKWISE)
        (photos / name).write_bytes(turned_jpeg(cv2.imencode(".jpg", image)[1].tobytes()))
    (photos / "a.json").write_text(json.dumps(coco_of(flat(2))))


@pytest.mark.parametrize("spoil", [mirrored, as_viewers_turn_it])
def test_labels_that_are_certainly_wrong_stop_what_is_made_from_them(photos, tmp_path, spoil, capsys):
    spoil(photos)
    assert main(["data", "check", str(photos)]) == 0
    assert "warning: " in capsys.readouterr().err
    for command in (["convert", "--to", "coco"], ["prepare"]):
        out = tmp_path / command[0]
        arguments = ["data", command[0], str(photos), *command[1:], "--out", str(out)]
        assert main(arguments) == 1
        assert "add --force to use the labels as they are" in capsys.readouterr().err
        assert not out.exists()
        assert main([*arguments, "--force"]) == 0
        assert "warning: " in capsys.readouterr().err


def test_training_stops_at_labels_that_are_certainly_wrong(photos, tmp_path):
    mirrored(photos)
    with pytest.raises(DataError, match="left and right look swapped"):
        prepared_set(photos, tmp_path / "work")
    assert len(prepared_set(photos, tmp_path / "work", trust=True))
