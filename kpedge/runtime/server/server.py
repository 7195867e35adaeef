"""The output `--serve`: a preview in the browser, served from a thread of its own.

The pipeline's thread only leaves its newest frame here. The server's thread encodes it when a browser is ready for it,
once for all of them, and not at all while nobody watches.
"""

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from kpedge import __version__
from kpedge.core.errors import OutputError
from kpedge.core.scheme import KeypointScheme
from kpedge.runtime.server.access import HEADERS, Access, choose_token
from kpedge.runtime.server.address import Address, bind, reachable_host
from kpedge.runtime.server.encoding import CpuMeter, encode, event_json, state_document, to_json
from kpedge.runtime.server.http import HttpServer, RefusedError, Request, Response
from kpedge.runtime.sinks.sink import Controls, LiveFrame

PAGE = Path(__file__).resolve().parent / "page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
VIEWERS = 32  # streams at a time
BUDGET = 240.0  # events and images per second over all streams: little of the pipeline's processor
POLL = 0.01  # seconds between looks for a new frame while somebody watches: the pipeline wakes no thread
QUIET = 1.0  # seconds after which a stream without news is sent the last image again, or a sign of life
NICE = 10  # how far the server's thread stands behind the pipeline's, as `nice` counts
BOUNDARY = "kpedgeframe"


class ServeSink:
    """Shows frames in browsers, and never makes the pipeline wait. `url` is what to open in a browser, with the token
    if one is needed; `viewers` is how many streams are open.
    """

    def __init__(
        self,
        address: Address,
        controls: Controls,
        scheme: KeypointScheme,
        token: str | None = None,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Start to listen; any address but loopback needs a token, a new one by default. `notify` is called with the
        URL, and with a line about trouble.
        """
        token = choose_token(token, loopback=address.loopback)
        self._controls, self._scheme = controls, scheme
        self._latest: tuple[int, LiveFrame] | None = None
        self._encoded: dict[str, tuple[object, bytes]] = {}
        self._cpu = CpuMeter()
        self._files = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.suffix in TYPES}
        self.viewers = 0
        self._socket = bind(address)
        port = self._socket.getsockname()[1]
        self._access = Access(token, address.loopback, port)
        self.url = f"http://{reachable_host(address.host)}:{port}/" + (f"?token={token}" if token else "")
        self._server = HttpServer(self._answer, notify)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kpedge-serve", daemon=True)
        self._thread.start()
        notify(f"preview: {self.url}")

    def show(self, live: LiveFrame) -> None:
        """Leave the newest frame for those who watch.

        Raises:
            OutputError: the server has stopped.
        """
        if not self._thread.is_alive():
            raise OutputError("the preview's server has stopped", "start again; the other outputs go on")
        number = self._latest[0] if self._latest else 0
        self._latest = number + 1, live

    def close(self) -> None:
        """End all connections and free the port; may be called more than once."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        if sys.platform == "linux":  # elsewhere only whole processes can be nice
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        with self._socket:
            asyncio.run(self._server.run(self._socket, self._closing.is_set))

    async def _answer(self, request: Request) -> Response:
        try:
            headers = self._access.check(request)
            response = self._route(request)
        except RefusedError as refused:
            response, headers = refused.response, {}
        response.headers.update(HEADERS | headers)
        return response

    def _route(self, request: Request) -> Response:
        path, name = request.path, request.path.removeprefix("/") or "page.html"
        if path == "/control":
            if request.method != "POST":
                raise RefusedError(405, "send a POST request", {"Allow": "POST"})
            change_controls(self._controls, request)
            return Response(to_json(state_document(self._controls)), "application/json")
        if request.method not in ("GET", "HEAD"):
            raise RefusedError(405, "send a GET request", {"Allow": "GET, HEAD"})
        if path == "/state":
            return Response(to_json(self._state()), "application/json")
        if path == "/events":
            return self._stream(self._events(), "text/event-stream")
        if path == "/stream.mjpg":
            return self._stream(self._images(), f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        if name not in self._files or path == "/page.html":
            raise RefusedError(404, "there is nothing here")
        return Response(self._files[name], TYPES[Path(name).suffix])

    def _state(self) -> dict[str, Any]:
        """What a page needs to know before the first frame."""
        source = self._latest[1].source if self._latest else None
        known = {"version": __version__, "source": source, "viewers": self.viewers, "limit": VIEWERS}
        return {**known, "scheme": self._scheme.to_dict(), **state_document(self._controls)}

    def _stream(self, content: AsyncGenerator[bytes, None], kind: str) -> Response:
        if self.viewers >= VIEWERS:
            raise RefusedError(503, "too many are watching already", {"Retry-After": "5"})
        self.viewers += 1
        return Response(content, kind, closed=self._leave)

    def _leave(self) -> None:
        self.viewers -= 1
        if not self.viewers:
            self._encoded.clear()

    async def _events(self) -> AsyncGenerator[bytes, None]:
        """Server-sent events: `frame` for each frame, `state` when the controls changed and every second without."""
        number, state = 0, dict[str, Any]()
        while True:
            latest = await self._wait(number, state)
            state = state_document(self._controls)
            if latest and latest[0] != number:
                number, live = latest
                make = partial(event_json, live, self._cpu.percent(), state)
                yield b"event: frame\ndata: " + self._encode("event", (number, *state.values()), make) + b"\n\n"
            else:
                yield b"event: state\ndata: " + to_json(self._state()) + b"\n\n"

    async def _images(self) -> AsyncGenerator[bytes, None]:
        """The annotated frames as MJPEG; the last one again when nothing is new."""
        yield f"--{BOUNDARY}\r\n".encode()
        number, state = 0, dict[str, Any]()
        while True:
            latest = await self._wait(number, state)
            state, layers = state_document(self._controls), self._controls.layers
            if latest:
                number, live = latest
                jpeg = self._encode("image", (number, layers), partial(encode, live, layers))
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                # The boundary follows at once: browsers show a part when they see its end.
                yield head + jpeg + f"\r\n--{BOUNDARY}\r\n".encode()

    async def _wait(self, seen: int, state: dict[str, Any]) -> tuple[int, LiveFrame] | None:
        """The newest frame and its number, once it is newer than `seen`, the controls changed, or `QUIET` is over."""
        start = time.monotonic()
        due = start + self.viewers / BUDGET
        while state == state_document(self._controls) and (now := time.monotonic()) < start + QUIET:
            if self._latest and self._latest[0] != seen and now >= due:
                break
            await asyncio.sleep(POLL)
        return self._latest

    def _encode(self, kind: str, key: object, make: Callable[[], bytes]) -> bytes:
        """What is sent of a frame, made once for all streams."""
        if kind not in self._encoded or self._encoded[kind][0] != key:
            self._encoded[kind] = key, make()
        return self._encoded[kind][1]


def change_controls(controls: Controls, request: Request) -> None:
    """Change all that a request asks for, or nothing if any of it is wrong.

    Raises:
        RefusedError: it is wrong.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "send JSON, as application/json")
    try:
        document = json.loads(request.body)
    except (ValueError, RecursionError):
        raise RefusedError(400, "this is not JSON") from None
    layers = asdict(controls.layers)

    def is_valid(key: str, value: Any) -> bool:
        if key == "threshold":
            return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        if key == "layers":
            return isinstance(value, dict) and all(
                layer in layers and isinstance(shown, bool) for layer, shown in value.items()
            )
        return key in ("paused", "snapshot") and isinstance(value, bool)

    if not isinstance(document, dict) or not all(is_valid(key, value) for key, value in document.items()):
        raise RefusedError(
            400,
            "send an object with any of: paused and snapshot (true or false), threshold (a number from 0 to 1), "
            f"layers (an object with any of {', '.join(layers)}: true or false)",
        )
    for event, key in ((controls.paused, "paused"), (controls.snapshot, "snapshot")):
        if key in document:
            (event.set if document[key] else event.clear)()
    if "threshold" in document:
        controls.threshold = float(document["threshold"])
    if "layers" in document:
        controls.layers = replace(controls.layers, **document["layers"])
