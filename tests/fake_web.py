"""A web server on this machine that does what a test tells it to, also what no server should."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


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
        """Answer at a path with these steps; gives the address."""
        self.steps[path] = list(steps)
        return f"http://127.0.0.1:{self.port}{path}"

    def ranges(self) -> list[str]:
        """The `Range` header of each request, "" where there was none."""
        return [headers.get("Range", "") for _, headers in self.asked]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        web: Web = self.server.web  # type: ignore[attr-defined]
        web.asked.append((self.path, dict(self.headers.items())))
        steps = web.steps.get(self.path, [status(404)])
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


def _part(handler: Handler, data: bytes, etag: str, modified: str) -> bytes:
    """Send the head of an answer that honours `Range` and `If-Range`; gives what its body has to be."""
    tags = {**({"ETag": etag} if etag else {}), **({"Last_Modified": modified} if modified else {})}
    asked, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
    if asked and condition in (None, etag, modified):
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(data):
            handler.head(416, Content_Range=f"bytes */{len(data)}", Content_Length=0)
            return b""
        span = f"bytes {start}-{len(data) - 1}/{len(data)}"
        handler.head(206, Content_Range=span, Content_Length=len(data) - start, **tags)
        return data[start:]
    handler.head(200, Content_Length=len(data), Accept_Ranges="bytes", **tags)
    return data


def good(data: bytes, etag: str = '"one"', modified: str = "") -> Step:
    """The file, or the rest of it."""
    return lambda handler: handler.wfile.write(_part(handler, data, etag, modified))


def cut(data: bytes, after: int, etag: str = '"one"', modified: str = "") -> Step:
    """The connection is closed after so many bytes."""
    return lambda handler: handler.wfile.write(_part(handler, data, etag, modified)[:after])


def stall(data: bytes, after: int, etag: str = '"one"') -> Step:
    """Nothing comes after so many bytes."""

    def step(handler: Handler) -> None:
        handler.wfile.write(_part(handler, data, etag, "")[:after])
        handler.wfile.flush()
        handler.server.web.over.wait(60)  # type: ignore[attr-defined]

    return step


def reset(data: bytes, after: int, etag: str = '"one"') -> Step:
    """The connection is reset after so many bytes."""

    def step(handler: Handler) -> None:
        handler.wfile.write(_part(handler, data, etag, "")[:after])
        handler.wfile.flush()
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    return step


def deaf(data: bytes, after: int | None = None) -> Step:
    """The file from its beginning, whatever `Range` says."""

    def step(handler: Handler) -> None:
        handler.head(200, Content_Length=len(data))
        handler.wfile.write(data[:after])

    return step


def lies(data: bytes, announced: int) -> Step:
    """The file, with a wrong Content-Length."""

    def step(handler: Handler) -> None:
        handler.head(200, Content_Length=announced)
        handler.wfile.write(data)

    return step


def chunked(data: bytes, *, whole: bool = True, etag: str = "") -> Step:
    """The file, of a length that is not announced."""

    def step(handler: Handler) -> None:
        handler.head(200, Transfer_Encoding="chunked", **({"ETag": etag} if etag else {}))
        for start in range(0, len(data), 1000):
            block = data[start : start + 1000]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
        if whole:
            handler.wfile.write(b"0\r\n\r\n")

    return step


def raw(code: int, body: bytes = b"", **headers: object) -> Step:
    """Any answer."""

    def step(handler: Handler) -> None:
        handler.head(code, Content_Length=len(body), **headers)
        handler.wfile.write(body)

    return step


def status(code: int, **headers: object) -> Step:
    """An answer without a body."""
    return raw(code, **headers)


def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the proxies of this machine out of the environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


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
