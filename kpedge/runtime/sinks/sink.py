"""What every output is given, and what the outputs that people touch may ask for."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kpedge.core.faces import Face
from kpedge.core.geometry import Image
from kpedge.core.scheme import KeypointScheme
from kpedge.runtime.overlay import Layers, draw_overlay
from kpedge.runtime.sources.source import Frame


@dataclass(slots=True, eq=False)
class LiveFrame:
    """A frame, what was found in it, and how long that took.

    Attributes:
        source: what the user called the source.
        frame: the frame.
        faces: found in it.
        scheme: of their keypoints.
        steps: step of the pipeline -> seconds that it took for this frame.
        rate: frames a second that are got through now.
        layers: what of the faces is drawn.
    """

    source: str
    frame: Frame
    faces: tuple[Face, ...]
    scheme: KeypointScheme
    steps: Mapping[str, float]
    rate: float
    layers: Layers
    _drawn: Image | None = field(default=None, init=False)

    def drawn(self, layers: Layers | None = None) -> Image:
        """The annotated frame, uint8 (H, W, 3); drawn once, for all outputs: it is not to be changed.

        Args:
            layers: what is drawn, where that has changed since the frame came.
        """
        if layers not in (None, self.layers):
            return draw_overlay(self.frame.image, self.faces, self.scheme, layers)
        if self._drawn is None:
            self._drawn = draw_overlay(self.frame.image, self.faces, self.scheme, self.layers)
        return self._drawn

    def to_dict(self) -> dict[str, Any]:
        """The document that `--json` and `--udp` give."""
        return {
            "image": self.frame.name or self.source,
            "frame": self.frame.number,
            "time_s": round(self.frame.time_s, 4),
            "faces": [face.to_dict() for face in self.faces],
        }


class Sink(Protocol):
    """Takes frames. It must not block: what is slow drops frames, or has a thread of its own."""

    def show(self, live: LiveFrame) -> None:
        """Take a frame.

        Raises:
            OutputError: this output cannot go on; the others do.
        """
        ...

    def close(self) -> None:
        """Finish what was begun; may be called more than once."""
        ...


class Controls:
    """What the user of a window or a browser may change while frames are running; safe from any thread.

    Attributes:
        stopping: set when the run is to end.
        paused: no new frames are taken while it is set.
        snapshot: set when the next frame is to be saved; whoever saves it clears it.
    """

    def __init__(self, layers: Layers, threshold: float) -> None:
        self.stopping = threading.Event()
        self.paused = threading.Event()
        self.snapshot = threading.Event()
        self._lock = threading.Lock()
        self._layers, self._threshold = layers, threshold

    @property
    def layers(self) -> Layers:
        """What is drawn."""
        with self._lock:
            return self._layers

    @layers.setter
    def layers(self, layers: Layers) -> None:
        with self._lock:
            self._layers = layers

    @property
    def threshold(self) -> float:
        """The keypoint model's score from which on there is a face, 0 to 1."""
        with self._lock:
            return self._threshold

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        with self._lock:
            self._threshold = min(max(threshold, 0.0), 1.0)
