import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest
from conftest import COUNT, make_photos
from typer.main import get_command

import kpedge
from kpedge.cli import output
from kpedge.cli.main import main, new_app
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES21
from kpedge.core.model_zoo import closest_model, sample_photo
from kpedge.models.checkpoint import load_checkpoint


def commands(command, path=()):
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))
    elif not command.hidden:
        yield path, command


COMMANDS = dict(commands(get_command(new_app())))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_help_has_examples_that_name_existing_options(path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    assert main([*path, "--help"]) == 0
    text = capsys.readouterr().out
    examples = re.findall(rf"kpedge {' '.join(path)}[^\n]*", text.partition("Examples")[2])
    assert examples, "no example"
    assert "<bool>" not in text
    known = {option for parameter in COMMANDS[path].params for option in parameter.opts + parameter.secondary_opts}
    for example in examples:
        assert set(re.findall(r"--[a-z0-9-]+", example)) <= known
    for parameter in COMMANDS[path].params:
        assert getattr(parameter, "help", None), f"{parameter.name} has no help"
        assert not re.search(r"\[[a-z]", parameter.help), f"{parameter.name}: rich drops text in brackets"


def test_version_and_module_entry(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"kpedge {kpedge.__version__}\n"
    done = subprocess.run([sys.executable, "-m", "kpedge", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"kpedge {kpedge.__version__}\n"


STARTING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what runs in the background ignore it
module, sys.argv[1:] = sys.argv[1], ["predict", "x.jpg"]
class Interrupt:
    def find_spec(self, name, *_):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from kpedge.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("module", "code"), [("typer", -signal.SIGINT), ("kpedge.cli.predict", 130), ("kpedge.runtime.pipeline", 130)]
)
def test_ctrl_c_while_modules_load_leaves_no_traceback(module, code):
    done = subprocess.run([sys.executable, "-c", STARTING, module], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (code, "")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["predict"], 2, "no photo is given"),
        (["predict", "a.png", "--box", "1,2,3"], 2, "is not x1,y1,x2,y2"),
        (["predict", "{photos}/000.png", "--box", "5,5,5,5", "--json", "--model", "{model}"], 1, "has no area"),
        (["predict", "--boxes", "{tmp}/none.txt", "--model", "{model}"], 1, "none.txt: no such file"),
        (["train", "stage1", "--data", "{photos}", "--epochs", "0"], 2, "--epochs must be at least 1"),
        (["train", "stage1", "--data", "{photos}", "--lr-group", "conv"], 2, "is not PATTERN=RATE"),
        (["train", "stage1", "--data", "{photos}", "--device", "cuda:9"], 2, "no such device"),
        (["train", "stage1", "--data", "{tmp}/nowhere", "--out", "{tmp}/run"], 1, "no such folder"),
        (
            ["train", "stage1", "--data", "{photos}", "--out", "{tmp}/run", "--init-from", "{photos}/000.png"],
            3,
            "not a checkpoint",
        ),
        (["data", "check", "{tmp}"], 1, "no label.txt"),
        (["data", "check", "{photos}", "--scheme", "faces99"], 2, "no keypoint scheme"),
        (["data", "check", "{photos}", "--preview", "{photos}/000.png"], 1, "exists already"),
        (["data", "prepare", "{photos}", "--out", "{tmp}/s", "--context", "0.1"], 2, "--context 0.1 is less"),
        (["data", "prepare", "{photos}", "--out", "{tmp}/s", "--validation", "2"], 2, "must be from 0 to below 1"),
        (["eval", "{model}", "--data", "{tmp}"], 1, "no label.txt"),
        (["eval", "{model}", "--data", "{set}", "--split", "x"], 2, "no split is called 'x'"),
        (["eval", "{model}", "--data", "{set}", "--list", "a"], 2, "a prepared set has --split"),
        (["export", "{model}", "--out", "{tmp}"], 1, "no weights for PyTorch"),
        (["export", "{checkpoint}", "--out", "{tmp}", "--format", "caffe"], 2, "--format must be one of"),
        (["verify", "{tmp}/none.onnx"], 1, "no such file"),
        (["eval", "{model}", "--data", "{photos}", "--split", "test"], 2, "--split chooses of a prepared set"),
        (
            ["predict", "{photos}/000.png", "--box=-1e7,0,1e7,9", "--json", "--model", "{model}"],
            1,
            "reaches beyond 1e+06 px",
        ),
        (["export", "{checkpoint}", "--out", "{tmp}", "--name", "../x"], 2, "a name, not a path"),
        (
            ["train", "stage1", "--data", "{photos}", "--seed", "99999999999999999999"],
            2,
            "--seed must be at least 0 and at most",
        ),
        (["summary", "stage99"], 1, "stage99: no such file, run folder or released model"),
        (["no-such-command"], 2, "No such command"),
        (["data", "check"], 2, "Missing argument"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else None,
)
def test_bad_input_gets_one_clear_line_and_its_exit_code(
    arguments, code, words, photos, prepared, exported, trained, tmp_path, capsys
):
    places = {
        "photos": photos,
        "set": prepared.path,
        "model": exported / "stage1.onnx",
        "checkpoint": trained / "best.pt",
        "tmp": tmp_path,
    }
    assert main([argument.format(**places) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert "Traceback" not in captured.err
    if captured.err.startswith("error: "):
        assert len(captured.err.splitlines()) == 1


WITHOUT_PRIVILEGES = """
import ctypes, json, os, sys
from kpedge.cli.main import main
if os.geteuid() == 0:  # root may write anywhere until it drops its capabilities (capset, version 3: none are kept)
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, none) == 0
print([main(arguments) for arguments in json.loads(sys.argv[1])])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="drops root's privileges as Linux does")
def test_a_folder_without_write_permission_is_named(tmp_path):
    make_photos(tmp_path / "photos", 6)
    (tmp_path / "closed").mkdir(mode=0o555)
    commands = [
        ["data", "prepare", "photos", "--out", "closed/set"],
        ["data", "check", "photos", "--preview", "closed/preview.png"],
        ["data", "synth", "--count", "1", "--out", "closed/set"],
        ["predict", str(sample_photo()), "--out", "closed/annotated"],
        ["predict", str(sample_photo()), "--to", "coco", "--out", "closed/labels"],
        ["webcam", "photos", "--record", "closed/faces.mp4"],
        ["train", "stage1", "--out", "closed/run"],
    ]
    call = [sys.executable, "-c", WITHOUT_PRIVILEGES, json.dumps(commands)]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout == f"{[1] * len(commands)}\n", done.stderr  # no result is printed: it stops before the work
    why = r"error: cannot write into .*closed: no permission — choose another folder, or change its permissions"
    assert len(re.findall(why, done.stderr)) == len(commands), done.stderr
    assert list((tmp_path / "closed").iterdir()) == []


def test_data_check_reports_in_words_and_in_json(photos, tmp_path, capsys):
    assert main(["data", "check", str(photos), "--preview", str(tmp_path / "preview.png")]) == 0
    captured = capsys.readouterr()
    assert re.search(rf"usable faces\s+{COUNT}", captured.out)
    assert read_image(tmp_path / "preview.png").shape[1] > 1000
    assert main(["data", "check", str(photos), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["faces"] == COUNT


def test_strict_fails_and_plain_does_not(tmp_path, capsys):
    make_photos(tmp_path / "photos", 5)
    with (tmp_path / "photos" / "label.txt").open("a") as file:
        file.write("000.png 1 2 3\n")
    assert main(["data", "check", str(tmp_path / "photos")]) == 0
    assert "columns: label.txt:6: 4 columns, expected 47" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path / "photos"), "--strict"]) == 1
    assert main(["data", "prepare", str(tmp_path / "photos"), "--out", str(tmp_path / "set"), "--strict"]) == 1
    assert not (tmp_path / "set").exists()
    assert main(["data", "prepare", str(tmp_path / "photos"), "--out", str(tmp_path / "set")]) == 0
    assert "left out: label.txt:6" in capsys.readouterr().err


def test_the_next_command_can_be_copied_and_starts_from_the_model_of_the_sets_points(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "my photos", 6)
    set_sizes = {"faces21": "stage3", "ibug68": "stage3-68", "faces5": "stage3"}
    assert {name: closest_model(name) for name in set_sizes} == set_sizes
    assert main(["data", "prepare", "my photos", "--out", "my set"]) == 0
    command = shlex.split(capsys.readouterr().err.splitlines()[-1].removeprefix("next: kpedge "))
    assert command == ["train", "stage3", "--data", "my set", "--out", "runs/stage3", "--init-from", "stage3"]
    assert main(["data", "preview", "my photos", "--out", "preview.png"]) == 1
    command = shlex.split(capsys.readouterr().err.rpartition("make one: kpedge ")[2])
    assert command == ["data", "prepare", "my photos", "--out", "data/my photos"]


def test_eval_gives_tables_pictures_and_json_from_a_set_and_from_photos(exported, prepared, photos, tmp_path, capsys):
    model = str(exported / "stage1.onnx")
    assert main(["eval", model, "--data", str(prepared.path), "--out", str(tmp_path / "report")]) == 0
    text = capsys.readouterr().out
    for words in (
        "mean error, of the box",
        "pupils' distance",
        "faces with error > 10 %",
        "mean shape",
        "nose_tip",
        "30 to 60",
    ):
        assert words in text
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["split"] == "test"
    assert list(report["by_point"]) == list(FACES21.points)
    assert report["mean_face"]["nme_box"] > 0
    for name in ("error_curve.png", "worst.png"):
        assert read_image(tmp_path / "report" / name).shape[1] > 200
    test_photos = {prepared.photos[i] for i in prepared.photo[prepared.indices("test")]}
    (tmp_path / "list.txt").write_text("\n".join(sorted(test_photos)))
    assert main(["eval", model, "--data", str(photos), "--list", str(tmp_path / "list.txt"), "--json"]) == 0
    from_photos = json.loads(capsys.readouterr().out)
    assert from_photos["nme_box"] == pytest.approx(report["nme_box"], abs=1e-6)
    assert from_photos["faces"] == report["faces"]
    noisy = []
    for source in (["--data", str(prepared.path)], ["--data", str(photos), "--list", str(tmp_path / "list.txt")]):
        assert main(["eval", model, *source, "--box-noise", "0.1", "--json"]) == 0
        noisy.append(json.loads(capsys.readouterr().out))
    assert all(document["nme_box"] > 1.05 * report["nme_box"] for document in noisy), "a model without jitter minds"
    assert all(document["by_size"][2]["faces"] == report["by_size"][2]["faces"] for document in noisy)
    assert from_photos["mean_face"]["by_point"].keys() == from_photos["by_point"].keys()
    assert main(["eval", model, "--data", str(prepared.path), "--flip-test", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nme_box"] != report["nme_box"]


def test_eval_on_training_faces_is_warned_of(exported, prepared, capsys):
    assert main(["eval", str(exported / "stage1.onnx"), "--data", str(prepared.path), "--split", "train"]) == 0
    assert "say nothing about new faces" in capsys.readouterr().err


@pytest.mark.slow
def test_training_on_photos_prepares_them_first(photos, tmp_path, capsys):
    flags = ["--out", str(tmp_path / "runs" / "a"), "--epochs", "1"]
    assert main(["train", "stage1", "--data", str(photos), *flags]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'runs' / 'a' / 'best.pt'}\n"
    assert "epoch 1/1" in captured.err
    (folder,) = (tmp_path / "runs" / "prepared").iterdir()
    assert folder.name.startswith("photos-")
    assert (folder / "set.json").is_file()
    assert main(["train", "stage1", "--data", str(photos), *flags]) == 1
    assert "holds a run already" in capsys.readouterr().err


@pytest.mark.slow
def test_without_data_training_takes_synthetic_faces(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("kpedge.cli.options.SYNTHETIC_PHOTOS", 40)
    out = tmp_path / "runs" / "a"
    flags = ["train", "stage1", "--out", str(out), "--threads", "1"]
    assert main([*flags, "--epochs", "1"]) == 0
    (photos,) = (tmp_path / "runs" / "synthetic").iterdir()
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith(f"no --data: 40 photos of synthetic faces (kpedge data synth), in {photos};")
    assert len(list(photos.glob("*.jpg"))) == 40
    (source,) = load_checkpoint(out / "best.pt").card.training["sets"]
    assert (source["name"], source["terms"]) == ("synthetic faces", "rendered by kpedge; they show nobody")

    def again(*_arguments, **_options):
        raise AssertionError("they are rendered once")

    monkeypatch.setattr("kpedge.synthetic.write_synthetic", again)
    assert main([*flags, "--epochs", "1", "--resume"]) == 0
    assert "up to date" in capsys.readouterr().err
    other = tmp_path / "runs" / "b"
    assert main([*flags[:3], str(other), "--epochs", "1", "--threads", "1"]) == 0
    assert load_checkpoint(other / "best.pt").card.training["sets"] == [source]


@pytest.mark.slow
def test_without_data_the_detector_takes_synthetic_frames(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("kpedge.cli.options.SYNTHETIC_FRAMES", 24)
    out = tmp_path / "runs" / "detector"
    flags = ["--epochs", "1", "--batch-size", "8", "--size", "128", "--validate", "1", "--threads", "1"]
    assert main(["train", "detector", "--out", str(out), *flags]) == 0
    assert "no --data: 24 frames of synthetic faces" in capsys.readouterr().err
    sets = load_checkpoint(out / "best.pt").card.training["sets"]
    assert [source["name"] for source in sets] == ["synthetic frames", "synthetic frames without faces"]


def test_several_processes_are_told_to_render_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "stage1", "--out", str(tmp_path / "a")]) == 2
    assert "first: kpedge data synth" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_summary(tmp_path, capsys):
    assert main(["summary", "stage1"]) == 0
    text = capsys.readouterr().out
    assert "235,851" in text
    assert re.search(r"conv1_1\s+Conv2d\s+8×54×54\s+208\s+1,166,400", text)
    assert main(["summary", "stage1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 235_851
    assert main(["summary", "stage1", "--svg", str(tmp_path / "stage1.svg")]) == 0
    drawn = [element.text or "" for element in ElementTree.parse(tmp_path / "stage1.svg").iter()]
    assert sum(text == "Conv2d" for text in drawn) == 7
    assert "conv1_1: 8×54×54, 208 parameters" in drawn


def test_summary_of_a_model(capsys):
    assert main(["summary", "stage3-68"]) == 0
    assert re.search(r"error\s+Linear\s+68 ", capsys.readouterr().out)
    assert main(["summary", "detector", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["input"] == [3, 256, 320]
    assert main(["summary", "detector", "--head", "heatmap"]) == 2
    assert main(["summary", "stage3-68", "--scheme", "faces21"]) == 2


def test_progress_without_a_terminal_is_a_line_now_and_then_however_long_a_step_takes(capsys, monkeypatch):
    monkeypatch.setattr(output, "LINE_EVERY", 0.01)
    seen = ""

    def wait_for(pattern):
        nonlocal seen
        while not re.search(pattern, seen):
            seen += capsys.readouterr().err
            time.sleep(0.001)

    with output.progress("exporting", unit="formats") as update:
        wait_for(r"exporting: \d+ s elapsed")
        update(2, 4, "onnx")
        wait_for("exporting: 2 of 4 formats.* remaining  onnx")


PROGRESS = """
import time
from kpedge.cli import output
with output.progress("predicting", streams=True) as update:
    time.sleep(0.3)
    update(1, 4, "onnx")
    time.sleep(0.3)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
@pytest.mark.parametrize("piped", [True, False])
def test_progress_on_a_terminal_is_a_bar_unless_results_are_piped(tmp_path, piped):
    import pty

    terminal, end = pty.openpty()
    with (tmp_path / "results").open("wb") as file:
        command = [sys.executable, "-c", PROGRESS]
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        subprocess.run(command, stdout=subprocess.PIPE if piped else file, stderr=end, check=True, env=environment)
    os.write(end, b"end")
    shown = os.read(terminal, 100_000).decode()
    assert shown == "end" or not piped
    if not piped:
        assert re.search(r"predicting: \d+ s elapsed", shown)
        assert "predicting: 1 of 4, " in shown
        assert "remaining  onnx" in shown
        assert "?" not in shown.replace("\x1b[?25", "")


def test_ctrl_c_ends_progress_with_its_reason_and_how_to_go_on(capsys):
    with pytest.raises(KeyboardInterrupt), output.progress("training", resume="add --resume"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "training: stopped by Ctrl-C; add --resume\n"


@pytest.mark.parametrize("error", [ImportError("initialization failed"), AttributeError("matrix"), ValueError("x")])
def test_an_interrupt_that_a_library_turns_into_another_error_is_an_interrupt(monkeypatch, capsys, error):
    def interrupted(_command):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise error

    monkeypatch.setattr("kpedge.cli.main.new_app", interrupted)
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        assert main(["summary"]) == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert capsys.readouterr().err == ""
