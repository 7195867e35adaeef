"""Faces as JSON: lines on a stream, or datagrams for an avatar or a robot."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from kpedge.core.errors import OutputError, UsageError
from kpedge.core.geometry import box_size
from kpedge.runtime.sinks.outputs import OutputContext
from kpedge.runtime.sinks.sink import Controls, LiveFrame

LONGEST_DATAGRAM = 65507
"""Bytes that a UDP datagram can hold over IPv4; some systems allow less."""
EXAMPLE = "write HOST:PORT, as in --udp 127.0.0.1:9000 or --udp '[::1]:9000'"


def encode(document: dict[str, Any]) -> str:
    """A document as one line of JSON; bytes of a file name that are not UTF-8 are escaped."""
    text = json.dumps(document, ensure_ascii=False, separators=(", ", ": "))
    return text.encode("utf-8", "backslashreplace").decode()


class LinesSink:
    """Writes one line of JSON per frame, each flushed at once; a slow reader is waited for.

    Args:
        stream: takes the lines; it is not closed.
        controls: set to stop when the reader has gone.
    """

    def __init__(self, stream: TextIO, controls: Controls) -> None:
        self._stream: TextIO | None = stream
        self._controls = controls

    def show(self, live: LiveFrame) -> None:
        """Write a frame's line.

        Raises:
            OutputError: the stream cannot be written; raised once.
        """
        stream = self._stream
        if stream is None:
            return
        try:
            stream.write(encode(live.to_dict()) + "\n")
            stream.flush()
        except BrokenPipeError:
            self._abandon(stream)
            self._controls.stopping.set()
        except OSError as error:
            self._abandon(stream)
            raise OutputError(
                f"cannot write JSON lines: {error.strerror or error}", "check the free disk space where they go"
            ) from error

    def _abandon(self, stream: TextIO) -> None:
        """Python tries to write what is left when it ends, and would complain then."""
        self._stream = None
        try:
            number = stream.fileno()
        except (OSError, ValueError):
            return  # not a file of the system
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)

    def close(self) -> None:
        """Nothing is left to write."""
        self._stream = None


def open_lines(_: bool, context: OutputContext) -> LinesSink:
    """JSON lines on standard output."""
    return LinesSink(sys.stdout, context.controls)


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; an IPv6 address is in brackets.

    Raises:
        UsageError: it is not written so.
    """
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise UsageError(f"{address}: an IPv6 address stands in brackets", EXAMPLE)
    if not host or any(letter.isspace() or letter in "[]/" for letter in host):
        raise UsageError(f"{address!r} is not an address", EXAMPLE)
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"{address!r} names no port from 1 to 65535", EXAMPLE)
    return host, int(port)


class UdpSink:
    """Sends one datagram of JSON per frame, whether or not anybody listens.

    Args:
        address: `HOST:PORT`.
        notice: called once if a frame has more faces than fit into a datagram.

    Raises:
        UsageError: the address cannot be understood.
        OutputError: no such host.
    """

    def __init__(self, address: str, notice: Callable[[str], None] = lambda _: None) -> None:
        host, port = parse_address(address)
        try:
            family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            self._socket: socket.socket | None = socket.socket(family, kind, protocol)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise OutputError(f"cannot send to {address}: {reason}", "check the host's name and the network") from error
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._address, self._target, self._notice = address, target, notice
        self._limit, self._told = LONGEST_DATAGRAM, False

    def show(self, live: LiveFrame) -> None:
        """Send a frame's faces, or the largest of them if they do not fit into a datagram. What the network does not
        accept is lost.
        """
        if self._socket is None:
            return
        document = live.to_dict()
        data = encode(document).encode()
        while True:
            if len(data) > self._limit:
                sizes = [float(box_size(face.box)) for face in live.faces]
                data = largest_faces(document, sizes, self._limit)
                if not self._told:
                    self._told = True
                    self._notice(f"{self._address}: more faces than fit into a datagram; the smallest are left out")
                if len(data) > self._limit:
                    return
            try:
                self._socket.sendto(data, self._target)
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    self._limit = min(self._limit, len(data)) * 3 // 4
                    continue
            return

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def open_udp(address: str, context: OutputContext) -> UdpSink:
    """Datagrams to HOST:PORT."""
    return UdpSink(address, context.notify)


def largest_faces(document: dict[str, Any], sizes: Sequence[float], limit: int) -> bytes:
    """A frame's document with as many of its faces as fit, the largest first chosen, in their order.

    Args:
        document: as `LiveFrame.to_dict` gives it.
        sizes: of the faces, in its order.
        limit: bytes; a document without faces may be longer.
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
