"""`kpedge demo`: its video, the story in small, and what it does to folders. No test asserts a time."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest

from kpedge.cli.main import main
from kpedge.core import extras
from kpedge.core.boxes import box_of_points
from kpedge.core.errors import MissingExtraError, OutputError
from kpedge.core.faces import Face
from kpedge.core.files import WRITTEN
from kpedge.core.images import read_image
from kpedge.demo import checks
from kpedge.demo.checks import NEEDED, check_target
from kpedge.demo.settings import FACES_FROM, QUICK, DemoSettings
from kpedge.demo.story import TITLES, run_demo
from kpedge.demo.tracking import compare, face_clip, track_video
from kpedge.synthetic.preview import synthetic_preview

pytestmark = pytest.mark.slow

SMALL = DemoSettings(photos=60, epochs=10, rounds=1, calls=2, seconds=1.2, seed=1)


def nobody(*_told):
    pass


def perfect(clip, number, shift=0.0):
    """Faces as a model without fault would give them, moved by `shift` sides of the box."""
    faces = []
    for place, points in enumerate(clip.truth(number), 1):
        box = box_of_points(points)
        faces.append(Face(box, points + np.array([shift * (box[2] - box[0]), 0]), 1.0, id=place))
    return tuple(faces)


def test_errors_misses_and_strays_are_measured():
    clip = face_clip(0)
    found = [perfect(clip, number, shift=0.02) for number in range(20)]
    found[3] = found[3][:1]
    found[5] = (*found[5], Face(np.array([0.0, 0, 9, 9]), np.zeros((21, 2)), 0.9, id=9))
    tracking = compare(clip, found, {"a": 2.0, "b": 3.0})
    assert tracking.error == tracking.error_p95 == pytest.approx(0.02)
    assert (tracking.shown, tracking.tracked, tracking.strays, tracking.ids) == (40, 39, 1, 3)
    assert tracking.frames_per_second == 200
    nobody = compare(clip, [()] * 20, {})
    assert (nobody.tracked, nobody.error, nobody.error_p95, nobody.frames_per_second) == (0, None, None, 0)


def test_the_released_models_track_the_video(small):
    clip = face_clip(SMALL.seed)
    found, tracking = track_video(small / "video" / "scene.mp4", clip, 30, nobody)
    assert len(found) == tracking.frames == 30
    assert tracking.tracked == tracking.shown == 60
    assert (tracking.strays, tracking.ids) == (0, 2)
    assert tracking.error < 0.04


@pytest.fixture(scope="module")
def small(small_demo):
    """The folder of a demo in small."""
    return small_demo[0]


@pytest.fixture(scope="module")
def told(small_demo):
    """What was told."""
    return small_demo[1]


def test_the_folder_holds_what_the_report_says(small):
    document = json.loads((small / "report.json").read_text())
    assert document["kpedge_demo"] == checks.FORM
    assert document["settings"] == asdict(SMALL)
    assert [step["title"] for step in document["steps"]] == list(TITLES)
    assert all(step["result"] for step in document["steps"])
    for name, size in document["files"].items():
        assert (small / name).stat().st_size == size, name
    there = {str(path.relative_to(small)) for path in small.rglob("*") if path.is_file()}
    own = {name for name in there if not name.startswith("synthetic/")} - {"index.html", "report.json", WRITTEN}
    assert own == set(document["files"])
    assert "synthetic/label.txt" in there
    assert {"models/demo.onnx", "models/demo.torchscript.pt", "video/faces.mp4", "run/curves.png"} <= there
    assert document["training"]["recipe"]["epochs"] == SMALL.epochs
    assert document["parity"]["worst"]["largest"] <= document["parity"]["worst"]["tolerance"]
    assert {one["model"] for one in document["accuracy"]["sample"]} == {"trained just now", "released stage3"}
    forms = [row["backend"] for row in document["latency"]["rows"]]
    assert forms[:3] == ["PyTorch eager", "TorchScript", "onnxruntime"]
    assert "onnxruntime, released stage3" in forms
    assert read_image(small / "pictures" / "synthetic.jpg").shape[1] > 600
    assert str(small.parent) not in (small / "report.json").read_text(), "no path of the machine"


def test_its_faces_are_none_that_the_released_models_were_trained_on(small):
    document = json.loads((small / "report.json").read_text())
    written = json.loads((small / "synthetic" / "synthetic.json").read_text())
    assert document["faces"]["seed"] == written["seed"] == FACES_FROM + 1
    preview = synthetic_preview(FACES_FROM + 1, 24, columns=6)
    ours, other = read_image(small / "pictures" / "synthetic.jpg"), synthetic_preview(1, 24, columns=6)
    assert np.abs(ours.astype(float) - preview).mean() < 5 < np.abs(ours.astype(float) - other).mean()


def test_a_demo_may_be_replaced_until_somebody_changes_it(small, tmp_path, capsys):
    check_target(small, force=False)
    shutil.copytree(small, tmp_path / "demo")
    (tmp_path / "demo" / "notes.txt").write_text("mine")
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 1
    captured = capsys.readouterr()
    assert "holds a demo" in captured.err
    assert "--force" in captured.err
    assert "1/8" not in captured.err, "nothing is done first"
    assert (tmp_path / "demo" / "notes.txt").read_text() == "mine"
    check_target(tmp_path / "demo", force=True)


def test_what_is_no_demo_is_never_replaced(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    check_target(photos, force=False)
    (photos / "mine.jpg").write_bytes(b"mine")
    for force in (False, True):
        with pytest.raises(OutputError, match="is no demo"):
            check_target(photos, force=force)
    (photos / "report.json").write_text("[1, 2]")
    with pytest.raises(OutputError, match="is no demo"):
        check_target(photos, force=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is no demo"):
        run_demo(tmp_path / "file", SMALL, force=True)
    check_target(tmp_path / "new", force=False)


def test_a_demo_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(*_arguments, **_options):
        raise OutputError("the disk is full")

    monkeypatch.setattr("kpedge.demo.story.write_synthetic", full)
    with pytest.raises(OutputError, match="the disk is full"):
        run_demo(tmp_path / "demo", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_missing_extras_are_told_before_anything_is_done(tmp_path, monkeypatch, capsys):
    there = extras.installed
    monkeypatch.setattr(extras, "installed", lambda name: name not in ("onnx", "onnxscript") and there(name))
    with pytest.raises(MissingExtraError, match="onnx, onnxscript are not installed") as caught:
        extras.check_installed(*NEEDED)
    assert caught.value.advice.startswith("run: pip install '.[export]'")
    monkeypatch.setattr(extras, "installed", lambda name: name != "torch" and there(name))
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 1
    captured = capsys.readouterr()
    assert "torch is not installed" in captured.err
    assert "pip install '.[train,export]'" in captured.err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **_settings):
        assert [path.name[:6] for path in tmp_path.iterdir()] == [".demo."], "the work is hidden until it is done"
        raise KeyboardInterrupt

    monkeypatch.setattr("kpedge.demo.story.write_synthetic", interrupted)
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) not in (0, None)
    captured = capsys.readouterr()
    first, stopped, nothing = captured.err.splitlines()
    assert first == f"1/8 {TITLES[0]}"
    assert "Ctrl-C" in stopped
    assert nothing == f"nothing was written to {out}"
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_the_command_runs_the_story(small, tmp_path, monkeypatch, capsys):
    given = {}

    def fake(out, settings, *, force, watch, say):
        given.update(out=out, settings=settings, force=force)
        with watch("a step") as progress:
            progress(1, 2, "a note")
        say("1/8 a step")
        return out / "index.html"

    monkeypatch.setattr("kpedge.demo.story.run_demo", fake)
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--quick", "--threads", "3", "--seed", "5"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out / 'index.html'}\n"
    assert "1/8 a step" in captured.err
    assert given == {"out": out, "settings": DemoSettings(threads=3, seed=5, **QUICK), "force": False}
