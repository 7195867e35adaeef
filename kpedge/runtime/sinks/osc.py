"""Faces as Open Sound Control messages, for music, light and visuals (TouchDesigner, Max, Pure Data)."""

from collections.abc import Iterator
from typing import Any

from kpedge.core.extras import importable
from kpedge.core.faces import Face
from kpedge.runtime.sinks.sink import LiveFrame
from kpedge.runtime.sinks.udp import Datagrams


class OscSink:
    """Sends one OSC bundle per frame to `HOST:PORT`: `/kpedge/frame NUMBER SECONDS FACES`, and the messages of each
    face below `/kpedge/face/ID`.

    Raises:
        UsageError: the address cannot be understood.
        OutputError: no such host.
        MissingExtraError: python-osc is not installed.
    """

    def __init__(self, address: str, flag: str = "--osc") -> None:
        self._message: Any = importable("pythonosc.osc_message_builder", "osc").OscMessageBuilder
        self._bundle: Any = importable("pythonosc.osc_bundle_builder", "osc")
        self._datagrams = Datagrams(address, flag)

    def show(self, live: LiveFrame) -> None:
        """Send a frame; a face that does not fit into the datagram any more goes into another one."""
        messages = list(self.messages(live))
        while messages and not self._datagrams.send(self._encode(messages)):
            messages = messages[: len(messages) // 2]  # a system with short datagrams

    def messages(self, live: LiveFrame) -> Iterator[tuple[str, list[Any]]]:
        """The addresses and values of a frame."""
        yield "/kpedge/frame", [live.frame.number, float(live.frame.time_s), len(live.faces)]
        for number, face in enumerate(live.faces, 1):
            at = f"/kpedge/face/{face.id or number}"
            yield from ((f"{at}/{name}", values) for name, values in face_values(face))

    def close(self) -> None:
        self._datagrams.close()

    def _encode(self, messages: list[tuple[str, list[Any]]]) -> bytes:
        bundle = self._bundle.OscBundleBuilder(self._bundle.IMMEDIATELY)
        for address, values in messages:
            message = self._message(address)
            for value in values:
                message.add_arg(value)
            bundle.add_content(message.build())
        return bytes(bundle.build().dgram)


def face_values(face: Face) -> Iterator[tuple[str, list[float]]]:
    """What is sent of a face: box (x1 y1 x2 y2) and points (x y …) in pixels, score, pose in degrees, features."""
    yield "box", face.box.tolist()
    yield "score", [float(face.score or 0)]
    yield "points", face.keypoints.reshape(-1).tolist()
    if face.pose is not None:
        yield "pose", [face.pose.yaw, face.pose.pitch, face.pose.roll]
    if face.features is not None:
        yield from ((f"features/{name}", [v]) for name, v in face.features.to_dict().items() if v is not None)
