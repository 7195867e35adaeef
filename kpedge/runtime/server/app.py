"""The preview's ASGI application: the page, events, pictures, the annotated stream, and the controls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from kpedge import __version__
from kpedge.core.scheme import KeypointScheme
from kpedge.runtime.server.hub import Hub, TooManyViewersError, Viewer
from kpedge.runtime.server.picture import scheme_document, to_json

PAGE = Path(__file__).resolve().parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_BODY = 4096
"""Bytes that a request to change something may have."""
_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_QUIET = 1.5
"""Seconds after which a viewer is told that the server is alive, or shown the last picture again."""
_BOUNDARY = "kpedgeframe"


class Stream(StreamingResponse):
    """A stream to a viewer, who has left when it ends, however it ends."""

    def __init__(self, content: AsyncGenerator[bytes, None], media_type: str, leave: Callable[[], None]) -> None:
        super().__init__(content, media_type=media_type)
        self._content, self._leave = content, leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        try:
            async with contextlib.aclosing(self._content):
                await super().__call__(scope, receive, send)
        finally:
            self._leave()


class Preview:
    """What answers the requests.

    Args:
        hub: holds the frames and the controls.
        scheme: of the keypoints.
    """

    def __init__(self, hub: Hub, scheme: KeypointScheme) -> None:
        self._hub = hub
        self._scheme = scheme_document(scheme)
        self._files = {path.name: path.read_bytes() for path in sorted(PAGE.iterdir()) if path.suffix in _TYPES}

    def app(self) -> Starlette:
        """The application."""
        files = [Route("/" if name == "page.html" else f"/{name}", self.file, name=name) for name in self._files]
        return Starlette(
            routes=[
                *files,
                Route("/events", self.events),
                Route("/frames/{number:int}.jpg", self.frame),
                Route("/stream.mjpg", self.stream),
                Route("/state", self.state),
                Route("/control", self.control, methods=["POST"]),
            ],
            exception_handlers={HTTPException: _told},
        )

    async def file(self, request: Request) -> Response:
        """A file of the page."""
        name = request.url.path.lstrip("/") or "page.html"
        return Response(self._files[name], media_type=_TYPES[Path(name).suffix])

    async def state(self, _request: Request) -> Response:
        """All that a page has to know before the first frame."""
        return Response(to_json(self._state()), media_type="application/json")

    def _state(self) -> dict[str, Any]:
        told = {
            "version": __version__,
            "source": self._hub.source,
            "viewers": self._hub.viewers,
            "limit": self._hub.limit,
        }
        return {**told, "scheme": self._scheme, **self._hub.state()}

    async def frame(self, request: Request) -> Response:
        """The picture that belongs to an event."""
        number = request.path_params["number"]
        picture = self._hub.picture(number, request.query_params.get("viewer", ""))
        if picture is None:
            raise HTTPException(404, f"picture {number} is gone: take the one of a newer event")
        return Response(picture.jpeg, media_type="image/jpeg")

    async def events(self, request: Request) -> Response:
        """Server-sent events: `state` when people changed something, `frame` for each frame, `alive` without either."""
        name = request.query_params.get("viewer", "")
        if name and not _NAME.fullmatch(name):
            raise HTTPException(400, "viewer: a name of at most 64 letters, digits and dashes")
        return self._streaming(request, self._events, "text/event-stream", name=name)

    async def stream(self, request: Request) -> Response:
        """The annotated picture as MJPEG, for `<img>`, players and curl."""
        return self._streaming(request, self._parts, f"multipart/x-mixed-replace; boundary={_BOUNDARY}", drawn=True)

    def _streaming(
        self, request: Request, content: Callable[[Viewer], AsyncGenerator[bytes, None]], kind: str, **how: Any
    ) -> Response:
        if request.method == "HEAD":
            return Response(headers={"Content-Type": kind})
        try:
            viewer = self._hub.join(**how)
        except TooManyViewersError:
            raise HTTPException(503, "too many are watching already", {"Retry-After": "5"}) from None
        return Stream(content(viewer), kind, lambda: self._hub.leave(viewer))

    async def _events(self, viewer: Viewer) -> AsyncGenerator[bytes, None]:
        told: dict[str, Any] = {}
        clock = asyncio.get_running_loop().time
        quiet_since = clock()
        while not self._hub.closed:
            state = self._hub.state()
            if state != told:
                told, quiet_since = state, clock()
                yield b"event: state\ndata: " + to_json(self._state()) + b"\n\n"
            picture = await viewer.wait()
            if picture is not None:
                quiet_since = clock()
                yield b"event: frame\ndata: " + picture.event + b"\n\n"
            elif clock() - quiet_since > _QUIET:
                quiet_since = clock()
                yield b"event: alive\ndata: {}\n\n"

    async def _parts(self, viewer: Viewer) -> AsyncGenerator[bytes, None]:
        part, clock = b"", asyncio.get_running_loop().time
        quiet_since = clock()
        yield f"--{_BOUNDARY}\r\n".encode()
        while not self._hub.closed:
            picture = await viewer.wait()
            if picture is not None:
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\n\r\n".encode()
                # The boundary follows at once: browsers show a part when they see its end.
                part = head + picture.jpeg + f"\r\n--{_BOUNDARY}\r\n".encode()
            elif not part or clock() - quiet_since < _QUIET:
                continue
            quiet_since = clock()
            yield part

    async def control(self, request: Request) -> Response:
        """Change something: all that is asked for, or, where any of it is wrong, nothing."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "send JSON, as application/json")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _BODY:
                raise HTTPException(413, f"at most {_BODY} bytes", {"Connection": "close"})
        try:
            wanted = json.loads(body)
        except (ValueError, RecursionError):
            raise HTTPException(400, "this is no JSON") from None
        if not isinstance(wanted, dict):
            raise HTTPException(400, 'send an object, such as {"paused": true}')
        self._change(wanted)
        self._hub.tell()
        return JSONResponse(self._hub.state())

    def _change(self, wanted: dict[str, Any]) -> None:
        controls = self._hub.controls
        known = asdict(controls.layers)
        for key, value in wanted.items():
            if key in ("paused", "snapshot"):
                _need(isinstance(value, bool), f"{key} is true or false")
            elif key == "threshold":
                number = isinstance(value, int | float) and not isinstance(value, bool)
                _need(number and 0 <= value <= 1, "threshold is a number from 0 to 1")
            elif key == "layers":
                _need(isinstance(value, dict), 'layers is an object, such as {"boxes": false}')
                for layer, shown in value.items():
                    _need(layer in known, f"no layer is called {layer[:40]!r}; there are {', '.join(known)}")
                    _need(isinstance(shown, bool), f"layers: {layer} is true or false")
            else:
                _need(False, f"{key[:40]!r} cannot be changed; paused, threshold, layers and snapshot can")
        for event, key in ((controls.paused, "paused"), (controls.snapshot, "snapshot")):
            if key in wanted:
                (event.set if wanted[key] else event.clear)()
        if "threshold" in wanted:
            controls.threshold = float(wanted["threshold"])
        if "layers" in wanted:
            controls.layers = replace(controls.layers, **wanted["layers"])


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise HTTPException(400, otherwise)


async def _told(_request: Request, problem: Exception) -> Response:
    """A refusal as JSON."""
    if not isinstance(problem, HTTPException):
        raise problem
    return JSONResponse({"error": problem.detail}, problem.status_code, problem.headers)
