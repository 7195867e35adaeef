"""Sources that are read in order: their time stamps, real time, folders of images, and what the user writes."""

import io
import os
import threading

import cv2
import numpy as np
import pytest
from conftest import ROOT
from fake_capture import WAIT_S, ListReader, picture, shade
from PIL import Image as Pillow

from kpedge.core.errors import SourceError, UsageError
from kpedge.runtime.sources.camera import CameraSystem
from kpedge.runtime.sources.folder import ImageReader
from kpedge.runtime.sources.open import KINDS, open_source
from kpedge.runtime.sources.paced import CATCH_UP_S, PacedSource
from kpedge.runtime.sources.reader import to_square_pixels, valid_rate


class FakeTimer:
    def __init__(self):
        self.time_s = 100.0

    def now(self):
        return self.time_s

    def wait(self, changed, seconds):
        self.time_s += seconds


# Time stamps


@pytest.mark.parametrize(
    ("times_s", "expected"),
    [
        ([0, 0, 0, 0], [0, 0.04, 0.08, 0.12]),
        ([float("nan")] * 4, [0, 0.04, 0.08, 0.12]),
        ([None] * 4, [0, 0.04, 0.08, 0.12]),
        ([0.5, 0.6, 0.7, 0.9], [0, 0.1, 0.2, 0.4]),
        ([0, 0.1, 0.1, 0.3], [0, 0.1, 0.14, 0.3]),
        ([0, 0.1, 0.05, 0.3], [0, 0.1, 0.14, 0.3]),
        ([0, 30, 60, 90], [0, 30, 60, 90]),
    ],
)
def test_times_that_are_missing_or_do_not_rise_are_filled_in(times_s, expected, said):
    frames = list(PacedSource("a", ListReader([picture(1)] * 4, times_s), notify=said.append))
    assert [frame.time_s for frame in frames] == pytest.approx(expected)
    assert said == []


@pytest.mark.parametrize("jump_s", [90, 3600, 26.5 * 3600])
def test_a_jump_of_the_clock_is_left_out_and_reported(said, jump_s):
    times = [0.0, 0.04, 0.08, jump_s + 0.12, jump_s + 0.16]
    reader = ListReader([picture(1)] * 5, times)
    reader.declared_s = times[-1] + 0.04
    frames = list(PacedSource("a", reader, notify=said.append))
    assert [frame.time_s for frame in frames] == pytest.approx(0.04 * np.arange(5))
    assert len(said) == 1
    assert "jump" in said[0]
    assert "frame 3" in said[0]


def test_broken_frames_are_left_out_counted_and_reported_once(said):
    reader = ListReader([picture(0), None, None, *map(picture, range(3, 60))])
    frames = list(PacedSource("a", reader, notify=said.append))
    assert [(frame.number, shade(frame.image)) for frame in frames] == [(n, n) for n in (0, *range(3, 60))]
    assert reader.closed
    assert len(said) == 1


@pytest.mark.parametrize("last", [None, picture(3)])
def test_a_file_of_which_many_frames_are_broken_is_an_error_after_the_others(last):
    frames = []
    with pytest.raises(SourceError, match=r"[23] of its 4 frames cannot be decoded"):
        frames.extend(PacedSource("a", ListReader([picture(0), None, None, last])))
    with pytest.raises(SourceError, match="2 of its 2 frames"):
        list(PacedSource("a", ListReader([None, None])))


def test_a_file_that_ends_before_its_declared_end_is_cut_off():
    for declared_s, whole in ((0.4, True), (0.41, True), (0.8, False)):
        reader = ListReader([picture(1)] * 10)
        reader.declared_s, frames = declared_s, []
        if whole:
            assert len(list(PacedSource("a", reader))) == 10
            continue
        with pytest.raises(SourceError, match=r"cut off or damaged: it ends after 10 frames, 0\.4 of 0\.8 s"):
            frames.extend(PacedSource("a", reader))
        assert list(PacedSource("a", ListReader([picture(1)]))) != []


def test_a_file_without_frames_is_refused_when_it_is_opened():
    reader = ListReader([])
    with pytest.raises(SourceError, match="no frame"):
        PacedSource("a", reader)
    assert reader.closed


def test_rates_and_pixels_that_cannot_be_true_are_ignored():
    assert [valid_rate(rate) for rate in (None, 0, -1, float("nan"), float("inf"), 90000, 25)] == [None] * 6 + [25]
    image = picture(1, 40, 30)
    assert [to_square_pixels(image, aspect).shape[1::-1] for aspect in (1, 1.5, 0.5, 0, -1, float("nan"), 1000)] == [
        (40, 30), (60, 30), (40, 60), (40, 30), (40, 30), (40, 30), (40, 30),
    ]  # fmt: skip


# In real time


def test_a_file_in_real_time_waits_for_each_frame():
    timer = FakeTimer()
    source = PacedSource("a", ListReader([picture(1)] * 5), realtime=True, timer=timer)
    assert source.live
    due = [(frame.number, timer.time_s) for frame in source]
    assert [number for number, _ in due] == list(range(5))
    assert [time_s for _, time_s in due] == pytest.approx(100 + 0.04 * np.arange(5))


def test_a_slow_taker_in_real_time_gets_only_the_newest_frame():
    timer, reader = FakeTimer(), ListReader([picture(1)] * 40)
    numbers = []
    for frame in PacedSource("a", reader, realtime=True, timer=timer):
        numbers.append(frame.number)
        assert frame.time_s == pytest.approx(0.04 * frame.number)
        timer.time_s += 0.21  # five frames and a quarter
    assert set(np.diff(numbers)) <= {5, 6}
    assert reader.decoded == len(numbers), "frames that are dropped are not converted"


def test_a_file_that_cannot_be_read_at_its_own_speed_still_shows_frames():
    timer = FakeTimer()

    def slow():
        timer.time_s += 0.1

    source = PacedSource("a", ListReader([picture(1)] * 100, on_grab=slow), realtime=True, timer=timer)
    numbers = [frame.number for frame in source]
    assert 5 < len(numbers) < 20
    assert np.diff(numbers).max() <= CATCH_UP_S / 0.1 + 2


def test_closing_ends_a_wait_for_the_next_frame():
    reader = ListReader([picture(1), picture(2)], [0.0, 59.0])
    source = PacedSource("a", reader, realtime=True)
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
    assert reader.closed


def test_closing_while_a_frame_is_read_closes_the_reader_afterwards():
    closed = []

    def close():
        if reader.at == 1:
            source.close()
            closed.append(reader.closed)

    reader = ListReader([picture(1)] * 5, on_grab=close)
    source = PacedSource("a", reader)
    assert [frame.number for frame in source] == [0, 1]
    assert closed == [False]
    assert reader.closed
    source.close()


# Folders


@pytest.fixture
def folder(tmp_path):
    for name, size in (("10.png", (64, 48)), ("2.jpg", (32, 32)), ("b/1.bmp", (64, 48)), ("B/0.webp", (20, 30))):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture(100, *size))
    return tmp_path / "in"


def test_images_of_a_folder_come_in_the_order_of_their_numbers(folder):
    source = open_source(str(folder), rate=10)
    assert source.description == "4 images at 10 fps"
    frames = list(source)
    assert [frame.name for frame in frames] == [
        str(folder / name) for name in ("2.jpg", "10.png", "B/0.webp", "b/1.bmp")
    ]
    assert [(frame.number, frame.time_s) for frame in frames] == [(0, 0), (1, 0.1), (2, 0.2), (3, pytest.approx(0.3))]
    assert [frame.image.shape[:2] for frame in frames] == [(32, 32), (48, 64), (30, 20), (48, 64)]
    (frame,) = open_source(str(folder / "2.jpg"))
    assert frame.name == str(folder / "2.jpg")


def test_an_animated_image_has_its_own_times_unless_there_is_a_rate(tmp_path):
    images = [Pillow.fromarray(picture(8 * number)) for number in range(5)]
    path = tmp_path / "a.gif"
    images[0].save(path, save_all=True, append_images=images[1:], duration=[100, 300, 100, 100, 100])
    frames = list(open_source(str(path)))
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.4, 0.5, 0.6])
    assert [shade(frame.image) for frame in frames] == [0, 8, 16, 24, 32]
    assert [frame.time_s for frame in open_source(str(path), rate=10)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_images_that_cannot_be_read_are_named_and_left_out(folder, said):
    (folder / "2.jpg").write_bytes(b"no image")
    frames = list(open_source(str(folder), notify=said.append))
    assert [frame.number for frame in frames] == list(range(3))
    assert len(said) == 1
    assert "2.jpg" in said[0]


def test_folders_without_images_are_refused(tmp_path, said):
    with pytest.raises(SourceError, match="no image in this folder"):
        open_source(str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(SourceError, match=r"a\.png"):
        open_source(str(tmp_path), notify=said.append)
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(SourceError, match="no frame"):
        open_source(str(tmp_path), notify=said.append)
    assert ["a.png" in said[0], "b.png" in said[1]] == [True, True]


def test_a_folder_in_real_time_drops_images(tmp_path):
    for number in range(30):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(number))
    timer, numbers = FakeTimer(), []
    reader = ImageReader([tmp_path / f"{number}.png" for number in range(30)], 10, print)
    for frame in PacedSource("in", reader, rate=10, realtime=True, timer=timer):
        assert shade(frame.image) == frame.number
        numbers.append(frame.number)
        timer.time_s += 0.51
    assert set(np.diff(numbers)) <= {5, 6}


# What the user writes

OPTIONS = {"size": (640, 480), "rate": 30, "pixel_format": "MJPG", "stream": 1}
TEXTS = {
    "a camera": "0",
    "a folder of images": ".",
    "a video file": "a.avi",
    "standard input": "-",
    "a stream": "rtsp://u:p@host/a",
    "a snapshot's address": "http://u:p@host/a.jpg",
    "a screen": "screen",
    "a Raspberry Pi camera": "picamera",
    "a GStreamer pipeline": "videotestsrc ! videoconvert",
}


def test_the_docs_list_every_kind_of_source():
    text = (ROOT / "docs" / "live.md").read_text()
    assert [kind.name for kind in KINDS if f"| {kind.syntax} | {kind.summary} |" not in text] == []


@pytest.mark.parametrize(
    ("kind", "option"), [(kind, option) for kind in KINDS for option in OPTIONS if option not in kind.options]
)
def test_options_of_other_kinds_of_sources_are_refused(tmp_path, monkeypatch, kind, option):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.avi").write_bytes(b"anything")
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} is not for {kind.name}") as caught:
        open_source(TEXTS[kind.name], stdin=io.BytesIO(), **{option: OPTIONS[option]})
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("", {}, "empty"),
        ("0", {"size": (0, 480)}, "a width and a height"),
        ("0", {"rate": -1}, "a rate is"),
        ("0", {"rate": float("nan")}, "a rate is"),
        ("0", {"pixel_format": "JPEG2"}, "four characters"),
        ("ftp://host/a", {}, "not a protocol for streams"),
    ],
)
def test_options_that_make_no_sense_are_refused(text, options, words):
    with pytest.raises(UsageError, match=words):
        open_source(text, **options)


def test_what_is_no_source_is_named_in_one_line(tmp_path):
    with pytest.raises(SourceError, match="'nothing': no such file or folder, and no camera") as caught:
        open_source("nothing", cameras=CameraSystem(tmp_path))
    assert "no cameras were found" in caught.value.advice
    (tmp_path / "clip.mp4").touch()
    for name, advice in (("clp.mp4", "clip.mp4"), ("other.avi", "check"), ("no/such.mp4", "check")):
        with pytest.raises(SourceError, match=f"{name}: no such file") as caught:
            open_source(str(tmp_path / name))
        assert advice in caught.value.advice
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for text in ("n" * 5000, tmp_path / "pipe", tmp_path / "loop", "/dev/zero", "/dev/null"):
        with pytest.raises(SourceError):
            open_source(str(text))


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.stat", refuse)
    with pytest.raises(SourceError, match="Permission denied"):
        open_source(str(tmp_path / "a.avi"))
