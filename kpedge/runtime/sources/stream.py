"""Network streams and videos on servers: by PyAV where it is installed, else by OpenCV."""

from collections.abc import Iterator

from kpedge.core.errors import UsageError
from kpedge.runtime.sources.addresses import SCHEMES, scheme_of
from kpedge.runtime.sources.live import LiveSource, RetryPolicy
from kpedge.runtime.sources.paced import PacedSource
from kpedge.runtime.sources.reader import Reader
from kpedge.runtime.sources.source import Source, SourceKind, SourceRequest
from kpedge.runtime.sources.video import has_pyav

ATTEMPTS = 10  # attempts to reconnect, about a minute's, before a stream counts as gone


def _open(request: SourceRequest) -> Source:
    """A stream, or a video with an end, which shows once it is open."""
    if scheme_of(request.text) not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise UsageError(f"{request.name}: not a protocol for streams", f"use one of {known}")
    policy = request.retry or RetryPolicy(attempts=ATTEMPTS)

    def connect() -> Reader:
        if has_pyav():
            from kpedge.runtime.sources import pyav

            return pyav.open_address(request.text, policy.stall_s, request.notify)
        from kpedge.runtime.sources import opencv

        return opencv.open_address(request.text, policy.stall_s)

    first = connect()
    if scheme_of(request.text) in ("http", "https") and first.declared_s is not None:
        return PacedSource(request.name, first, realtime=request.realtime, notify=request.notify)
    opened: Iterator[Reader] = iter([first])
    return LiveSource(
        request.name,
        lambda: next(opened, None) or connect(),
        notify=request.notify,
        retry=policy,
        silent_advice="check the address in another player, and the network",
    )


STREAM = SourceKind(
    "a stream",
    "`rtsp://…`, `http://…`",
    "a stream, or a video on a server. Passwords in addresses are never printed",
    frozenset({"realtime"}),
    lambda request: bool(scheme_of(request.text)),
    _open,
)
