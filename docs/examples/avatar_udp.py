"""Move an avatar: the head pose of each tracked face as a UDP datagram of JSON, or as OSC.

python avatar_udp.py 0 127.0.0.1:9000            # JSON: {"id": 1, "yaw": 12.3, "pitch": -4.0, "roll": 1.5}
python avatar_udp.py video.mp4 127.0.0.1:9000 osc  # OSC: /face/1 yaw pitch roll
"""

from __future__ import annotations

import json
import socket
import struct
import sys

import kpedge


def osc_message(address: str, numbers: tuple[float, ...]) -> bytes:
    """An OSC 1.0 message of 32-bit floats: each text ends with a zero byte and fills up to a multiple of four."""

    def text(value: str) -> bytes:
        data = value.encode() + b"\0"
        return data + bytes(-len(data) % 4)

    return text(address) + text("," + "f" * len(numbers)) + struct.pack(f">{len(numbers)}f", *numbers)


def main(source: int | str, receiver: tuple[str, int], *, osc: bool = False) -> None:
    """Track the faces of a camera or video, and send their poses until it ends."""
    model = kpedge.load("stage3")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for _frame, faces in model.track(source):
            for face in faces:
                if face.pose is None or face.id is None:
                    continue
                angles = (face.pose.yaw, face.pose.pitch, face.pose.roll)  # degrees
                if osc:
                    out.sendto(osc_message(f"/face/{face.id}", angles), receiver)
                else:
                    named = dict(zip(("yaw", "pitch", "roll"), (round(angle, 2) for angle in angles), strict=True))
                    out.sendto(json.dumps({"id": face.id, **named}).encode(), receiver)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    given, (host, _, port) = sys.argv[1], sys.argv[2].rpartition(":")
    main(int(given) if given.isdecimal() else given, (host, int(port)), osc=sys.argv[3:] == ["osc"])
