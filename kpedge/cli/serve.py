"""`kpedge serve`: faces and keypoints as an HTTP service for programs."""

from __future__ import annotations

import os
import socket
from typing import Annotated

import typer

from kpedge import PIXEL_LIMIT
from kpedge.cli import output
from kpedge.cli.options import (
    Backend,
    ExportedDetector,
    ExportedModel,
    Licence,
    Provider,
    Threads,
    examples,
    panel,
    runtime_option,
)
from kpedge.core.extras import EXTRAS, importable
from kpedge.core.model_zoo import ANY, DEFAULT_DETECTOR, DEFAULT_MODEL, licensed
from kpedge.runtime.service.limits import Limits

limits_option = panel("Limits")
DEFAULTS = Limits()
CONNECTIONS = 500  # open at a time; for more, the oldest idle one is closed
GRACE_S = 30  # seconds after which a service that is stopped ends, whatever is in flight
REFUSE_S = 15  # seconds after which it refuses the requests that still wait


app = typer.Typer()


@app.command(
    epilog=examples(
        "kpedge serve",
        "kpedge serve --host 0.0.0.0 --port 8080 --workers 4",
        "kpedge serve --rate 0 --max-bytes 30000000",
        "curl --data-binary @photo.jpg http://127.0.0.1:8000/v1/predict",
    )
)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")] = 8000,
    model: ExportedModel = DEFAULT_MODEL,
    detector: ExportedDetector = DEFAULT_DETECTOR,
    max_side: Annotated[
        int | None,
        typer.Option(
            help="Longer side in pixels at which photos are searched. (default: the detector's)", metavar="PX"
        ),
    ] = None,
    max_bytes: Annotated[
        int, limits_option(min=1, help="Bytes of the largest request.", metavar="N")
    ] = DEFAULTS.max_bytes,
    max_pixels: Annotated[
        int, limits_option(min=1, help="Pixels of the largest photo.", metavar="N")
    ] = DEFAULTS.max_pixels,
    queue: Annotated[
        int,
        limits_option(min=1, help="Requests at a time; more are answered with 503.", metavar="N"),
    ] = DEFAULTS.queue,
    rate: Annotated[
        float,
        limits_option(min=0, help="Requests per second from one address, then 429; 0 for any number.", metavar="N"),
    ] = DEFAULTS.rate,
    workers: Annotated[
        int, runtime_option(min=1, help="Photos at a time, each in a thread.", metavar="N")
    ] = DEFAULTS.workers,
    licence: Licence = ANY,
    threads: Threads = 1,
    provider: Provider = "cpu",
    backend: Backend = "auto",
) -> None:
    """Find faces and keypoints for programs over HTTP: POST a photo to /v1/predict, get the JSON of `kpedge predict`.

    / shows a short documentation, /openapi.json the interface; /healthz and /metrics are for monitoring. SIGTERM and
    Ctrl-C stop it when the requests in flight have ended, within half a minute. There is no authentication: only this
    machine can reach it, unless --host says otherwise.
    """
    given = os.environ[PIXEL_LIMIT]
    os.environ[PIXEL_LIMIT] = str(min(max_pixels, int(given) if given.isdecimal() else max_pixels))  # before OpenCV
    import asyncio
    import logging
    import signal

    for module in EXTRAS["serve"]:
        importable(module, "serve")
    import uvicorn

    from kpedge.runtime.pipeline import FacePipeline
    from kpedge.runtime.server.address import Address, bind, reachable_host
    from kpedge.runtime.service.app import FaceService
    from kpedge.runtime.service.connections import Connection

    def load() -> FacePipeline:
        names = licensed(model, licence), licensed(detector, licence)
        return FacePipeline(*names, max_side=max_side, threads=threads, provider=provider, backend=backend)

    limits = Limits(max_bytes=max_bytes, max_pixels=max_pixels, queue=queue, rate=rate, workers=workers)
    service = FaceService(load, limits)

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            asyncio.get_running_loop().call_later(REFUSE_S, service.refuse_waiting)
            await super().shutdown(sockets)

    logging.disable(logging.WARNING)  # a line for each request that is refused would fill the disk
    address = Address(host, port)
    with bind(address, "--host") as listener:
        config = uvicorn.Config(
            service.app,
            http=Connection,
            ws="none",
            log_level="error",
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GRACE_S,
        )
        output.say(f"listening on http://{reachable_host(host)}:{listener.getsockname()[1]}/")
        if not address.loopback:
            output.say("note: all who reach this address can use it; put a proxy in front that authenticates them")
        # uvicorn raises the signal that stopped it again, once all requests have ended; that would be the exit code.
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, lambda *_: None)
        Server(config).run(sockets=[listener])
