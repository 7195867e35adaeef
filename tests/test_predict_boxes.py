"""Predictions in boxes that are given."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
from conftest import COUNT, turned_jpeg

from kpedge.cli.main import main
from kpedge.core.images import read_image


def test_results_are_json_lines_on_standard_output(exported, photos, tmp_path, capsys):
    arguments = ["--boxes", str(photos / "label.txt"), "--model", str(exported / "stage1.onnx")]
    names = [str(photos / "003.png"), str(photos / "010.png")]
    assert main(["predict", *names, *arguments, "--out", str(tmp_path / "drawn")]) == 0
    captured = capsys.readouterr()
    documents = [json.loads(line) for line in captured.out.splitlines()]
    assert [document["image"] for document in documents] == names
    (face,) = documents[0]["faces"]
    assert face.keys() == {"box", "score", "keypoints"}
    assert len(face["box"]) == 4
    assert np.array(face["keypoints"]).shape == (21, 2)
    assert face["score"] is None
    assert f"annotated copies: {tmp_path / 'drawn'}" in captured.err
    drawn = read_image(tmp_path / "drawn" / "003.png")
    assert drawn.shape == (240, 320, 3)
    assert (drawn != read_image(photos / "003.png")).any()


def test_a_box_by_hand_gives_the_same_points_in_every_format(exported, trained, photos, capsys):
    box = (photos / "label.txt").read_text().splitlines()[0].split()[1:5]
    answers = []
    for model in (exported / "stage1.onnx", exported / "stage1.torchscript.pt", trained / "best.pt"):
        arguments = ["--box", ",".join(box), "--model", str(model), "--json"]
        assert main(["predict", str(photos / "000.png"), *arguments]) == 0
        answers.append(json.loads(capsys.readouterr().out)["faces"][0]["keypoints"])
    assert np.allclose(answers[0], answers[1], atol=0.002)
    assert np.allclose(answers[0], answers[2], atol=0.002)


def test_labels_count_stored_pixels_and_people_see_turned_ones(exported, tmp_path, capsys):
    data = cv2.imencode(".jpg", np.full((90, 120, 3), 128, np.uint8))[1].tobytes()
    (tmp_path / "t.jpg").write_bytes(turned_jpeg(data))
    (tmp_path / "label.txt").write_text("t.jpg 10 10 60 60\n")
    common = ["predict", str(tmp_path / "t.jpg"), "--model", str(exported / "stage1.onnx")]
    assert main([*common, "--boxes", str(tmp_path / "label.txt"), "--out", str(tmp_path / "a")]) == 0
    assert main([*common, "--box", "10,10,60,60", "--out", str(tmp_path / "b")]) == 0
    assert read_image(tmp_path / "a" / "t.jpg").shape == (90, 120, 3)
    assert read_image(tmp_path / "b" / "t.jpg").shape == (120, 90, 3)
    capsys.readouterr()


def test_one_bad_photo_does_not_stop_the_rest(exported, photos, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 cut")
    names = [str(photos / "000.png"), str(tmp_path / "bad.jpg"), str(tmp_path / "gone.jpg"), str(photos / "001.png")]
    arguments = ["--box", "100,80,180,160", "--model", str(exported / "stage1.onnx"), "--json"]
    assert main(["predict", *names, *arguments]) == 1
    captured = capsys.readouterr()
    assert [json.loads(line)["image"] for line in captured.out.splitlines()] == [names[0], names[3]]
    assert "bad.jpg" in captured.err
    assert "gone.jpg: no such photo" in captured.err
    assert "2 of 4 photos" in captured.err


def test_a_box_outside_its_photo_is_named_and_the_rest_goes_on(exported, photos, tmp_path, capsys):
    (tmp_path / "boxes.txt").write_text(f"{photos}/000.png 900 900 950 950\n{photos}/001.png 80 80 160 160\n")
    arguments = ["--boxes", str(tmp_path / "boxes.txt"), "--model", str(exported / "stage1.onnx"), "--json"]
    assert main(["predict", *arguments]) == 1
    captured = capsys.readouterr()
    assert [json.loads(line)["image"] for line in captured.out.splitlines()] == [f"{photos}/001.png"]
    assert f"{photos}/000.png: box 900,900,950,950 lies outside the image of 320x240" in captured.err


def test_results_reach_a_file_while_people_watch_a_terminal(exported, photos, tmp_path):
    """With standard error on a terminal a progress bar is drawn; the JSON still goes where it was sent, unwrapped."""
    import pty

    leader, follower = pty.openpty()
    arguments = ["--boxes", photos / "label.txt", "--model", exported / "stage1.onnx", "--json"]
    with (tmp_path / "out.jsonl").open("w") as out:
        command = [sys.executable, "-m", "kpedge", "predict", *map(str, arguments)]
        process = subprocess.Popen(command, stdout=out, stderr=follower, env={**os.environ, "TERM": "xterm"})
        os.close(follower)
        shown = b""
        while True:
            try:
                part = os.read(leader, 4096)
            except OSError:
                break
            if not part:
                break
            shown += part
    os.close(leader)
    assert process.wait() == 0
    assert len([json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]) == COUNT
    assert b"keypoints" not in shown


def test_output_that_cannot_be_written_gets_one_line(exported, photos):
    arguments = [photos / "000.png", "--box", "100,80,180,160", "--model", exported / "stage1.onnx", "--json"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        command = [sys.executable, "-m", "kpedge", "predict", *map(str, arguments)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr
