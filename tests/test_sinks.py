"""JSON lines, datagrams and snapshots; tests/test_window.py shows windows, tests/test_record.py records."""

import errno
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_frames import face_of, live

from kpedge.core.errors import OutputError, UsageError
from kpedge.core.images import read_image
from kpedge.runtime.overlay import Layers
from kpedge.runtime.server.address import Address, parse_address
from kpedge.runtime.sinks.lines import LinesSink
from kpedge.runtime.sinks.snapshots import SnapshotSink
from kpedge.runtime.sinks.udp import UdpSink


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
        "from small_frames import live\n"
        "from kpedge.runtime.overlay import Layers\n"
        "from kpedge.runtime.sinks.lines import LinesSink\n"
        "from kpedge.runtime.sinks.sink import Controls\n"
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
    assert parse_address(address, "--udp", host=None) == Address(*expected)


@pytest.mark.parametrize(
    "address",
    ["", ":", "9000", "robot", "robot:", ":9000", "robot:0", "robot:65536", "robot:-1", "robot:x", "::1:9000",
     "http://robot:9000", "a b:1", "[]:1", "robot:１", "[::1]", "[::1:9000"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_an_example(address):
    with pytest.raises(UsageError) as caught:
        parse_address(address, "--udp", host=None)
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


def test_a_name_that_is_not_utf8_is_json_everywhere(tmp_path, controls):
    """On a stream, in a datagram, and next to a snapshot."""
    receiver, port = listener()
    frame = replace(live(0), source=os.fsdecode(b"caf\xe9.mp4"))
    stream = Stream()
    controls.snapshot.set()
    with receiver:
        for sink in (LinesSink(stream, controls), UdpSink(f"127.0.0.1:{port}"), SnapshotSink(tmp_path, controls)):
            sink.show(frame)
            sink.close()
        assert json.loads(receiver.recv(65536))["image"] == "caf\udce9.mp4"
    assert json.loads(stream.flushed)["image"] == "caf\udce9.mp4"
    assert json.loads((tmp_path / "frame-000000.json").read_text())["image"] == "caf\udce9.mp4"


def test_nobody_needs_to_listen():
    receiver, port = listener()
    receiver.close()
    notices = []
    sink = UdpSink(f"127.0.0.1:{port}", notices.append)
    for number in range(20):
        sink.show(live(number))
    sink.close()
    assert notices == []


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
    sink._datagrams._socket.close()

    class Short:
        taken = ()

        def sendto(self, data, target):
            if len(data) > 9216:
                raise OSError(errno.EMSGSIZE, "too long")
            self.taken = (*self.taken, data)

    sink._datagrams._socket = short = Short()
    for number in range(2):
        sink.show(live(number, crowd(40)))
    assert [json.loads(data)["frame"] for data in short.taken] == [0, 1]
    assert all(4000 < len(data) <= 9216 for data in short.taken)


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
    with pytest.raises(OutputError, match="is a file, not a folder"):
        sink.show(live())
    controls.snapshot.set()
    sink.show(live(1))


@pytest.mark.parametrize("code", [errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAGAIN, errno.EPERM])
def test_what_the_network_does_not_take_is_lost(code):
    sink = UdpSink("127.0.0.1:9")
    sink._datagrams._socket.close()

    class Broken:
        sent = 0

        def sendto(self, data, target):
            self.sent += 1
            raise OSError(code, os.strerror(code))

    sink._datagrams._socket = broken = Broken()
    for number in range(5):
        sink.show(live(number))
    assert broken.sent == 5
