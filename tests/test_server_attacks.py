import re
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest
from test_server import PATIENCE, TOKEN, ask, live_frame, port_of, serving, streaming, until

from kpedge.runtime.server import http as server_http
from kpedge.runtime.server.http import RefusedError, parse_head


def connect(sink, address="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", port_of(sink)), PATIENCE, (address, 0))


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX: "], ids=["silent", "half a request"])
def test_idle_connections_never_lock_out_others(sent, capfd):
    said = []
    with serving(token=TOKEN, notify=said.append) as (sink, _), ExitStack() as idle:
        with streaming(sink, f"/events?token={TOKEN}") as before:
            for number in range(400):
                connection = idle.enter_context(connect(sink))
                connection.sendall(sent)
                if number % 40 == 0:
                    assert ask(sink, f"/state?token={TOKEN}")[0] == 200
            assert ask(sink, f"/state?token={TOKEN}")[0] == 200
            with streaming(sink, f"/stream.mjpg?token={TOKEN}") as stream:
                sink.show(live_frame())
                stream.image()
            before.event("frame")
        assert len(sink._server._tasks) <= server_http.MAX_CONNECTIONS
    assert said == [f"preview: {sink.url}"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_one_address_cannot_take_all_the_room():
    with serving("0.0.0.0:0", token=TOKEN) as (sink, _), ExitStack() as opened:
        other = opened.enter_context(connect(sink, "127.0.0.2"))
        for _ in range(3 * server_http.MAX_CONNECTIONS):
            opened.enter_context(connect(sink))
        other.sendall(f"GET /state?token={TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert other.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("drip", [False, True])
def test_a_request_that_does_not_come_is_not_waited_for(monkeypatch, drip):
    monkeypatch.setattr(server_http, "REQUEST_TIMEOUT", 0.5)
    with serving() as (sink, _), connect(sink) as connection:
        connection.settimeout(0.05)
        closed = False
        for _ in range(PATIENCE * 20):
            try:
                if drip:
                    connection.send(b"G")
                if connection.recv(1) == b"":
                    closed = True
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                closed = True
                break
        assert closed
        assert ask(sink, "/state")[0] == 200


HEAD = b"POST /control HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ATTACKS = [
    *(b"", b"\r\n\r\n", b"\0" * 100 + b"\r\n\r\n", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost", b"A" * 100_000),
    *(
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://localhost/ HTTP/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
    ),
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
    b'GET / HTTP/1.1\r\nHost: localhost\r\nCookie: \xff\xfe=\x01; kpedge="\r\n\r\n',
    b"GET / HTTP/1.1\r\nHost: [::1\r\nOrigin: http://[\r\n\r\n",
    b"GET /frames/" + b"9" * 5000 + b".jpg HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /?" + b"a=b&" * 3000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%00%ff/..\\..//?token=\xe2\x82 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    *(HEAD + b"Content-Length: " + length + b"\r\n\r\n{" for length in (b"50", b"-1", b"9" * 5000, b"0x10", b"1, 1")),
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n{",
    HEAD + b"\r\n",
]


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("sent", ATTACKS, ids=range(len(ATTACKS)))
def test_malformed_and_broken_off_requests_are_quiet(sent, reset, capfd):
    said = []
    with serving(notify=said.append) as (sink, controls):
        connection = connect(sink)
        try:
            connection.sendall(sent)
            if not reset:
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(100)
                assert answer == b"" or re.match(rb"HTTP/1\.1 [24]\d\d ", answer)
        except ConnectionError:  # it was closed before all was sent
            pass
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        assert ask(sink, "/state")[0] == 200
        assert not controls.paused.is_set()
    assert said == [f"preview: {sink.url}"]
    assert capfd.readouterr() == ("", "")


def test_heads_are_parsed_strictly():
    request = parse_head(b"GET /a%20b?x=1&x=2&y= HTTP/1.1\r\nHost: h\r\nX-A:  b \r\nx-a: c\r\n\r\n")
    assert (request.method, request.path, request.query) == ("GET", "/a%20b", {"x": "2"})
    assert request.headers == {"host": "h", "x-a": "b, c"}
    for head in (
        b"GET / HTTP/1.1\r\n X: folded",
        b"GET / HTTP/1.1\r\nX : y",
        b"GET /a b HTTP/1.1",
        b"GET /\xff HTTP/1.1",
    ):
        with pytest.raises(RefusedError):
            parse_head(head + b"\r\n\r\n")


FEW = """
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
from kpedge.core.keypoints import FACES5
from kpedge.runtime.overlay import Layers
from kpedge.runtime.server.server import ServeSink
from kpedge.runtime.server.address import Address
from kpedge.runtime.sinks.sink import Controls
sink = ServeSink(Address(port=0), Controls(Layers(), 0.5), FACES5, None, lambda line: print(line, flush=True))
sys.stdin.read()
sink.close()
"""


@pytest.mark.slow
def test_few_descriptors_are_enough_and_the_log_stays_short():
    process = subprocess.Popen(
        [sys.executable, "-c", FEW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    port = int(re.search(r":(\d+)/", process.stdout.readline())[1])
    with ExitStack() as idle:
        for _ in range(200):
            idle.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
        until(lambda: answers(port))
    out, err = process.communicate()
    assert err == ""
    assert len(out.splitlines()) <= 1


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            connection.sendall(b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return connection.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
