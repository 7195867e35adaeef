"""Files, folders and standard input as sources of frames."""

import io
import os
import struct
import threading

import cv2
import numpy as np
import pytest
from conftest import PHOTOS
from fake_capture import WAIT_S, ListCapture, picture, shade
from PIL import Image as Pillow

from kpedge.core.errors import SourceError, UsageError
from kpedge.runtime.sources.capture import describe, known_count, known_rate, pixel_format
from kpedge.runtime.sources.containers import file_is_cut_off
from kpedge.runtime.sources.files import PictureFolder, VideoFile, VideoSource
from kpedge.runtime.sources.open import open_source
from kpedge.runtime.sources.paced import CATCH_UP_S

VIDEOS = PHOTOS.parent / "videos"
CODECS = {".avi": "MJPG", ".mkv": "mp4v", ".mp4": "mp4v", ".webm": "VP80"}
STEP = 8


def write_video(path, frames=24, rate=30, size=(64, 48)):
    """A video whose frame N has a brightness of about 8 N."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*CODECS[path.suffix]), rate, size)
    assert writer.isOpened()
    for number in range(frames):
        writer.write(picture(STEP * number, *size))
    writer.release()
    return path


def write_gif(path, frames=5):
    images = [Pillow.fromarray(picture(STEP * number)) for number in range(frames)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=[100, 300, 100, 100, 100][:frames])
    return path


def drain(source):
    """All frames of a source, and the error that ends it."""
    frames = []
    try:
        frames.extend(source)
    except SourceError as error:
        return frames, error
    return frames, None


@pytest.fixture
def said():
    return []


# Videos


@pytest.mark.parametrize("suffix", CODECS)
def test_every_frame_of_a_video_comes_in_order_with_its_time(tmp_path, suffix):
    source = open_source(str(write_video(tmp_path / f"a{suffix}")))
    assert not source.live
    assert source.rate == pytest.approx(30)
    assert source.description.startswith("64x48 at 30 frames a second, ")
    frames = list(source)
    assert [frame.number for frame in frames] == list(range(24))
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(24) / 30, abs=1e-3)
    assert [shade(frame.image) for frame in frames] == pytest.approx(STEP * np.arange(24), abs=4)
    assert all(frame.decode_s > 0 and frame.name == "" for frame in frames)
    assert list(source) == []
    source.close()


def test_a_gif_comes_with_its_own_times(tmp_path):
    frames = list(open_source(str(write_gif(tmp_path / "a.gif"))))
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.4, 0.5, 0.6])
    assert [shade(frame.image) for frame in frames] == [0, 8, 16, 24, 32]


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".gif"])
def test_a_file_that_is_cut_off_gives_what_is_there_and_then_says_so(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    data = (write_gif(path) if suffix == ".gif" else write_video(path)).read_bytes()
    assert file_is_cut_off(path) is False
    path.write_bytes(data[: int(0.7 * len(data))])
    assert file_is_cut_off(path) is True
    source = open_source(str(path))
    frames, error = drain(source)
    assert 2 <= len(frames) < 24
    assert [frame.number for frame in frames] == list(range(len(frames)))
    if suffix != ".gif":
        assert [shade(frame.image) for frame in frames] == pytest.approx(STEP * np.arange(len(frames)), abs=4)
        assert f"a{suffix}: the file is cut off: it ended after {len(frames)} of 24 frames" in str(error)
    assert f"a{suffix}: the file is cut off: it ended after {len(frames)} " in str(error)
    assert error.advice
    assert list(source) == []


def test_a_video_whose_index_is_cut_off_is_named(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SourceError, match="cut off before"):
        open_source(str(path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"no video at all\n" * 100, "not a video"),  # FFmpeg would play it as an animation
        (bytes(range(256)) * 20, "not a video"),
        (b"GIF89a\x10\x00", "cut off"),
        (b"\x1a\x45\xdf\xa3", "cut off"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".txt", ".gif"])
def test_what_is_no_video_is_named(tmp_path, content, words, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=words) as caught:
        open_source(str(path))
    assert f"a{suffix}" in str(caught.value)


def test_a_file_without_permission_is_named(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.avi")

    def refused(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refused)
    with pytest.raises(SourceError, match=r"a\.avi: cannot be read: Permission denied"):
        open_source(str(path))


def test_a_name_that_looks_like_an_address_or_a_series_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("http:a.avi", "a%02d.avi", "-v.avi", "7.avi"):
        write_video(tmp_path / name, frames=3)
        assert len(list(open_source(name))) == 3


def test_a_video_is_turned_as_it_asks_for(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=3)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # its matrix (ISO/IEC 14496-12, section 8.3.2)
    assert data[at : at + 4] == b"\x00\x01\x00\x00"
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    source = open_source(str(path))
    assert source.description.startswith("48x64")
    assert {frame.image.shape for frame in source} == {(64, 48, 3)}


@pytest.mark.parametrize(
    ("times_ms", "expected"),
    [
        ([0, 0, 0, 0], [0, 0.04, 0.08, 0.12]),
        ([float("nan")] * 4, [0, 0.04, 0.08, 0.12]),
        ([500, 600, 700, 900], [0, 0.1, 0.2, 0.4]),
        ([0, 100, 100, 300], [0, 0.1, 0.14, 0.3]),
        ([0, 100, 50, 300], [0, 0.1, 0.14, 0.3]),
    ],
)
def test_times_that_are_missing_or_do_not_rise_are_filled_in(times_ms, expected):
    frames = list(VideoSource("a", ListCapture([picture(1)] * 4, times_ms)))
    assert [frame.time_s for frame in frames] == pytest.approx(expected)


def test_a_broken_frame_is_left_out_and_counted():
    capture = ListCapture([picture(0), None, np.zeros((0, 0, 3), np.uint8), picture(3)])
    assert [(frame.number, shade(frame.image)) for frame in VideoSource("a", capture)] == [(0, 0), (3, 3)]
    assert capture.released


def test_a_video_on_a_server_that_breaks_off_is_told_from_one_that_ends():
    images = [picture(1)] * 10
    assert len(list(VideoSource("a", ListCapture(images, properties={cv2.CAP_PROP_FRAME_COUNT: 11})))) == 10
    with pytest.raises(SourceError, match="broke off after 10 of 20 frames"):
        list(VideoSource("a", ListCapture(images, properties={cv2.CAP_PROP_FRAME_COUNT: 20})))


def test_what_a_capture_does_not_know_is_not_told():
    for value in (0.0, -1.0, float("nan"), float("inf"), -9.2e18, 9.2e18):
        capture = ListCapture([], properties=dict.fromkeys((5, 6, 7), value))
        assert (known_rate(capture), known_count(capture), pixel_format(capture)) == (None, None, "")
    assert known_rate(ListCapture([], properties={cv2.CAP_PROP_FPS: 90000.0})) is None
    assert describe(picture(0), None) == "64x48"
    assert describe(picture(0), 29.97, "YUYV") == "64x48 at 29.97 frames a second, YUYV"


# In real time


class FakeTimer:
    def __init__(self):
        self.time_s = 100.0
        self.waits = []

    def now(self):
        return self.time_s

    def wait(self, changed, seconds):
        self.waits.append(seconds)
        self.time_s += seconds


def test_a_file_in_real_time_waits_for_each_frame():
    timer = FakeTimer()
    source = VideoSource("a", ListCapture([picture(1)] * 5), realtime=True, timer=timer)
    assert source.live
    due = [(frame.number, timer.time_s) for frame in source]
    assert [number for number, _ in due] == list(range(5))
    assert [time_s for _, time_s in due] == pytest.approx(100 + 0.04 * np.arange(5))


def test_a_slow_taker_of_a_file_in_real_time_gets_the_newest_frame_only():
    timer, capture = FakeTimer(), ListCapture([picture(1)] * 40)
    source = VideoSource("a", capture, realtime=True, timer=timer)
    numbers = []
    for frame in source:
        numbers.append(frame.number)
        assert frame.time_s == pytest.approx(0.04 * frame.number)
        timer.time_s += 0.21  # five frames and a quarter
    assert numbers[0] == 0
    assert set(np.diff(numbers)) <= {5, 6}
    assert capture.retrieved == len(numbers), "frames that are dropped are not decoded"


def test_a_file_that_cannot_be_read_at_its_own_speed_still_shows_frames():
    timer = FakeTimer()

    def slow():
        timer.time_s += 0.1

    source = VideoSource("a", ListCapture([picture(1)] * 100, on_grab=slow), realtime=True, timer=timer)
    numbers = [frame.number for frame in source]
    assert 5 < len(numbers) < 20
    assert np.diff(numbers).max() <= CATCH_UP_S / 0.1 + 2


def test_closing_ends_a_wait_for_the_next_frame():
    capture = ListCapture([picture(1), picture(2)], [0.0, 1e9])
    source = VideoSource("a", capture, realtime=True)
    first, numbers = threading.Event(), []

    def take():
        for frame in source:
            numbers.append(frame.number)
            first.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert first.wait(WAIT_S)
    source.close()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert numbers == [0]
    assert capture.released


def test_closing_while_a_frame_is_read_lets_go_of_the_file_afterwards():
    closed = []

    def close():
        if capture.at == 1:
            source.close()
            closed.append(capture.released)

    capture = ListCapture([picture(1)] * 5, on_grab=close)
    source = VideoSource("a", capture)
    assert [frame.number for frame in source] == [0, 1]
    assert closed == [False]
    assert capture.released
    source.close()


# Folders


@pytest.fixture
def folder(tmp_path):
    for name, size in (("10.png", (64, 48)), ("2.jpg", (32, 32)), ("b/1.bmp", (64, 48)), ("B/0.webp", (20, 30))):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture(100, *size))
    return tmp_path / "in"


def test_pictures_of_a_folder_come_in_the_order_of_their_numbers(folder):
    source = open_source(str(folder), rate=10)
    assert source.description == "4 pictures at 10 a second"
    frames = list(source)
    assert [frame.name for frame in frames] == [
        str(folder / name) for name in ("2.jpg", "10.png", "B/0.webp", "b/1.bmp")
    ]
    assert [(frame.number, frame.time_s) for frame in frames] == [(0, 0), (1, 0.1), (2, 0.2), (3, pytest.approx(0.3))]
    assert [frame.image.shape[:2] for frame in frames] == [(32, 32), (48, 64), (30, 20), (48, 64)]


def test_a_picture_is_a_source_of_one_frame(folder):
    (frame,) = open_source(str(folder / "2.jpg"))
    assert frame.name == str(folder / "2.jpg")


def test_pictures_that_cannot_be_read_are_named_and_left_out(folder, said):
    (folder / "2.jpg").write_bytes(b"no picture")
    write_gif(folder / "5.gif")
    frames = list(open_source(str(folder), say=said.append))
    assert [frame.number for frame in frames] == list(range(8))
    assert [frame.name for frame in frames[:5]] == [str(folder / "5.gif")] * 5
    assert len(said) == 1
    assert "2.jpg: not a picture" in said[0]


def test_folders_without_pictures_are_refused(tmp_path, said):
    with pytest.raises(SourceError, match="no picture in this folder"):
        open_source(str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(SourceError, match="none of its 1 pictures"):
        list(open_source(str(tmp_path), say=said.append))
    assert len(said) == 1


def test_a_folder_in_real_time_drops_pictures(tmp_path):
    for number in range(30):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(number))
    timer, numbers = FakeTimer(), []
    for frame in PictureFolder(tmp_path, "in", rate=10, realtime=True, say=print, timer=timer):
        assert shade(frame.image) == frame.number
        numbers.append(frame.number)
        timer.time_s += 0.51
    assert set(np.diff(numbers)) <= {5, 6}


# What the user writes


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("", {}, "empty"),
        ("a.avi", {"size": (640, 480)}, "only a camera"),
        (".", {"pixel_format": "MJPG"}, "only a camera"),
        ("-", {"size": (640, 480)}, "only a camera"),
        ("rtsp://u:p@host/a", {"size": (640, 480)}, r"rtsp://\*\*\*@host/a: only a camera"),
        ("a.avi", {"rate": 30}, "rate of its own"),
        ("http://host/a", {"rate": 30}, "rate of its own"),
        ("0", {"size": (0, 480)}, "a width and a height"),
        ("0", {"rate": -1}, "a rate is"),
        ("0", {"rate": float("nan")}, "a rate is"),
        ("0", {"pixel_format": "JPEG2"}, "four characters"),
        ("ftp://host/a", {}, "no such kind of stream"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, monkeypatch, text, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.avi").write_bytes(b"anything")
    with pytest.raises(UsageError, match=words):
        open_source(text, stdin=io.BytesIO(), **options)


def test_what_is_nothing_says_what_was_tried(tmp_path):
    with pytest.raises(SourceError, match="'nothing': no such file or folder, and no camera") as caught:
        open_source("nothing", sys_folder=tmp_path)
    assert "no cameras were found" in caught.value.advice
    with pytest.raises(SourceError, match="cannot be read: File name too long"):
        open_source("n" * 5000)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="a pipe"):
        open_source(str(tmp_path / "pipe"))


@pytest.mark.photos
@pytest.mark.skipif(not VIDEOS.is_dir(), reason=f"the real videos are not here: {VIDEOS.parent.name}/{VIDEOS.name}")
def test_real_videos_are_read_to_their_ends(tmp_path):
    counts = {"again.mkv": 77, "book.mkv": 109, "help.mkv": 58, "head-pose-face-detection-female.gif": 23}
    for name, count in counts.items():
        frames = [(frame.number, frame.time_s) for frame in VideoFile(VIDEOS / name)]
        assert [number for number, _ in frames] == list(range(count)), name
        assert (np.diff([time_s for _, time_s in frames]) > 0).all()
        cut = tmp_path / name
        data = (VIDEOS / name).read_bytes()
        cut.write_bytes(data[: len(data) // 2])
        numbers = []
        with pytest.raises(SourceError, match="is cut off"):
            numbers.extend(frame.number for frame in VideoFile(cut))
