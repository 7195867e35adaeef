import http.client
import json
import re
import socket
import threading
from contextlib import ExitStack, contextmanager

import cv2
import numpy as np
import pytest
from fake_live import until

from kpedge.core.errors import OutputError, UsageError
from kpedge.core.faces import Face, Pose
from kpedge.core.keypoints import FACES5
from kpedge.runtime.overlay import Layers
from kpedge.runtime.server import server as server_module
from kpedge.runtime.server.address import Address, parse_address, reachable_host
from kpedge.runtime.server.encoding import CpuMeter, shrink
from kpedge.runtime.server.server import ServeSink
from kpedge.runtime.sinks.sink import Controls, LiveFrame
from kpedge.runtime.sources.source import Frame

PATIENCE = 30
TOKEN = "a-token-of-the-test"


def live_frame(number=0, size=(320, 240), noise=False):
    """A frame of one colour, or of noise that compresses badly, with one face in it."""
    width, height = size
    image = np.full((height, width, 3), (40, 90, 140), np.uint8)
    if noise:
        image = np.random.default_rng(number).integers(0, 255, image.shape, np.uint8)
    points = np.array([[90.0, 80], [150, 80], [120, 110], [100, 140], [140, 140]])
    face = Face(box=np.array([70.0, 50, 170, 160]), keypoints=points, score=0.98, id=3, pose=Pose(0.0, 0.0, 0.0))
    steps = {"decode": 0.002, "keypoints": 0.0041}
    return LiveFrame("camera 0", Frame(image, number, number / 30), (face,), FACES5, steps, 29.97, Layers())


def new_controls():
    return Controls(Layers(), 0.5)


@contextmanager
def serving(address="0", **options):
    controls = new_controls()
    sink = ServeSink(parse_address(address), controls, FACES5, **options)
    try:
        yield sink, controls
    finally:
        sink.close()


def port_of(sink):
    return int(re.search(r":(\d+)/", sink.url)[1])


def ask(sink, path, method="GET", body=None, **headers):
    """Status, headers and body of a response."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(sink), timeout=PATIENCE)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def post(sink, document, **headers):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    status, _, content = ask(sink, "/control", "POST", body, **{"Content_Type": "application/json", **headers})
    return status, json.loads(content)


class Stream:
    """A response that does not end."""

    def __init__(self, sink, path):
        self.connection = http.client.HTTPConnection("127.0.0.1", port_of(sink), timeout=PATIENCE)
        self.connection.request("GET", path)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200

    def event(self, kind):
        """The document of the next event of this kind."""
        while True:
            line = self.answer.readline()
            assert line, "the stream has ended"
            if line == f"event: {kind}\n".encode():
                return json.loads(self.answer.readline().removeprefix(b"data: "))

    def image(self):
        """The next image of an MJPEG stream."""
        while b"Content-Length" not in (line := self.answer.readline()):
            assert line, "the stream has ended"
        self.answer.readline()
        jpeg = self.answer.read(int(line.split(b":")[1]))
        return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)

    def close(self):
        self.answer.close()
        self.connection.close()


@contextmanager
def streaming(sink, path):
    stream = Stream(sink, path)
    try:
        yield stream
    finally:
        stream.close()


# what is served


def test_the_page_is_complete_and_loads_nothing_from_elsewhere():
    with serving() as (sink, _):
        status, headers, page = ask(sink, "/")
        assert (status, headers["Content-Type"]) == (200, "text/html")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers
        names = set(re.findall(rb'(?:src|href)="([^"]+)"', page)) - {b"stream.mjpg"}
        assert b"page.js" in names
        for name in names:
            status, _, content = ask(sink, f"/{name.decode()}")
            assert status == 200
            assert not re.search(rb"(?<!xmlns=\")https?://", content)
        for path in ("/nothing", "/../server.py", "/%2e%2e/server.py", "/page.html", "//", "/page.js/"):
            assert ask(sink, path)[0] == 404
        assert ask(sink, "/", "DELETE")[0] == 405
        assert ask(sink, "/control")[0] == 405
        assert ask(sink, "/events", "HEAD")[::2] == (200, b"")
    assert sink.viewers == 0


def test_events_carry_the_frames_and_the_state():
    with serving() as (sink, _), streaming(sink, "/events") as stream:
        assert stream.answer.headers["Content-Type"] == "text/event-stream"
        state = stream.event("state")
        assert (state["paused"], state["threshold"], state["source"]) == (False, 0.5, None)
        assert state["layers"]["boxes"] is True
        assert state["scheme"]["points"] == list(FACES5.points)
        stream.event("state")  # a sign of life
        live = live_frame(41, size=(1920, 1080))
        live.faces[0].keypoints[1] = np.nan
        sink.show(live)
        event = stream.event("frame")
        assert event["faces"][0]["keypoints"][:2] == [[90.0, 80.0], [None, None]]
        assert (event["frame"], event["size"], event["source"], event["rate"]) == (41, [1920, 1080], "camera 0", 29.97)
        assert event["steps_ms"] == {"decode": 2.0, "keypoints": 4.1}
        assert json.loads(ask(sink, "/state")[2])["source"] == "camera 0"


def test_the_stream_shows_the_annotated_frame_and_follows_the_layers_while_paused():
    with serving() as (sink, controls), streaming(sink, "/stream.mjpg") as stream:
        assert stream.answer.headers["Content-Type"].startswith("multipart/x-mixed-replace; boundary=")
        live = live_frame()
        sink.show(live)
        image = stream.image()
        assert np.abs(image.astype(int) - live.drawn()).mean() < 4
        assert np.abs(image.astype(int) - live.frame.image).max() > 80
        controls.layers = Layers(boxes=False, points=False, ids=False)
        until(lambda: np.abs(stream.image().astype(int) - live.frame.image).max() < 8)


def test_controls_are_changed_and_every_viewer_sees_it():
    with serving() as (sink, controls), streaming(sink, "/events") as stream:
        stream.event("state")
        change = {"paused": True, "threshold": 0.75, "layers": {"boxes": False, "mirror": True}, "snapshot": True}
        status, state = post(sink, change)
        assert status == 200
        assert controls.paused.is_set()
        assert controls.snapshot.is_set()
        assert controls.threshold == 0.75
        assert controls.layers == Layers(boxes=False, mirror=True)
        assert next(event for _ in range(9) if (event := stream.event("state"))["paused"]).items() >= state.items()
        controls.snapshot.clear()  # as whoever saved it does
        assert any(not stream.event("state")["snapshot"] for _ in range(9))
        assert post(sink, {"paused": False})[1]["paused"] is False


@pytest.mark.parametrize(
    "body",
    [
        *(b"{", b"[" * 3000, b"\xff", [1], {"stop": True}, {"paused": 1}, {"threshold": 1.01}, {"threshold": True}),
        *(b'{"threshold": NaN}', {"layers": ["boxes"]}, {"layers": {"hat": True}}),
        {"paused": True, "threshold": 0.1, "layers": {"boxes": "no"}},
    ],
)
def test_a_wrong_change_is_explained_and_nothing_is_changed(body):
    with serving() as (sink, controls):
        status, answer = post(sink, body)
        assert status == 400
        assert "JSON" in answer["error"] or "threshold" in answer["error"]
        assert post(sink, {"paused": True}, Content_Type="text/plain")[0] == 415
        assert post(sink, b'{"paused": true' + b" " * 5000 + b"}")[0] == 413
        assert not controls.paused.is_set()
        assert (controls.threshold, controls.layers) == (0.5, Layers())


# viewers that come, stall and go


@pytest.mark.slow
def test_a_frame_is_encoded_once_for_all_viewers_and_only_while_somebody_watches(monkeypatch):
    encoded = []
    original = server_module.encode
    monkeypatch.setattr(server_module, "encode", lambda *given: encoded.append(1) or original(*given))
    with serving() as (sink, _):
        for number in range(50):
            sink.show(live_frame(number))
        assert encoded == []
        with ExitStack() as viewers:
            for stream in [viewers.enter_context(streaming(sink, "/stream.mjpg")) for _ in range(10)]:
                stream.image()
        assert len(encoded) == 1
        until(lambda: sink.viewers == 0)


@pytest.mark.slow
def test_too_many_viewers_are_sent_away(monkeypatch):
    monkeypatch.setattr(server_module, "VIEWERS", 1)
    with serving() as (sink, _):
        with streaming(sink, "/events") as stream:
            stream.event("state")
            status, headers, _ = ask(sink, "/stream.mjpg")
            assert status == 503
            assert headers["Retry-After"]
        until(lambda: sink.viewers == 0)
        with streaming(sink, "/stream.mjpg"):
            pass


@pytest.mark.slow
def test_a_slow_browser_is_sent_the_newest_frame_when_it_reads_again():
    with serving() as (sink, _), streaming(sink, "/stream.mjpg") as slow, streaming(sink, "/events") as quick:
        for number in range(200):
            live = live_frame(number, size=(640, 480), noise=True)
            live.frame.image[-50:, :50] = 255 * (number == 199)
            sink.show(live)
            quick.event("frame")
        read = 1
        while slow.image()[-40:, :40].mean() < 128:
            read += 1
        assert read < 100  # what the connection held; the rest was never sent


def threads_of_the_server():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("kpedge-serve")]


def test_closing_ends_everything_although_viewers_are_connected():
    sink = ServeSink(parse_address("0"), new_controls(), FACES5)
    port = port_of(sink)
    events, images = Stream(sink, "/events"), Stream(sink, "/stream.mjpg")
    stuck = socket.create_connection(("127.0.0.1", port))
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
    half = socket.create_connection(("127.0.0.1", port))
    half.sendall(b"GET /state HT")
    for number in range(20):  # more than the connection of one who does not read holds
        sink.show(live_frame(number, size=(960, 720), noise=True))
        images.image()
    assert threads_of_the_server()
    sink.close()
    sink.close()
    assert threads_of_the_server() == []
    while events.answer.readline():
        pass
    for one in (events, images, stuck, half):
        one.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), PATIENCE)
    with pytest.raises(OutputError, match="has stopped"):
        sink.show(live_frame())
    with serving(str(port)) as (again, _):  # the port is free at once
        assert ask(again, "/state")[0] == 200
    for _ in range(3):
        ServeSink(parse_address("0"), new_controls(), FACES5).close()  # before the server has begun


# addresses, images, figures


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", Address("127.0.0.1", 8080)),
        (":8080", Address("127.0.0.1", 8080)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("board-1.local:65535", Address("board-1.local", 65535)),
        ("[::1]:8000", Address("::1", 8000)),
    ],
)
def test_addresses(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "localhost", "localhost:", "localhost:http", "localhost:-1", "localhost:٣"),
        *("65536", "::1:8000", "[::z]:8000", "http://a:80", "a b:80"),
    ],
)
def test_wrong_addresses_are_explained(text):
    with pytest.raises(UsageError, match="--serve") as caught:
        parse_address(text)
    assert "127.0.0.1:8000" in caught.value.advice


def test_loopback_is_known():
    here = ["127.0.0.1", "127.8.8.8", "::1", "localhost"]
    everywhere = [*here, "0.0.0.0", "::", "10.0.0.1", "localhost.evil.example"]
    assert [host for host in everywhere if Address(host).loopback] == here
    assert str(Address("::1", 5)) == "[::1]:5"
    assert reachable_host("::1") == "[::1]"
    assert reachable_host("0.0.0.0") != "0.0.0.0"


def test_an_address_that_cannot_be_used_is_explained():
    with serving() as (sink, _), pytest.raises(OutputError, match=f"{port_of(sink)}: the port is in use"):
        ServeSink(Address("127.0.0.1", port_of(sink)), new_controls(), FACES5)
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(OutputError, match=host):
            ServeSink(Address(host, 0), new_controls(), FACES5, token=TOKEN)


@pytest.mark.parametrize(
    ("size", "small"),
    [((320, 240), (320, 240)), ((1280, 720), (960, 540)), ((5, 4000), (1, 960)), ((1921, 1081), (960, 540))],
)
def test_large_images_are_scaled_down(size, small):
    assert shrink(np.zeros((size[1], size[0], 3), np.uint8)).shape[1::-1] == small


def test_processor_time_is_measured_over_whole_intervals():
    times, used = iter([0.0, 0.5, 2.0, 2.4, 3.0]), iter([10.0, 10.4, 11.0, 11.1, 11.2])
    meter = CpuMeter(clock=lambda: next(times), used=lambda: next(used))
    assert [meter.percent() for _ in range(4)] == [None, 50.0, 50.0, 20.0]
