"""A camera that offers one image at an address, which is polled: many IP cameras, doorbells and weather cameras do."""

from pathlib import PurePosixPath
from urllib.parse import urlsplit

from kpedge.core.errors import ImageError, SourceError
from kpedge.core.geometry import Image
from kpedge.core.images import MAX_BYTES, SUFFIXES, decode_image
from kpedge.runtime.sources.addresses import open_address, read_answer, scheme_of
from kpedge.runtime.sources.live import LiveSource, RetryPolicy
from kpedge.runtime.sources.polled import PolledReader
from kpedge.runtime.sources.reader import Reader
from kpedge.runtime.sources.source import Source, SourceKind, SourceRequest

RATE = 1.0  # images per second unless the user asks for another rate


def _matches(request: SourceRequest) -> bool:
    if scheme_of(request.text) not in ("http", "https"):
        return False
    return request.rate is not None or PurePosixPath(urlsplit(request.text).path).suffix.lower() in SUFFIXES


def _open(request: SourceRequest) -> Source:
    """The images at an address."""
    policy = request.retry or RetryPolicy()

    def fetch() -> Image:
        with open_address(request.text, policy.stall_s) as answer:
            return decode_image(read_answer(answer, MAX_BYTES, policy.stall_s), request.name)

    def connect() -> Reader:
        try:
            fetch()
        except ImageError as error:
            raise SourceError(str(error), error.advice) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise SourceError(
                f"{request.name}: cannot be read: {reason}", "check the address and the network"
            ) from None
        return PolledReader(fetch, request.rate or RATE, codec="snapshots")

    return LiveSource(request.name, connect, notify=request.notify, retry=policy)


SNAPSHOT = SourceKind(
    "a snapshot's address",
    "`http://…/image.jpg`",
    "one image, read again `--rate` times per second (1); with `--rate` any `http` or `https` address is taken so",
    frozenset({"rate"}),
    _matches,
    _open,
)
