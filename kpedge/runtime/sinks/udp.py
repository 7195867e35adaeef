"""Faces as datagrams of JSON, for an avatar or a robot; and the socket that other outputs by UDP share."""

import errno
import socket
from collections.abc import Callable, Sequence
from typing import Any

from kpedge.core.errors import OutputError
from kpedge.core.geometry import box_size
from kpedge.runtime.server.address import parse_address
from kpedge.runtime.sinks.lines import encode
from kpedge.runtime.sinks.sink import LiveFrame

LONGEST_DATAGRAM = 65507  # bytes that a UDP datagram can hold over IPv4; some systems allow less


class Datagrams:
    """Sends datagrams to `HOST:PORT`, whether or not anybody listens; what the network does not accept is lost.

    Raises:
        UsageError: the address cannot be understood.
        OutputError: no such host.
    """

    def __init__(self, address: str, flag: str) -> None:
        parsed = parse_address(address, flag, host=None)
        try:
            found = socket.getaddrinfo(parsed.host, parsed.port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, target = found[0]
            self._target: Any = target
            self._socket = socket.socket(family, kind, protocol)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise OutputError(f"cannot send to {address}: {reason}", "check the host's name and the network") from error
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)

    def send(self, data: bytes) -> bool:
        """Send a datagram; False if it is too long for this system."""
        try:
            self._socket.sendto(data, self._target)
        except OSError as error:
            return error.errno != errno.EMSGSIZE
        return True

    def close(self) -> None:
        self._socket.close()


class UdpSink:
    """Sends one datagram of JSON per frame; `notice` is called once if a frame has more faces than fit into one.

    Raises:
        UsageError: the address cannot be understood.
        OutputError: no such host.
    """

    def __init__(self, address: str, notice: Callable[[str], None] = lambda _: None) -> None:
        self._datagrams, self._address, self._notice = Datagrams(address, "--udp"), address, notice
        self._limit, self._reported = LONGEST_DATAGRAM, False

    def show(self, live: LiveFrame) -> None:
        """Send a frame's faces, or the largest of them if they do not fit into a datagram."""
        document = live.to_dict()
        data = encode(document).encode()
        while len(data) > self._limit or not self._datagrams.send(data):
            self._limit = min(self._limit, len(data) * 3 // 4 if len(data) <= self._limit else self._limit)
            data = largest_faces(document, [float(box_size(face.box)) for face in live.faces], self._limit)
            if not self._reported:
                self._reported = True
                self._notice(f"{self._address}: more faces than fit into a datagram; the smallest are left out")
            if len(data) > self._limit:
                return

    def close(self) -> None:
        self._datagrams.close()


def largest_faces(document: dict[str, Any], sizes: Sequence[float], limit: int) -> bytes:
    """A frame's document with as many of its faces, whose sizes are given, as fit into a limit of bytes, the largest
    first chosen, in their order; without faces it may be longer.
    """
    faces = document["faces"]
    length = len(encode({**document, "faces": []}).encode())
    kept: list[int] = []
    for place in sorted(range(len(faces)), key=lambda place: -sizes[place]):
        length += len(encode(faces[place]).encode()) + 2  # a comma and a space
        if length > limit:
            break
        kept.append(place)
    return encode({**document, "faces": [faces[place] for place in sorted(kept)]}).encode()
