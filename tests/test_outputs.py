"""Outputs to other programs, each against its library's own receiver; and that none of them can stall the loop."""

import csv
import json
import socket
import struct
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_live import WAIT_S, until
from small_frames import face_of, live

from kpedge.core.errors import OutputError, UsageError
from kpedge.core.faces import Features, Pose, rotation_matrix
from kpedge.core.keypoints import FACES21
from kpedge.runtime.sinks.csv_file import CsvSink
from kpedge.runtime.sinks.outputs import OUTPUTS, OutputContext, open_outputs
from kpedge.runtime.sinks.rows import FRAME, face_columns
from kpedge.runtime.sinks.vmc import quaternion

FEATURES = Features(mouth_open=0.2, smile=0.5, eye_open_left=0.3, eye_open_right=0.0, brow_raise_left=0.06)


def frame(number=0, **changes):
    """A frame with one face that has everything."""
    shown = live(number)
    face = replace(shown.faces[0], pose=Pose(20.0, -10.0, 5.0), features=FEATURES)
    return replace(shown, faces=(replace(face, **changes),))


@pytest.fixture
def osc_messages():
    """A port, and the OSC messages that come there as (address, values)."""
    server = pytest.importorskip("pythonosc.osc_server")
    dispatcher = pytest.importorskip("pythonosc.dispatcher").Dispatcher()
    found = []
    dispatcher.set_default_handler(lambda address, *values: found.append((address, values)))
    with server.ThreadingOSCUDPServer(("127.0.0.1", 0), dispatcher) as receiver:
        thread = threading.Thread(target=receiver.serve_forever)
        thread.start()
        yield receiver.server_address[1], found
        receiver.shutdown()
        thread.join()


def test_osc_bundles_hold_a_frame(osc_messages):
    from kpedge.runtime.sinks.osc import OscSink

    port, found = osc_messages
    with closing(OscSink(f"127.0.0.1:{port}")) as sink:
        sink.show(frame(7))
        until(lambda: any("features/smile" in address for address, _ in found))
    got = dict(found)
    assert got["/kpedge/frame"][0] == 7
    assert got["/kpedge/face/1/pose"] == pytest.approx((20, -10, 5))
    assert got["/kpedge/face/1/points"] == pytest.approx(frame().faces[0].keypoints.reshape(-1).tolist(), rel=1e-5)
    assert got["/kpedge/face/1/features/smile"] == pytest.approx((0.5,))


def test_vmc_moves_head_and_blend_shapes(osc_messages):
    from kpedge.runtime.sinks.vmc import VmcSink

    port, found = osc_messages
    with closing(VmcSink(f"127.0.0.1:{port}", "--vmc")) as sink:
        sink.show(frame())
        until(lambda: ("/VMC/Ext/Blend/Apply", ()) in found)
    shapes = dict(values for address, values in found if address == "/VMC/Ext/Blend/Val")
    assert shapes["Joy"] == pytest.approx(0.5)
    assert shapes["jawOpen"] == pytest.approx(0.5)
    assert shapes["Blink_L"] == pytest.approx(1)  # the person's left eye is the image's right one
    assert shapes["Blink_R"] == pytest.approx(0)
    bone = dict(found)["/VMC/Ext/Bone/Pos"]
    assert bone[0] == "Head"
    x, y, z, w = bone[4:]
    assert y < 0, "who turns to the image's right turns to their left, which is negative about Unity's y"
    assert x > 0, "who looks down turns by a positive angle about Unity's x"
    assert np.linalg.norm([x, y, z, w]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("pose", [(0, 0, 0), (70, 30, -20), (-30, -40, 120)])
def test_quaternions_are_the_rotation(pose):
    matrix = rotation_matrix(Pose(*pose))
    x, y, z, w = quaternion(matrix)
    again = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    assert np.allclose(again, matrix)


def test_lsl_has_a_labelled_sample_per_face():
    lsl = pytest.importorskip("pylsl")
    from kpedge.runtime.sinks.lsl import LslSink

    name = f"kpedge-test-{time.time_ns()}"
    with closing(LslSink(name, FACES21, features=True)) as sink:
        streams = lsl.resolve_byprop("name", name, timeout=5)
        if not streams:
            pytest.skip("this machine's network does not let LSL's discovery through")
        inlet = lsl.StreamInlet(streams[0])
        info, label = inlet.info(timeout=5), None
        channel, labels = info.desc().child("channels").child("channel"), []
        for _ in range(info.channel_count()):
            label, channel = channel.child_value("label"), channel.next_sibling()
            labels.append(label)
        inlet.open_stream(timeout=5)
        sink.show(frame(3))
        sample, stamp = inlet.pull_sample(timeout=5)
        inlet.close_stream()
    assert labels == list(face_columns(FACES21, features=True))
    values = dict(zip(labels, sample, strict=True))
    assert values["yaw"] == 20
    assert values["smile"] == 0.5
    assert np.isnan(values["z_mm"])
    assert stamp > 0


@pytest.fixture
def websocket():
    pytest.importorskip("websockets")
    from kpedge.runtime.sinks.websocket import WebSocketSink

    said = []
    sink = WebSocketSink("127.0.0.1:0", notify=said.append)
    yield sink
    sink.close()
    assert said == [f"websocket: {sink.url}"]


def test_websocket_clients_get_the_newest_frame(websocket):
    from websockets.sync.client import connect

    with connect(websocket.url) as first, connect(websocket.url) as second:
        websocket.show(frame(1))
        assert json.loads(first.recv(WAIT_S)) == json.loads(second.recv(WAIT_S)) == frame(1).to_dict()
        websocket.show(frame(2))
        assert json.loads(first.recv(WAIT_S))["frame"] == 2
    with connect(websocket.url) as late:
        assert json.loads(late.recv(WAIT_S))["frame"] == 2


def test_a_websocket_client_that_does_not_read_holds_nobody_up(websocket):
    from websockets.sync.client import connect

    port = int(websocket.url.rsplit(":", 1)[1].strip("/"))
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", port))
        stuck.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        with connect(websocket.url) as client:
            for number in range(1000):
                websocket.show(frame(number))
            while json.loads(client.recv(WAIT_S))["frame"] < 999:
                pass
        websocket.close()


def test_pages_of_other_sites_and_clients_without_the_token_are_refused(websocket):
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    from kpedge.runtime.sinks.websocket import WebSocketSink

    with pytest.raises(InvalidStatus, match="403"):
        connect(websocket.url, origin="https://example.com")
    with connect(websocket.url, origin="http://localhost:5000"):
        pass
    with closing(WebSocketSink("127.0.0.1:0", token="secret-token")) as guarded:
        with pytest.raises(InvalidStatus, match="401"):
            connect(guarded.url.replace("secret", "public"))
        with connect(guarded.url):
            pass


class Broker(threading.Thread):
    """As much of an MQTT broker as takes connections and notes what is published without confirmation."""

    def __init__(self, refuse=False):
        super().__init__(daemon=True)
        self.listener, self.found, self.login, self.refuse = socket.create_server(("127.0.0.1", 0)), [], b"", refuse
        self.port, self.connection = self.listener.getsockname()[1], None
        self.start()

    def run(self):
        while True:
            try:
                self.connection, _ = self.listener.accept()
            except OSError:
                return
            with self.connection, self.connection.makefile("rb") as stream:
                while head := stream.read(1):
                    length = shift = 0
                    while True:
                        (byte,) = stream.read(1)
                        length |= (byte & 127) << shift
                        shift += 7
                        if byte < 128:
                            break
                    body = stream.read(length)
                    if head[0] >> 4 == 1:
                        self.login = body
                        self.connection.sendall(bytes([0x20, 2, 0, 5 if self.refuse else 0]))
                    elif head[0] >> 4 == 3:
                        (size,) = struct.unpack(">H", body[:2])
                        self.found.append((body[2 : 2 + size].decode(), json.loads(body[2 + size :])))
                    elif head[0] >> 4 == 14:
                        break

    def drop(self):
        self.connection.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.close()


def test_mqtt_publishes_and_comes_back():
    pytest.importorskip("paho.mqtt.client")
    from kpedge.runtime.sinks.mqtt import MqttSink

    broker, said = Broker(), []
    with closing(MqttSink(f"user:pass%2Fword@127.0.0.1:{broker.port}/home/faces", said.append)) as sink:

        def arrives(number):
            sink.show(frame(number))
            time.sleep(0.01)
            return ("home/faces", frame(number).to_dict()) in broker.found

        until(lambda: arrives(1))
        assert b"pass/word" in broker.login
        broker.drop()
        until(lambda: arrives(2))
    broker.close()
    assert [line.rsplit(": ", 1)[1] for line in said] == ["lost, waiting for it", "back"]
    assert "pass" not in " ".join(said)


def test_a_broker_that_refuses_is_named():
    pytest.importorskip("paho.mqtt.client")
    from kpedge.runtime.sinks.mqtt import MqttSink

    broker, said = Broker(refuse=True), []
    with closing(MqttSink(f"127.0.0.1:{broker.port}/faces", said.append)):
        until(lambda: said)
    broker.close()
    assert "refuses" in said[0]


@pytest.mark.parametrize(
    ("module", "attempt", "error"),
    [
        ("mqtt:MqttSink", "localhost:1883", UsageError),
        ("mqtt:MqttSink", "localhost/faces/#", UsageError),
        ("mqtt:MqttSink", "localhost:99999/faces", UsageError),
        ("mqtt:MqttSink", "127.0.0.1:1/faces", OutputError),
        ("mqtt:MqttSink", "no-such-host.invalid/faces", OutputError),
        ("osc:OscSink", "9000", UsageError),
        ("osc:OscSink", "no-such-host.invalid:9", OutputError),
        ("websocket:WebSocketSink", "nowhere", UsageError),
        ("websocket:WebSocketSink", "192.0.2.1:8765", OutputError),
    ],
)
def test_bad_addresses_are_one_line(module, attempt, error):
    name, _, kind = module.partition(":")
    opened = __import__(f"kpedge.runtime.sinks.{name}", fromlist=[kind])
    for needed in {"mqtt": "paho", "osc": "pythonosc", "websocket": "websockets"}[name].split():
        pytest.importorskip(needed)
    with pytest.raises(error) as caught:
        getattr(opened, kind)(attempt)
    assert "\n" not in str(caught.value)
    assert caught.value.advice


def show_all(sink):
    """Two frames with a face, one of them in doubt, and one without."""
    empty = replace(live(2), faces=())
    photo = replace(frame(3), still=True)
    for shown in (frame(0), frame(1, keypoints=np.empty((0, 2)), pose=None, id=None), empty, photo):
        sink.show(replace(shown, source="caf\udce9.mp4"))  # as paths are whose bytes are not UTF-8


def test_csv_rows_hold_the_faces(tmp_path):
    path = tmp_path / "out" / "faces.csv"
    sink = CsvSink(path, FACES21, features=True)
    show_all(sink)
    assert not path.exists()
    assert (tmp_path / "out" / "faces.part.csv").read_text().count("\n") == 5  # whatever happens next is not lost
    sink.close()
    sink.close()
    sink.show(frame())
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*FRAME, *face_columns(FACES21, features=True)]
    assert {row["image"] for row in rows} == {r"caf\udce9.mp4"}
    assert [row["frame"] for row in rows] == ["0", "1", "2", ""]
    assert [row["id"] for row in rows] == ["1", "", "", "1"]
    assert float(rows[0]["nose_tip_x"]) == pytest.approx(face_of().keypoints[18, 0], abs=1e-3)
    assert (rows[0]["yaw"], rows[0]["smile"], rows[0]["z_mm"]) == ("20.0", "0.5", "")
    assert rows[1]["nose_tip_x"] == rows[2]["x1"] == ""
    with pytest.raises(OutputError, match=r"faces\.csv exists already"):
        CsvSink(path, FACES21)


@pytest.mark.parametrize(
    ("values", "named"),
    [({"csv": Path("a.x"), "parquet": Path("b/../a.x")}, "--csv"), ({"record": Path("in.mp4")}, "in.mp4")],
    ids=["two outputs", "the source"],
)
def test_no_output_replaces_another_or_the_source(values, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    context = OutputContext(None, FACES21, None, print, force=True)
    with pytest.raises(UsageError, match=named):
        list(open_outputs(OUTPUTS, dict.fromkeys(one.name for one in OUTPUTS) | values, context, ["in.mp4"]))
    assert list(tmp_path.iterdir()) == []


def test_parquet_holds_the_same_table(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    from kpedge.runtime.sinks import parquet as sinks

    monkeypatch.setattr(sinks, "GROUP", 2)
    path = tmp_path / "faces.parquet"
    with closing(sinks.ParquetSink(path, FACES21, features=True)) as sink:
        show_all(sink)
        assert not path.exists()
    table = parquet.read_table(path)
    assert table.column_names == [*FRAME, *face_columns(FACES21, features=True)]
    assert set(table["image"].to_pylist()) == {r"caf\udce9.mp4"}
    assert table["frame"].to_pylist() == [0, 1, 2, None]
    assert table["yaw"].to_pylist() == [20.0, None, None, 20.0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["faces.parquet"]
    with closing(sinks.ParquetSink(tmp_path / "none.parquet", FACES21)):
        pass
    assert parquet.read_table(tmp_path / "none.parquet").num_rows == 0


def test_documents_say_size_and_scheme_and_names_where_asked_for():
    document = frame().to_dict()
    height, width = frame().frame.image.shape[:2]
    assert (document["size"], document["scheme"]) == ([width, height], "faces21")
    assert "names" not in document
    assert replace(frame(), names=True).to_dict()["names"] == list(FACES21.points)
