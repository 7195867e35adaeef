"""The window, and whether one can be opened."""

import cv2
import pytest
from small_frames import live

from kpedge.core.errors import OutputError
from kpedge.runtime.overlay import Layers
from kpedge.runtime.sinks import display, window
from kpedge.runtime.sinks.display import check_display, probe_window, toolkit
from kpedge.runtime.sinks.sink import Controls
from kpedge.runtime.sinks.window import WindowSink, open_window


class Windows:
    """OpenCV's windows as a test needs them: keys are pressed by putting them into a list."""

    def __init__(self):
        self.keys, self.shown, self.open, self.visible, self.broken = [], [], set(), True, None

    def namedWindow(self, title, flags=0):
        if self.broken:
            raise cv2.error(self.broken)
        self.open.add(title)

    def resizeWindow(self, title, width, height):
        self.size = (width, height)

    def imshow(self, title, image):
        assert title in self.open, "an image is shown in a window that was opened"
        self.shown.append(image.copy())

    def waitKeyEx(self, delay):
        assert delay == 1, "0 would wait for ever"
        return self.keys.pop(0) if self.keys else -1

    def getWindowProperty(self, title, prop):
        if title not in self.open:
            raise cv2.error("NULL guiReceiver")
        return 1.0 if self.visible else 0.0

    def destroyWindow(self, title):
        if title not in self.open:
            raise cv2.error("NULL window")
        self.open.remove(title)


@pytest.fixture
def windows(monkeypatch):
    fake = Windows()
    for name in ("namedWindow", "resizeWindow", "imshow", "waitKeyEx", "getWindowProperty", "destroyWindow"):
        monkeypatch.setattr(cv2, name, getattr(fake, name))
    return fake


def test_a_window_shows_the_annotated_frame(windows, controls):
    sink = WindowSink("kpedge", controls)
    sink.poll()
    assert not windows.open, "no window before the first frame"
    frame = live()
    sink.show(frame)
    assert windows.open == {"kpedge"}
    assert (windows.shown[-1] == frame.drawn()).all()
    assert len(windows.shown) == 1
    sink.close()
    sink.close()
    assert not windows.open
    assert not controls.stopping.is_set(), "closing is not quitting"
    sink.show(live(1))
    sink.poll()
    assert len(windows.shown) == 1


@pytest.mark.parametrize("code", [ord("q"), ord("Q"), 27, 0x100000 | ord("q"), 0x10FF1B])
def test_quitting_by_a_key(windows, controls, code):
    sink = WindowSink("kpedge", controls)
    windows.keys = [code]
    sink.show(live())
    assert controls.stopping.is_set()
    assert not windows.open


@pytest.mark.parametrize("forgotten", [False, True])
def test_quitting_by_the_cross(windows, controls, forgotten):
    sink = WindowSink("kpedge", controls)
    sink.show(live())
    if forgotten:
        windows.open.clear()
    windows.visible = False
    controls.paused.set()
    sink.poll()
    assert controls.stopping.is_set()
    shown = len(windows.shown)
    sink.show(live(1))
    sink.close()
    assert len(windows.shown) == shown, "no new window is opened"


def test_a_toolkit_that_never_says_that_a_window_is_visible(windows, controls):
    windows.visible = False
    sink = WindowSink("kpedge", controls)
    for number in range(3):
        sink.show(live(number))
    assert len(windows.shown) == 3
    assert not controls.stopping.is_set()


@pytest.mark.parametrize(
    ("key", "layer"), [("b", "boxes"), ("p", "points"), ("i", "ids"), ("o", "pose"), ("m", "mirror")]
)
def test_layers_are_switched(windows, controls, key, layer):
    sink = WindowSink("kpedge", controls)
    before = getattr(controls.layers, layer)
    for expected in (not before, before):
        windows.keys = [ord(key)]
        sink.show(live(layers=controls.layers))
        assert getattr(controls.layers, layer) is expected
        others = {name for name in ("boxes", "points", "ids", "pose", "mirror") if name != layer}
        assert all(getattr(controls.layers, name) == getattr(Layers(), name) for name in others)


def test_every_key_of_the_help_does_something(windows, controls):
    for key in (key for keys in window.HELP for key in keys.split(", ")):
        sink = WindowSink("kpedge", Controls(Layers(), 0.5))
        windows.keys, windows.shown = [{"space": 32, "Esc": 27}.get(key, ord(key[0]))], []
        sink.show(live())
        state = sink._controls
        changed = state.layers != Layers() or any(
            event.is_set() for event in (state.stopping, state.paused, state.snapshot)
        )
        assert changed or len(windows.shown) == 2, key


def test_a_pause_says_so_and_keys_go_on_working(windows, controls):
    sink = WindowSink("kpedge", controls)
    frame = live()
    windows.keys = [ord(" ")]
    sink.show(frame)
    assert controls.paused.is_set()
    assert (windows.shown[-1][:20, :60] != frame.drawn()[:20, :60]).any()
    shown = len(windows.shown)
    sink.poll()
    assert len(windows.shown) == shown, "nothing is drawn again without need"
    windows.keys = [ord("m")]
    sink.poll()
    assert len(windows.shown) == shown + 1
    mirrored = frame.drawn(controls.layers)
    assert controls.layers.mirror
    assert (windows.shown[-1][60:, 100:] == mirrored[60:, 100:]).all()
    windows.keys = [ord("s"), ord(" ")]
    sink.poll()
    assert controls.snapshot.is_set()
    sink.poll()
    assert not controls.paused.is_set()
    assert (windows.shown[-1] == mirrored).all()


def test_help_is_listed_and_leaves_the_frame_alone(windows, controls):
    sink = WindowSink("kpedge", controls)
    frame = live()
    before = frame.drawn().copy()
    windows.keys = [ord("h")]
    sink.show(frame)
    assert (windows.shown[-1] != before).any(axis=2).mean() > 0.1
    assert (frame.drawn() == before).all()
    windows.keys = [ord("h")]
    sink.poll()
    assert (windows.shown[-1] == before).all()


def test_a_window_that_cannot_be_opened_is_told_once(windows, controls):
    windows.broken = "no\nscreen"
    sink = WindowSink("kpedge", controls)
    with pytest.raises(OutputError, match="the window cannot be shown"):
        sink.show(live())
    sink.show(live())
    sink.poll()
    assert not controls.stopping.is_set(), "the other outputs go on"


def test_without_a_display_there_is_advice(monkeypatch):
    monkeypatch.setattr(display, "toolkit", lambda: "QT5")

    def never():
        raise AssertionError("no window is tried")

    for variables in ({}, {"DISPLAY": ""}):
        with pytest.raises(OutputError, match="no display") as caught:
            check_display(variables, "linux", never)
        assert "--serve" in caught.value.advice


def test_a_display_that_refuses_is_told_before_qt_ends_the_process(monkeypatch):
    monkeypatch.setattr(display, "toolkit", lambda: "QT5")
    with pytest.raises(OutputError, match="on display :7: could not connect"):
        check_display({"DISPLAY": ":7"}, "linux", lambda: "could not connect")
    with pytest.raises(OutputError, match="wayland-1"):
        check_display({"WAYLAND_DISPLAY": "wayland-1"}, "linux", lambda: "no plugin")
    check_display({"DISPLAY": ":7"}, "linux", lambda: "")
    monkeypatch.setattr(display, "toolkit", lambda: "COCOA")
    check_display({}, "darwin", lambda: "not asked")


def test_an_opencv_without_windows_is_told(monkeypatch, controls):
    monkeypatch.setattr(display, "toolkit", lambda: "")
    with pytest.raises(OutputError, match="cannot open windows") as caught:
        open_window("kpedge", controls)
    assert "pip install opencv-python" in caught.value.advice


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", ""),
        ("import sys; print('warning', file=sys.stderr)", ""),
        (
            "import sys; sys.stderr.write('start\\nqt: could not connect to display :9\\nend\\n'); sys.exit(1)",
            "display :9",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGABRT)", "exit status"),
        ("import sys; sys.exit('the reason')", "the reason"),
    ],
)
def test_the_probe_tells_why(monkeypatch, code, expected):
    monkeypatch.setattr(display, "PROBE", code)
    said = probe_window()
    assert expected in said
    assert bool(said) == bool(expected)


def test_a_probe_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(display, "PROBE", "import time; time.sleep(600)")
    monkeypatch.setattr(display, "PROBE_S", 0.5)
    assert probe_window() == "it does not answer"


def test_the_real_probe_finds_that_there_is_no_such_display(monkeypatch):
    if not toolkit().startswith("QT"):
        pytest.skip("this OpenCV has no Qt windows")
    monkeypatch.setenv("DISPLAY", ":987")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    with pytest.raises(OutputError, match="on display :987"):
        check_display(platform="linux")
