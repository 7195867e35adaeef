"""Single frames, saved on request."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

from kpedge.core.errors import OutputError
from kpedge.core.files import write_text
from kpedge.core.images import write_image
from kpedge.runtime.sinks.lines import encode
from kpedge.runtime.sinks.sink import Controls, LiveFrame


class SnapshotSink:
    """Saves the annotated frame as an image into a folder, and its faces as JSON next to it, when `controls.snapshot`
    is set, and calls `saved` with its path. Nothing is ever overwritten.
    """

    def __init__(self, folder: Path, controls: Controls, saved: Callable[[Path], None] = lambda _: None) -> None:
        self.folder = folder
        self._controls, self._saved = controls, saved
        self._live: LiveFrame | None = None
        self._problem: OutputError | None = None
        self._closed = False

    def show(self, live: LiveFrame) -> None:
        self._live = live
        self.poll()
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def poll(self) -> None:
        """Save the last frame if requested while no other comes; a failure is raised with the next frame."""
        if self._closed or self._live is None or not self._controls.snapshot.is_set():
            return
        self._controls.snapshot.clear()
        try:
            path = self._free_path(self._live.frame.number)
            write_image(path, self._live.drawn(self._controls.layers))
            write_text(path.with_suffix(".json"), encode(self._live.to_dict()) + "\n")
        except OutputError as problem:
            self._problem = problem
            self.close()
        else:
            self._saved(path)

    def _free_path(self, number: int) -> Path:
        for attempt in count(1):
            path = self.folder / (f"frame-{number:06}.jpg" if attempt == 1 else f"frame-{number:06}-{attempt}.jpg")
            if not (path.exists() or path.with_suffix(".json").exists()):
                break
        return path

    def close(self) -> None:
        self._closed, self._live = True, None
