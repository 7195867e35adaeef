"""MJPEG on standard input, and how its pictures are found."""

import io
import os
import struct
import threading

import cv2
import numpy as np
import pytest
from fake_capture import WAIT_S, jpeg, shade

from kpedge.core.errors import SourceError, UsageError
from kpedge.runtime.sources.jpegs import JpegSplitter
from kpedge.runtime.sources.mjpeg import PipedPictures
from kpedge.runtime.sources.open import open_source

NOISE = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)


def noisy(*flags):
    return cv2.imencode(".jpg", NOISE, list(flags))[1].tobytes()


WHOLE = {
    "plain": jpeg(50),
    "noise": noisy(),
    "progressive": noisy(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": noisy(cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    "thumbnail": noisy()[:2] + b"\xff\xe1" + struct.pack(">H", len(jpeg(1)) + 2) + jpeg(1) + noisy()[2:],
    "fill bytes": noisy()[:2] + b"\xff\xff" + noisy()[2:],
}


@pytest.mark.parametrize("chunk", [1, 7, 1000, 10**6])
def test_jpegs_are_cut_out_whole_whatever_is_between_them(chunk):
    between = [b"", b"\xff", b"\r\n--b\r\nContent-Type: image/jpeg\r\n\r\n", b"\x00\xff\xd9"]
    pictures = list(WHOLE.values())
    data = b"".join(text + one for text in between for one in pictures)
    splitter = JpegSplitter()
    found = [one for at in range(0, len(data), chunk) for one in splitter.feed(data[at : at + chunk])]
    splitter.finish()
    assert found == pictures * len(between)
    assert splitter.broken == 0


@pytest.mark.parametrize("kind", WHOLE)
def test_a_jpeg_that_breaks_off_does_no_harm_to_the_others(kind):
    data, good = WHOLE[kind], jpeg(77)
    for length in range(3, len(data) - 2, max(1, len(data) // 150)):
        splitter = JpegSplitter()
        found = splitter.feed(good + data[:length] + b"\r\n--b\r\n\r\n" + good * 3)
        found += splitter.finish()
        assert found[0] == good
        assert found[-2:] == [good, good], length
        # Now and then the tables of the next picture fit into the gap, and both look like one whole picture.
        assert splitter.broken or len(found) == 4
    splitter = JpegSplitter()
    assert splitter.feed(data[:-2]) == []
    splitter.finish()
    assert splitter.broken == 1


def test_a_jpeg_that_never_ends_is_given_up():
    splitter = JpegSplitter(limit=100_000)
    head = noisy()[:-2]
    for _ in range(50):
        assert splitter.feed(head[-5000:].replace(b"\xff", b"\x00") if splitter._inside else head) == []
        assert len(splitter._buffer) <= 100_000
    assert splitter.broken >= 1
    splitter.feed(b"\x00" * 200_000)
    assert splitter.feed(jpeg(5)) == [jpeg(5)]
    for _ in range(50):
        splitter.feed(b"no picture " * 1000)
        assert len(splitter._buffer) < 10


@pytest.fixture
def said():
    return []


@pytest.fixture
def pipe():
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stream, os.fdopen(write, "wb", buffering=0) as writer:
        yield stream, writer


def test_every_picture_on_standard_input_comes_and_its_writer_waits(pipe, said):
    stream, writer = pipe

    def write():
        for number in range(100):
            writer.write(noisy() if number % 2 else jpeg(number))
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    source = open_source("-", stdin=stream, rate=20, say=said.append)
    assert not source.live
    frames = list(source)
    thread.join(WAIT_S)
    assert [frame.number for frame in frames] == list(range(100))
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(100) / 20)
    assert [shade(frame.image) for frame in frames[::2]] == pytest.approx(range(0, 100, 2), abs=1)
    assert source.description == "160x120 at 20 frames a second, MJPG"
    assert said == []
    source.close()
    assert not source._thread.is_alive()


def test_standard_input_in_real_time_keeps_the_newest_picture(pipe):
    stream, writer = pipe
    source = open_source("-", stdin=stream, realtime=True)
    assert source.live
    for number in range(200):  # far more than a pipe holds: the writer never waits
        writer.write(jpeg(number))
    writer.close()
    source._thread.join(WAIT_S)
    (frame,) = source
    assert frame.number == 199
    assert shade(frame.image) == 199
    assert frame.time_s > 0


def test_broken_pictures_on_standard_input_are_told_once(said):
    undecodable = b"\xff\xd8\xff\xdb\x00\x02\xff\xda\x00\x02\x00\xff\xd9"
    data = b"junk" + jpeg(10) + noisy()[:3000] + jpeg(20) + undecodable * 2 + jpeg(30) + noisy()[:500]
    frames = list(open_source("-", stdin=io.BytesIO(data), say=said.append))
    assert [shade(frame.image) for frame in frames] == [10, 20, 30]
    assert len(said) == 1
    assert "broken picture" in said[0]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"RIFF, or anything", "no JPEG in the 17 bytes"),
        (b"\xff\xd8\xff\xdb\x00\x02\xff\xda\x00\x02\x00\xff\xd9", "none of the pictures"),
    ],
)
def test_standard_input_without_pictures_is_named(data, words):
    with pytest.raises(SourceError, match=words) as caught:
        list(open_source("-", stdin=io.BytesIO(data)))
    assert "ffmpeg" in caught.value.advice


def test_a_keyboard_is_no_source():
    class Keyboard(io.BytesIO):
        def isatty(self):
            return True

    with pytest.raises(UsageError, match="keyboard"):
        open_source("-", stdin=Keyboard())


@pytest.mark.parametrize("full", [False, True])
def test_closing_standard_input_ends_its_thread(pipe, full):
    stream, writer = pipe
    source = PipedPictures(stream, say=print)
    writer.write(jpeg(1) * (5 if full else 1))
    frames = iter(source)
    assert next(frames).number == 0
    source.close()
    source.close()
    assert list(frames) == []
    source._thread.join(WAIT_S)
    assert not source._thread.is_alive()
