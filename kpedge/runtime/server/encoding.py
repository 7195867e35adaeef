"""What a browser is sent of a frame: a JPEG of preview size, and a JSON document."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np

from kpedge.core.geometry import Image
from kpedge.runtime.overlay import Layers
from kpedge.runtime.sinks.sink import Controls, LiveFrame

SIDE = 960  # longer side of a preview at most, pixels
QUALITY = 80  # JPEG quality, 0 to 100


def shrink(image: Image, side: int = SIDE) -> Image:
    """Scale an image, uint8 (H, W, 3), down to a longer side of at most `side` pixels."""
    height, width = image.shape[:2]
    longer = max(height, width)
    if longer <= side:
        return image
    # Averaging is fast for whole factors only, and needed only where bilinear sampling would skip pixels.
    whole = longer // side
    if whole > 1:
        size = max(1, width // whole), max(1, height // whole)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    size = max(1, round(width * side / longer)), max(1, round(height * side / longer))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def encode(live: LiveFrame, layers: Layers) -> bytes:
    """The annotated frame as a JPEG."""
    data = cv2.imencode(".jpg", shrink(live.drawn(layers)), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return np.asarray(data).tobytes()


@dataclass(slots=True)
class CpuMeter:
    """Processor time of this process, in percent of one core."""

    interval: float = 1.0  # seconds over which it is averaged
    clock: Callable[[], float] = time.monotonic  # wall time, seconds
    used: Callable[[], float] = time.process_time  # processor time of the process, seconds
    _since: tuple[float, float] = field(init=False)
    _percent: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._since = self.clock(), self.used()

    def percent(self) -> float | None:
        """Over the last complete interval; above 100 if several cores work; None in the first interval."""
        now, used = self.clock(), self.used()
        if now - self._since[0] >= self.interval:
            self._percent = round(100 * (used - self._since[1]) / (now - self._since[0]), 1)
            self._since = now, used
        return self._percent


def state_document(controls: Controls) -> dict[str, Any]:
    """The state of the controls."""
    return {
        "paused": controls.paused.is_set(),
        "threshold": round(controls.threshold, 3),
        "layers": asdict(controls.layers),
        "snapshot": controls.snapshot.is_set(),
    }


def event_json(live: LiveFrame, cpu: float | None, state: Mapping[str, Any]) -> bytes:
    """The document of `--json` for a frame, in its pixels, with the figures (`cpu` in percent of a core) and controls
    of the page.
    """
    document = {
        **live.to_dict(),
        "source": live.source,
        "rate": round(live.rate, 2),
        "steps_ms": {step: round(seconds * 1000, 3) for step, seconds in live.steps.items()},
        "cpu": cpu,
        **state,
    }
    return to_json(document)


def to_json(document: Mapping[str, Any]) -> bytes:
    """A document as one line of JSON, in which NaN becomes null."""
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
