"""What a screen shows, by mss: video calls, players and games."""

import re
from typing import Any

import numpy as np

from kpedge.core.errors import SourceError
from kpedge.core.extras import importable
from kpedge.core.geometry import Image
from kpedge.runtime.sources.live import LiveSource
from kpedge.runtime.sources.polled import PolledReader
from kpedge.runtime.sources.reader import Reader
from kpedge.runtime.sources.source import Source, SourceKind, SourceRequest

RATE = 15.0  # images per second unless the user asks for another rate
SYNTAX = re.compile(r"screen(?::(\d+)(?:@(\d+),(\d+),(\d+),(\d+))?)?")


def _open(request: SourceRequest) -> Source:
    """A screen, or a part of it."""
    mss: Any = importable("mss", "screen")
    number, *region = SYNTAX.fullmatch(request.text).groups()  # type: ignore[union-attr]

    def connect() -> Reader:  # in the thread that reads: mss belongs to one
        try:
            screens = mss.MSS() if hasattr(mss, "MSS") else mss.mss()
            found = screens.monitors
        except Exception as error:  # of each system's own kinds
            raise SourceError(f"{request.text}: no screen can be read: {error}", "is a desktop running?") from error
        index = int(number or 1)
        if not 0 < index < len(found):
            raise SourceError(f"{request.text}: there is no such screen", f"screens: 1 to {len(found) - 1}")
        area = found[index]
        if region[0]:
            x, y, width, height = map(int, region)
            area = {"left": area["left"] + x, "top": area["top"] + y, "width": width, "height": height}

        def take() -> Image:
            return np.ascontiguousarray(np.asarray(screens.grab(area))[..., :3])

        return PolledReader(take, request.rate or RATE, codec="screen", release=screens.close)

    return LiveSource(request.text, connect, notify=request.notify, retry=request.retry)


SCREEN = SourceKind(
    "a screen",
    "`screen`, `screen:2`, `screen:1@X,Y,W,H`",
    "what a screen, or a rectangle of it, shows, at `--rate` (15); extra `screen`",
    frozenset({"rate"}),
    lambda request: SYNTAX.fullmatch(request.text) is not None and not request.path.exists(),
    _open,
)
