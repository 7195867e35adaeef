"""What a viewer is sent of a frame: a JPEG of a size for previews, and a JSON document."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np

from kpedge.core.drawing import part_colours
from kpedge.core.geometry import Image
from kpedge.core.scheme import KeypointScheme
from kpedge.runtime.sinks.sink import Controls, LiveFrame

SIDE = 960
"""Longer side of a preview, pixels; what is larger is shrunk."""
QUALITY = 80
"""Of JPEG, as OpenCV counts it."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A frame, ready to be sent. It does not hold the frame itself, which is large.

    Attributes:
        number: of the frame among those that were published, from 1.
        jpeg: its picture.
        event: its document as JSON; empty where the faces are drawn into the picture.
    """

    number: int
    jpeg: bytes
    event: bytes


def shrink(image: Image, side: int = SIDE) -> Image:
    """An image whose longer side is at most `side` pixels, uint8 (H, W, 3); itself where it is small enough."""
    height, width = image.shape[:2]
    longer = max(height, width)
    if longer <= side:
        return image
    # Averaging is fast by whole numbers only, and needed only where bilinear sampling would skip pixels.
    whole = longer // side
    if whole > 1:
        size = max(1, width // whole), max(1, height // whole)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    size = max(1, round(width * side / longer)), max(1, round(height * side / longer))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def encode(live: LiveFrame, *, drawn: bool) -> tuple[bytes, tuple[int, int]]:
    """A frame as a JPEG, plain or with its faces drawn in, and the picture's width and height in pixels."""
    small = shrink(live.drawn() if drawn else live.frame.image)
    data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return np.asarray(data).tobytes(), (small.shape[1], small.shape[0])


@dataclass(slots=True)
class CpuMeter:
    """How much of one processor core this process uses.

    Attributes:
        interval: seconds over which it is averaged.
        clock: wall time, seconds.
        used: processor time of the process, seconds.
    """

    interval: float = 1.0
    clock: Callable[[], float] = time.monotonic
    used: Callable[[], float] = time.process_time
    _since: tuple[float, float] = field(init=False)
    _percent: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._since = self.clock(), self.used()

    def percent(self) -> float | None:
        """Of a core, over the last interval that is complete; above 100 where several work; None in the first."""
        now, used = self.clock(), self.used()
        if now - self._since[0] >= self.interval:
            self._percent = round(100 * (used - self._since[1]) / (now - self._since[0]), 1)
            self._since = now, used
        return self._percent


def state_document(controls: Controls) -> dict[str, Any]:
    """What people may change, as it is now."""
    return {
        "paused": controls.paused.is_set(),
        "threshold": round(controls.threshold, 3),
        "layers": asdict(controls.layers),
        "snapshot": controls.snapshot.is_set(),
    }


def scheme_document(scheme: KeypointScheme) -> dict[str, Any]:
    """A keypoint scheme, with the colour of each part as a page writes it."""
    colours = {part: f"#{red:02x}{green:02x}{blue:02x}" for part, (blue, green, red) in part_colours(scheme).items()}
    return scheme.to_dict() | {"colours": colours}


def frame_document(
    live: LiveFrame, number: int, preview: tuple[int, int], state: Mapping[str, Any], cpu: float | None
) -> dict[str, Any]:
    """The event of a frame: the document that `--json` gives, in pixels of the frame, and what the page shows beside.

    Args:
        live: the frame.
        number: of its picture.
        preview: width and height of its picture, pixels.
        state: as `state_document` gives it.
        cpu: percent of a core.
    """
    height, width = live.frame.image.shape[:2]
    return {
        **live.to_dict(),
        "picture": number,
        "size": [width, height],
        "preview": list(preview),
        "source": live.source,
        "rate": round(live.rate, 2),
        "steps_ms": {step: round(seconds * 1000, 3) for step, seconds in live.steps.items()},
        "cpu": cpu,
        **state,
    }


def to_json(document: Mapping[str, Any]) -> bytes:
    """A document as one line of JSON. JSON has no NaN: such a number becomes null."""
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_without_nan(document), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
