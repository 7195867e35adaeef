"""`kpedge demo`: its scene, its judge, the story in small, and what it does to folders. No test asserts a time."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from kpedge.cli.main import main
from kpedge.core.errors import MissingExtraError, OutputError, UsageError
from kpedge.core.faces import Face
from kpedge.core.files import WRITTEN
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES21
from kpedge.demo import checks
from kpedge.demo.checks import check_extras, check_target
from kpedge.demo.follow import FEWEST, SETTLED, follow, judge, record
from kpedge.demo.make import make_faces, prepare_faces, train_model
from kpedge.demo.scene import PATH, PRINTS, RATE, SIZE, Scene, view_at
from kpedge.demo.settings import FACES_FROM, DemoSettings, demo_settings
from kpedge.demo.story import TITLES, run_demo
from kpedge.models.checkpoint import load_checkpoint
from kpedge.runtime.pipeline import FacePipeline
from kpedge.runtime.sinks import writers
from kpedge.synthetic.preview import synthetic_preview

pytestmark = pytest.mark.slow

SMALL = DemoSettings(photos=60, epochs=10, rounds=1, calls=2, seconds=1.2, seed=1)


def nobody(*_told):
    pass


@pytest.fixture(scope="module")
def scene():
    return Scene()


def test_the_truth_is_where_the_faces_are(scene):
    for time_s in (0.5, 2.6, 4.5, 7.4, 9.4):
        number = round(time_s * RATE)
        truth, in_view = scene.truth(number), scene.in_view(number)
        assert truth.shape == (len(PRINTS), 21, 2)
        found = FacePipeline(max_side=640)(scene.frame(number))
        assert len(found) == in_view.sum()
        for place in np.flatnonzero(in_view):
            side = np.ptp(truth[place], axis=0).max()
            away = min(np.linalg.norm(face.keypoints - truth[place], axis=1).mean() for face in found)
            assert away < 0.05 * side, f"{time_s} s, print {place}"


def test_the_mirrored_print_keeps_left_left(scene):
    left, right = FACES21.points.index("left_pupil"), FACES21.points.index("right_pupil")
    for place, number in ((0, 0), (1, round(4.5 * RATE))):
        points = scene.truth(number)[place]
        assert points[left, 0] < points[right, 0], "names count in the picture"


def test_the_camera_eases_along_its_path(scene):
    assert view_at(-1) == PATH[0]
    assert view_at(1e3) == PATH[-1]
    for view in PATH:
        assert view_at(view.time_s).x == pytest.approx(view.x)
        assert view_at(view.time_s).zoom == pytest.approx(view.zoom)
    moves = [np.abs(scene.camera(n + 1) @ (750, 450, 1) - scene.camera(n) @ (750, 450, 1)).max() for n in range(239)]
    assert max(moves) < 60, "no face jumps"
    rests = scene.rests()
    assert rests[0] == range(26)
    assert [number for rest in rests for number in rest] == sorted(number for rest in rests for number in rest)
    empty = [number for number in range(scene.frames) if not scene.in_view(number).any()]
    assert len(empty) > 10, "the faces leave the frame"


def test_a_frame_is_the_same_each_time_and_has_noise(scene):
    assert scene.frame(5).shape == (SIZE[1], SIZE[0], 3)
    assert (scene.frame(5) == scene.frame(5)).all()
    assert (scene.frame(5) == Scene().frame(5)).all()
    off = scene.frame(6).astype(float) - scene.frame(5)
    assert off.std() == pytest.approx(np.sqrt(2) * 2.5, rel=0.15), "the camera rests: what differs is noise"
    assert (scene.frame(5) != Scene(seed=1).frame(5)).any()


def perfect(scene, number, shift=0.0):
    """Faces as a model without fault would give them, moved by `shift` sides of the box."""
    from kpedge.core.boxes import boxes_of_points

    faces = []
    for place in np.flatnonzero(scene.in_view(number)).tolist():
        points = scene.truth(number)[place]
        box = boxes_of_points(points[None])[0]
        faces.append(Face(box, points + np.array([shift * (box[2] - box[0]), 0]), 1.0, id=place + 1))
    return tuple(faces)


def test_the_judge_of_perfect_faces(scene):
    judged = judge(scene, [perfect(scene, number) for number in range(scene.frames)], {"a": 2.0, "b": 3.0})
    assert judged.error == judged.strays == 0
    assert judged.jitter == pytest.approx(0, abs=1e-12)
    assert judged.shown == judged.followed > scene.frames
    assert judged.numbers == 2
    assert len(judged.found_after_s) == 4
    assert set(judged.found_after_s) == {0.0}
    assert judged.frames_a_second == 200
    assert json.loads(json.dumps(judged.to_dict()))["steps_ms"] == {"a": 2.0, "b": 3.0}


def test_the_judge_measures_errors_and_misses(scene):
    late, missed = 7, 0
    found = []
    first = None
    for number in range(scene.frames):
        faces = perfect(scene, number, shift=0.02)
        if scene.in_view(number)[1] and first is None:
            first = number
        if first is not None and number < first + late:
            missed += sum(face.id == 2 for face in faces)
            faces = tuple(face for face in faces if face.id == 1)
        stray = Face(np.array([0.0, 0, 9, 9]), np.zeros((21, 2)), 0.9, id=9)
        found.append((*faces, stray) if number == 3 else faces)
    judged = judge(scene, found, {"a": 1.0})
    assert judged.error == pytest.approx(0.02)
    assert judged.error_p95 == pytest.approx(0.02)
    assert judged.shown - judged.followed == missed > 0
    assert judged.strays == 1
    assert judged.found_after_s[1] == pytest.approx(late / RATE, abs=1e-3)
    assert judged.numbers == 3


def test_the_judge_measures_jitter(scene):
    rng = np.random.default_rng(0)
    sigma, side = 0.01, perfect(scene, 0)[0]
    width = side.box[2] - side.box[0]
    found = [
        tuple(replace(face, keypoints=face.keypoints + rng.normal(0, sigma * width, (21, 2))) for face in one)
        for one in (perfect(scene, number) for number in range(26))
    ]
    judged = judge(Scene(26 / RATE), found, {})
    assert judged.jitter == pytest.approx(np.sqrt(2) * sigma, rel=0.15)
    short = Scene((SETTLED + FEWEST - 1) / RATE)
    assert judge(short, found[: short.frames], {}).jitter is None


def test_the_released_models_follow_the_filmed_scene(small):
    cut = Scene(SMALL.seconds)
    found, judged = follow(cut, small / "video" / "scene.mp4", nobody)
    assert len(found) == judged.frames == cut.frames == 30
    assert judged.followed == judged.shown == 30
    assert judged.strays == 0
    assert judged.error < 0.04
    assert judged.jitter < 0.005
    assert judged.found_after_s == (0.0,)


def test_a_video_that_browsers_play_is_written_where_it_can_be(small, tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "has_pyav", lambda: False)
    monkeypatch.setitem(writers.FORMATS, ".webm", ("webm", "libvpx", "NONE"))
    cut = Scene(SMALL.seconds)
    paths = [tmp_path / "a.mp4", tmp_path / "a.webm"]
    written = record(cut, small / "video" / "scene.mp4", [()] * cut.frames, paths, nobody)
    assert written == paths[:1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    with pytest.raises(OutputError, match=r"a\.webm"):
        record(cut, small / "video" / "scene.mp4", [()] * cut.frames, paths[1:], nobody)


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
    assert document["settings"] == SMALL.to_dict()
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


def test_the_model_follows_from_the_seed(small, tmp_path):
    make_faces(tmp_path / "synthetic", SMALL, nobody)
    source = prepare_faces(tmp_path / "synthetic", tmp_path / "set", SMALL, nobody)
    result = train_model(source, tmp_path / "run", SMALL, nobody)
    one, other = (load_checkpoint(path).card for path in (small / "run" / "best.pt", result.best))
    assert one.weights_sha256 == other.weights_sha256
    assert other.training["sets"][0]["name"] == "synthetic faces"


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

    monkeypatch.setattr("kpedge.demo.story.make_faces", full)
    with pytest.raises(OutputError, match="the disk is full"):
        run_demo(tmp_path / "demo", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_missing_extras_are_told_before_anything_is_done(tmp_path, monkeypatch, capsys):
    there = checks.installed
    monkeypatch.setattr(checks, "installed", lambda name: name not in ("onnx", "onnxscript") and there(name))
    with pytest.raises(MissingExtraError, match="onnx, onnxscript are not installed") as caught:
        check_extras()
    assert caught.value.advice.startswith("run: pip install '.[export]'")
    monkeypatch.setattr(checks, "installed", lambda name: name != "torch" and there(name))
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 1
    captured = capsys.readouterr()
    assert "torch is not installed" in captured.err
    assert "pip install '.[train,export]'" in captured.err
    assert list(tmp_path.iterdir()) == []


def test_the_checks_load_nothing_heavy(tmp_path):
    code = "import sys; from kpedge.cli.main import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    (tmp_path / "mine").write_text("mine")
    command = [sys.executable, "-c", code, "demo", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "is no demo" in done.stderr
    assert done.stdout == "False\n"


def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        assert [path.name[:6] for path in tmp_path.iterdir()] == [".demo."], "the work is hidden until it is done"
        raise KeyboardInterrupt

    monkeypatch.setattr("kpedge.demo.story.make_faces", interrupted)
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) not in (0, None)
    captured = capsys.readouterr()
    assert captured.err.splitlines()[:2] == [f"1/8 {TITLES[0]}", f"stopped; nothing was written to {out}"]
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
    assert given == {"out": out, "settings": demo_settings(quick=True, threads=3, seed=5), "force": False}


def test_settings_are_checked_once():
    usual, quick = demo_settings(), demo_settings(quick=True)
    assert usual.photos > quick.photos
    assert usual.epochs > quick.epochs
    assert usual.threads == 1
    assert usual.training().epochs == usual.epochs
    for wrong in ({"photos": 3}, {"epochs": 0}, {"seconds": 0.0}, {"threads": 0}, {"seed": -1}):
        with pytest.raises(UsageError):
            DemoSettings(**wrong)
