"""What the service accepts: sizes, how many requests at a time, and how many per second from one address."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

ADDRESSES = 10_000  # addresses that a rate limit remembers


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service accepts."""

    max_bytes: int = 10_000_000  # of a request's body
    max_pixels: int = 50_000_000  # of a photo
    queue: int = 64  # requests that are read, waiting or computed at a time; more get status 503
    rate: float = 50.0  # requests per second from one address, and how many may come at once; 0 for any number
    workers: int = 1  # photos that are computed at a time, each in a thread with models of its own
    body_s: float = 15.0  # seconds that a client may take to send a body


class RateLimit:
    """A token bucket for each address: `rate` requests per second, 0 for any number, and as many at once."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Count a request: 0 if it may pass, otherwise the seconds after which the next one may."""
        if not self._rate:
            return 0.0
        most, now = max(1.0, self._rate), self._clock()
        tokens, last = self._buckets.pop(address, (most, now))
        tokens = min(most, tokens + (now - last) * self._rate)
        passes = tokens >= 1
        self._buckets[address] = (tokens - passes, now)
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        return 0.0 if passes else (1 - tokens) / self._rate
