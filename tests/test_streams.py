"""Network streams as sources of frames, from a small server in a thread."""

import base64
import http.server
import socket
import threading

import cv2
import pytest
from fake_capture import OLD_FFMPEG, WAIT_S, jpeg, picture, shade

from kpedge.core.errors import SourceError
from kpedge.runtime.sources import stream as stream_module
from kpedge.runtime.sources.addresses import mask_address, scheme_of
from kpedge.runtime.sources.live import RetryPolicy
from kpedge.runtime.sources.open import open_source

QUICK = RetryPolicy(first_wait_s=0.001, longest_wait_s=0.004, open_s=WAIT_S, stall_s=5, attempts=4)


class Server(http.server.ThreadingHTTPServer):
    """Answers each request with the next of its scripts, and any further one with the last.

    A script is a function that is given the request's handler.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.scripts, self.requests = [], []
        self.stopped = threading.Event()

    def address(self, login=""):
        return f"http://{login}127.0.0.1:{self.server_port}/video"

    def handle_error(self, request, client_address):
        """A client that leaves is no error."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        scripts = self.server.scripts
        self.server.requests.append(dict(self.headers))
        (scripts.pop(0) if len(scripts) > 1 else scripts[0])(self)

    def answer(self, code, kind="text/html", body=b"", **headers):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.stopped.set()
        running.shutdown()
        thread.join()


class Stream:
    """A script: MJPEG, with a part sent each time the test says so.

    Args:
        parts: sent at once.
        hold: keep the connection open after them.
    """

    def __init__(self, *parts, hold=False):
        self.parts, self.hold = parts, hold
        self.more = threading.Semaphore(0)
        self.later = []

    def send(self, part):
        self.later.append(part)
        self.more.release()

    def __call__(self, handler):
        handler.answer(200, "multipart/x-mixed-replace; boundary=b")
        for part in self.parts:
            self.write(handler, part)
        while self.hold and not handler.server.stopped.is_set():
            if self.more.acquire(timeout=0.02):
                self.write(handler, self.later.pop(0))

    @staticmethod
    def write(handler, part):
        head = b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(part)
        handler.wfile.write(head + part + b"\r\n")


def test_mjpeg_over_http_comes_frame_by_frame(server, said):
    stream = Stream(jpeg(0), hold=True)
    server.scripts = [stream]
    source = open_source(server.address(), notify=said.append, retry=QUICK)
    assert source.live
    assert source.rate is None
    assert source.description == "64x48, mjpeg"
    frames, numbers = iter(source), []
    for shown in (0, 40, 80):
        if shown:
            stream.send(jpeg(shown))
        frame = next(frames)
        numbers.append(frame.number)
        assert shade(frame.image) == pytest.approx(shown, abs=1)
        assert frame.decode_s > 0
    assert numbers == [0, 1, 2]
    source.close()
    assert list(source) == []
    assert source._thread.daemon, "a read that waits for the network ends with the process, or when it times out"
    assert said == []


@pytest.mark.slow
@pytest.mark.skipif(OLD_FFMPEG, reason="FFmpeg before 8.1 stops at a broken JPEG in a stream")
def test_a_stream_may_change_its_size_and_send_broken_frames(server, said):
    stream = Stream(jpeg(10), hold=True)
    server.scripts = [stream]
    source = open_source(server.address(), notify=said.append, retry=QUICK)
    frames = iter(source)
    next(frames)
    undecodable = b"\xff\xd8\xff\xdb\x00\x02\xff\xda\x00\x02\x00\xff\xd9"
    for part in (jpeg(20)[:-100], undecodable, b"no picture", jpeg(30)[3200:], jpeg(40, 160, 120)):
        stream.send(part)
    frame = next(frame for frame in frames if frame.image.shape != (48, 64, 3))
    assert frame.image.shape == (120, 160, 3)
    assert shade(frame.image) == 40
    assert source.description == "160x120, mjpeg"
    source.close()
    assert len(server.requests) == 1, "nothing of this ends the connection"
    assert said == [
        f"{server.address()}: a broken frame was left out; further ones are not reported",
        f"{server.address()}: now 160x120, mjpeg",
    ]


def test_a_stream_that_ends_is_connected_again_up_to_a_limit(server, said):
    server.scripts = [Stream(jpeg(1)), lambda handler: handler.answer(503)]
    source = open_source(server.address(), notify=said.append, retry=QUICK)
    frames = iter(source)
    next(frames)
    with pytest.raises(SourceError, match="lost, and not back after 4 attempts") as caught:
        next(frames)
    assert "5XX" in caught.value.advice
    assert said == [f"{server.address()}: lost, waiting for it"]
    source.close()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (lambda handler: handler.answer(404), "404"),
        (lambda handler: handler.answer(401, WWW_Authenticate="Basic realm=camera"), "401"),
        (lambda handler: handler.answer(401), "401"),
        (lambda handler: handler.answer(200, body=b"<html>a page</html>"), "cannot be opened"),
        (lambda handler: handler.wfile.write(b"what is HTTP?\r\n\r\n"), "cannot be opened"),
        (Stream(b"no picture at all"), "cannot be opened|gives no frame|decoded"),
        (Stream(), "cannot be opened"),
    ],
)
def test_what_is_no_stream_says_why(server, script, words):
    server.scripts = [script]
    with pytest.raises(SourceError, match=words) as caught:
        open_source(server.address("admin:secret@"), retry=QUICK)
    assert caught.value.advice
    assert "secret" not in f"{caught.value} {caught.value.advice}"


def test_a_server_that_does_not_answer_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(SourceError, match="cannot be opened: no answer"):
            open_source(address, retry=RetryPolicy(stall_s=0.05))


def test_name_and_password_are_used_and_never_shown(server, said):
    def ask(handler):
        handler.answer(401, WWW_Authenticate='Basic realm="camera"', Content_Length="0")

    server.scripts = [ask, Stream(jpeg(1)), lambda handler: handler.answer(401)]
    source = open_source(server.address("admin:se%20cret@"), notify=said.append, retry=QUICK)
    assert source.name == server.address("***@")
    assert server.requests[1]["Authorization"] == "Basic " + base64.b64encode(b"admin:se cret").decode()
    with pytest.raises(SourceError, match="not back") as caught:
        list(source)
    source.close()
    assert "cret" not in " ".join([*said, str(caught.value), caught.value.advice])


@pytest.mark.parametrize("decoder", ["pyav", "opencv"])
def test_a_video_on_a_server_gives_every_frame(server, tmp_path, monkeypatch, decoder):
    monkeypatch.setattr(stream_module, "has_pyav", lambda: decoder == "pyav")
    path = tmp_path / "a.mkv"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 30, (64, 48))
    for number in range(20):
        writer.write(picture(10 * number))
    writer.release()
    data = path.read_bytes()
    server.scripts = [lambda handler: handler.answer(200, "video/x-matroska", data, Content_Length=str(len(data)))]
    source = open_source(server.address(), retry=QUICK)
    assert not source.live
    assert [frame.number for frame in source] == list(range(20))
    source.close()


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_stream_that_cannot_be_reached_says_so(scheme):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(SourceError, match=rf"{scheme}://\*\*\*@127\.0\.0\.1:{port}/a: cannot") as caught:
        open_source(f"{scheme}://admin:secret@127.0.0.1:{port}/a", retry=RetryPolicy(stall_s=2))
    assert "secret" not in f"{caught.value} {caught.value.advice} {caught.value.__cause__}"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://host/a", "rtsp://host/a"),
        ("rtsp://host:554/a@b", "rtsp://host:554/a@b"),
        ("rtsp://[::1]:554/a@b", "rtsp://[::1]:554/a@b"),
        ("rtsp://user:pass@host:554/a", "rtsp://***@host:554/a"),
        ("rtsp://user@host/a", "rtsp://***@host/a"),
        ("RTSP://user:p@ss@host/a", "RTSP://***@host/a"),
        ("rtsp://user:p/a?s#s@host/a", "rtsp://***@host/a"),
        ("http://host/a?user=me&pwd=x&size=3", "http://host/a?user=***&pwd=***&size=3"),
        ("http://host/a?size=3&ACCESS_TOKEN=x#y", "http://host/a?size=3&ACCESS_TOKEN=***#y"),
        ("user:pass@host", "user:pass@host"),
    ],
)
def test_passwords_in_addresses_are_mask_address(address, shown):
    assert mask_address(address) == shown
    assert mask_address(shown) == shown


def test_addresses_are_told_from_names():
    assert scheme_of("RTSP://host") == "rtsp"
    assert [scheme_of(text) for text in ("a.avi", "http:a.avi", "/dev/video0", "C:\\a", "-")] == [""] * 5
