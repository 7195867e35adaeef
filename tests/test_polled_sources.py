"""Sources that are asked for one image after the other, and the virtual camera, with fakes of their libraries."""

import http.server
import sys
import threading
from contextlib import closing
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from fake_capture import END, FakeCamera, picture
from small_frames import live

from kpedge.core.errors import MissingExtraError, OutputError, SourceError
from kpedge.runtime.sinks.virtual_camera import VirtualCameraSink
from kpedge.runtime.sources import gstreamer
from kpedge.runtime.sources.live import RetryPolicy
from kpedge.runtime.sources.open import open_source

RETRY = RetryPolicy(open_s=30.0, stall_s=5.0, first_wait_s=0.01, longest_wait_s=0.05)


def take(source, count=2):
    """The first frames of a source, which is closed then."""
    with closing(source):
        frames = iter(source)
        return [next(frames) for _ in range(count)]


@pytest.fixture
def snapshots():
    """An address that gives another grey image each time, but not the third time."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("Authorization"))
            if self.path.startswith("/none") or len(asked) == 3:
                self.send_error(404)
                return
            data = cv2.imencode(".png", np.full((48, 64, 3), len(asked), np.uint8))[1].tobytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


def test_a_snapshots_address_is_polled(snapshots):
    address, asked = snapshots
    frames = take(open_source(f"http://user:word@{address}/now.png", rate=50, retry=RETRY), 4)
    values = [int(frame.image[0, 0, 0]) for frame in frames]
    assert values == sorted(set(values)), "each is a new image, and one that fails is left out"
    assert 3 not in values
    assert asked[0] == "Basic dXNlcjp3b3Jk"
    take(open_source(f"http://{address}/now", rate=50, retry=RETRY), 1)


def test_an_address_without_snapshots_is_one_line(snapshots):
    with pytest.raises(SourceError) as caught:
        open_source(f"http://user:word@{snapshots[0]}/none.png", retry=RETRY)
    assert "none.png" in str(caught.value)
    assert "word" not in str(caught.value)


@pytest.fixture
def screens(monkeypatch):
    """Two screens, each of its own colour."""

    class Fake:
        fails = False
        monitors = ({}, *({"left": 100 * n, "top": 0, "width": 80, "height": 60, "n": n} for n in (1, 2)))
        grabbed, closed = [], []

        def grab(self, area):
            self.grabbed.append(area)
            if self.fails:
                raise RuntimeError("XGetImage() failed")
            return np.full((area["height"], area["width"], 4), area["left"] // 100, np.uint8)

        def close(self):
            self.closed.append(True)

    monkeypatch.setitem(sys.modules, "mss", SimpleNamespace(MSS=Fake))
    return Fake


def test_a_screen_or_a_part_of_it_is_a_source(screens):
    assert take(open_source("screen", rate=100, retry=RETRY))[0].image.shape == (60, 80, 3)
    assert take(open_source("screen:2", rate=100, retry=RETRY))[1].image[0, 0, 0] == 2
    assert take(open_source("screen:1@10,20,30,40", rate=100, retry=RETRY))[0].image.shape == (40, 30, 3)
    assert screens.grabbed[-1] == {"left": 110, "top": 20, "width": 30, "height": 40}
    assert len(screens.closed) == 3
    with pytest.raises(SourceError, match="no such screen"):
        open_source("screen:3", retry=RETRY)


def test_a_screen_that_fails_or_changes_its_size_is_opened_again(screens):
    lost = threading.Event()
    with closing(open_source("screen", rate=100, retry=RETRY, notify=lambda _: lost.set())) as source:
        frames = iter(source)
        assert next(frames).image.shape == (60, 80, 3)
        screens.fails = True
        assert lost.wait(30)
        screens.monitors = (*screens.monitors[:1], {"left": 100, "top": 0, "width": 40, "height": 30})
        screens.fails = False
        while next(frames).image.shape != (30, 40, 3):
            pass


@pytest.fixture
def pi(monkeypatch):
    """A Raspberry Pi with one camera."""
    done = []

    class Picamera2:
        def __init__(self, number):
            if number == 1:
                raise IndexError("list index out of range")
            if number == 2:
                raise RuntimeError("Failed to acquire camera: Device or resource busy")

        def create_video_configuration(self, main, controls):
            done.append((main["size"], main["format"], controls))
            return main

        def configure(self, main):
            if main["size"] == (1, 1):
                raise RuntimeError("Invalid camera configuration")
            self.size = main["size"]

        def start(self):
            done.append("start")

        def capture_array(self, _):
            return np.full((self.size[1], self.size[0], 3), (1, 2, 3), np.uint8)  # RGB888: blue first

        def stop(self):
            done.append("stop")

        def close(self):
            done.append("close")

    monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=Picamera2))
    return done


def test_a_raspberry_pis_camera_is_a_source(pi):
    frames = take(open_source("picamera", size=(64, 48), rate=20, retry=RETRY))
    assert frames[1].image.shape == (48, 64, 3)
    assert frames[1].image[0, 0].tolist() == [1, 2, 3]
    assert pi == [((64, 48), "RGB888", {"FrameRate": 20}), "start", "stop", "close"]


@pytest.mark.parametrize(
    ("text", "size", "reason"),
    [("picamera:1", None, "range"), ("picamera:2", None, "busy"), ("picamera", (1, 1), "Invalid")],
)
def test_a_raspberry_pis_camera_that_cannot_be_opened_is_one_line(pi, text, size, reason):
    with pytest.raises(SourceError, match=f"^{text}: cannot be opened: .*{reason}") as caught:
        open_source(text, size=size, retry=RETRY)
    assert caught.value.advice
    assert pi[1:] == (["close"] if size else []), "what was opened is closed: else it stays busy"


def test_a_pipeline_gets_an_appsink(monkeypatch):
    opened = []

    def open_pipeline(text):
        opened.append(text)
        return FakeCamera(*(picture(number) for number in range(5)), *[END] * 5)

    monkeypatch.setattr(gstreamer, "open_pipeline", open_pipeline)
    assert take(open_source("videotestsrc ! videoconvert", retry=RETRY), 1)[0].image.shape == (48, 64, 3)
    take(open_source("videotestsrc ! appsink name=mine", retry=RETRY), 1)
    assert opened[0].startswith("videotestsrc ! videoconvert ! ")
    assert "appsink" in opened[0]
    assert opened[1] == "videotestsrc ! appsink name=mine"


def test_a_pipeline_that_cannot_run_is_one_line():
    with pytest.raises(SourceError, match="GStreamer pipeline") as caught:
        open_source("nosuchelement ! fakesink", retry=RETRY)
    assert caught.value.advice


def test_a_virtual_camera_gets_frames_of_the_first_ones_size(monkeypatch):
    sent = []

    class Camera:
        def __init__(self, width, height, fps, *, fmt, device):
            if device == "/dev/video9":
                raise RuntimeError("no such device")
            self.width, self.height = width, height
            sent.append((fps, fmt, device))

        def send(self, image):
            sent.append((image.shape, image[60, 80].tolist()))

        def close(self):
            sent.append("closed")

    library = SimpleNamespace(Camera=Camera, PixelFormat=SimpleNamespace(BGR="bgr"))
    monkeypatch.setitem(sys.modules, "pyvirtualcam", library)
    blue, larger = live(faces=()), live(1, faces=())
    blue.frame.image[:] = larger.frame.image[:] = (200, 20, 10)
    larger = replace(larger, frame=replace(larger.frame, image=np.tile(larger.frame.image, (2, 2, 1))))
    with closing(VirtualCameraSink("auto", 25.0)) as sink:
        sink.show(blue)
        sink.show(larger)
    assert sent == [(25.0, "bgr", None), *[((120, 160, 3), [200, 20, 10])] * 2, "closed"]
    with pytest.raises(OutputError, match="no such device"):
        VirtualCameraSink("/dev/video9").show(live())


@pytest.mark.parametrize(
    ("attempt", "module"),
    [
        (partial(open_source, "screen"), "mss"),
        (partial(open_source, "picamera"), "picamera2"),
        (partial(VirtualCameraSink, "auto"), "pyvirtualcam"),
    ],
)
def test_a_missing_library_names_its_extra(monkeypatch, attempt, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as caught:
        attempt()
    assert "pip install" in caught.value.advice
