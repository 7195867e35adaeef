"""Faces as JSON to all WebSocket clients that connect: programs, and pages of this machine."""

import asyncio
import contextlib
import re
import secrets
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kpedge.core.errors import OutputError
from kpedge.core.extras import importable
from kpedge.runtime.server.access import choose_token
from kpedge.runtime.server.address import bind, parse_address, reachable_host
from kpedge.runtime.sinks.lines import encode
from kpedge.runtime.sinks.sink import LiveFrame

LOCAL = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
"""Origins of the pages that may connect without a token: browsers let every page open a WebSocket to this machine."""


class WebSocketSink:
    """Serves the newest frame's document to each client as soon as it has taken the one before, so that slow ones skip
    frames and nobody waits for them. Any address but loopback needs a token, which clients show as `?token=`.

    Raises:
        UsageError: the address or token cannot be used.
        OutputError: cannot listen there.
        MissingExtraError: websockets is not installed.
    """

    def __init__(self, address: str, token: str | None = None, notify: Callable[[str], None] = lambda _: None) -> None:
        self._server: Any = importable("websockets.asyncio.server", "websocket")
        self._gone: Any = importable("websockets.exceptions", "websocket").ConnectionClosed
        where = parse_address(address, "--websocket")
        self._token = choose_token(token, loopback=where.loopback)
        self._socket = bind(where, "--websocket")
        port = self._socket.getsockname()[1]
        query = f"?token={self._token}" if self._token else ""
        self.url = f"ws://{reachable_host(where.host)}:{port}/{query}"
        self._newest: tuple[int, str] = (0, "")
        self._loop = asyncio.new_event_loop()
        self._changed, self._stop = asyncio.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="kpedge-websocket", daemon=True)
        self._thread.start()
        notify(f"websocket: {self.url}")

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        async with self._server.serve(
            self._send, sock=self._socket, process_request=self._check, max_size=1024, close_timeout=1
        ) as server:
            await self._stop.wait()
            for client in server.connections:
                if client.transport.get_write_buffer_size():  # it does not read: it would not answer a goodbye either
                    client.transport.abort()

    def _check(self, connection: Any, request: Any) -> Any:
        """Refuse who has no token, or is a page of another site."""
        given = parse_qs(urlsplit(request.path).query).get("token", [""])[0]
        if self._token is not None and not secrets.compare_digest(given.encode(), self._token.encode()):
            return connection.respond(401, "a token is needed: connect to the URL that kpedge printed\n")
        origin = request.headers.get("Origin")
        if self._token is None and origin is not None and not LOCAL.fullmatch(origin):
            return connection.respond(403, "pages of other sites may not connect\n")
        return None

    async def _send(self, client: Any) -> None:
        sent = 0
        with contextlib.suppress(self._gone):
            while not self._stop.is_set():
                number, text = self._newest
                if number > sent:
                    await client.send(text)  # waits while the client does not keep up
                    sent = number
                else:
                    await self._changed.wait()

    def show(self, live: LiveFrame) -> None:
        if not self._thread.is_alive():
            raise OutputError(f"{self.url}: the server has stopped", "start again; the other outputs go on")
        self._newest = self._newest[0] + 1, encode(live.to_dict())
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._changed.set()
        self._changed.clear()

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._loop.call_soon_threadsafe(self._wake)
            self._thread.join()
