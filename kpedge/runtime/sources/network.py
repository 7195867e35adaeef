"""Network streams: RTSP by FFmpeg, and MJPEG over HTTP by the standard library.

FFmpeg ends an MJPEG stream at its first broken frame, and cannot be stopped while it waits; reading it here has
neither fault, and costs nothing: the pictures are cut out by their markers and decoded by OpenCV.
"""

from __future__ import annotations

import functools
import http.client
import socket
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import cv2

from kpedge.core.errors import ImageError, SourceError
from kpedge.core.geometry import Image
from kpedge.core.images import decode_image
from kpedge.runtime.sources.addresses import masked
from kpedge.runtime.sources.capture import Capture, quieten, stream_backend
from kpedge.runtime.sources.jpegs import LIMIT, JpegSplitter

CHUNK = 65536
AGENT = "kpedge"


@dataclass(slots=True)
class Links:
    """The connections that one address took: there may be redirections, and questions for a password.

    Attributes:
        sockets: of the connections.
        responses: their answers; the last is the stream.
    """

    sockets: list[socket.socket] = field(default_factory=list)
    responses: list[http.client.HTTPResponse] = field(default_factory=list)

    def shut_down(self) -> None:
        """End a read that waits, from another thread."""
        for one in self.sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:  # it is down already
                continue

    def close(self) -> None:
        """Let go of all."""
        for response in self.responses:
            response.close()
        for one in self.sockets:
            one.close()


class MultipartCapture:
    """MJPEG over HTTP, with the interface of `cv2.VideoCapture`.

    Args:
        response: whose body is the stream.
        links: its connection.
        limit: bytes after which a picture that does not end is given up.
    """

    def __init__(self, response: Any, links: Links, limit: int = LIMIT) -> None:
        self._response, self._links = response, links
        self._splitter = JpegSplitter(limit)
        self._waiting: deque[bytes | None] = deque()
        self._current: bytes | None = None

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        """Always: it is made of an open connection."""
        return True

    def grab(self) -> bool:
        """Wait for the next picture, whole or broken; False when the stream ends or stalls."""
        while not self._waiting:
            broken = self._splitter.broken
            try:
                data = self._response.read1(CHUNK)
            except (OSError, http.client.HTTPException, ValueError):  # ValueError: closed by another thread
                return False
            if not data:
                return False
            whole = self._splitter.feed(data)
            self._waiting.extend([None] * (self._splitter.broken - broken))
            self._waiting.extend(whole)
        self._current = self._waiting.popleft()
        return True

    def retrieve(self) -> tuple[bool, Image | None]:
        """Decode it."""
        if self._current is None:
            return False, None
        try:
            return True, decode_image(self._current, "stream")
        except ImageError:
            return False, None

    def get(self, prop: int, /) -> float:
        """The format; nothing else is known."""
        return float(cv2.VideoWriter.fourcc(*"MJPG")) if prop == cv2.CAP_PROP_FOURCC else 0.0

    def set(self, prop: int, value: float, /) -> bool:  # noqa: ARG002
        """Nothing can be asked for."""
        return False

    def interrupt(self) -> None:
        """End a `grab` that waits, from another thread."""
        self._links.shut_down()

    def release(self) -> None:
        """Close the connection."""
        self._links.close()


def open_stream(address: str, timeout_s: float) -> Capture:
    """Connect to a stream.

    Args:
        address: with the user's name and password in it, where it needs them.
        timeout_s: for the connection, and for each frame.

    Raises:
        SourceError: it cannot be reached, refuses, or is no stream.
    """
    if address.lower().startswith(("http:", "https:")):
        multipart = _open_multipart(address, timeout_s)
        if multipart is not None:
            return multipart
    quieten()
    milliseconds = round(1000 * timeout_s)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds, cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds]
    capture = cv2.VideoCapture(address, stream_backend(), limits)
    if not capture.isOpened():
        capture.release()
        raise SourceError(
            f"{masked(address)}: cannot be opened", "check the address, the name and password in it, and the network"
        )
    return capture


def _open_multipart(address: str, timeout_s: float) -> MultipartCapture | None:
    """The stream, or None where the server gives something else, which FFmpeg may know."""
    links = Links()
    try:
        response = _request(address, timeout_s, links)
        if response.headers.get_content_maintype() == "multipart":
            return MultipartCapture(response, links)
    except SourceError:
        links.close()
        raise
    links.close()
    return None


def _request(address: str, timeout_s: float, links: Links) -> Any:
    shown = masked(address)
    plain, name, password = _without_login(address)
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if name:
        passwords.add_password(None, plain, name, password)
    opener = urllib.request.build_opener(
        _Plain(links),
        _Secure(links),
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPDigestAuthHandler(passwords),
    )
    network = "check the address and the network"
    try:
        request = urllib.request.Request(plain, headers={"User-Agent": AGENT})  # noqa: S310 (the scheme is HTTP)
        with warnings.catch_warnings():
            # Many cameras write their realm without the quotes; urllib takes it, and warns of it.
            warnings.filterwarnings("ignore", "Basic Auth Realm was unquoted", UserWarning)
            return opener.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            raise SourceError(
                f"{shown}: the server refuses (HTTP {error.code})",
                "give the right name and password: http://NAME:PASSWORD@HOST/",
            ) from error
        raise SourceError(
            f"{shown}: the server answers HTTP {error.code} {error.reason}", "check the address"
        ) from error
    except urllib.error.URLError as error:
        reason = error.reason.strerror if isinstance(error.reason, OSError) else error.reason
        raise SourceError(f"{shown}: cannot connect: {reason or error.reason}", network) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SourceError(f"{shown}: cannot connect: {error}", network) from error


def _without_login(address: str) -> tuple[str, str, str]:
    """An address without the name and password in it, and these."""
    parts = urllib.parse.urlsplit(address)
    login, _, host = parts.netloc.rpartition("@")
    name, _, password = login.partition(":")
    plain = urllib.parse.urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    return plain, urllib.parse.unquote(name), urllib.parse.unquote(password)


class _Recording(http.client.HTTPConnection):
    """Keeps what urllib keeps to itself: the socket, and the answers that it asked again after."""

    def __init__(self, host: str, *, links: Links, **options: Any) -> None:
        super().__init__(host, **options)
        self._links = links

    def connect(self) -> None:
        super().connect()
        self._links.sockets.append(self.sock)

    def getresponse(self) -> http.client.HTTPResponse:
        response = super().getresponse()
        self._links.responses.append(response)
        return response


class _RecordingSecure(_Recording, http.client.HTTPSConnection):
    """The same for HTTPS."""


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, links: Links) -> None:
        super().__init__()
        self._links = links

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_Recording, links=self._links), req)


class _Secure(urllib.request.HTTPSHandler):
    def __init__(self, links: Links) -> None:
        super().__init__()
        self._links = links

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_RecordingSecure, links=self._links), req)
