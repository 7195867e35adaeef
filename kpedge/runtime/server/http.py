"""A small HTTP server on asyncio in which every wait ends and every queue is limited: one request a connection.

A connection has `REQUEST_TIMEOUT` seconds to send its request. When there are as many connections as allowed, or one
address has half of them waiting, the one that has waited longest for its request to arrive makes room for the newest.
So connections that send nothing never lock out those that do.
"""

import asyncio
import contextlib
import json
import re
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

MAX_CONNECTIONS = 128
REQUEST_TIMEOUT = 5.0  # seconds in which a request must be complete
SEND_TIMEOUT = 20.0  # seconds in which a client must take what it is sent
MAX_HEAD, MAX_BODY = 16_384, 4096  # bytes of a request
BACKLOG = 256  # connections that the kernel keeps until they are accepted
FAILURES = (
    *(asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError),
    asyncio.CancelledError,
)
"""What clients that leave, stall or send too much cause, and the end of the server."""


class RefusedError(Exception):
    """A request that is answered with an error: a status, a reason for people, and headers."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.response = Response(
            json.dumps({"error": reason}).encode(), "application/json", status, dict(headers or {})
        )


@dataclass(frozen=True, slots=True)
class Request:
    """A request: method, path, query and headers (names in lower case), and body."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(slots=True)
class Response:
    """A response; `closed` is called when it has been sent, or its client is gone."""

    body: bytes | AsyncGenerator[bytes, None]
    content_type: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    closed: Callable[[], None] = lambda: None


def parse_head(head: bytes) -> Request:
    """Parse the head of a request.

    Raises:
        RefusedError: it is malformed.
    """
    line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    match = re.fullmatch(r"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]", line)
    headers: dict[str, str] = {}
    for text in lines:
        name, colon, value = text.partition(":")
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            match = None
        previous = headers.get(name.lower())
        headers[name.lower()] = value.strip() if previous is None else f"{previous}, {value.strip()}"
    if match is None:
        raise RefusedError(400, "malformed request")
    path, _, query = match[2].partition("?")
    try:
        return Request(match[1], path, dict(parse_qsl(query, max_num_fields=20)), headers)
    except ValueError:
        raise RefusedError(400, "malformed request") from None


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Read a request with its body.

    Raises:
        RefusedError: it is malformed or too large.
    """
    request = parse_head(await reader.readuntil(b"\r\n\r\n"))
    length = request.headers.get("content-length", "0")
    if "transfer-encoding" in request.headers or not re.fullmatch(r"\d{1,9}", length):
        raise RefusedError(411, "send a Content-Length")
    if int(length) > MAX_BODY:
        raise RefusedError(413, f"at most {MAX_BODY} bytes")
    return replace(request, body=await reader.readexactly(int(length)))


class HttpServer:
    """Accepts connections and answers their requests by `answer`, which may raise `RefusedError`. `notify` is called
    with at most one line about trouble with the system's resources.
    """

    def __init__(self, answer: Callable[[Request], Awaitable[Response]], notify: Callable[[str], None]) -> None:
        self._answer, self._notify = answer, notify
        self._limit = max_connections()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiting: dict[asyncio.StreamWriter, str] = {}  # the address of each client, the oldest first

    async def run(self, listener: socket.socket, closing: Callable[[], bool]) -> None:
        """Serve until `closing` returns true, then end all connections."""
        asyncio.get_running_loop().set_exception_handler(self._report)
        # So many are accepted at once: few, so that none is dropped before its request can be read.
        server = await asyncio.start_server(
            self._connect, sock=listener, limit=MAX_HEAD, backlog=max(1, self._limit // 8)
        )
        listener.listen(BACKLOG)
        try:
            while not closing():
                await asyncio.sleep(0.05)
        finally:
            server.close()
            while self._tasks:  # wait_for may swallow a cancellation
                for task in self._tasks:
                    task.cancel()
                await asyncio.wait(self._tasks, timeout=0.1)

    def _report(self, _loop: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._notify(f"preview: {context.get('message')}" + (f": {error}" if error else ""))
        self._notify = lambda _: None

    def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(partial(self._end, writer))

    def _end(self, writer: asyncio.StreamWriter, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._waiting.pop(writer, None)
        writer.transport.abort()  # all that was to be sent has been handed to the system
        if not task.cancelled() and (error := task.exception()):
            self._report(None, {"message": "a request failed", "exception": error})

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = str((writer.get_extra_info("peername") or ("",))[0])
        self._waiting[writer] = address
        self._make_room(address)
        try:
            response = await self._respond(reader, writer)
            writer.transport.set_write_buffer_limits(high=0)  # a client that does not keep up is sent no more
            async with contextlib.aclosing(_chunks(response)) as chunks:
                async for chunk in chunks:
                    writer.write(chunk)
                    await asyncio.wait_for(writer.drain(), SEND_TIMEOUT)
        except FAILURES:
            pass

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Response:
        request = None
        try:
            request = await asyncio.wait_for(read_request(reader), REQUEST_TIMEOUT)
            self._waiting.pop(writer, None)
            response = await self._answer(request)
        except RefusedError as refused:
            response = refused.response
        if request is not None and request.method == "HEAD":
            response.closed()
            response = Response(b"", response.content_type, response.status, response.headers)
        return response

    def _make_room(self, address: str) -> None:
        """Drop the connections that have waited longest, so that there are no more than allowed."""
        peers = [writer for writer, peer in self._waiting.items() if peer == address]
        if len(peers) > self._limit // 2:
            self._drop(peers[0])
        elif len(self._tasks) > self._limit:
            self._drop(next(iter(self._waiting)))

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        del self._waiting[writer]
        writer.transport.abort()


async def _chunks(response: Response) -> AsyncGenerator[bytes, None]:
    """A response as it is sent."""
    status = HTTPStatus(response.status)
    headers = {"Content-Type": response.content_type, "Connection": "close", **response.headers}
    if isinstance(response.body, bytes):
        headers["Content-Length"] = str(len(response.body))
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    try:
        if isinstance(response.body, bytes):
            yield head + response.body
            return
        async with contextlib.aclosing(response.body) as body:
            yield head
            async for chunk in body:
                yield chunk
    finally:
        response.closed()


def max_connections() -> int:
    """Connections at a time: a quarter of the available file descriptors, `MAX_CONNECTIONS` at most."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft < 0 else max(4, min(MAX_CONNECTIONS, (soft - 24) // 4))
