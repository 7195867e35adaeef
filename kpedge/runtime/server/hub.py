"""Between a pipeline that never waits and viewers that take the newest frame when they are ready for it.

The pipeline's thread only leaves a frame here. All else happens in the server's event loop and its one worker thread: a
frame is encoded when a viewer asks for it, once for all of them, and not at all while nobody watches.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from kpedge.runtime.server.picture import CpuMeter, Picture, encode, frame_document, state_document, to_json
from kpedge.runtime.sinks.sink import Controls, LiveFrame

VIEWERS = 32
"""At most so many watch at a time."""
KEPT = 64
"""Encoded pictures that are kept for browsers that still have to fetch them: two seconds at 30 a second."""
BUDGET = 120.0
"""Frames a second that all viewers together are sent: it bounds what the server takes from the pipeline's processor."""
IN_FLIGHT = 3
"""Events that a browser may be behind with before it is sent no more: it bounds how old a frame a slow one shows."""
PATIENCE = 2.0
"""Seconds after which a browser that fetched no picture is sent an event all the same."""
TICK = 1.0
"""Seconds after which a viewer without news looks around: for changes of the controls, and to show that it is there."""
LOOK = 0.01
"""Seconds between two looks for a new frame, while somebody watches."""
Encode = Callable[..., tuple[bytes, tuple[int, int]]]


class TooManyViewersError(Exception):
    """Another viewer has to leave first."""


class Viewer:
    """Somebody who watches; used in the event loop only.

    Attributes:
        drawn: wants the picture with its faces drawn in.
        seen: number of the last frame that was taken.
    """

    def __init__(self, hub: Hub, *, drawn: bool, paced: bool) -> None:
        self.drawn = drawn
        self.seen = 0
        self.news = asyncio.Event()
        self._hub, self._paced = hub, paced
        self._unfetched: deque[int] = deque()
        self._last = self._due = float("-inf")

    def fetched(self, number: int) -> None:
        """The picture of this frame was asked for: all events up to it have arrived."""
        while self._unfetched and self._unfetched[0] <= number:
            self._unfetched.popleft()
        self.news.set()

    async def wait(self) -> Picture | None:
        """The newest frame that this viewer has not taken yet; None when there is none, but something may have changed.

        It returns after a tick at the latest, and at once when the hub closes.
        """
        loop = asyncio.get_running_loop()
        early = min(self._due - loop.time(), TICK)
        if early > 0 and not self._hub.closed:
            await asyncio.sleep(early)
        self.news.clear()
        if not self._ready(loop.time()) and not self._hub.closed:
            await self.news.wait()
        if not self._ready(loop.time()):
            return None
        picture = await self._hub.take(after=self.seen, drawn=self.drawn)
        self.seen, self._last = picture.number, loop.time()
        # Counted from when it was due, not from when it was sent: a viewer may catch up what jitter made it lose.
        gap = self._hub.viewers / self._hub.budget
        self._due = max(self._due, self._last - gap) + gap
        if self._paced:
            self._unfetched.append(picture.number)
        return picture

    def _ready(self, now: float) -> bool:
        if self._unfetched and now - self._last > PATIENCE:
            self._unfetched.clear()
        return not self._hub.closed and self._hub.newest > self.seen and len(self._unfetched) < IN_FLIGHT


class Hub:
    """Holds the newest frame, and encodes it for those who watch.

    `publish` and `close` may be called from any thread, all else from the server's event loop only.

    Args:
        controls: what people may change; each event tells how it stands.
        limit: how many may watch at a time.
        budget: frames a second that all viewers together are sent.
        encode: makes the picture of a frame, and tells its size.
    """

    def __init__(
        self,
        controls: Controls,
        *,
        limit: int = VIEWERS,
        budget: float = BUDGET,
        encode: Encode = encode,
    ) -> None:
        self.controls = controls
        self.budget, self.limit = budget, limit
        self._encode = encode
        self._lock = threading.Lock()
        self._latest: tuple[int, LiveFrame] | None = None
        self._closed = False
        self._watched = asyncio.Event()
        self._viewers: list[Viewer] = []
        self._named: dict[str, Viewer] = {}
        self._kept: OrderedDict[int, Picture] = OrderedDict()
        self._encoding: dict[bool, tuple[int, asyncio.Task[Picture]]] = {}
        self._cpu = CpuMeter()
        self._told: dict[str, Any] = {}
        self._revision = 0

    def publish(self, live: LiveFrame) -> None:
        """Leave the newest frame; it takes the place of the one before, whether that was looked at or not."""
        with self._lock:
            self._latest = (self.newest + 1, live)

    def close(self) -> None:
        """Send everybody home."""
        self._closed = True

    def tell(self) -> None:
        """Let every viewer look what has changed."""
        for viewer in self._viewers:
            viewer.news.set()

    @property
    def newest(self) -> int:
        """Number of the newest frame; 0 before the first."""
        return self._latest[0] if self._latest else 0

    @property
    def source(self) -> str | None:
        """What the user called the source; None before the first frame."""
        return self._latest[1].source if self._latest else None

    @property
    def viewers(self) -> int:
        """How many watch."""
        return len(self._viewers)

    @property
    def closed(self) -> bool:
        """Whether everybody has been sent home."""
        return self._closed

    async def run(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Work in this event loop while a server runs in it."""
        looking = asyncio.ensure_future(self._look())
        try:
            await serve()
        finally:
            looking.cancel()

    async def _look(self) -> None:
        """Tell the viewers of news. The pipeline does not wake this loop: on a busy processor the loop would then run
        in its place, in the middle of a frame.
        """
        told, quiet = 0, 0.0
        while True:
            await self._watched.wait()
            await asyncio.sleep(LOOK)
            quiet += LOOK
            if self.newest != told or self._closed or quiet >= TICK:
                told, quiet = self.newest, 0.0
                self.tell()

    def join(self, *, drawn: bool = False, name: str = "") -> Viewer:
        """Watch from now on, until `leave`.

        Args:
            drawn: take pictures with the faces drawn in; they are not kept.
            name: under which the viewer says which pictures it fetched; without one it is sent all it can take.

        Raises:
            TooManyViewersError: there are as many as may be.
        """
        if len(self._viewers) >= self.limit:
            raise TooManyViewersError
        viewer = Viewer(self, drawn=drawn, paced=bool(name))
        self._viewers.append(viewer)
        self._watched.set()
        if name:
            self._named[name] = viewer
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Watch no more. When nobody does, the pictures are let go of."""
        if viewer in self._viewers:
            self._viewers.remove(viewer)
        if not self._viewers:
            self._watched.clear()
        self._named = {name: one for name, one in self._named.items() if one is not viewer}
        if all(one.drawn for one in self._viewers):
            self._kept.clear()
            if False in self._encoding and self._encoding[False][1].done():
                del self._encoding[False]  # or the next to join would be told of a picture that is gone

    def picture(self, number: int, name: str = "") -> Picture | None:
        """The plain picture of a frame of which somebody was told; None when it is gone.

        Args:
            number: of the frame.
            name: of the viewer who asks.
        """
        if name in self._named:
            self._named[name].fetched(number)
        return self._kept.get(number)

    def state(self) -> dict[str, Any]:
        """What people may change, as it is now. `revision` grows with each change: it tells the newer of two states."""
        now = state_document(self.controls)
        if now != self._told:
            self._told, self._revision = now, self._revision + 1
        return now | {"revision": self._revision}

    async def take(self, *, after: int, drawn: bool) -> Picture:
        """The picture of the newest frame, or of the one that is being encoded when that is newer than `after`.

        Raises:
            LookupError: no frame was published yet.
        """
        if self._latest is None:
            raise LookupError("no frame was published yet")
        number, live = self._latest
        begun = self._encoding.get(drawn)
        if begun is None or (begun[0] < number and (begun[1].done() or begun[0] <= after)):
            begun = number, asyncio.ensure_future(self._prepare(number, live, drawn=drawn))
            self._encoding[drawn] = begun
        # Others wait for the same task: a viewer who leaves must not cancel it.
        return await asyncio.shield(begun[1])

    async def _prepare(self, number: int, live: LiveFrame, *, drawn: bool) -> Picture:
        work = partial(self._encode, live, drawn=drawn)
        jpeg, size = await asyncio.get_running_loop().run_in_executor(None, work)
        if drawn:
            return Picture(number, jpeg, b"")
        event = to_json(frame_document(live, number, size, self.state(), self._cpu.percent()))
        picture = self._kept[number] = Picture(number, jpeg, event)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return picture
