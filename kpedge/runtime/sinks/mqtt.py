"""Faces as JSON to an MQTT broker, for home automation and robots."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from kpedge.core.errors import OutputError, UsageError
from kpedge.core.extras import importable
from kpedge.runtime.server.address import parse_address
from kpedge.runtime.sinks.lines import encode
from kpedge.runtime.sinks.sink import LiveFrame

PORT = 1883
CONNECT_S = 5.0  # seconds that the broker may take to answer


class MqttSink:
    """Publishes one document per frame to `[USER:PASSWORD@]HOST[:PORT]/TOPIC`, without confirmation (QoS 0). While the
    broker is away, or too slow, frames are left out; it is reconnected in the background, and `notify` is called.

    Raises:
        UsageError: the address cannot be understood.
        OutputError: the broker does not answer, or refuses.
        MissingExtraError: paho-mqtt is not installed.
    """

    def __init__(self, address: str, notify: Callable[[str], None] = lambda _: None) -> None:
        paho: Any = importable("paho.mqtt.client", "mqtt")
        user, at, rest = address.rpartition("@")
        where, _, self._topic = rest.partition("/")
        if not self._topic or re.search(r"[#+\0]", self._topic):
            raise UsageError(f"--mqtt {rest}: no topic", "write HOST:PORT/TOPIC, as in --mqtt localhost:1883/faces")
        parsed = parse_address(where if re.search(r":\d+$", where) else f"{where}:{PORT}", "--mqtt", host=None)
        self._name, self._notify = f"{parsed}/{self._topic}", notify
        self._info: Any = None
        self._client: Any = paho.Client(paho.CallbackAPIVersion.VERSION2)
        if at:
            name, _, password = user.partition(":")
            self._client.username_pw_set(unquote(name), unquote(password) or None)
        self._client.connect_timeout = CONNECT_S
        self._client.reconnect_delay_set(1, 30)
        self._closed = self._lost = False
        self._client.on_connect, self._client.on_disconnect = self._connected, self._disconnected
        try:
            self._client.connect(parsed.host, parsed.port)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise OutputError(f"--mqtt {self._name}: no broker answers: {reason}", "check host and port") from error
        self._client.loop_start()

    def _connected(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._notify(f"--mqtt {self._name}: the broker refuses: {reason}")
        elif self._lost:
            self._notify(f"--mqtt {self._name}: back")
        self._lost = reason.is_failure

    def _disconnected(self, _client: Any, _data: Any, _flags: Any, _reason: Any, _properties: Any) -> None:
        if not (self._closed or self._lost):
            self._lost = True
            self._notify(f"--mqtt {self._name}: lost, waiting for it")

    def show(self, live: LiveFrame) -> None:
        """Publish a frame, unless the one before has not left yet."""
        waiting = self._info is not None and self._info.rc == 0 and not self._info.is_published()
        if not self._closed and self._client.is_connected() and not waiting:
            self._info = self._client.publish(self._topic, encode(live.to_dict()).encode())

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._client.disconnect()
            self._client.loop_stop()
