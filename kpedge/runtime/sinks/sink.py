"""What every output receives, and the controls that a window or a browser may change."""

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
    """A frame, its faces, and how long finding them took."""

    source: str  # what the user called the source
    frame: Frame
    faces: tuple[Face, ...]  # in the frame
    scheme: KeypointScheme  # of their keypoints
    steps: Mapping[str, float]  # step of the pipeline -> seconds that it took for this frame
    rate: float  # frames per second processed at present
    layers: Layers  # what is drawn of the faces
    names: bool = False  # whether the keypoints' names are part of `to_dict`
    still: bool = False  # whether it is a photo, which has neither number nor time
    _drawn: Image | None = field(default=None, init=False)

    def drawn(self, layers: Layers | None = None) -> Image:
        """The annotated frame, uint8 (H, W, 3), with these layers if they have changed since it came; drawn once for
        all outputs, which must not change it.
        """
        if layers not in (None, self.layers):
            return draw_overlay(self.frame.image, self.faces, self.scheme, layers)
        if self._drawn is None:
            self._drawn = draw_overlay(self.frame.image, self.faces, self.scheme, self.layers)
        return self._drawn

    def to_dict(self) -> dict[str, Any]:
        """The document of `--json`, `--udp` and others."""
        height, width = self.frame.image.shape[:2]
        return {
            "image": self.frame.name or self.source,
            "frame": self.frame.number,
            "time_s": round(self.frame.time_s, 4),
            "size": [width, height],
            "scheme": self.scheme.name,
            **({"names": list(self.scheme.points)} if self.names else {}),
            "faces": [face.to_dict() for face in self.faces],
        }


class Sink(Protocol):
    """Receives frames. It must not block: a slow one drops frames, or has a thread of its own."""

    def show(self, live: LiveFrame) -> None:
        """Receive a frame.

        Raises:
            OutputError: this output cannot continue; the others do.
        """
        ...

    def close(self) -> None:
        """Finish files; may be called more than once."""
        ...


class Controls:
    """What the user of a window or a browser may change during a run; safe from any thread.

    Attributes:
        layers: what is drawn.
        stopping: set to end the run.
        paused: while set, no new frames are taken.
        snapshot: set to save the next frame; the output that saves it clears it.
    """

    def __init__(self, layers: Layers, threshold: float) -> None:
        self.stopping = threading.Event()
        self.paused = threading.Event()
        self.snapshot = threading.Event()
        self.layers, self.threshold = layers, threshold

    @property
    def threshold(self) -> float:
        """Lowest score of the keypoint model that counts as a face, 0 to 1."""
        return self._threshold

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        self._threshold = min(max(threshold, 0.0), 1.0)
