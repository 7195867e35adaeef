"""Sources that are asked for one image after the other: addresses of snapshots, screens, cameras by other libraries."""

import threading
import time
from collections.abc import Callable

from kpedge.core.geometry import Image
from kpedge.runtime.sources.reader import Reader


class PolledReader(Reader):
    """Images that a function gives, uint8 (H, W, 3), blue-green-red, None if there is none now: at most `rate` a
    second, or as fast as it returns. `release` is called once at the end.
    """

    arrival = True

    def __init__(
        self,
        take: Callable[[], Image | None],
        rate: float | None = None,
        *,
        codec: str = "",
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self.rate, self.codec = rate, codec
        self._take, self._release, self._closed = take, release, threading.Event()
        self._due_s = time.monotonic()
        self._image: Image | None = None

    def grab(self) -> bool:
        if self.rate:
            if self._closed.wait(max(0.0, self._due_s - time.monotonic())):
                return False
            self._due_s = max(self._due_s + 1 / self.rate, time.monotonic())
        try:
            self._image, self.time_s = self._take(), time.monotonic()
        except Exception:  # noqa: BLE001 (each library has kinds of its own; several in a row count as a loss)
            return False
        return self._image is not None

    def image(self) -> Image | None:
        return self._image

    def interrupt(self) -> None:
        self._closed.set()

    def close(self) -> None:
        self._closed.set()
        release, self._release = self._release, lambda: None
        release()
