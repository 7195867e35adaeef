"""Video and JPEGs on standard input."""

import io
import os
import threading
import time

import cv2
import numpy as np
import pytest
from fake_capture import OLD_FFMPEG, WAIT_S, jpeg, shade

from kpedge.core.errors import SourceError, UsageError
from kpedge.runtime.sources import pipe as pipe_module
from kpedge.runtime.sources.open import open_source

NOISE = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8))[1].tobytes()
UNDECODABLE = b"\xff\xd8\xff\xdb\x00\x02\xff\xda\x00\x02\x00\xff\xd9"


@pytest.fixture
def pipe():
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stream, os.fdopen(write, "wb", buffering=0) as writer:
        yield stream, writer


@pytest.mark.parametrize("decoder", ["pyav", "opencv"])
def test_every_image_comes_and_the_writer_waits(pipe, said, decoder, monkeypatch):
    monkeypatch.setattr(pipe_module, "has_pyav", lambda: decoder == "pyav")
    stream, writer = pipe

    def write():
        for number in range(100):
            writer.write(NOISE if number % 2 else jpeg(number, 160, 120))
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    source = open_source("-", stdin=stream, rate=20, notify=said.append)
    assert not source.live
    frames = list(source)
    thread.join(WAIT_S)
    assert [frame.number for frame in frames] == list(range(100))
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(100) / 20)
    assert [shade(frame.image) for frame in frames[::2]] == pytest.approx(range(0, 100, 2), abs=2)
    assert source.description.startswith("160x120")
    assert said == []
    source.close()


def test_without_a_rate_the_time_is_that_of_arrival(pipe):
    stream, writer = pipe
    writer.write(jpeg(1) * 2)  # the first ends where the second begins
    source = open_source("-", stdin=stream)
    frames = iter(source)
    assert next(frames).time_s == 0
    time.sleep(0.2)
    writer.write(jpeg(2))
    writer.close()
    assert next(frames).time_s >= 0.2
    source.close()


def test_any_container_may_come_through_a_pipe(tmp_path, said):
    from test_video import write_video

    data = write_video(tmp_path / "a.mkv", frames=12).read_bytes()
    frames = list(open_source("-", stdin=io.BytesIO(data), notify=said.append))
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(12) / 30, abs=1e-3)


def test_in_real_time_only_the_newest_image_is_kept(pipe):
    stream, writer = pipe
    thread = threading.Thread(target=lambda: [writer.write(jpeg(number)) for number in range(200)] and writer.close())
    thread.start()
    source = open_source("-", stdin=stream, realtime=True)
    assert source.live
    thread.join(WAIT_S)  # far more than a pipe holds: the writer never waits
    source._thread.join(WAIT_S)
    (frame,) = source
    assert (frame.number, shade(frame.image)) == (199, 199)
    source.close()


@pytest.mark.skipif(OLD_FFMPEG, reason="FFmpeg before 8.1 stops at a broken JPEG in a stream")
@pytest.mark.parametrize("realtime", [False, True])
def test_broken_images_are_left_out_and_reported_once(said, realtime):
    data = jpeg(10) + NOISE[:3000] + jpeg(20) + UNDECODABLE * 2 + b"junk" + jpeg(30) * 3
    frames = list(open_source("-", stdin=io.BytesIO(data), notify=said.append, realtime=realtime))
    assert [shade(frame.image) for frame in frames][-1] == 30
    if not realtime:
        assert [shade(frame.image) for frame in frames] == [10, 20, 30, 30, 30]
    assert len(said) == 1
    assert "broken frame" in said[0]


@pytest.mark.parametrize("data", [b"", b"RIFF, or anything" * 200, UNDECODABLE * 3], ids=["empty", "junk", "broken"])
@pytest.mark.parametrize("realtime", [False, True])
def test_input_without_images_is_an_error(data, realtime):
    with pytest.raises(SourceError, match=r"standard input|^-"):
        list(open_source("-", stdin=io.BytesIO(data), realtime=realtime))


def test_a_keyboard_is_no_source():
    class Keyboard(io.BytesIO):
        def isatty(self):
            return True

    with pytest.raises(UsageError, match="keyboard"):
        open_source("-", stdin=Keyboard())


@pytest.mark.parametrize("realtime", [False, True])
def test_closing_ends_a_read_that_waits(pipe, realtime):
    stream, writer = pipe
    writer.write(jpeg(1) * 3)
    source, taken = open_source("-", stdin=stream, realtime=realtime), []
    waiting = threading.Thread(target=lambda: taken.extend(source))
    waiting.start()
    until = time.monotonic() + WAIT_S
    while not taken and time.monotonic() < until:
        time.sleep(0.01)
    source.close()
    source.close()
    waiting.join(WAIT_S)
    assert not waiting.is_alive()
    assert taken
