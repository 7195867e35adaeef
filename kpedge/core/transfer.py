"""Reading from servers that may be slow."""

import time
from collections.abc import Callable, Iterator

MIN_RATE = 1000  # bytes per second: what is slower on average counts as stalled, as with `curl --speed-limit`


def read_blocks(read: Callable[[int], bytes], size: int, window_s: float) -> Iterator[bytes]:
    """What `read`, which returns what has arrived (up to `size` bytes), gives until there is no more.

    Raises:
        TimeoutError: for `window_s` seconds fewer than `MIN_RATE` bytes per second arrived.
    """
    start, count = time.monotonic(), 0
    while block := read(size):
        yield block
        count += len(block)
        elapsed = time.monotonic() - start
        if elapsed >= window_s:
            if count < MIN_RATE * elapsed:
                raise TimeoutError(f"less than {MIN_RATE:,} bytes per second for {window_s:g} s")
            start, count = time.monotonic(), 0
