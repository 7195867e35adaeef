"""A Raspberry Pi's camera by picamera2: OpenCV cannot open what libcamera drives."""

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

SYNTAX = re.compile(r"picamera(?::(\d+))?")
SIZE = (640, 480)  # width and height unless the user asks for others


def _open(request: SourceRequest) -> Source:
    """A camera by its number, 0 by default."""
    library: Any = importable("picamera2", "picamera")
    number = int(SYNTAX.fullmatch(request.text)[1] or 0)  # type: ignore[index]

    def connect() -> Reader:
        camera = None
        try:
            camera = library.Picamera2(number)
            controls = {"FrameRate": request.rate} if request.rate else {}
            # What libcamera calls RGB888 has blue first in memory, as OpenCV.
            main = {"size": request.size or SIZE, "format": "RGB888"}
            camera.configure(camera.create_video_configuration(main=main, controls=controls))
            camera.start()
        except (RuntimeError, IndexError, OSError) as error:
            if camera is not None:
                camera.close()  # else it is busy at the next attempt
            advice = "rpicam-hello --list-cameras shows them; close other programs that use it"
            raise SourceError(f"{request.text}: cannot be opened: {error}", advice) from error

        def take() -> Image:
            return np.ascontiguousarray(camera.capture_array("main")[..., :3], dtype=np.uint8)

        def release() -> None:
            camera.stop()
            camera.close()

        return PolledReader(take, codec="libcamera", release=release)

    return LiveSource(request.text, connect, notify=request.notify, retry=request.retry)


PICAMERA = SourceKind(
    "a Raspberry Pi camera",
    "`picamera`, `picamera:1`",
    "a camera on a Raspberry Pi's ribbon cable, by picamera2; `--size` and `--rate` are requests",
    frozenset({"size", "rate"}),
    lambda request: SYNTAX.fullmatch(request.text) is not None and not request.path.exists(),
    _open,
)
