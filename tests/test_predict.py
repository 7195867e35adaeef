"""`kpedge predict` that finds the faces itself."""

import json
import shutil

import cv2
import numpy as np
import pytest
from conftest import SAMPLE, names_in
from fake_detector import Fake
from PIL import Image as Pillow

from kpedge.cli.main import main
from kpedge.core.geometry import iou
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES21
from kpedge.core.model_zoo import resolve_model
from kpedge.data.formats.label import read_labels
from kpedge.export import load
from kpedge.runtime.sessions import OnnxModel

(ROW,) = read_labels(SAMPLE, FACES21).rows
PHOTO = SAMPLE / ROW.photo
SIDE = ROW.box[2] - ROW.box[0]


def documents(capsys):
    """The JSON lines, and the messages."""
    captured = capsys.readouterr()
    return [json.loads(line) for line in captured.out.splitlines()], captured.err


def is_the_sample(face):
    overlap = iou(np.array([face["box"]]), ROW.box[None])[0, 0]
    off = np.linalg.norm(np.array(face["keypoints"]) - ROW.keypoints, axis=1).mean() / SIDE
    return overlap > 0.7 and off < 0.04


@pytest.fixture
def empty_picture(tmp_path):
    """A picture without a face."""
    path = tmp_path / "none.png"
    cv2.imwrite(str(path), np.full((200, 300, 3), (90, 140, 60), np.uint8))
    return path


def test_the_face_of_the_sample_is_found(capsys):
    assert main(["predict", str(PHOTO), "--json"]) == 0
    (document,), messages = documents(capsys)
    assert document.keys() == {"image", "size", "scheme", "faces"}
    assert (document["image"], document["size"], document["scheme"]) == (str(PHOTO), [512, 512], "faces21")
    (face,) = document["faces"]
    assert is_the_sample(face)
    assert face["score"] > 0.9
    assert len(face["errors"]) == 21
    assert messages == "1 image, 1 face\n"


def test_no_table_replaces_a_photo_that_is_read(tmp_path, capsys):
    photo = tmp_path / "a.jpg"
    photo.write_bytes(PHOTO.read_bytes())
    assert main(["predict", str(photo), "--json", "--csv", str(photo), "--force"]) == 2
    assert str(photo) in capsys.readouterr().err
    assert photo.read_bytes() == PHOTO.read_bytes()


def test_the_names_of_the_keypoints_are_given_on_request(capsys):
    assert main(["predict", str(PHOTO), "--json", "--names"]) == 0
    assert documents(capsys)[0][0]["names"] == list(FACES21.points)


def test_a_folder_is_searched_to_the_end(tmp_path, empty_picture, capsys):
    root = tmp_path / "photos"
    (root / "a" / "deep").mkdir(parents=True)
    shutil.copy(PHOTO, root / "a" / "deep" / "one.jpg")
    shutil.copy(PHOTO, root / "two.JPG")
    shutil.copy(empty_picture, root / "a" / "none.png")
    (root / "a" / "broken.jpg").write_bytes(PHOTO.read_bytes()[:5000])
    (root / "a" / "notes.txt").write_text("no photo")
    (root / "a" / "photo.CR2").write_text("a photo that is not read")
    assert main(["predict", str(root), "--json"]) == 1
    found, messages = documents(capsys)
    names = ["a/deep/one.jpg", "a/none.png", "two.JPG"]
    assert [document["image"] for document in found] == [str(root / name) for name in names]
    assert found[1]["faces"] == []
    for document in (found[0], found[2]):
        (face,) = document["faces"]
        assert is_the_sample(face)
    assert f"{root}/a/broken.jpg: the image is cut off" in messages
    assert "3 images (1 without a face), 2 faces" in messages
    assert f"not read: {root}/a/photo.CR2" in messages
    assert "notes.txt" not in messages
    assert "1 of 4 photos skipped: 1 × the image is cut off" in messages


@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "no image", "missing"])
def test_one_photo_that_cannot_be_read_is_one_line(tmp_path, content, capsys):
    photo = tmp_path / "a.jpg"
    if content is not None:
        photo.write_bytes(content)
    assert main(["predict", str(photo), "--out", str(tmp_path / "out")]) == 1
    found, messages = documents(capsys)
    assert found == []
    assert messages.startswith(f"error: {photo}: ")
    assert len(messages.splitlines()) == 1


def test_a_photo_that_is_named_twice_is_searched_once(tmp_path, capsys):
    shutil.copy(PHOTO, tmp_path / "a.jpg")
    assert main(["predict", str(tmp_path), str(tmp_path / "a.jpg"), "--json"]) == 0
    assert len(documents(capsys)[0]) == 1


def test_a_folder_without_photos_is_named(tmp_path, capsys):
    (tmp_path / "label.txt").write_text("")
    assert main(["predict", str(tmp_path), "--json"]) == 1
    found, messages = documents(capsys)
    assert found == []
    assert messages.startswith(f"error: {tmp_path}: no photo in this folder or below it")
    assert "label.txt" in messages


def test_a_video_in_a_folder_is_named_but_not_read(tmp_path, capsys):
    video = tmp_path / "clip.MP4"
    video.write_bytes(b"")
    shutil.copy(PHOTO, tmp_path)
    assert main(["predict", str(tmp_path), "--json"]) == 0
    assert f"kpedge predict {video}" in documents(capsys)[1]


def test_pictures_are_drawn_only_where_they_are_wanted(tmp_path, empty_picture, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["predict", str(PHOTO), "--json"]) == 0
    assert list((tmp_path / "here").iterdir()) == []
    assert main(["predict", str(PHOTO), str(empty_picture), "--json", "--out", "drawn"]) == 0
    assert names_in(tmp_path / "here" / "drawn") == [PHOTO.name, "none.png"], "a JPEG for a JPEG"
    assert main(["predict", str(PHOTO)]) == 0
    found, messages = documents(capsys)
    assert len(found) == 4
    assert f"annotated copy: predictions/{PHOTO.name}" in messages
    drawn, photo = read_image(tmp_path / "here" / "predictions" / PHOTO.name), read_image(PHOTO)
    changed = np.argwhere((np.abs(drawn.astype(int) - photo) > 40).any(axis=2))[:, ::-1]
    assert len(changed) > 100
    assert (changed.min(axis=0) > ROW.box[:2] - 0.3 * SIDE).all()
    assert (changed.max(axis=0) < ROW.box[2:] + 0.3 * SIDE).all()
    assert (read_image(tmp_path / "here" / "drawn" / "none.png") == read_image(empty_picture)).all()


def test_no_file_is_overwritten_unasked(tmp_path, capsys):
    out, target = tmp_path / "out", tmp_path / "out" / PHOTO.name
    out.mkdir()
    target.write_bytes(b"mine")
    assert main(["predict", str(PHOTO), "--out", str(out)]) == 1
    found, messages = documents(capsys)
    assert found == [], "it is refused before the work"
    assert f"{target} exists already" in messages
    assert target.read_bytes() == b"mine"
    assert main(["predict", str(PHOTO), "--out", str(out), "--force"]) == 0
    assert read_image(target).shape == read_image(PHOTO).shape


def test_a_photo_is_never_replaced_by_its_picture(tmp_path, empty_picture, capsys):
    before = empty_picture.read_bytes()
    assert main(["predict", str(empty_picture), "--out", str(tmp_path), "--force"]) == 2
    found, messages = documents(capsys)
    assert found == []
    assert f"would replace the photo {empty_picture}" in messages
    assert empty_picture.read_bytes() == before


def test_a_folder_is_searched_again_without_the_pictures_of_the_first_time(
    tmp_path, empty_picture, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["predict", "."]) == 0
        assert [document["image"] for document in documents(capsys)[0]] == ["none.png"]
        assert names_in(tmp_path / "predictions") == ["none.png"]
    (tmp_path / "predictions" / "none.png").write_bytes(empty_picture.read_bytes() + b"edited")
    assert main(["predict", "."]) == 1
    assert "predictions/none.png exists already" in documents(capsys)[1]
    assert main(["predict", ".", "--force"]) == 0
    assert [document["image"] for document in documents(capsys)[0]] == ["none.png"]
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "mine.png").write_bytes(empty_picture.read_bytes())
    assert main(["predict", "none.png", "--json", "--csv", "album/faces.csv"]) == 0
    assert main(["predict", ".", "--json"]) == 0  # a table next to photos makes them no results
    assert sorted(document["image"] for document in documents(capsys)[0])[:2] == ["album/mine.png", "none.png"]
    shutil.rmtree(tmp_path / "album")
    for out in ("other", "third"):  # copies of an earlier run are no photos, wherever they are
        assert main(["predict", ".", "--out", out]) == 0
        found, messages = documents(capsys)
        assert [document["image"] for document in found] == ["none.png"]
        assert "not read: " in messages
        assert "predictions" in messages
    assert main(["predict", "predictions", "--json"]) == 0
    assert [document["image"] for document in documents(capsys)[0]] == ["predictions/none.png"]


@pytest.fixture
def animated(tmp_path):
    """The sample photo at two places, in two frames of a GIF."""
    photo = Pillow.open(PHOTO).convert("RGB")
    moved = Pillow.new("RGB", photo.size)
    moved.paste(photo, (40, 20))
    path = tmp_path / "film.gif"
    photo.save(path, save_all=True, append_images=[moved], duration=[300, 100])
    return path


def test_each_frame_of_a_gif_is_a_line_with_its_time(tmp_path, animated, capsys):
    out = tmp_path / "out"
    assert main(["predict", str(animated), "--out", str(out)]) == 0
    found, _ = documents(capsys)
    assert [(line["image"], line["frame"], line["time_s"]) for line in found] == [
        (str(animated), 0, 0.0),
        (str(animated), 1, 0.3),
    ]
    (first,), (second,) = (line["faces"] for line in found)
    assert is_the_sample(first)
    assert np.abs(np.array(second["box"]) - first["box"] - [40, 20, 40, 20]).max() < 0.1 * SIDE
    assert names_in(out / "film") == ["0000.png", "0001.png"]


def test_copies_of_photos_with_one_name_do_not_replace_each_other(tmp_path, animated, capsys):
    (tmp_path / "other").mkdir()
    for name in ("film.jpg", "other/film.JPG"):
        shutil.copy(PHOTO, tmp_path / name)
    out = tmp_path / "out"
    arguments = ["predict", str(animated), str(tmp_path / "film.jpg"), str(tmp_path / "other"), "--out", str(out)]
    assert main(arguments) == 0
    assert names_in(out) == ["film", "film-2.jpg", "film.jpg"]
    (out / "film" / "mine.txt").write_text("mine")
    assert main(arguments) == 1
    found, messages = documents(capsys)
    assert len(found) == 4, "the second time, none"
    assert f"{out / 'film'} exists already" in messages


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--box", "1,2,3,4", "--max-side", "320"], 2, "--max-side is for searching"),
        (["--boxes", "{sample}/label.txt", "--max-side", "320"], 2, "--max-side is for searching"),
        (["--max-side", "31"], 2, "--max-side must be at least 32, not 31"),
        (["--detector", "stage3"], 2, "stage3 finds face keypoints, no faces in an image"),
        (["--detector", "stage1"], 2, "stage1 finds keypoints, no faces in an image"),
        (["--detector", "{tmp}/none.onnx"], 1, "none.onnx: no such file, run folder or released model"),
        (["--detector", "{sample}/label.txt"], 3, "label.txt: onnxruntime cannot load it"),
        (["--model", "detector"], 2, "it finds no keypoints"),
        (["--model", "stage1", "--threshold", "0.5", "--box", "1,1,99,99"], 2, "stage1 has no face score"),
        (["--keep-rejected", "--threshold", "0.5"], 2, "contradict each other"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_done_gets_one_line(arguments, code, words, tmp_path, capsys):
    places = {"sample": SAMPLE, "tmp": tmp_path}
    assert main(["predict", str(PHOTO), "--json", *(argument.format(**places) for argument in arguments)]) == code
    found, messages = documents(capsys)
    assert found == []
    assert words in messages
    assert messages.startswith("error: ")
    assert len(messages.splitlines()) == 1


class Bright:
    """A keypoint model that takes bright crops for faces."""

    def __init__(self):
        self.card = OnnxModel(resolve_model("stage3")).card

    def __call__(self, crops):
        score = crops.mean(axis=(1, 2, 3)) / 255
        points = np.tile(self.card.mean_shape, (len(crops), 1, 1))
        return {"keypoints": points, "score": score, "error": np.zeros(points.shape[:2])}


@pytest.fixture
def two_found(tmp_path, monkeypatch):
    """A picture, the left half black and the right one white, in which a detector finds a face on either side."""
    path = tmp_path / "halves.png"
    image = np.zeros((160, 320, 3), np.uint8)
    image[:, 160:] = 255
    image[::4] ^= 16  # a crop of one colour shows no face
    cv2.imwrite(str(path), image)
    boxes = [[50.0, 50.0, 110.0, 110.0], [210.0, 50.0, 270.0, 110.0]]
    models = {"keypoints": Bright(), "faces": Fake(lambda frame: (boxes, [0.9, 0.7]))}
    monkeypatch.setattr(load, "open_model", lambda name, **_options: models[name])
    monkeypatch.setattr("kpedge.cli.finder.resolve_model", lambda name: name)
    return ["predict", str(path), "--json", "--model", "keypoints", "--detector", "faces"], boxes


def test_found_faces_that_the_keypoint_model_rejects_are_left_out_or_listed(two_found, capsys):
    command, boxes = two_found
    assert main(command) == 0
    ((document,), _) = documents(capsys)
    (face,) = document["faces"]
    assert face["box"] == boxes[1]
    assert face["score"] > 0.9
    assert len(face["keypoints"]) == 21
    assert main([*command, "--keep-rejected"]) == 0
    ((document,), _) = documents(capsys)
    assert [face["box"] for face in document["faces"]] == boxes, "by falling score of the detector"
    assert [len(face["keypoints"]) for face in document["faces"]] == [0, 21]
    assert document["faces"][0]["score"] < 0.1
    assert "errors" not in document["faces"][0]


def test_the_threshold_is_that_of_the_keypoint_model(two_found, capsys):
    command, _ = two_found
    assert main([*command, "--threshold", "0"]) == 0
    ((document,), _) = documents(capsys)
    assert [len(face["keypoints"]) for face in document["faces"]] == [21, 21]
