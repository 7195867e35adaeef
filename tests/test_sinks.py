"""Windows, JSON lines, datagrams and snapshots; tests/test_record.py records."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from kpedge.errors import OutputError, UsageError
from kpedge.faces import Face
from kpedge.images import read_image
from kpedge.keypoints import FACES21, FACES21_MEAN
from kpedge.runtime.overlay import Layers
from kpedge.runtime.sinks import display, window
from kpedge.runtime.sinks.display import check_display, probe_window, toolkit
from kpedge.runtime.sinks.lines import LinesSink, UdpSink, largest_faces, parse_address
from kpedge.runtime.sinks.sink import Controls, LiveFrame
from kpedge.runtime.sinks.snapshots import SnapshotSink
from kpedge.runtime.sinks.window import WindowSink, open_window, with_words
from kpedge.runtime.sources.source import Frame


def face_of(side=60.0, x=80.0, y=60.0):
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])
    return Face(box=box, keypoints=FACES21_MEAN * side + (x, y), score=0.9, id=1)


def live(number=0, faces=None, layers=None, value=90):
    frame = Frame(np.full((120, 160, 3), value, np.uint8), number, number / 30)
    return LiveFrame("cam", frame, (face_of(),) if faces is None else faces, FACES21, {}, 30.0, layers or Layers())


@pytest.fixture
def controls():
    return Controls(Layers(), 0.5)


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


def test_other_keys_do_nothing(windows, controls):
    sink = WindowSink("kpedge", controls)
    windows.keys = [ord("x"), 255, 0xFF51, 0x10FF53]
    for number in range(4):
        sink.show(live(number))
    assert len(windows.shown) == 4
    assert not controls.snapshot.is_set()
    assert controls.layers == Layers()
    assert not controls.stopping.is_set()


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


@pytest.mark.parametrize("size", [(240, 320), (480, 640), (2160, 3840), (320, 240)], ids=str)
def test_the_listing_fits_into_the_frame(size):
    image = np.full((*size, 3), 200, np.uint8)
    changed = np.argwhere((with_words(image, paused=True, listing=True) != 200).any(axis=2))
    assert (changed.max(axis=0) < np.array(size) - 2).all()
    assert np.ptp(changed[:, 0]) > 0.45 * min(size)


def test_a_large_frame_opens_a_window_that_fits_a_screen(windows, controls):
    frame = Frame(np.zeros((2160, 3840, 3), np.uint8), 0, 0.0)
    WindowSink("kpedge", controls).show(LiveFrame("cam", frame, (), FACES21, {}, 30.0, Layers()))
    assert windows.size == (1280, 720)


def test_a_window_that_cannot_be_opened_is_told_once(windows, controls):
    windows.broken = "no\nscreen"
    sink = WindowSink("kpedge", controls)
    with pytest.raises(OutputError, match="the window cannot be shown"):
        sink.show(live())
    sink.show(live())
    sink.poll()
    assert not controls.stopping.is_set(), "the other outputs go on"


def test_a_window_that_breaks_in_a_pause_is_told_with_the_next_frame(windows, controls, monkeypatch):
    sink = WindowSink("kpedge", controls)
    sink.show(live())

    def fail(_):
        raise cv2.error("gone")

    monkeypatch.setattr(cv2, "waitKeyEx", fail)
    sink.poll()
    with pytest.raises(OutputError, match="the window cannot be shown"):
        sink.show(live(1))
    sink.show(live(2))


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


def test_toolkits_by_name(monkeypatch):
    monkeypatch.setattr(cv2, "currentUIFramework", lambda: "GTK3", raising=False)
    assert toolkit() == "GTK3"
    monkeypatch.setattr(cv2, "currentUIFramework", lambda: "")
    assert toolkit() == ""
    monkeypatch.delattr(cv2, "currentUIFramework")
    for said, expected in (("  GUI:                 QT5\n    QT: YES", "QT5"), ("  GUI:     NONE\n", ""), ("", "")):
        monkeypatch.setattr(cv2, "getBuildInformation", lambda said=said: said)
        assert toolkit() == expected


def test_a_window_is_offered_where_one_can_be_opened(monkeypatch, controls):
    monkeypatch.setattr(window, "check_display", lambda: None)
    assert isinstance(open_window("kpedge", controls), WindowSink)


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


class Stream:
    """Takes lines and notes whether each was flushed."""

    def __init__(self, problem=None):
        self.text, self.flushed, self.problem = "", "", problem

    def write(self, text):
        if self.problem:
            raise self.problem
        self.text += text

    def flush(self):
        self.flushed = self.text

    def fileno(self):
        raise OSError


def test_lines_are_json_and_flushed(controls):
    stream = Stream()
    sink = LinesSink(stream, controls)
    for number in range(3):
        sink.show(live(number))
        assert stream.flushed.count("\n") == number + 1
    sink.close()
    sink.show(live(3))
    documents = [json.loads(line) for line in stream.flushed.splitlines()]
    assert documents == [live(number).to_dict() for number in range(3)]
    assert documents[2]["faces"][0]["id"] == 1


def test_a_stream_that_fails_is_told_once(controls):
    sink = LinesSink(Stream(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))), controls)
    with pytest.raises(OutputError, match="cannot write JSON lines: No space left"):
        sink.show(live())
    sink.show(live(1))
    assert not controls.stopping.is_set()


def test_a_reader_that_goes_away_ends_the_run_quietly():
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_sinks import Controls, Layers, LinesSink, live\n"
        "controls = Controls(Layers(), 0.5); sink = LinesSink(sys.stdout, controls)\n"
        "for number in range(100000):\n"
        "    if controls.stopping.is_set(): break\n"
        "    sink.show(live(number))\n"
        "sink.show(live(number)); sink.close()\n"
        "print(number, file=sys.stderr)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert json.loads(process.stdout.readline())["frame"] == 0
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0
    assert 0 < int(said) < 99999, "it ends at once, and says nothing else"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:9000", ("127.0.0.1", 9000)),
        ("robot.local:1", ("robot.local", 1)),
        ("[::1]:9000", ("::1", 9000)),
        ("[fe80::1%eth0]:65535", ("fe80::1%eth0", 65535)),
    ],
)
def test_addresses(address, expected):
    assert parse_address(address) == expected


@pytest.mark.parametrize(
    "address",
    ["", ":", "9000", "robot", "robot:", ":9000", "robot:0", "robot:65536", "robot:-1", "robot:x", "::1:9000",
     "http://robot:9000", "a b:1", "[]:1", "robot:１", "[::1]", "[::1:9000"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_an_example(address):
    with pytest.raises(UsageError) as caught:
        parse_address(address)
    assert "--udp 127.0.0.1:9000" in caught.value.advice


def listener(family=socket.AF_INET, host="127.0.0.1"):
    receiver = socket.socket(family, socket.SOCK_DGRAM)
    receiver.settimeout(60)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    receiver.bind((host, 0))
    return receiver, receiver.getsockname()[1]


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_datagram_a_frame(family, host):
    try:
        receiver, port = listener(family, host)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with receiver:
        sink = UdpSink(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        for number in range(3):
            sink.show(live(number))
        assert [json.loads(receiver.recv(65536)) for _ in range(3)] == [live(number).to_dict() for number in range(3)]
        sink.close()
        sink.close()
        sink.show(live(3))


def test_nobody_needs_to_listen():
    receiver, port = listener()
    receiver.close()
    notices = []
    sink = UdpSink(f"127.0.0.1:{port}", notices.append)
    for number in range(20):
        sink.show(live(number))
    sink.close()
    assert notices == []


@pytest.mark.parametrize("code", [errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAGAIN, errno.EPERM])
def test_what_the_network_does_not_take_is_lost(code):
    sink = UdpSink("127.0.0.1:9")
    sink._socket.close()

    class Broken:
        sent = 0

        def sendto(self, data, target):
            self.sent += 1
            raise OSError(code, os.strerror(code))

    sink._socket = broken = Broken()
    for number in range(5):
        sink.show(live(number))
    assert broken.sent == 5


def crowd(count):
    return tuple(face_of(side=20.0 + 7 * ((5 * place) % count), x=10.0 * place) for place in range(count))


def test_the_largest_of_too_many_faces_are_sent_and_it_is_said_once():
    receiver, port = listener()
    faces, notices = crowd(200), []
    with receiver:
        sink = UdpSink(f"127.0.0.1:{port}", notices.append)
        for number in range(3):
            sink.show(live(number, faces))
        documents = [json.loads(receiver.recv(65536)) for _ in range(3)]
        sink.close()
    assert [document["frame"] for document in documents] == [0, 1, 2]
    assert len(notices) == 1
    assert "more faces than fit" in notices[0]
    got = documents[0]["faces"]
    assert 50 < len(got) < 200
    everything = live(0, faces).to_dict()["faces"]
    left = [face for face in everything if face not in got]
    assert min(face["box"][2] - face["box"][0] for face in got) >= max(face["box"][2] - face["box"][0] for face in left)
    assert got == [face for face in everything if face in got], "in their order"


def test_a_system_with_shorter_datagrams_gets_shorter_ones():
    sink = UdpSink("127.0.0.1:9")
    sink._socket.close()

    class Short:
        taken = ()

        def sendto(self, data, target):
            if len(data) > 9216:
                raise OSError(errno.EMSGSIZE, "too long")
            self.taken = (*self.taken, data)

    sink._socket = short = Short()
    for number in range(2):
        sink.show(live(number, crowd(40)))
    assert [json.loads(data)["frame"] for data in short.taken] == [0, 1]
    assert all(4000 < len(data) <= 9216 for data in short.taken)


def test_faces_that_fit_exactly():
    document = live(0, crowd(5)).to_dict()
    sizes = [face["box"][2] - face["box"][0] for face in document["faces"]]
    whole = largest_faces(document, sizes, 10**6)
    assert json.loads(whole) == document
    for limit in range(len(whole) // 5, len(whole), 50):
        assert len(largest_faces(document, sizes, limit)) <= limit
    assert json.loads(largest_faces(document, sizes, 10))["faces"] == []


def test_a_host_that_does_not_exist_is_told():
    with pytest.raises(OutputError, match=r"cannot send to no-such-host\.invalid:9"):
        UdpSink("no-such-host.invalid:9")


def test_a_snapshot_is_taken_when_asked_for(tmp_path, controls):
    saved = []
    sink = SnapshotSink(tmp_path / "deep" / "shots", controls, saved.append)
    sink.show(live(0))
    assert not (tmp_path / "deep").exists(), "no folder before it is needed"
    controls.snapshot.set()
    sink.show(live(1))
    assert not controls.snapshot.is_set()
    sink.show(live(2))
    picture = tmp_path / "deep" / "shots" / "frame-000001.jpg"
    assert saved == [picture]
    assert sorted(picture.parent.iterdir()) == [picture, picture.with_suffix(".json")]
    assert json.loads(picture.with_suffix(".json").read_text()) == live(1).to_dict()
    away = np.abs(read_image(picture).astype(int) - live(1).drawn())
    assert away.mean() < 3
    assert np.abs(read_image(picture).astype(int) - live(1).frame.image).max() > 60, "it is annotated"


def test_snapshots_never_overwrite(tmp_path, controls):
    sink = SnapshotSink(tmp_path, controls)
    (tmp_path / "frame-000007-2.json").write_text("mine")
    for value in (10, 200, 90):
        controls.snapshot.set()
        sink.show(live(7, (), value=value))
    values = {path.name: round(float(read_image(path).mean())) for path in tmp_path.glob("*.jpg")}
    assert values == {"frame-000007.jpg": 10, "frame-000007-3.jpg": 200, "frame-000007-4.jpg": 90}
    assert (tmp_path / "frame-000007-2.json").read_text() == "mine"


def test_a_snapshot_in_a_pause_shows_what_is_seen(tmp_path, controls):
    sink = SnapshotSink(tmp_path, controls)
    sink.poll()
    sink.show(live(4))
    controls.layers = Layers(boxes=False, points=False, ids=False)
    controls.snapshot.set()
    sink.poll()
    assert np.abs(read_image(tmp_path / "frame-000004.jpg").astype(int) - 90).max() < 5


def test_a_snapshot_that_cannot_be_written_is_told_once(tmp_path, controls):
    (tmp_path / "file").write_text("")
    sink = SnapshotSink(tmp_path / "file", controls)
    controls.snapshot.set()
    with pytest.raises(OutputError, match="cannot write"):
        sink.show(live())
    controls.snapshot.set()
    sink.show(live(1))


def test_a_snapshot_that_fails_in_a_pause_is_told_with_the_next_frame(tmp_path, controls):
    (tmp_path / "file").write_text("")
    sink = SnapshotSink(tmp_path / "file", controls)
    sink.show(live())
    controls.snapshot.set()
    sink.poll()
    with pytest.raises(OutputError, match="cannot write"):
        sink.show(live(1))


def test_a_full_disk_leaves_no_half_of_a_snapshot(tmp_path, controls, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    sink = SnapshotSink(tmp_path, controls)
    controls.snapshot.set()
    with pytest.raises(OutputError, match="No space left"):
        sink.show(live())
    assert list(tmp_path.iterdir()) == []
