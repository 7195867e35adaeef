"""The service as an ASGI application: read a photo, find its faces in a worker thread, answer with JSON."""

import asyncio
import contextlib
import math
import queue
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message

from kpedge.core.errors import ImageError
from kpedge.core.images import decode_image
from kpedge.runtime.face_model import FaceModel
from kpedge.runtime.pipeline import FacePipeline
from kpedge.runtime.service.limits import Limits, RateLimit
from kpedge.runtime.service.openapi import FLAGS, docs_page, openapi

PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
CLIENT_GONE = 499  # as nginx counts it; nobody sees the answer
BOOLEANS = {"true": True, "1": True, "": True, "false": False, "0": False}


class FaceService:
    """Answers requests as the ASGI application `app`; the models are loaded once for each worker thread."""

    def __init__(self, load: Callable[[], FacePipeline], limits: Limits | None = None) -> None:
        self.limits = limits = limits or Limits()
        self._rate = RateLimit(limits.rate)
        self._admitted, self._stopping = 0, False
        self._arriving: list[str] = []  # addresses whose photos are being received
        self._free = asyncio.Semaphore(limits.workers)
        self._idle: queue.SimpleQueue[FacePipeline] = queue.SimpleQueue()
        for _ in range(limits.workers):
            self._idle.put(pipeline := load())
        self._scheme = pipeline.predictor.model.card.scheme
        self._threads = ThreadPoolExecutor(limits.workers, "kpedge-worker")
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter("kpedge_requests", "Requests for predictions", ["status"], registry=self._registry)
        self._faces = Counter("kpedge_faces", "Faces found", registry=self._registry)
        self._seconds = Histogram("kpedge_request_seconds", "From request to response", registry=self._registry)
        Gauge("kpedge_requests_open", "Read, waiting or computed", registry=self._registry).set_function(
            lambda: self._admitted
        )
        self.app = Starlette(
            routes=[
                Route("/v1/predict", self._predict, methods=["POST"]),
                Route("/healthz", lambda _: JSONResponse({"status": "ok"})),
                Route("/metrics", self._metrics),
                Route("/openapi.json", lambda _: JSONResponse(openapi(self._scheme, limits))),
                Route("/", lambda _: HTMLResponse(docs_page(limits), headers={"Content-Security-Policy": PAGE_POLICY})),
            ],
            exception_handlers={HTTPException: _error_response, Exception: _error_response},
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self._threads.shutdown()

    def refuse_waiting(self) -> None:
        """Answer the requests that wait for a worker with 503: the service has to stop."""
        self._stopping = True

    def _metrics(self, _: Request) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def _predict(self, request: Request) -> Response:
        start, status = time.perf_counter(), 500
        try:
            document = await self._answer(request)
            status = 200
        except HTTPException as refused:
            status = refused.status_code
            raise
        finally:
            self._requests.labels(status).inc()
            self._seconds.observe(time.perf_counter() - start)
        self._faces.inc(len(document["faces"]))
        return JSONResponse(document)

    async def _answer(self, request: Request) -> dict[str, Any]:
        address = request.client.host if request.client else ""
        if wait := self._rate.wait_s(address):
            raise HTTPException(429, "too many requests from this address", {"Retry-After": str(math.ceil(wait))})
        # Slow clients of one address leave half of the places to others.
        if self._admitted >= self.limits.queue or self._arriving.count(address) >= max(1, self.limits.queue // 2):
            raise HTTPException(503, "too many requests at a time", {"Retry-After": "1"})
        given = {flag: request.query_params.get(flag, "false").lower() for flag in FLAGS}
        if wrong := next((flag for flag, text in given.items() if text not in BOOLEANS), None):
            raise HTTPException(400, f"{wrong}={given[wrong]}: give true or false")
        flags = {flag: BOOLEANS[text] for flag, text in given.items()}
        self._admitted += 1
        try:
            self._arriving.append(address)
            try:
                data, name = await asyncio.wait_for(_read_photo(request, self.limits.max_bytes), self.limits.body_s)
            finally:
                self._arriving.remove(address)
            find = asyncio.get_running_loop().run_in_executor
            async with self._free:
                if await request.is_disconnected():
                    raise HTTPException(CLIENT_GONE, "the client has gone")
                if self._stopping:
                    raise HTTPException(503, "the service is stopping", {"Retry-After": "1"})
                return await find(self._threads, self._find, data, request.query_params.get("name", name), flags)
        except TimeoutError:
            raise HTTPException(408, f"the photo took longer than {self.limits.body_s:g} s to arrive") from None
        except ClientDisconnect:
            raise HTTPException(400, "the connection was closed before the photo had arrived") from None
        except ImageError as error:
            if " pixels" in str(error):  # its advice is for whoever started the service
                raise HTTPException(413, str(error)) from None
            raise HTTPException(422, f"{error} — {error.advice}" if error.advice else str(error)) from None
        finally:
            self._admitted -= 1

    def _find(self, data: bytes, name: str, flags: dict[str, bool]) -> dict[str, Any]:
        """The document of a photo. Runs in a worker thread."""
        image = decode_image(data, name or "photo")
        if (pixels := image.shape[0] * image.shape[1]) > self.limits.max_pixels:
            raise ImageError(f"the photo has {pixels:,} pixels; {self.limits.max_pixels:,} are accepted")
        pipeline = self._idle.get()
        try:
            result = FaceModel(pipeline, pose=flags["pose"], features=flags["features"])(image)
        finally:
            self._idle.put(pipeline)
        return replace(result, image=name, names=self._scheme.points if flags["names"] else None).to_dict()


async def _read_photo(request: Request, most: int) -> tuple[bytes, str]:
    """The photo of a request, a body or a form's first file, and its name if it has one."""
    too_large = HTTPException(413, f"the photo is too large: {most:,} bytes are accepted")
    read = 0

    async def receive() -> Message:
        nonlocal read
        message = await request.receive()
        read += len(message.get("body", b""))
        if read > most:
            raise too_large
        return message

    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise too_large
    limited = Request(request.scope, receive)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        data, name = await limited.body(), ""
    else:
        async with limited.form(max_files=1, max_fields=8) as form:
            photo = next((value for _, value in form.multi_items() if isinstance(value, UploadFile)), None)
            if photo is None:
                raise HTTPException(400, "the form has no file: send it as photo=@FILE")
            data, name = await photo.read(), photo.filename or ""
    if not data:
        raise HTTPException(400, "the photo is empty: send its bytes as the body, or a form with a file")
    return data, name


async def _error_response(request: Request, error: Exception) -> Response:
    """Any error as JSON, in one line; one that nobody foresaw without its details, which the log has."""
    if not isinstance(error, HTTPException):
        return JSONResponse({"error": "internal error: see the service's log"}, 500)
    message, _, advice = error.detail.partition(" — ")
    if error.status_code == 405:
        address, allowed = request.url.replace(query=""), (error.headers or {}).get("Allow", "")
        message = f"{request.method} is not allowed here"
        advice = f"post a photo: curl --data-binary @photo.jpg {address}" if allowed == "POST" else f"use {allowed}"
    return JSONResponse(
        {"error": message} | ({"advice": advice} if advice else {}), error.status_code, dict(error.headers or {})
    )
