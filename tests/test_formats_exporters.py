"""Folders in the forms that Label Studio's converter, Datumaro (and so CVAT) and Ultralytics write and ask for."""

import json
import shutil

import numpy as np
import pytest
from conftest import make_photos

from kpedge.core.keypoints import FACES5, FACES21
from kpedge.data.convert import convert
from kpedge.data.formats import matching_formats, read_format

POINTS = "0.4 0.3 2 0.6 0.3 2 0.5 0.5 2 0.4 0.7 2 0.6 0.7 2"


@pytest.fixture
def photos(tmp_path):
    """Three photos without labels."""
    folder = make_photos(tmp_path / "photos", 3)
    (folder / "label.txt").unlink()
    return sorted(folder.iterdir())


@pytest.fixture
def label_studio(photos, tmp_path):
    """YOLO with points: no `data.yaml`; the names are in `notes.json`."""
    root = tmp_path / "studio"
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for path in photos:
        shutil.copy(path, root / "images")
        (root / "labels" / f"{path.stem}.txt").write_text(f"0 0.5 0.5 0.4 0.6 {POINTS}")
    category = {"id": 0, "name": "face", "keypoints": list(FACES5.points)}
    (root / "notes.json").write_text(json.dumps({"categories": [category], "info": {"contributor": "Label Studio"}}))
    (root / "classes.txt").write_text("face\n")
    return root


def test_points_that_label_studio_names_are_read(label_studio):
    assert matching_formats(label_studio)[0] == "yolo"
    labels = read_format(label_studio)
    assert (labels.scheme, len(labels.rows), labels.problems) == (FACES5, 3, ())
    assert np.allclose(labels.rows[0].keypoints[0], [0.4 * 320 - 0.5, 0.3 * 240 - 0.5])
    assert len(read_format(label_studio, only=["face"]).rows) == 3


@pytest.mark.parametrize("notes", ["[]", "{", '{"categories": 3}', '{"categories": [{"id": "x", "name": 1}]}', '"a"'])
def test_notes_of_another_kind_are_no_settings(label_studio, notes):
    (label_studio / "notes.json").write_text(notes)
    labels = read_format(label_studio)
    assert {problem.kind for problem in labels.problems} == {"columns"}
    assert labels.problems[0].message.startswith("20 columns, expected 5")


def test_label_studio_has_boxes_alone_where_no_category_has_points(label_studio):
    (label_studio / "notes.json").write_text('{"categories": [{"id": 0, "name": "head"}]}')
    for path in (label_studio / "labels").iterdir():
        path.write_text("0 0.5 0.5 0.4 0.6")
    labels = read_format(label_studio, only=["head"])
    assert (len(labels.rows), labels.boxes_only) == (3, True)


@pytest.mark.parametrize(
    "names",
    ["kpt_names:\n  0:\n    - {0}\n    - {1}\n    - {2}\n  1:\n    - tail\n", "kpt_names:\n  0: [{0}, '{1}', {2}]\n"],
)
def test_names_of_points_in_the_settings(label_studio, names):
    (label_studio / "data.yaml").write_text(
        "kpt_shape: [3, 3]\n" + names.format("left_ear", "right_ear", "chin") + "names: [face]\n"
    )
    for path in (label_studio / "labels").iterdir():
        path.write_text("0 0.5 0.5 0.4 0.6 0.4 0.3 2 0.6 0.3 2 0.5 0.5 2")
    labels = read_format(label_studio)
    assert labels.scheme.points == ("left_ear", "right_ear", "chin")
    assert labels.scheme.mirror == ((0, 1),)
    (label_studio / "data.yaml").write_text("kpt_shape: [3, 3]\nkpt_names:\n  0: [one, two]\n")
    assert read_format(label_studio).scheme.points == ("1", "2", "3")  # names that do not fit are none


@pytest.mark.parametrize("line", ["data/obj_test_data/{}", "obj_test_data/{}", "./obj_test_data/{}", "{}"])
def test_darknet_lists_its_test_photos(photos, tmp_path, line):
    root = tmp_path / "darknet"
    for path, split in zip(photos, ("train", "train", "test"), strict=True):
        folder = root / f"obj_{split}_data"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
        (folder / f"{path.stem}.txt").write_text("0 0.5 0.5 0.4 0.6\n")
    (root / "obj.data").write_text(
        "classes = 1\ntrain = data/train.txt\ntest = data/test.txt\nnames = data/obj.names\n"
    )
    (root / "obj.names").write_text("face\n")
    (root / "test.txt").write_text(line.format(photos[2].name) + "\n")
    labels = read_format(root)
    assert len(labels.rows) == 3
    assert labels.test == (f"obj_test_data/{photos[2].name}",)


def test_what_is_written_suits_the_programs_that_read_it(tmp_path):
    source = make_photos(tmp_path / "source", 3)
    convert(source, tmp_path / "yolo", "yolo")
    settings = (tmp_path / "yolo" / "data.yaml").read_text().splitlines()
    assert not any(line.startswith("path:") for line in settings)  # Ultralytics takes it from where it is started
    names = settings[settings.index("kpt_names:") + 2 :]
    assert [json.loads(name.strip().removeprefix("- ")) for name in names] == list(FACES21.points)
    convert(source, tmp_path / "voc", "voc")  # Datumaro refuses names of objects that are not in the map
    assert "face:::" in (tmp_path / "voc" / "labelmap.txt").read_text().splitlines()
