"""Recording to a video file."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

import kpedge.runtime.sinks.record as record
from kpedge.core.errors import OutputError, UsageError
from kpedge.core.keypoints import FACES21
from kpedge.runtime.overlay import Layers
from kpedge.runtime.sinks.pacing import FASTEST, SLOWEST, UNKNOWN_RATE, Timeline, measured_rate, sound_rate
from kpedge.runtime.sinks.record import Recorder, fit
from kpedge.runtime.sinks.sink import LiveFrame
from kpedge.runtime.sources.source import Frame

HEIGHT, WIDTH = 48, 64


def level(number: int) -> int:
    """The grey of a frame, by its number; far enough apart to survive the codec."""
    return 8 * (number % 31)


def live(number: int, time_s: float, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> LiveFrame:
    image = np.full((*shape, 3), level(number), np.uint8)
    return LiveFrame("test", Frame(image, number, time_s), (), FACES21, {}, 30.0, Layers())


def frames_of(path: Path) -> tuple[float, list[np.ndarray]]:
    video, frames = cv2.VideoCapture(str(path)), []
    while (got := video.read())[0]:
        frames.append(got[1])
    rate = video.get(cv2.CAP_PROP_FPS)
    video.release()
    return rate, frames


def numbers_of(frames: list[np.ndarray]) -> list[int]:
    return [round(float(frame[HEIGHT // 4 : -HEIGHT // 4].mean()) / 8) for frame in frames]


def record_all(path: Path, times: list[float], **options) -> Recorder:
    recorder = Recorder(path, live=False, **options)
    for number, time_s in enumerate(times):
        recorder.show(live(number, time_s))
    recorder.close()
    return recorder


@pytest.mark.parametrize("suffix", sorted(record.CODECS))
def test_every_frame_is_in_the_file_in_order(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    recorder = record_all(path, [n / 25 for n in range(30)], rate=25)
    rate, frames = frames_of(path)
    assert rate == pytest.approx(25)
    assert numbers_of(frames) == list(range(30))
    assert recorder.saved == path
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_rate_of_a_camera_is_measured(tmp_path):
    rng = np.random.default_rng(0)
    times = [n / 17.3 + rng.normal(0, 0.003) for n in range(60)]
    record_all(tmp_path / "out.mp4", times)
    rate, frames = frames_of(tmp_path / "out.mp4")
    assert rate == pytest.approx(17.3, rel=0.01)
    assert len(frames) / rate == pytest.approx(60 / 17.3, rel=0.02)


def test_frames_are_repeated_and_left_out_as_their_times_ask(tmp_path):
    times = [0.0, 0.1, 0.2, 0.5, 0.51, 0.6]
    record_all(tmp_path / "out.mp4", times, rate=10)
    _, frames = frames_of(tmp_path / "out.mp4")
    assert numbers_of(frames) == [0, 1, 2, 2, 2, 3, 5]


def test_the_first_frames_are_not_lost_when_the_rate_is_measured(tmp_path):
    record_all(tmp_path / "out.mp4", [n / 20 for n in range(31)])
    _, frames = frames_of(tmp_path / "out.mp4")
    assert numbers_of(frames) == list(range(31))


def test_a_recording_shorter_than_the_measurement_is_kept(tmp_path):
    record_all(tmp_path / "one.mp4", [5.0])
    rate, frames = frames_of(tmp_path / "one.mp4")
    assert (rate, numbers_of(frames)) == (UNKNOWN_RATE, [0])
    record_all(tmp_path / "few.mp4", [5.0, 5.1, 5.2])
    rate, frames = frames_of(tmp_path / "few.mp4")
    assert (rate, numbers_of(frames)) == (pytest.approx(10), [0, 1, 2])


def test_memory_held_while_measuring_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "HELD_BYTES", 3 * HEIGHT * WIDTH * 3)
    begun = threading.Event()

    class Seen(record._Video):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            begun.set()

    monkeypatch.setattr(record, "_Video", Seen)
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
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"):
        Recorder(path)
    recorder = Recorder(path, 10, force=True, live=False)
    recorder.show(live(0, 0.0))
    assert path.read_bytes() == b"old", "what is there stays until the new file is whole"
    recorder.close()
    assert len(frames_of(path)[1]) == 1


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
    assert frames[3][:12].mean() < 20


def test_pictures_are_fitted_without_being_squeezed():
    white = np.full((20, 10, 3), 255, np.uint8)
    fitted = fit(white, 40, 40)
    assert fitted.shape == (40, 40, 3)
    assert (fitted[:, 10:30] == 255).all()
    assert not fitted[:, :10].any()
    assert not fitted[:, 30:].any()
    assert fit(white, 10, 20) is white


@pytest.mark.parametrize("shape", [(47, 63), (16, 16), (2, 2)])
def test_odd_and_tiny_frames(tmp_path, shape):
    recorder = Recorder(tmp_path / "out.avi", 10, live=False)
    for number in range(3):
        recorder.show(live(number, number / 10, shape))
    recorder.close()
    assert len(frames_of(tmp_path / "out.avi")[1]) == 3


def test_a_nearly_full_disk_ends_the_recording_and_keeps_it(tmp_path):
    room = [10 * record.MARGIN_BYTES] * 12
    reached = threading.Event()

    def free(folder):
        assert folder == tmp_path
        if room:
            return room.pop()
        reached.set()
        return record.MARGIN_BYTES - 1

    recorder = Recorder(tmp_path / "out.mp4", 10, live=False, free=free)
    problems = []
    for number in range(200):
        if number > 20:
            assert reached.wait(60)
        try:
            recorder.show(live(number, number / 10))
        except OutputError as problem:
            problems.append(problem)
    recorder.close()
    recorder.close()
    assert len(problems) == 1, "told once"
    assert "the disk is full, so recording ended (16 MiB are left)" in str(problems[0])
    assert "kept" in problems[0].advice
    assert numbers_of(frames_of(tmp_path / "out.mp4")[1]) == list(range(11))
    assert list(tmp_path.iterdir()) == [tmp_path / "out.mp4"]


def test_a_full_disk_is_told_at_close_when_no_frame_comes_any_more(tmp_path):
    room = [10 * record.MARGIN_BYTES] * 2
    recorder = Recorder(tmp_path / "out.mp4", 10, live=False, free=lambda _: room.pop() if room else 0)
    recorder.show(live(0, 0.0))
    recorder.show(live(1, 0.1))
    with pytest.raises(OutputError, match="the disk is full"):
        recorder.close()
    recorder.close()
    assert len(frames_of(tmp_path / "out.mp4")[1]) == 1


def test_a_full_disk_is_refused_at_once(tmp_path):
    with pytest.raises(OutputError, match="the disk is full"):
        Recorder(tmp_path / "out.mp4", free=lambda _: 0)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_grow_ends_the_recording(tmp_path, monkeypatch):
    class Stuck:
        def __init__(self, path, *_):
            Path(path).write_bytes(b"")

        fourcc = staticmethod(cv2.VideoWriter.fourcc)

        def isOpened(self):
            return True

        def write(self, image):
            pass

        def release(self):
            pass

    monkeypatch.setattr(record, "BUFFERED_BYTES", 10)
    monkeypatch.setattr(cv2, "VideoWriter", Stuck)
    video = record._Video(tmp_path / "out.mp4", live(0, 0.0).frame.image, Timeline(10, 60))
    with pytest.raises(OutputError, match="does not grow"):  # noqa: PT012 -- some frames are taken before it is clear
        for number in range(100):
            video.write(live(number, 0.0).frame.image, number / 10)
    assert 5 < number < 50
    with pytest.raises(OutputError, match="cannot be played"):
        video.finish(force=False)
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_record import live
from kpedge.core.errors import OutputError
from kpedge.runtime.sinks.record import Recorder
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # the kernel refuses longer files, as a quota would
recorder = Recorder(Path(sys.argv[1]) / "out.mp4", 10, live=False)
rng = np.random.default_rng(0)
for number in range(60):
    frame = live(number, number / 10)
    frame.frame.image[:] = rng.integers(0, 256, frame.frame.image.shape)
    recorder.show(frame)
try:
    recorder.close()
except OutputError as problem:
    print(problem)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="file size limits are a Unix thing")
def test_a_file_that_could_not_be_finished_is_told_and_removed(tmp_path):
    command = [sys.executable, "-c", LIMITED, tmp_path, Path(__file__).parent]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'out.mp4'}: the recording could not be finished, and cannot be played\n"
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_cannot_be_opened_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(record.CODECS, ".mp4", ("mp4v", (cv2.CAP_OPENCV_MJPEG,)))  # it writes .avi only
    recorder = Recorder(tmp_path / "out.mp4", 10, live=False)
    recorder.show(live(0, 0.0))
    with pytest.raises(OutputError, match="cannot record 64x48 as mp4v"):
        recorder.close()
    assert list(tmp_path.iterdir()) == []


def test_a_name_without_a_format_is_refused(tmp_path):
    for name in ("out", "out.gif", "out.mp4.txt"):
        with pytest.raises(UsageError, match="cannot record this format"):
            Recorder(tmp_path / name)
    Recorder(tmp_path / "OUT.MP4").close()


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        Recorder(tmp_path / "file" / "out.mp4")


def test_a_live_source_is_never_held_up(tmp_path, monkeypatch):
    """While the disk hangs, frames are left out; those that were taken are written."""
    hanging, going = threading.Event(), threading.Event()

    class Slow(record._Video):
        def write(self, image, time_s):
            hanging.set()
            assert going.wait(60)
            super().write(image, time_s)

    monkeypatch.setattr(record, "_Video", Slow)
    monkeypatch.setattr(record, "MOST_WAITING", 4)
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
    numbers = numbers_of(frames_of(tmp_path / "out.mp4")[1])
    assert len(numbers) == 3 + round(10 * record.LIVE_GAP_S)
    assert numbers[-2:] == [2, 3]


@pytest.mark.parametrize("rate", [7.5, 24.0, 29.97, 30.0, 60.0])
def test_even_frames_are_neither_repeated_nor_left_out(rate):
    rng = np.random.default_rng(0)
    for phase in (0.0, 0.499, 0.501):
        timeline = Timeline(rate, 2.0)
        times = [0.0, *((n + phase + rng.uniform(-0.2, 0.2)) / rate for n in range(1, 500))]
        counts = [timeline.frames_for(time_s) for time_s in times]
        assert sum(count != 1 for count in counts) <= 1
        assert abs(sum(counts) - 500) <= 1


def test_twice_and_half_the_rate():
    for factor in (2, 0.5):
        timeline = Timeline(30.0, 2.0)
        total = sum(timeline.frames_for(n / (30 * factor)) for n in range(600))
        assert total == pytest.approx(600 / factor, abs=2)


def test_time_that_stands_still_or_jumps_back_goes_on():
    timeline = Timeline(10.0, 2.0)
    assert [timeline.frames_for(t) for t in (5.0, 5.0, 5.0, 1.0, 1.1, float("nan"), 0.0)] == [1] * 7


def test_rates():
    assert sound_rate(None) is None
    for nonsense in (0, -1, float("nan"), float("inf"), 1000.0):
        assert sound_rate(nonsense) is None
    assert sound_rate(29.97003) == 29.97
    assert sound_rate(0.2) == SLOWEST
    assert measured_rate([]) == measured_rate([3.0]) == measured_rate([1.0, 1.0]) == UNKNOWN_RATE
    assert measured_rate([0, 0.1, 0.2]) == 10
    assert measured_rate([0, 60]) == SLOWEST
    assert measured_rate([0, 1e-6]) == FASTEST
    stumbling = [0, 0.7, *(0.7 + n / 30 for n in range(1, 20))]
    assert measured_rate(stumbling) == pytest.approx(30, rel=0.01)
