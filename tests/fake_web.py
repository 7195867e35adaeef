"""A web server on this machine that does what a test asks for, including what no server should."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        web: Web = self.server.web  # type: ignore[attr-defined]
        web.asked.append((self.path, dict(self.headers.items())))
        steps = web.steps.get(self.path, [raw(404)])
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client has gone
            step(self)

    def head(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


Step = Callable[[Handler], None]


@dataclass
class Web:
    """The server.

    Attributes:
        steps: path -> what to do at each request, the last for all that follow.
        asked: (path, headers) of each request.
        over: set when the test ends: what stalls, stalls until then.
    """

    steps: dict[str, list[Step]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def at(self, path: str, *steps: Step) -> str:
        """Answer at a path with these steps; returns the address."""
        self.steps[path] = list(steps)
        return f"http://127.0.0.1:{self.port}{path}"


def good(data: bytes, after: int | None = None, then: Callable[[Handler], object] = lambda _: None) -> Step:
    """The file; or only its first `after` bytes, and then something else."""

    def step(handler: Handler) -> None:
        handler.head(200, Content_Length=len(data))
        handler.wfile.write(data[:after])
        handler.wfile.flush()
        then(handler)

    return step


def cut(data: bytes, after: int) -> Step:
    """The connection is closed after so many bytes."""
    return good(data, after)


def stall(data: bytes, after: int) -> Step:
    """Nothing comes after so many bytes."""
    return good(data, after, lambda handler: handler.server.web.over.wait(60))  # type: ignore[attr-defined]


def trickle(handler: Handler) -> None:
    """A file of which a byte arrives every few milliseconds."""
    handler.head(200, Content_Type="image/jpeg", Content_Length=1_000_000)
    while not handler.server.web.over.wait(0.01):  # type: ignore[attr-defined]
        handler.wfile.write(b"\xff")


def reset(data: bytes, after: int) -> Step:
    """The connection is reset after so many bytes."""

    def close(handler: Handler) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    return good(data, after, close)


def chunked(data: bytes, *, whole: bool = True) -> Step:
    """The file, of a length that is not announced."""

    def step(handler: Handler) -> None:
        handler.head(200, Transfer_Encoding="chunked")
        for start in range(0, len(data), 1000):
            block = data[start : start + 1000]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
        if whole:
            handler.wfile.write(b"0\r\n\r\n")

    return step


def raw(code: int, body: bytes = b"", **headers: object) -> Step:
    """Any answer; a wrong `Content_Length` is sent as it stands."""

    def step(handler: Handler) -> None:
        handler.head(code, **{"Content_Length": len(body), **headers})
        handler.wfile.write(body)

    return step


@contextlib.contextmanager
def serving() -> Iterator[Web]:
    """A server on a free port."""
    web = Web()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.web = web  # type: ignore[attr-defined]
    web.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.over.set()
        server.shutdown()
        thread.join(30)
        server.server_close()


@contextlib.contextmanager
def serving_without_proxies() -> Iterator[Web]:
    """A server; the proxies of this machine are not used, and no pause is waited for."""
    with pytest.MonkeyPatch.context() as patch, serving() as web:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        patch.setattr("kpedge.data.download.time.sleep", lambda _: None)
        yield web
