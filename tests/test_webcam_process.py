"""`kpedge webcam` as a process of its own: signals, pipes, and what it imports."""

import json
import os
import signal
import subprocess
import sys

import cv2
import pytest
from fake_live import WAIT_S, clip_frames, read_video, write_video

from kpedge.bench.clip import Sway

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "kpedge", "webcam"]
RATE = 30.0


@pytest.fixture(scope="module")
def clip():
    return clip_frames(30, sway=Sway())[0]


@pytest.fixture(scope="module")
def long_video(clip, tmp_path_factory):
    """Half a minute, played at its own speed: longer than any of these tests."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", clip * 30, RATE)


@pytest.fixture
def start():
    """Start the command; what still runs when the test ends is ended."""
    running = []
    quiet = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}

    def call(*arguments, **options):
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([*COMMAND, *map(str, arguments)], env=quiet, **(streams | options))
        running.append(process)
        return process

    yield call
    for process in running:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def lines_of(process, count):
    return [json.loads(process.stdout.readline()) for _ in range(count)]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_and_its_files_are_whole(start, long_video, tmp_path, sent, code):
    target = tmp_path / "seen.mp4"
    process = start(long_video, "--realtime", "--json", "--record", target)
    first = lines_of(process, 10)
    process.send_signal(sent)
    out, told = process.communicate(timeout=WAIT_S)
    assert process.returncode == code, told.decode()
    rest = [json.loads(line) for line in out.splitlines()]
    numbers = [line["frame"] for line in first + rest]
    assert numbers == sorted(numbers)
    assert len(numbers) < 900, "long before the end"
    assert b"Traceback" not in told
    assert b"error" not in told
    assert f"{len(numbers)} frames in" in told.decode()
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    images, rate = read_video(target)
    seconds = (numbers[-1] - numbers[0]) / RATE
    assert len(images) / rate == pytest.approx(seconds, rel=0.3, abs=0.5), "it plays as long, whatever was left out"
    assert images[0].shape == (240, 320, 3)


def test_a_signal_ends_it_while_it_waits_for_standard_input(start):
    process = start("-", "--json", stdin=subprocess.PIPE)
    process.stdin.write(cv2.imencode(".jpg", clip_frames(1)[0][0])[1].tobytes() * 2)
    process.stdin.flush()
    (line,) = lines_of(process, 1)
    assert line["faces"][0]["id"] == 1
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=WAIT_S)
    finally:
        process.stdin.close()
    told = process.stderr.read().decode()
    assert process.returncode == 0, told
    assert "Fatal" not in told
    assert "Traceback" not in told


def test_pictures_come_through_a_pipe(start, clip, tmp_path):
    target = tmp_path / "seen.avi"
    process = start("-", "--rate", 10, "--json", "--record", target, stdin=subprocess.PIPE)
    out, told = process.communicate(b"".join(cv2.imencode(".jpg", image)[1].tobytes() for image in clip[:8]), WAIT_S)
    assert process.returncode == 0, told.decode()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["frame"] for line in lines] == list(range(8))
    assert [line["time_s"] for line in lines] == pytest.approx([number / 10 for number in range(8)])
    assert [[face["id"] for face in line["faces"]] for line in lines] == [[1]] * 8
    images, rate = read_video(target)
    assert (len(images), rate) == (8, 10)


def test_it_ends_when_nobody_reads_any_more(start, long_video):
    process = start(long_video, "--realtime", "--json")
    lines_of(process, 2)
    process.stdout.close()
    assert process.wait(timeout=WAIT_S) == 0
    told = process.stderr.read().decode()
    assert "Traceback" not in told
    assert "BrokenPipe" not in told


def python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


IMPORTS = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refused())
"""


def test_the_command_needs_the_base_install_alone(clip, tmp_path):
    video = write_video(tmp_path / "clip.avi", clip[:3])
    refused = {"torch", "torchvision", "onnx", "onnxscript", "matplotlib", "tensorboard", "pooch"}
    code = f"REFUSED = {refused!r}\n{IMPORTS}\nfrom kpedge.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    outputs = ["--json", "--udp", "127.0.0.1:9", "--record", tmp_path / "a.mp4", "--serve", "127.0.0.1:0"]
    done = python(code, "webcam", video, *outputs)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3


def test_the_public_names_load_no_training():
    code = """
import sys
import kpedge
for name in kpedge.__all__:
    assert getattr(kpedge, name) is not None
sys.exit(" ".join(sorted({"torch", "onnx", "typer", "pooch"} & set(sys.modules))) or 0)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
