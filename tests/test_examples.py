"""The programs and the notebook of docs/examples do what they say."""

import csv
import json
import runpy
import shutil
import socket
import struct
import sys

import numpy as np
import pytest
from conftest import ROOT, SAMPLE, load_script, make_photos
from fake_live import clip_frames, write_video

from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES21
from kpedge.data.formats.label import parse_row

EXAMPLES = ROOT / "docs" / "examples"


def example(name):
    return load_script(EXAMPLES / f"{name}.py")


def test_an_album_becomes_a_table(tmp_path, capsys):
    album = tmp_path / "album" / "1996"
    album.mkdir(parents=True)
    shutil.copy(SAMPLE / "eileen_collins.jpg", album)
    (album / "broken.jpg").write_bytes(b"no photo")
    example("album_to_csv").main(tmp_path / "album", tmp_path / "faces.csv")
    (row,) = csv.DictReader((tmp_path / "faces.csv").read_text().splitlines())
    assert row["photo"] == "1996/eileen_collins.jpg"
    _, box, labels = parse_row((SAMPLE / "label.txt").read_text(), FACES21)
    nose = labels[FACES21.points.index("nose_tip")]
    found = np.array([float(row["nose_tip_x"]), float(row["nose_tip_y"])])
    assert np.linalg.norm(found - nose) < 0.05 * (box[2] - box[0])
    assert abs(float(row["yaw"])) < 15
    assert "broken.jpg" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["album_to_csv", "avatar_udp", "own_points"])
def test_a_program_without_arguments_says_how_it_is_used(name, monkeypatch):
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    with pytest.raises(SystemExit, match=f"python {name}.py "):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


@pytest.mark.parametrize("osc", [False, True], ids=["json", "osc"])
def test_an_avatar_gets_the_head_pose(tmp_path, osc):
    clip = write_video(tmp_path / "clip.avi", clip_frames(8)[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(30)
        example("avatar_udp").main(str(clip), receiver.getsockname(), osc=osc)
        packet = receiver.recv(4096)
    if osc:
        address, tags, numbers = packet[:8], packet[8:16], packet[16:]
        assert (address, tags) == (b"/face/1\0", b",fff\0\0\0\0")
        yaw, pitch, roll = struct.unpack(">3f", numbers)
    else:
        document = json.loads(packet)
        assert document["id"] == 1
        yaw, pitch, roll = (document[name] for name in ("yaw", "pitch", "roll"))
    assert all(abs(angle) < 60 for angle in (yaw, pitch, roll))


def label_studio(photos):
    """Export of a project with five points and a box a face."""
    tasks = []
    five = ["left_eye_outer", "right_eye_outer", "nose_tip", "mouth_left_corner", "mouth_right_corner"]
    for line in (photos / "label.txt").read_text().splitlines():
        name, box, points = parse_row(line, FACES21)
        height, width = read_image(photos / name).shape[:2]
        size = {"original_width": width, "original_height": height}
        x1, y1, x2, y2 = ((box + 0.5) / [width, height, width, height] * 100).tolist()
        rectangle = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rectanglelabels": ["face"]}
        results = [{"id": "b", "type": "rectanglelabels", "value": rectangle, **size}]
        for point in five:
            x, y = (points[FACES21.points.index(point)] + 0.5) / [width, height] * 100
            value = {"x": x, "y": y, "width": 0.5, "keypointlabels": [point]}
            results.append({"id": point, "parentID": "b", "type": "keypointlabels", "value": value, **size})
        tasks.append({"data": {"image": f"/data/upload/1/{name}"}, "annotations": [{"result": results}]})
    (photos / "label.txt").unlink()
    (photos / "export.json").write_text(json.dumps(tasks))


@pytest.mark.slow
def test_points_of_ones_own_reach_a_device(tmp_path, capsys):
    photos = make_photos(tmp_path / "photos", 24)
    label_studio(photos)
    example("own_points").main(photos, tmp_path / "out", epochs=2)
    assert "mean shape" in capsys.readouterr().out
    assert (tmp_path / "out" / "models" / "five.onnx").is_file()


def test_the_notebook_runs(capsys):
    notebook = json.loads((EXAMPLES / "first_steps.ipynb").read_text())
    names: dict = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "outputs are not committed"
            exec("".join(cell["source"]), names)
    assert names["crop"].shape == (112, 112, 3)
    assert names["error"] < 0.05
    assert "nose tip" in capsys.readouterr().out
