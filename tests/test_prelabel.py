"""Predictions as labels: what a tool is given, and what is read back when it was corrected."""

import json

import cv2
import numpy as np
import pytest
from conftest import turned_jpeg
from small_frames import face_of

from kpedge.cli.main import main
from kpedge.cli.predict import TARGETS
from kpedge.core.errors import OutputError
from kpedge.core.images import ImageFrame, read_image
from kpedge.core.keypoints import FACES21
from kpedge.core.model_zoo import sample_photo
from kpedge.data.formats import read_format
from kpedge.data.prelabel import Prelabels

FACE, OTHER = face_of(), face_of(side=40.0, x=120.25, y=70.125)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "in" / "sub" / "photo.jpg"
    path.parent.mkdir(parents=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8))
    return path


def write(out, to, images, **options):
    with Prelabels(FACES21, out, to, **options) as labels:
        for text, picture, faces in images:
            labels.add(str(text), picture, faces)
    return labels.report()


@pytest.mark.parametrize("to", TARGETS)
def test_labels_are_read_back(tmp_path, photo, to):
    twin = photo.parent.parent / "photo.jpg"
    twin.write_bytes(photo.read_bytes())
    image = read_image(photo)
    frame = ImageFrame(image, 7, 0.28)
    images = [(photo, ImageFrame(image), [FACE, OTHER]), (twin, ImageFrame(image), []), ("clip.mp4", frame, [FACE])]
    said = write(tmp_path / "out", to, images)
    faces = [FACE, OTHER, FACE] if to != "pts" else [FACE, FACE]  # it holds one face per image, and says so
    assert f"3 images, {len(faces)} faces" in said[0]
    assert ("left out" in said[0]) == (to == "pts")
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 3
    if to == "label-studio":  # as it comes back when somebody accepted them
        tasks = tmp_path / "out" / "tasks.json"
        assert all(task["predictions"] and "annotations" not in task for task in json.loads(tasks.read_text()))
        tasks.write_text(tasks.read_text().replace('"predictions"', '"annotations"'))
    back = read_format(tmp_path / "out")
    assert back.problems == ()
    assert back.scheme.points == FACES21.points
    found = sorted(row.keypoints[0].tolist() for row in back.rows)
    wanted = sorted(face.keypoints[0].tolist() for face in faces)
    assert np.allclose(found, wanted, atol=1e-3)
    for row in back.rows:
        assert read_image(back.root / row.photo).shape == image.shape


def test_photos_that_viewers_rotate_are_written_upright(tmp_path, photo):
    photo.write_bytes(turned_jpeg(photo.read_bytes()))
    upright = read_image(photo)
    write(tmp_path / "out", "coco", [(photo, ImageFrame(upright), [FACE])])
    (copy,) = (tmp_path / "out").rglob("*.jpg")
    assert read_image(copy, stored=True).shape == upright.shape


@pytest.mark.parametrize("reverse", [False, True])
def test_photos_that_differ_in_their_endings_alone_keep_their_labels(tmp_path, photo, reverse):
    turned = turned_jpeg(photo.read_bytes())
    paths = [photo, *(photo.with_suffix(suffix) for suffix in (".jpeg", ".JFIF"))]
    for path in paths[1:]:
        path.write_bytes(turned)
    images = [(path, ImageFrame(read_image(path)), [FACE]) for path in paths]
    report = write(tmp_path / "out", "coco", reversed(images) if reverse else images)
    assert "3 images, 3 faces" in report[0]
    back = read_format(tmp_path / "out")
    assert sorted(row.photo for row in back.rows) == ["photo.jpg", "photo_2.jpg", "photo_3.jpg"]
    assert (tmp_path / "out" / "photo.jpg").read_bytes() == photo.read_bytes()


def test_rejected_boxes_are_no_labels_and_nothing_is_overwritten(tmp_path, photo):
    out, picture = tmp_path / "out", ImageFrame(read_image(photo))
    rejected = face_of()
    rejected = type(rejected)(rejected.box, np.empty((0, 2)))
    assert "1 image, 0 faces" in write(out, "coco", [(photo, picture, [rejected])])[0]
    with pytest.raises(OutputError, match="exists already"):
        write(out, "coco", [])
    write(out, "coco", [(photo, picture, [FACE])], force=True)
    labels = next(out.rglob("*.json"))
    for mine in (out / "notes.txt", labels):
        content = mine.read_text() if mine == labels else ""
        mine.write_text(content + " ")
        with pytest.raises(OutputError, match=mine.name):
            write(out, "coco", [], force=True)
        mine.write_text(content) if content else mine.unlink()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.txt").write_text("not kpedge's")
    with pytest.raises(OutputError, match="exists already"):
        write(tmp_path / "mine", "coco", [], force=True)


def test_the_command_writes_labels_and_says_what_comes_next(tmp_path, capsys):
    assert main(["predict", str(sample_photo()), "--to", "cvat", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "1 image, 1 face as cvat" in said
    assert "cvat_labels.json" in said
    (label,) = json.loads((tmp_path / "out" / "cvat_labels.json").read_text())
    assert [sub["name"] for sub in label["sublabels"]] == list(FACES21.points)
    assert main(["predict", str(sample_photo()), "--to", "voc", "--out", str(tmp_path / "more")]) == 2
    assert main(["predict", str(sample_photo()), "--to", "coco"]) == 2
