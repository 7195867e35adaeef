"""`kpedge webcam`: what comes out, and what it says when something is wrong."""

import json
import re
import signal
import socket

import numpy as np
import pytest
import typer
from conftest import ROOT
from fake_live import WAIT_S, ListSink, clip_frames, errors_by_face, read_video, scene, write_video

from kpedge.bench.clip import Sway
from kpedge.cli import webcam as webcam_module
from kpedge.cli.main import main
from kpedge.cli.options import with_outputs
from kpedge.core.faces import Face
from kpedge.runtime.sinks.outputs import OUTPUTS, Output
from kpedge.runtime.sinks.sink import LiveFrame

COUNT = 12
RATE = 24.0


@pytest.fixture(autouse=True)
def _no_display(monkeypatch):
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("sys.platform", "linux")


@pytest.fixture(scope="module")
def clip():
    return clip_frames(COUNT, sway=Sway(), rate=RATE)


@pytest.fixture(scope="module")
def video(clip, tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", clip[0], RATE)


@pytest.fixture
def run(capsys):
    """Run the command, for its exit code, its JSON lines and what it told."""

    def call(*arguments):
        code = main(["webcam", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, [json.loads(line) for line in captured.out.splitlines()], captured.err

    return call


def test_a_line_for_each_frame(run, video, clip):
    code, lines, told = run(video, "--json")
    assert code == 0
    assert [line["frame"] for line in lines] == list(range(COUNT))
    assert [line["time_s"] for line in lines] == pytest.approx([number / RATE for number in range(COUNT)], abs=1e-3)
    for line in lines:
        assert line.keys() == {"image", "frame", "time_s", "size", "scheme", "faces"}
        assert line["image"] == str(video)
        (face,) = line["faces"]
        assert face["id"] == 1
        assert len(face["box"]) == 4
        assert face["score"] > 0.9
        assert len(face["errors"]) == 21
        points = Face(np.array(face["box"]), np.array(face["keypoints"]))
        assert errors_by_face([points], clip[1].truth(line["frame"]), clip[1].side).max() < 0.04
        assert face["pose"].keys() == {"yaw", "pitch", "roll"}
        assert all(abs(angle) < 25 for angle in face["pose"].values())
    assert f"{video}: 320x240 at 24 fps, mjpeg\n" in told
    assert re.search(rf"^{COUNT} frames in \d+\.\d s, \d+\.\d fps; {COUNT} faces$", told, re.MULTILINE)
    assert re.search(r"^per frame, in ms: decode \d+\.\d\d, .*detect .*keypoints ", told, re.MULTILINE)
    assert len(told.splitlines()) == 3


@pytest.mark.parametrize(("ending", "exact"), [("avi", True), ("mp4", True), ("mkv", False)])
def test_a_recording_has_the_frames_and_the_rate(run, video, clip, tmp_path, ending, exact):
    target = tmp_path / "deep" / f"seen.{ending}"
    code, lines, _ = run(video, "--record", target)
    assert code == 0
    assert lines == [], "no JSON unless it is asked for"
    images, rate = read_video(target)
    assert len(images) == COUNT
    assert rate == pytest.approx(RATE, abs=1e-6 if exact else 0.1)
    plain = np.mean([np.abs(image.astype(int) - frame).mean() for image, frame in zip(images, clip[0], strict=True)])
    assert 1 < plain < 30, "the frames, with the faces drawn over them"
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_all_outputs_at_a_time(run, video, tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(WAIT_S)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        target = tmp_path / "seen.avi"
        code, lines, told = run(video, "--json", "--udp", address, "--record", target, "--serve", "127.0.0.1:0")
        assert code == 0
        assert [json.loads(listener.recv(65536)) for _ in range(COUNT)] == lines
    assert len(read_video(target)[0]) == COUNT
    assert re.search(r"^preview: http://127\.0\.0\.1:\d+/$", told, re.MULTILINE)


def test_help_and_docs_list_every_registered_output(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["webcam", "--help"]) == 0
    shown, docs = capsys.readouterr().out, (ROOT / "docs" / "live.md").read_text()
    for one in OUTPUTS:
        assert one.flag in shown
        assert f"| `{one.flag}" in docs
        assert f"| {one.summary} |" in docs


def test_a_registered_output_needs_nothing_else(run, video, monkeypatch):
    """Its flag appears, and it gets the value and the frames."""
    sink, seen = ListSink(), []
    monkeypatch.setattr("kpedge.runtime.sinks.lines.Own", lambda *given: seen.extend(given) or sink, raising=False)
    own = Output("--own", str, "Own.", "own", "kpedge.runtime.sinks.lines:Own", lambda own, *given: own(*given))
    monkeypatch.setattr(webcam_module, "OUTPUTS", (*OUTPUTS, own))
    app = typer.Typer()
    app.command()(with_outputs(webcam_module.OUTPUTS)(webcam_module.webcam.__wrapped__))
    app(["--own", "value", str(video)], standalone_mode=False)
    assert seen[0] == "value"
    assert seen[1].scheme.name == "faces21"
    assert sink.numbers == list(range(COUNT))


def test_it_stops_after_so_many_frames(run, video, tmp_path):
    code, lines, told = run(video, "--json", "--max-frames", 5, "--record", tmp_path / "seen.avi")
    assert code == 0
    assert [line["frame"] for line in lines] == list(range(5))
    assert len(read_video(tmp_path / "seen.avi")[0]) == 5
    assert "5 frames in" in told


def test_it_stops_after_a_time(run, video):
    code, lines, told = run(video, "--json", "--duration", 0)
    assert (code, lines) == (0, [])
    assert "0 frames in" in told
    assert run(video, "--json", "--duration", 600)[1][-1]["frame"] == COUNT - 1


def test_settings_reach_the_tracker(run, clip, tmp_path):
    two = write_video(tmp_path / "two.avi", [scene((90, 120, 70), (240, 120, 70))[0]] * 3)
    assert [len(line["faces"]) for line in run(two, "--json")[1]] == [2] * 3
    assert [len(line["faces"]) for line in run(two, "--json", "--max-faces", 1)[1]] == [1] * 3
    assert [len(line["faces"]) for line in run(two, "--json", "--threshold", 1)[1]] == [0] * 3
    small = write_video(tmp_path / "small.avi", [scene((100, 100, 24), size=(960, 720))[0]] * 3)
    assert [len(line["faces"]) for line in run(small, "--json", "--max-side", 960)[1]] == [1] * 3
    assert [len(line["faces"]) for line in run(small, "--json", "--max-side", 320)[1]] == [0] * 3
    noisy, _ = clip_frames(10, noise=6.0)
    shaking = write_video(tmp_path / "noise.avi", noisy)
    shake = []
    for option in ("--smooth", "--no-smooth"):
        points = np.array([line["faces"][0]["keypoints"] for line in run(shaking, "--json", option)[1]])
        shake.append(np.linalg.norm(np.diff(points, axis=0), axis=2).mean())
    assert shake[0] < 0.5 * shake[1]


def test_the_picture_may_be_that_of_a_mirror(run, video, clip, tmp_path):
    assert run(video, "--record", tmp_path / "m.avi", "--mirror", "--max-frames", 1)[0] == 0
    (image,), _ = read_video(tmp_path / "m.avi")
    plain, flipped = (np.abs(image.astype(int) - one).mean() for one in (clip[0][0], clip[0][0][:, ::-1]))
    assert flipped < plain


def test_the_pose_is_drawn_when_it_is_asked_for(run, video, tmp_path):
    pictures = []
    for name, options in (("a", []), ("b", ["--pose"])):
        assert run(video, "--record", tmp_path / f"{name}.avi", "--max-frames", 1, *options)[0] == 0
        pictures.append(read_video(tmp_path / f"{name}.avi")[0][0].astype(int))
    assert (np.abs(pictures[0] - pictures[1]).max(axis=2) > 60).sum() > 20


def test_without_a_display_it_says_what_to_do_instead(run, video):
    code, lines, told = run(video)
    assert (code, lines) == (1, [])
    assert told.count("\n") == 1
    assert told.startswith("error: there is no display to open a window on — ")
    assert "--serve" in told


def test_without_a_display_other_outputs_go_on(run, video):
    code, lines, told = run(video, "--json", "--window")
    assert code == 1
    assert len(lines) == COUNT
    assert "error: there is no display" in told
    assert "--serve" in told
    assert told.endswith("error: not every output could be written to its end — they are named above\n")


def test_without_a_camera_it_names_the_sample(run, monkeypatch):
    monkeypatch.setattr("kpedge.runtime.sources.camera.CameraSystem.list_cameras", lambda self: [])
    code, lines, told = run("987", "--json")
    assert (code, lines) == (1, [])
    assert told.count("\n") == 1
    assert "kpedge webcam" in told.split(" — ")[1]


def test_without_any_output_it_counts(run, video):
    code, lines, told = run(video, "--no-window")
    assert (code, lines) == (0, [])
    assert f"{COUNT} frames in" in told


def test_serve_may_stand_without_an_address(run, video, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        free = taken.getsockname()[1]
    monkeypatch.setattr(webcam_module, "DEFAULT_ADDRESS", f"127.0.0.1:{free}")
    for arguments in ([video, "--serve"], ["--serve", video], ["--serve", "--max-frames", 2, video]):
        code, _, told = run(*arguments)
        assert code == 0
        assert f"preview: http://127.0.0.1:{free}/\n" in told


def test_a_preview_beyond_this_machine_has_a_token(run, video):
    told = run(video, "--serve", "0.0.0.0:0")[2]
    assert re.search(r"preview: http://\S+/\?token=\S{16,}", told)
    assert re.search(
        r"/\?token=open-sesame-open\n", run(video, "--serve", ":0", "--serve-token", "open-sesame-open")[2]
    )


def test_a_port_in_use_is_named_before_anything_runs(run, video, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, lines, told = run(video, "--json", "--record", tmp_path / "a.avi", "--serve", f"127.0.0.1:{port}")
    assert (code, lines) == (1, [])
    assert told.startswith(f"error: --serve 127.0.0.1:{port}: the port is in use — ")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_recording_that_exists_is_refused_before_anything_runs(run, video, tmp_path):
    target = tmp_path / "mine.avi"
    target.write_bytes(b"mine")
    code, lines, told = run(video, "--json", "--record", target)
    assert (code, lines) == (1, [])
    assert told == f"error: {target} exists already — name another file, or add --force to replace it\n"
    assert target.read_bytes() == b"mine"
    assert run(video, "--record", target, "--force")[0] == 0
    assert len(read_video(target)[0]) == COUNT


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["missing.mp4"], 1, "missing.mp4"),
        (["{video}", "--json", "--serve-token", "abc"], 2, "--serve-token is for a preview — add --serve"),
        (["{video}", "--json", "--serve", "1.2.3.4:99999"], 2, "99999"),
        (["{video}", "--json", "--udp", "nowhere"], 2, "write HOST:PORT"),
        (["{video}", "--json", "--record", "a.txt"], 2, "cannot record this format"),
        (["{video}", "--json", "--size", "big"], 2, "is not WIDTHxHEIGHT"),
        (["{video}", "--json", "--size", "640x480"], 2, "--size is not for a video file"),
        (["{video}", "--json", "--rate", "10"], 2, "--rate is not for a video file"),
        (["{video}", "--json", "--max-frames", "0"], 2, "--max-frames"),
        (["{video}", "--json", "--max-faces", "0"], 2, "--max-faces"),
        (["{video}", "--json", "--detection-interval", "0"], 2, "--detection-interval must be above 0"),
        (["{video}", "--json", "--threshold", "2"], 2, "--threshold"),
        (["{video}", "--json", "--max-side", "3"], 2, "--max-side must be at least"),
        (["{video}", "--json", "--provider", "abacus"], 2, "abacus"),
        (["{video}", "--json", "--model", "stage1"], 2, "stage1 cannot track faces"),
        (["{video}", "--json", "--model", "detector"], 2, "finds no keypoints"),
        (["{video}", "--json", "--detector", "stage3"], 2, "give a detector"),
        (["{video}", "--json", "--model", "nothing.onnx"], 1, "nothing.onnx"),
        (["{video}", "--json", "--model", "{text}"], 3, "model.onnx"),
        (["{text}", "--json"], 1, "a text, not a video"),
    ],
)
def test_what_is_wrong_is_named(run, video, tmp_path, arguments, code, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = tmp_path / "model.onnx"
    text.write_text("this is no model\n" * 50)
    given = [one.format(video=video, text=text) for one in arguments]
    got, lines, said = run(*given)
    assert (got, lines) == (code, [])
    assert told in " ".join(said.replace("│", " ").split())
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_file_that_is_cut_off_gives_the_frames_that_are_there(run, video, tmp_path):
    data = video.read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: len(data) * 6 // 10])
    code, lines, told = run(cut, "--json", "--record", tmp_path / "seen.avi")
    assert code == 1
    assert 3 <= len(lines) < COUNT
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    errors = [line for line in told.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert str(cut) in errors[0]
    assert "the file is cut off" in errors[0]
    assert len(read_video(tmp_path / "seen.avi")[0]) == len(lines), "what was seen is kept"


def test_a_signal_ends_the_run_at_the_next_frame(run, video, monkeypatch, tmp_path):
    """Sent while a frame is worked on, so that it is known which one."""
    whole = LiveFrame.to_dict

    def to_dict(live):
        if live.frame.number == 3:
            signal.raise_signal(sent)
        return whole(live)

    monkeypatch.setattr(LiveFrame, "to_dict", to_dict)
    for sent, expected in ((signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        target = tmp_path / f"{sent}.avi"
        code, lines, told = run(video, "--json", "--record", target)
        assert code == expected
        assert len(lines) == 4
        assert len(read_video(target)[0]) == 4
        assert "4 frames in" in told


def test_signals_are_the_programs_own_again_afterwards(run, video):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run(video, "--json")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
