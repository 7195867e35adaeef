"""Where the preview listens: parse the address, open the socket, and name the address to open in a browser."""

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass

from kpedge.core.errors import OutputError, UsageError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
_SEND_BUFFER = 256 * 1024  # bytes that the kernel holds for a slow browser: a few images, not seconds
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str = DEFAULT_HOST  # an IP address (without brackets) or a host's name
    port: int = DEFAULT_PORT  # 0 to 65535; 0 takes any that is free

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, flag: str = "--serve", *, host: str | None = DEFAULT_HOST) -> Address:
    """Parse `HOST:PORT` or `[IPV6]:PORT`; for a listener also `PORT` and `:PORT`, which mean `host`, this machine only.
    With None, for another program's address, there has to be a host. Errors name the flag.

    Raises:
        UsageError: not of that form, or a port that there is not.
    """
    forms = "HOST:PORT or [IPV6]:PORT" if host is None else "HOST:PORT, [IPV6]:PORT or PORT"
    advice = f"write {forms}, for example {flag} {Address(port=9000 if host is None else DEFAULT_PORT)}"
    name, _, port = text.strip().rpartition(":")
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
        try:
            ipaddress.IPv6Address(name)
        except ValueError:
            raise UsageError(f"{flag} {text}: {name!r} is not an IPv6 address", advice) from None
    elif ":" in name:
        raise UsageError(f"{flag} {text}: write an IPv6 address in brackets", advice)
    elif (name and not _HOST_NAME.fullmatch(name)) or not (name or host):
        raise UsageError(f"{flag} {text}: {name!r} is not a host", advice)
    if not (port.isascii() and port.isdigit() and (host is None) <= int(port) <= 65535):
        reason = f"{port!r} is not a port" if port else "the port is missing"
        raise UsageError(f"{flag} {text}: {reason}", advice)
    return Address(name or host or "", int(port))


def bind(address: Address, flag: str = "--serve") -> socket.socket:
    """A socket that is bound to an address.

    Raises:
        OutputError: the port is taken or not allowed, or this machine has no such address.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise OutputError(
            f"{flag} {address}: host not found: {error.strerror}", f"for this machine only: {Address()}"
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        # A restart finds the port free although old connections still linger.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)  # connections inherit it
        listener.bind(where)
        listener.listen()
    except OSError as error:
        listener.close()
        raise _explain(address, flag, error) from error
    return listener


def _explain(address: Address, flag: str, error: OSError) -> OutputError:
    if error.errno == errno.EADDRINUSE:
        return OutputError(
            f"{flag} {address}: the port is in use",
            "choose another, or 0 for any that is free",
        )
    if error.errno == errno.EACCES:
        return OutputError(f"{flag} {address}: no permission", "choose a port from 1024 on")
    if error.errno == errno.EADDRNOTAVAIL:
        return OutputError(
            f"{flag} {address}: this machine has no such address",
            f"to listen on all of its addresses: 0.0.0.0:{address.port}",
        )
    return OutputError(f"{flag} {address}: cannot listen: {error.strerror}", "choose another address")


def reachable_host(host: str) -> str:
    """The host to open in another machine's browser: for `0.0.0.0`, an address of this machine."""
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return host
    if not everywhere:
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: the system only names the address that it would send from. 192.0.2.1 is for documentation
            # (RFC 5737).
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
