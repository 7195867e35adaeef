"""Recording to a video file, with PyAV and with OpenCV."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

import kpedge.runtime.sinks.record as record
from kpedge.core.errors import OutputError, UsageError
from kpedge.core.keypoints import FACES21
from kpedge.runtime.overlay import Layers
from kpedge.runtime.sinks import writers
from kpedge.runtime.sinks.record import Recorder, fit
from kpedge.runtime.sinks.sink import LiveFrame
from kpedge.runtime.sources.source import Frame

HEIGHT, WIDTH = 48, 64


@pytest.fixture(params=["pyav", "opencv"])
def encoder(request, monkeypatch):
    """Each of the two, as if the other were not there."""
    monkeypatch.setattr(writers, "has_pyav", lambda: request.param == "pyav")
    return request.param


def level(number: int) -> int:
    """The grey of a frame, by its number; far enough apart to survive the codec."""
    return 8 * (number % 31)


def live(number: int, time_s: float, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> LiveFrame:
    image = np.full((*shape, 3), level(number), np.uint8)
    return LiveFrame("test", Frame(image, number, time_s), (), FACES21, {}, 30.0, Layers())


def frames_of(path: Path) -> tuple[list[float], list[np.ndarray]]:
    """Times, from 0, and images of a video."""
    with path.open("rb") as file, av.open(file) as container:
        frames = [(frame.time, frame.to_ndarray(format="bgr24")) for frame in container.decode(video=0)]
    return [time_s - frames[0][0] for time_s, _ in frames], [image for _, image in frames]


def numbers_of(frames: list[np.ndarray]) -> list[int]:
    return [round(float(frame[HEIGHT // 4 : -HEIGHT // 4].mean()) / 8) for frame in frames]


def shown(path: Path, rate: float) -> list[int]:
    """Number of the frame that is shown at each tick of a rate."""
    times, frames = frames_of(path)
    numbers, ticks = numbers_of(frames), [round(time_s * rate) for time_s in times]
    return [numbers[max(i for i, start in enumerate(ticks) if start <= tick)] for tick in range(ticks[-1] + 1)]


def record_all(path: Path, times: list[float], **options) -> Recorder:
    recorder = Recorder(path, live=False, **options)
    for number, time_s in enumerate(times):
        recorder.show(live(number, time_s))
    recorder.close()
    return recorder


@pytest.mark.parametrize("suffix", sorted(writers.FORMATS))
def test_every_frame_is_in_the_file_in_order(tmp_path, encoder, suffix):
    path = tmp_path / f"out{suffix}"
    recorder = record_all(path, [n / 25 for n in range(30)], rate=25)
    times, frames = frames_of(path)
    assert times == pytest.approx([n / 25 for n in range(30)], abs=1e-3)
    assert numbers_of(frames) == list(range(30))
    assert recorder.saved == path
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"caf\xe9/out.mkv", b"%02d:a.avi"])
def test_any_name_can_be_recorded_to(tmp_path, encoder, name):
    path = tmp_path / os.fsdecode(name)
    record_all(path, [0.0, 0.1, 0.2])
    assert len(frames_of(path)[1]) == 3
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_the_rate_of_a_camera_is_measured(tmp_path, encoder):
    rng = np.random.default_rng(0)
    times = [n / 17.3 + rng.normal(0, 0.003) for n in range(60)]
    record_all(tmp_path / "out.mp4", times, rate=30)
    written, frames = frames_of(tmp_path / "out.mp4")
    assert written[-1] == pytest.approx(59 / 17.3, rel=0.02)
    assert len(frames) == pytest.approx(60, abs=2)


def test_frames_keep_their_times(tmp_path, encoder):
    times = [0.0, 0.1, 0.2, 0.5, 0.51, 0.6]
    record_all(tmp_path / "out.mp4", times, rate=10)
    assert shown(tmp_path / "out.mp4", 10) == [0, 1, 2, 2, 2, 3, 5]


def test_the_first_frames_are_not_lost_when_the_rate_is_measured(tmp_path):
    record_all(tmp_path / "out.mp4", [n / 20 for n in range(31)])
    assert numbers_of(frames_of(tmp_path / "out.mp4")[1]) == list(range(31))


def test_a_recording_shorter_than_the_measurement_is_kept(tmp_path, encoder):
    record_all(tmp_path / "one.mp4", [5.0])
    assert numbers_of(frames_of(tmp_path / "one.mp4")[1]) == [0]
    record_all(tmp_path / "few.mp4", [5.0, 5.1, 5.2])
    times, frames = frames_of(tmp_path / "few.mp4")
    assert (times, numbers_of(frames)) == (pytest.approx([0, 0.1, 0.2]), [0, 1, 2])


def test_memory_held_while_measuring_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "HELD_BYTES", 3 * HEIGHT * WIDTH * 3)
    begun = threading.Event()

    class Seen(record._RecordedFile):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            begun.set()

    monkeypatch.setattr(record, "_RecordedFile", Seen)
    recorder = Recorder(tmp_path / "out.mp4", live=False)
    for number in range(3):  # a tenth of the time that is measured otherwise
        recorder.show(live(number, number / 30))
    assert begun.wait(60)
    recorder.close()
    assert len(frames_of(tmp_path / "out.mp4")[1]) == 3


def test_without_frames_there_is_no_file(tmp_path):
    recorder = Recorder(tmp_path / "out.mp4")
    recorder.close()
    recorder.close()
    assert list(tmp_path.iterdir()) == []
    assert recorder.saved is None


def test_nothing_is_overwritten_unasked(tmp_path):
    path, part = tmp_path / "out.mp4", tmp_path / "out.part.mp4"
    path.write_bytes(b"old")
    part.write_bytes(b"left by a crash")
    with pytest.raises(OutputError, match="exists already"):
        Recorder(path)
    recorder = Recorder(path, 10, force=True, live=False)
    recorder.show(live(0, 0.0))
    assert path.read_bytes() == b"old", "what is there stays until the new file is whole"
    recorder.close()
    assert len(frames_of(path)[1]) == 1
    assert part.read_bytes() == b"left by a crash"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "out.mp4"
    recorder = Recorder(path, 10, live=False)
    recorder.show(live(0, 0.0))
    path.write_bytes(b"another's")
    recorder.close()
    assert path.read_bytes() == b"another's"
    assert recorder.saved == tmp_path / "out-2.mp4"
    assert len(frames_of(recorder.saved)[1]) == 1


def test_closing_twice_and_showing_after_it_do_nothing(tmp_path):
    recorder = record_all(tmp_path / "out.mp4", [0.0, 0.1], rate=10)
    before = (tmp_path / "out.mp4").read_bytes()
    recorder.close()
    recorder.show(live(3, 0.3))
    recorder.close()
    assert (tmp_path / "out.mp4").read_bytes() == before
    assert not [thread for thread in threading.enumerate() if thread.name == "recorder"]


def test_the_size_of_the_first_frame_is_kept(tmp_path):
    recorder = Recorder(tmp_path / "out.mp4", 10, live=False)
    for number, shape in enumerate([(48, 64), (96, 64), (24, 32), (24, 96), (48, 64)], 1):
        recorder.show(live(10 + number, number / 10, shape))
    recorder.close()
    _, frames = frames_of(tmp_path / "out.mp4")
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 5
    assert [round(float(frame[20:28, 28:36].mean()) / 8) for frame in frames] == [11, 12, 13, 14, 15]
    assert frames[1][:, :8].mean() < 20, "black bars"


def test_images_are_fitted_without_being_squeezed():
    white = np.full((20, 10, 3), 255, np.uint8)
    fitted = fit(white, 40, 40)
    assert (fitted[:, 10:30] == 255).all()
    assert not fitted[:, :10].any()
    assert not fitted[:, 30:].any()
    assert fit(white, 10, 20) is white


@pytest.mark.parametrize("shape", [(47, 63), (16, 17), (2, 2)])
@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_odd_and_tiny_frames(tmp_path, shape, suffix):
    recorder = Recorder(tmp_path / f"out{suffix}", 10, live=False)
    for number in range(3):
        recorder.show(live(number, number / 10, shape))
    recorder.close()
    assert len(frames_of(tmp_path / f"out{suffix}")[1]) == 3


# When something goes wrong


@pytest.mark.parametrize("frames", [0, 20])
def test_a_full_disk_ends_the_recording_and_keeps_what_there_is(tmp_path, encoder, monkeypatch, frames):
    monkeypatch.setattr(record, "MEASURE_S", 0.05)
    room, reached = [10 * record.MARGIN_BYTES] * frames, threading.Event()

    def free(folder):
        assert folder == tmp_path
        if room:
            return room.pop()
        reached.set()
        return record.MARGIN_BYTES - 1

    recorder, problems = Recorder(tmp_path / "out.mp4", 10, live=False, free=free), []
    for number in range(200):
        if number > 30:
            assert reached.wait(60)
        try:
            recorder.show(live(number, number / 10))
        except OutputError as problem:
            problems.append(problem)
    recorder.close()
    recorder.close()
    assert len(problems) == 1, "reported once"
    assert "the disk is full, so recording ended (16 MiB are left)" in str(problems[0])
    assert ("what was recorded is in" in str(problems[0])) == bool(frames)
    assert list(tmp_path.iterdir()) == [tmp_path / "out.mp4"] * bool(frames)
    if frames:
        assert numbers_of(frames_of(tmp_path / "out.mp4")[1]) == list(range(frames))


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_record import live
from kpedge.core.errors import OutputError
from kpedge.runtime.sinks import writers
from kpedge.runtime.sinks.record import Recorder
writers.has_pyav = lambda: sys.argv[3] == "pyav"
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)  # the kernel refuses longer files, as a quota would
recorder = Recorder(Path(sys.argv[1]), 10, live=False)
rng = np.random.default_rng(0)
try:
    for number in range(51):
        frame = live(number, number / 10)
        frame.frame.image[:] = rng.integers(0, 256, frame.frame.image.shape)
        recorder.show(frame)
    recorder.close()
except OutputError as problem:
    print(problem)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="file size limits are a Unix thing")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("part", [0.4, 0.97])
def test_a_recording_that_a_quota_cuts_off_is_an_error(tmp_path, encoder, suffix, part):
    """In the middle, and in its last frames."""
    path = tmp_path / f"out{suffix}"

    def run(limit):
        command = [sys.executable, "-c", LIMITED, path, Path(__file__).parent, encoder, str(limit)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert run(10**8) == ""
    size = path.stat().st_size
    path.unlink()
    assert f"out{suffix}" in run(int(part * size))
    left = list(tmp_path.iterdir())
    assert left in ([], [path])
    if encoder == "pyav":
        assert left == [path], "it plays up to the cut"
        assert len(frames_of_cut(path)) > 51 * part - 20


def frames_of_cut(path: Path) -> list[np.ndarray]:
    frames = []
    try:
        with path.open("rb") as file, av.open(file) as container:
            frames.extend(frame.to_ndarray(format="bgr24") for frame in container.decode(video=0))
    except av.FFmpegError:
        return frames
    return frames


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_record import live
from kpedge.runtime.sinks.record import Recorder
recorder = Recorder(Path(sys.argv[1]), 25, live=False)
for number in range(250):
    recorder.show(live(number, number / 25))
print("recorded", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_recording_plays_after_a_kill(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, path, Path(__file__).parent], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "recorded\n"
    time.sleep(0.5)
    process.kill()
    process.wait()
    process.stdout.close()
    (part,) = tmp_path.iterdir()
    assert part.name == f"out.part{suffix}"
    assert len(frames_of_cut(part)) >= 250 - record.MOST_WAITING - 2 * 25


def test_an_encoder_that_cannot_be_opened_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "has_pyav", lambda: False)
    monkeypatch.setitem(writers.FORMATS, ".mp4", ("mp4", "libx264", "nope"))
    recorder = Recorder(tmp_path / "out.mp4", 10, live=False)
    recorder.show(live(0, 0.0))
    with pytest.raises(OutputError, match="cannot record 64x48"):
        recorder.close()
    assert list(tmp_path.iterdir()) == []


def test_names_and_folders_that_cannot_be_written_are_refused_at_once(tmp_path):
    for name in ("out", "out.gif", "out.mp4.txt"):
        with pytest.raises(UsageError, match="cannot record this format"):
            Recorder(tmp_path / name)
    Recorder(tmp_path / "OUT.MP4").close()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        Recorder(tmp_path / "file" / "out.mp4")


def test_a_live_source_is_never_held_up(tmp_path, monkeypatch):
    """While the disk hangs, frames are left out; those that were taken are written."""
    hanging, going = threading.Event(), threading.Event()

    class Slow(record._RecordedFile):
        def write(self, image, time_s):
            hanging.set()
            assert going.wait(60)
            super().write(image, time_s)

    monkeypatch.setattr(record, "_RecordedFile", Slow)
    monkeypatch.setattr(record, "MOST_WAITING", 4)
    monkeypatch.setattr(record, "MEASURE_S", 0.0)
    recorder = Recorder(tmp_path / "out.mp4", 10)
    recorder.show(live(0, 0.0))
    assert hanging.wait(60)
    for number in range(1, 20):
        recorder.show(live(number, number / 10))
    assert recorder.dropped == 15
    going.set()
    recorder.close()
    assert numbers_of(frames_of(tmp_path / "out.mp4")[1]) == [0, 1, 2, 3, 4]


def test_a_pause_is_cut_short(tmp_path):
    recorder = Recorder(tmp_path / "out.mp4", 10)
    for number, time_s in enumerate([0.0, 0.1, 3600.0, 3600.1]):
        recorder.show(live(number, time_s))
    recorder.close()
    times, frames = frames_of(tmp_path / "out.mp4")
    assert numbers_of(frames) == [0, 1, 2, 3]
    assert times == pytest.approx([0, 0.1, 0.1 + record.LIVE_GAP_S, 0.2 + record.LIVE_GAP_S])
