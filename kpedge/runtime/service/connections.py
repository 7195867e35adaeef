"""HTTP connections that cannot lock others out: uvicorn keeps those that send no request for as long as they like."""

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0  # seconds in which a client has to send the head of a request


class Connection(H11Protocol):
    """A connection that is closed if no request arrives, and first when there are too many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close the oldest idle connection if there are too many, and watch this one."""
        super().connection_made(transport)
        self._since, self._last = time.monotonic(), self.cycle
        if self.limit_concurrency and len(self.connections) >= self.limit_concurrency:
            idle = (one for one in self.connections if isinstance(one, Connection) and one is not self and one.is_idle)
            if (oldest := min(idle, key=lambda one: one._since, default=None)) is not None:
                self.connections.discard(oldest)
                oldest.transport.close()
        self.loop.call_later(HEAD_S, self._close_idle)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being read or answered."""
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def _close_idle(self) -> None:
        if self.is_idle and self.cycle is self._last:
            self.transport.close()
        elif not self.transport.is_closing():
            self._last = self.cycle
            self.loop.call_later(HEAD_S, self._close_idle)
