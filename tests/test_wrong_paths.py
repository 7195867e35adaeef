"""A folder where a file belongs, a file where a folder belongs, a card in place of its model."""

import contextlib
import os
import shutil
import sys
from pathlib import Path

import cv2
import pytest
from conftest import make_photos

from kpedge.cli.main import main
from kpedge.core.model_zoo import models_folder, sample_photo
from kpedge.data.convert import convert


@pytest.fixture
def said(capsys):
    """Runs a command that fails; what it said."""

    def run(*arguments, code=1):
        assert main([str(argument) for argument in arguments]) == code
        return capsys.readouterr().err

    return run


def test_a_card_is_not_its_model(said, tmp_path):
    for name in ("stage3.json", "stage3.onnx"):
        shutil.copy(models_folder() / name, tmp_path)
    text = said("verify", tmp_path / "stage3.json", code=3)
    assert f"{tmp_path / 'stage3.json'} is a card, not a model — give stage3.onnx" in text
    (tmp_path / "stage3.onnx").unlink()
    assert "give the model" in said("verify", tmp_path / "stage3.json", code=3)


def test_a_folder_without_a_checkpoint_is_no_model(said, tmp_path):
    shutil.copy(models_folder() / "stage1.onnx", tmp_path)
    text = said("export", tmp_path, "--out", tmp_path / "models")
    assert f"{tmp_path}: a folder with neither best.pt nor kpedge-card.json — give one of its files: stage1" in text
    (tmp_path / "best.pt").touch()
    assert f"{tmp_path / 'best.pt'}" in said("export", tmp_path, "--out", tmp_path / "models", code=3)
    assert not (tmp_path / "models").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["stage1", "detector"])
def test_a_run_is_refused_before_photos_are_prepared_for_it(said, tmp_path, stage):
    photos = make_photos(tmp_path / "photos", 3)
    (tmp_path / "file").touch()
    for force in ((), ("--force",)):
        text = said("train", stage, "--data", photos, "--out", tmp_path / "file", *force)
        assert f"{tmp_path / 'file'} is a file, not a folder" in text
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    (run / "last.pt").touch()
    assert f"{run} holds a run already — add --resume" in said("train", stage, "--data", photos, "--out", run)
    (run / "last.pt").rename(run / "best.pt")  # nothing to go on with, and not to be lost
    text = said("train", stage, "--data", photos, "--out", run, "--resume", "--force")
    assert f"{run} holds best.pt already" in text
    assert sorted(path.name for path in run.parent.iterdir()) == ["one"]


def test_an_empty_name_is_not_the_current_folder(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(sample_photo(), tmp_path)
    for command in ("predict", "webcam"):
        assert "empty" in said(command, "", code=2)
    assert len(list(tmp_path.iterdir())) == 1


def test_an_export_into_a_file_is_refused_before_it_is_made(said, tmp_path, monkeypatch):
    monkeypatch.setattr("kpedge.export.exporter.rounding_tolerance", None)
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file'} is a file, not a folder" in said("export", "stage1", "--out", tmp_path / "file")


def test_a_folder_that_is_no_synthetic_set_is_never_replaced(said, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for force in ((), ("--force",)):
        text = said("data", "synth", "--out", folder, "--count", 1, *force)
        assert "exists and is no synthetic set — name another folder" in text


@pytest.mark.parametrize(
    "command",
    [
        ("predict", "{}"),
        ("data", "check", "{}"),
        ("data", "convert", "{}", "--to", "coco", "--out", "out"),
        ("data", "prepare", "{}", "--out", "out"),
        ("train", "stage1", "--data", "{}", "--out", "run"),
        ("train", "detector", "--data", "{}", "--out", "run"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("name", ["wrong", "folder/label.txt"])
@pytest.mark.parametrize("kind", ["loop", "fifo"])
def test_a_loop_of_links_and_a_pipe_are_one_line(said, tmp_path, monkeypatch, command, kind, name):
    if command[0] == "predict" and name != "wrong":
        pytest.skip("predict reads no labels")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if kind == "loop":
        path.symlink_to(path)
    else:
        os.mkfifo(path)
    given = tmp_path / Path(name).parts[0]
    (line,) = said(*(word.format(given) for word in command)).splitlines()
    assert line.startswith("error: ")
    assert str(path) in line
    assert "regular file" in line or "symbolic links" in line or "loop" in line
    assert list(tmp_path.iterdir()) == [given]


@pytest.mark.parametrize("command", ["predict", "webcam"])
def test_a_link_that_leads_nowhere_is_named(said, tmp_path, command):
    (tmp_path / "a.jpg").symlink_to(tmp_path / "gone.jpg")
    assert f"it is a link to {tmp_path / 'gone.jpg'}" in said(command, tmp_path / "a.jpg")


@pytest.mark.skipif(os.name != "posix", reason="Windows allows no such names")
def test_a_name_with_control_characters_is_one_plain_line(said, tmp_path):
    path = tmp_path / "a\nb\x1b[31mc.jpg"
    path.touch()
    assert said("predict", path) == f"error: {tmp_path}/a b\\x1b[31mc.jpg: the file is empty\n"
    assert said("predict", tmp_path / "a\nb\x1b[31m.jpg").count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_results_that_find_no_room_say_where(said, monkeypatch):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert "cannot write to standard output: No space left" in said("data", "list")
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()


def test_an_image_that_cannot_be_read_is_one_line_in_webcam(said, tmp_path):
    path = tmp_path / "a.png"
    path.touch()
    assert said("webcam", path, "--json").splitlines() == [f"error: {path}: the file is empty"]


@pytest.mark.parametrize("suffix", [".avif", ".bmp", ".jp2", ".ppm", ".tif"])
def test_a_cut_off_image_is_one_line_whatever_its_library_writes(tmp_path, suffix, capfd):
    data = cv2.imencode(suffix, cv2.imread(str(sample_photo())))[1].tobytes()
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data[: len(data) // 2])
    assert main(["predict", str(path), "--json"]) == 1
    assert capfd.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("kind", ["pipe", "device", "loop"])
@pytest.mark.parametrize("place", ["photo", "label"])
def test_what_is_no_regular_file_is_one_line(tmp_path, kind, place, capsys):
    photos = make_photos(tmp_path / "photos", 4)
    path = photos / ("001.png" if place == "photo" else "label.txt")
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path.name)
    for command in (["check"], ["prepare", "--out", str(tmp_path / "out")]):
        code = main(["data", command[0], str(photos), *command[1:]])
        error = capsys.readouterr().err
        assert code == (0 if place == "photo" else 1)
        assert place == "label" or "001.png" in error
        assert "Traceback" not in error


@pytest.mark.parametrize("content", ["[" * 200_000, '{"a":' * 200_000, "1" * 10_000])
def test_json_that_is_too_much_is_one_line(tmp_path, content, capsys):
    (tmp_path / "a.json").write_text('{"images": [], "annotations": ' + content)
    assert main(["data", "check", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="names are text on Windows")
def test_photos_whose_names_are_not_utf8_are_checked_and_prepared(tmp_path, capsys):
    convert(make_photos(tmp_path / "made", 4), tmp_path / "set", "pts")
    for path in list((tmp_path / "set").glob("00*")):
        try:
            path.rename(path.with_name(os.fsdecode(b"caf\xe9") + path.name))
        except OSError:
            pytest.skip("this file system has names in UTF-8 alone")
    preview, out = str(tmp_path / "preview.png"), str(tmp_path / "out")
    assert main(["data", "check", str(tmp_path / "set"), "--preview", preview]) == 0
    for _ in range(2):  # the second time it is there
        assert main(["data", "prepare", str(tmp_path / "set"), "--out", out]) == 0
    assert capsys.readouterr().err.count("faces and") == 6
    assert (tmp_path / "out" / "train.txt").read_bytes().startswith(b"caf\xe9")
