"""The output `--serve`: a preview in the browser, served from a thread of its own."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kpedge.core.errors import OutputError
from kpedge.core.extras import importable
from kpedge.core.scheme import KeypointScheme
from kpedge.runtime.server.address import Address, listen, reachable_host
from kpedge.runtime.server.hub import VIEWERS, Hub
from kpedge.runtime.sinks.sink import Controls, LiveFrame

if TYPE_CHECKING:
    import uvicorn

EXTRA = "serve"
_CONNECTIONS = 6 * VIEWERS
"""What browsers open at most, each."""
_GOODBYE = 0.1
"""Seconds in which streams may end by themselves when the server closes."""


_NICE = 10
"""How far encoding stands back behind the pipeline, as `nice` counts it."""


def _ignore(_line: str) -> None:
    pass


class ServeSink:
    """Shows frames in browsers. It never keeps the pipeline waiting.

    Attributes:
        url: what to open in a browser, with the token where one is needed.
        hub: holds the frames.
    """

    def __init__(
        self,
        address: Address,
        controls: Controls,
        scheme: KeypointScheme,
        token: str | None = None,
        say: Callable[[str], None] = _ignore,
    ) -> None:
        """Start to listen.

        Args:
            address: where; anything but loopback needs a token.
            controls: what the page may change.
            scheme: of the keypoints.
            token: what browsers have to show; made where one is needed and none is given.
            say: told the URL.

        Raises:
            MissingExtraError: the extra `serve` is not installed.
            UsageError: a token that cannot be used.
            OutputError: cannot listen there.
        """
        importable("starlette", EXTRA)
        uvicorn = importable("uvicorn", EXTRA)
        from kpedge.runtime.server.access import Guard, check_token, new_token
        from kpedge.runtime.server.app import Preview

        if token is not None:
            check_token(token)
        elif not address.loopback:
            token = new_token()
        self.hub = Hub(controls)
        self._socket = listen(address)
        port = self._socket.getsockname()[1]
        where = reachable_host(address.host)
        self.url = f"http://{where}:{port}/" + (f"?token={token}" if token else "")
        app = Guard(Preview(self.hub, scheme).app(), token=token, loopback=address.loopback, port=port)
        self._server = _server(uvicorn, app, self.hub)
        self._thread = threading.Thread(target=self._run, name="kpedge-serve", daemon=True)
        self._thread.start()
        say(f"preview: {self.url}")

    def show(self, live: LiveFrame) -> None:
        """Leave a frame for those who watch.

        Raises:
            OutputError: the server has stopped.
        """
        if not self._thread.is_alive():
            raise OutputError("the preview's server has stopped", "start again; the other outputs are not concerned")
        self.hub.publish(live)

    def close(self) -> None:
        """Send everybody home and free the port; may be called more than once."""
        self.hub.close()
        self._server.should_exit = True
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self.hub.run(self._serve))
        finally:
            self._socket.close()

    async def _serve(self) -> None:
        # One worker: pictures are encoded one after the other, on one core at most.
        worker = ThreadPoolExecutor(1, "kpedge-serve-encode", initializer=_give_way)
        asyncio.get_running_loop().set_default_executor(worker)
        await self._server.serve(sockets=[self._socket])


def _give_way() -> None:
    """Let this thread run when the pipeline leaves a processor free; elsewhere than on Linux that is for processes."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _server(module: ModuleType, app: Any, hub: Hub) -> uvicorn.Server:
    class Server(module.Server):  # type: ignore[misc, name-defined]
        """Closes although browsers are connected."""

        async def shutdown(self, sockets: Any = None) -> None:
            """End all streams, then what is left of the connections, then the server."""
            hub.close()
            await asyncio.sleep(_GOODBYE)
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            await super().shutdown(sockets)

    config = module.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="error",
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=2,
    )
    server: uvicorn.Server = Server(config)
    return server
