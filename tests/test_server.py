import http.client
import json
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from kpedge.core import extras
from kpedge.core.drawing import part_colours
from kpedge.core.errors import MissingExtraError, OutputError
from kpedge.core.faces import Face, Pose
from kpedge.core.keypoints import FACES5, FACES21
from kpedge.runtime.overlay import Layers
from kpedge.runtime.server.address import Address, parse_address
from kpedge.runtime.server.server import ServeSink
from kpedge.runtime.sinks.sink import Controls, LiveFrame
from kpedge.runtime.sources.source import Frame

PATIENCE = 30


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
def serving(address="0", scheme=FACES5, **options):
    controls = new_controls()
    sink = ServeSink(parse_address(address), controls, scheme, **options)
    try:
        yield sink, controls
    finally:
        sink.close()


def port_of(sink):
    return int(re.search(r":(\d+)/", sink.url)[1])


def ask(sink, path, method="GET", body=None, **headers):
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(sink), timeout=PATIENCE)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def post(sink, document, **headers):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    status, _, content = ask(sink, "/control", "POST", body, **{"Content_Type": "application/json", **headers})
    return status, json.loads(content)


class Stream:
    """An answer that does not end."""

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

    def part(self):
        """The next picture of an MJPEG stream, as bytes."""
        while b"Content-Length" not in (line := self.answer.readline()):
            assert line, "the stream has ended"
        self.answer.readline()
        return self.answer.read(int(line.split(b":")[1]))

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


def decoded(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def test_the_page_is_one_and_loads_nothing_from_elsewhere():
    with serving() as (sink, _):
        status, headers, page = ask(sink, "/")
        assert status == 200
        assert headers["Content-Type"].startswith("text/html")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers
        named = re.findall(rb'(?:src|href)="([^"]+)"', page)
        assert b"page.js" in named
        imported = re.findall(rb'from "./([^"]+)"', ask(sink, "/page.js")[2])
        for name in {*named, *imported} - {b"stream.mjpg"}:
            status, _, content = ask(sink, f"/{name.decode()}")
            assert status == 200
            assert not re.search(rb"(?<!xmlns=\")https?://", content)
        for path in ("/nothing", "/../server.py", "/page.html", "/frames/x.jpg"):
            assert ask(sink, path)[0] == 404
        assert ask(sink, "/", "DELETE")[0] == 405
        assert ask(sink, "/events", "HEAD")[0] == 200


def test_the_state_tells_the_scheme_with_its_colours():
    with serving(scheme=FACES21) as (sink, _):
        state = json.loads(ask(sink, "/state")[2])
        assert state["scheme"]["skeleton"] == [list(pair) for pair in FACES21.skeleton]
        blue, green, red = part_colours(FACES21)["nose"]
        assert state["scheme"]["colours"]["nose"] == f"#{red:02x}{green:02x}{blue:02x}"
        assert (state["paused"], state["threshold"], state["source"]) == (False, 0.5, None)
        assert state["layers"]["boxes"] is True


def test_events_and_pictures_are_in_step():
    with serving() as (sink, _), streaming(sink, "/events?viewer=tab-1") as stream:
        assert stream.answer.headers["Content-Type"].startswith("text/event-stream")
        assert stream.event("state")["threshold"] == 0.5
        live = live_frame(41, size=(1920, 1080))
        sink.show(live)
        event = stream.event("frame")
        assert event.items() >= live.to_dict().items()
        assert (event["size"], event["preview"]) == ([1920, 1080], [960, 540])
        assert (event["source"], event["rate"]) == ("camera 0", 29.97)
        assert event["steps_ms"] == {"decode": 2.0, "keypoints": 4.1}
        assert event["paused"] is False
        assert event["layers"]["points"] is True
        status, headers, jpeg = ask(sink, f"/frames/{event['picture']}.jpg?viewer=tab-1")
        assert (status, headers["Content-Type"]) == (200, "image/jpeg")
        picture = decoded(jpeg)
        assert picture.shape == (540, 960, 3)
        assert np.abs(picture.astype(int) - live.frame.image[0, 0]).max() < 8  # plain: nothing is drawn into it
        status, _, content = ask(sink, f"/frames/{event['picture'] + 1}.jpg")
        assert status == 404
        assert "is gone" in json.loads(content)["error"]
        assert ask(sink, "/events?viewer=%3Cscript%3E")[0] == 400


def test_points_that_are_no_numbers_are_null():
    live = live_frame()
    live.faces[0].keypoints[1] = np.nan
    with serving() as (sink, _), streaming(sink, "/events") as stream:
        sink.show(live)
        assert stream.event("frame")["faces"][0]["keypoints"][:2] == [[90.0, 80.0], [None, None]]


def test_the_annotated_stream_shows_what_was_found():
    with serving() as (sink, _), streaming(sink, "/stream.mjpg") as stream:
        assert stream.answer.headers["Content-Type"].startswith("multipart/x-mixed-replace; boundary=")
        live = live_frame()
        sink.show(live)
        picture = decoded(stream.part())
        assert picture.shape == live.frame.image.shape
        assert np.abs(picture.astype(int) - live.drawn()).mean() < 4
        assert np.abs(picture.astype(int) - live.frame.image).max() > 80


def test_controls_are_changed_and_every_viewer_is_told():
    with serving() as (sink, controls), streaming(sink, "/events") as stream:
        stream.event("state")
        wanted = {"paused": True, "threshold": 0.75, "layers": {"boxes": False, "mirror": True}, "snapshot": True}
        status, told = post(sink, wanted)
        assert status == 200
        assert controls.paused.is_set()
        assert controls.snapshot.is_set()
        assert controls.threshold == 0.75
        assert controls.layers == Layers(boxes=False, mirror=True)
        assert told.items() <= stream.event("state").items()
        controls.snapshot.clear()  # as whoever saved it does, while no frame comes
        assert stream.event("state")["snapshot"] is False
        assert post(sink, {"paused": False})[1]["paused"] is False
        assert not controls.paused.is_set()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "no JSON"),
        (b"[" * 3000, "no JSON"),
        ([1], "send an object"),
        ({"stop": True}, "'stop' cannot be changed"),
        ({"paused": 1}, "paused is true or false"),
        ({"threshold": 1.01}, "from 0 to 1"),
        ({"threshold": True}, "from 0 to 1"),
        (b'{"threshold": NaN}', "from 0 to 1"),
        ({"layers": ["boxes"]}, "layers is an object"),
        ({"layers": {"hat": True}}, "no layer is called 'hat'"),
        ({"paused": True, "threshold": 0.1, "layers": {"boxes": "no"}}, "boxes is true or false"),
    ],
)
def test_wrong_changes_are_explained_and_nothing_is_changed(body, why):
    with serving() as (sink, controls):
        status, told = post(sink, body)
        assert status == 400
        assert why in told["error"]
        assert not controls.paused.is_set()
        assert (controls.threshold, controls.layers) == (0.5, Layers())


def test_other_bodies_are_refused():
    with serving() as (sink, controls):
        assert post(sink, {"paused": True}, Content_Type="text/plain")[0] == 415
        assert post(sink, b'{"paused": true' + b" " * 5000 + b"}")[0] == 413
        assert not controls.paused.is_set()


def test_too_many_viewers_are_sent_away():
    with serving() as (sink, _):
        sink.hub.limit = 1
        with streaming(sink, "/events") as stream:
            stream.event("state")
            status, headers, content = ask(sink, "/stream.mjpg")
            assert status == 503
            assert headers["Retry-After"]
            assert "too many" in json.loads(content)["error"]
        while sink.hub.viewers:
            threading.Event().wait(0.01)
        with streaming(sink, "/stream.mjpg"):
            pass


def test_a_port_in_use_is_explained():
    with serving() as (sink, _):
        with pytest.raises(OutputError, match=f"{port_of(sink)}: the port is in use") as caught:
            ServeSink(Address("127.0.0.1", port_of(sink)), new_controls(), FACES5)
        assert "0 for any that is free" in caught.value.advice
    with pytest.raises(OutputError, match="no such address"):
        ServeSink(Address("192.0.2.1", 0), new_controls(), FACES5, token="a-token-of-the-test")
    with pytest.raises(OutputError, match="cannot be found"):
        ServeSink(Address("no-such-host.invalid", 0), new_controls(), FACES5)


def own_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("kpedge-serve")]


def test_closing_ends_everything_although_viewers_are_connected():
    sink = ServeSink(parse_address("0"), new_controls(), FACES5)
    port = port_of(sink)
    events, pictures = Stream(sink, "/events"), Stream(sink, "/stream.mjpg")
    stuck = socket.create_connection(("127.0.0.1", port))
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
    half = socket.create_connection(("127.0.0.1", port))
    half.sendall(b"GET /state HT")
    for number in range(20):  # more than the connection of one who does not read takes
        sink.show(live_frame(number, size=(960, 720), noise=True))
        pictures.part()
    assert own_threads()
    sink.close()
    sink.close()
    assert own_threads() == []
    while events.answer.readline():
        pass
    for stream in (events, pictures):
        stream.close()
    for connection in (stuck, half):
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), PATIENCE)
    with pytest.raises(OutputError, match="server has stopped"):
        sink.show(live_frame())
    with serving(str(port)) as (again, _):  # the port is free at once
        assert ask(again, "/state")[0] == 200


def test_closing_before_the_server_has_begun():
    for _ in range(3):
        ServeSink(parse_address("0"), new_controls(), FACES5).close()
    assert own_threads() == []


def test_a_slow_browser_gets_the_newest_frame_when_it_reads_again():
    def mark(picture):
        return float(picture[-40:, :40].mean())

    with serving() as (sink, _), streaming(sink, "/stream.mjpg") as slow, streaming(sink, "/events") as quick:
        sink.hub.budget = 1e9
        for number in range(200):
            live = live_frame(number, size=(640, 480), noise=True)
            live.frame.image[-50:, :50] = 255 * (number == 199)
            sink.show(live)
            quick.event("frame")
        read = 1
        while mark(decoded(slow.part())) < 128:
            read += 1
        assert read < 100  # what the connection held; the rest was never sent


def test_a_missing_extra_is_named(monkeypatch):
    def missing(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match="starlette is not installed") as caught:
        ServeSink(parse_address("0"), new_controls(), FACES5)
    assert caught.value.advice == "run: pip install 'kpedge[serve]'"


def test_the_extra_is_imported_when_it_is_needed_only():
    code = (
        "import sys, kpedge.runtime.server.server\n"
        "print([name for name in ('starlette', 'uvicorn', 'asyncio.events', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['asyncio.events']"
