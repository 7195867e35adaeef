"""A window that shows the annotated frames and reacts to keys."""

from dataclasses import replace

import cv2
import numpy as np

from kpedge.core.drawing import GREY, chip_size, draw_chip
from kpedge.core.errors import OutputError
from kpedge.core.geometry import Image
from kpedge.runtime.overlay import Layers
from kpedge.runtime.sinks.display import ADVICE, check_display
from kpedge.runtime.sinks.sink import Controls, LiveFrame

TOGGLES = {"b": "boxes", "p": "points", "i": "ids", "o": "pose", "m": "mirror"}  # key -> the layer that it switches
HELP = {
    "space": "pause",
    "s": "save a snapshot",
    "b": "boxes",
    "p": "points",
    "i": "ids and scores",
    "o": "orientation",
    "m": "mirror",
    "h": "this help",
    "q, Esc": "quit",
}
"""Key -> what it does."""
LARGEST = (1280, 720)  # largest initial width and height of a window; it can be enlarged
ESCAPE = (27, 0xFF1B)  # its code as a character, and as a key of X11


class WindowSink:
    """Shows frames in a window; keys change the controls, and closing it ends the run.

    All calls must come from one thread, on macOS from the main one.
    """

    def __init__(self, title: str, controls: Controls) -> None:
        self._title = title.encode(errors="replace").decode()  # OpenCV ends the process at others
        self._controls = controls
        self._live: LiveFrame | None = None
        self._shown: tuple[Layers, bool, bool] | None = None
        self._help = False
        self._open = self._seen = self._closed = False
        self._problem: OutputError | None = None

    def show(self, live: LiveFrame) -> None:
        if not self._closed:
            self._live, self._shown = live, None
            self.poll()
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def poll(self) -> None:
        """Handle a key and the window's close button; call it now and then while no frame comes. A paused frame is
        redrawn when a key has changed what is drawn. A failure is raised with the next frame.
        """
        if self._closed or self._live is None:
            return
        try:
            if self._open and self._is_gone():
                self._leave()
                return
            self._draw(self._live)
            self._press(cv2.waitKeyEx(1))
            if not self._closed and self._is_gone():
                self._leave()
            if not self._closed:
                self._draw(self._live)
        except cv2.error as error:
            self._leave(stop=False)
            reason = " ".join(error.err.split()) if error.err else "OpenCV gave no reason"
            self._problem = OutputError(f"the window cannot be shown: {reason}", ADVICE)

    def _is_gone(self) -> bool:
        """Whether the user has closed the window."""
        try:
            visible = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            visible = False  # Qt forgets all about the last window that is closed
        self._seen = self._seen or visible
        return self._seen and not visible  # some toolkits never report it as visible

    def close(self) -> None:
        if not self._closed:
            self._leave(stop=False)

    def _leave(self, *, stop: bool = True) -> None:
        self._closed, self._live = True, None
        if stop:
            self._controls.stopping.set()
        if self._open:
            self._open = False
            try:
                cv2.destroyWindow(self._title)
                cv2.waitKeyEx(1)  # some toolkits close it only when events are handled
            except cv2.error:
                return  # the user has closed it

    def _draw(self, live: LiveFrame) -> None:
        """Update the window if it is out of date."""
        layers, paused = self._controls.layers, self._controls.paused.is_set()
        if self._shown == (layers, paused, self._help):
            return
        image = live.drawn(layers)
        if not self._open:
            self._begin(image)
        cv2.imshow(self._title, with_words(image, paused=paused, listing=self._help))
        self._shown = (layers, paused, self._help)

    def _begin(self, image: Image) -> None:
        cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        self._open = True
        height, width = image.shape[:2]
        zoom = min(1.0, LARGEST[0] / width, LARGEST[1] / height)
        cv2.resizeWindow(self._title, max(1, round(width * zoom)), max(1, round(height * zoom)))

    def _press(self, code: int) -> None:
        """Handle a key code of `cv2.waitKeyEx`; -1 is none."""
        if code < 0:
            return
        code &= 0xFFFF  # above that stand shift, number lock and their like
        # Not its last byte alone, as `cv2.waitKey` gives it: the left arrow's is a Q.
        key = chr(code).lower() if code < 128 else ""
        if key == "q" or code in ESCAPE:
            self._leave()
        elif key == " ":
            paused = self._controls.paused
            paused.clear() if paused.is_set() else paused.set()
        elif key == "s":
            self._controls.snapshot.set()
        elif key == "h":
            self._help = not self._help
        elif key in TOGGLES:
            layers = self._controls.layers
            self._controls.layers = replace(layers, **{TOGGLES[key]: not getattr(layers, TOGGLES[key])})


def with_words(image: Image, *, paused: bool, listing: bool) -> Image:
    """A frame with the word `paused`, and a list of the keys; the frame itself if neither is requested."""
    if not (paused or listing):
        return image
    drawn = np.array(image)
    height, width = image.shape[:2]
    capital = max(5.0, min(height, width) / 36)
    x = y = capital / 2
    if paused:
        draw_chip(drawn, "paused", (x, y), capital)
        y += chip_size("paused", capital)[1] + capital / 4
    if listing:
        keys = "\n".join(HELP)
        draw_chip(drawn, keys, (x, y), capital, GREY)
        draw_chip(drawn, "\n".join(HELP.values()), (x + chip_size(keys, capital)[0] + capital / 4, y), capital)
    return drawn


def open_window(title: str, controls: Controls) -> WindowSink:
    """Open a window."""
    check_display()
    return WindowSink(title, controls)
