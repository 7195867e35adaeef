"""Network addresses: which are streams, and how they are shown without their passwords."""

from __future__ import annotations

import re

SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp")
"""Protocols of streams."""
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
SECRET = re.compile(r"(?i)([?&;](?:[^=&#]*(?:user|usr|login|pass|pwd|token|key|auth|secret)[^=&#]*)=)[^&;#]*")
HIDDEN = "***"


def scheme_of(text: str) -> str:
    """Protocol of an address, in small letters; empty if the text is no address."""
    match = ADDRESS.match(text)
    return match.group(1).lower() if match else ""


def mask_address(text: str) -> str:
    """An address with user name and password, and what looks like them in its query, replaced by stars."""
    match = ADDRESS.match(text)
    if not match:
        return text
    rest = text[match.end() :]
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    end = host.rfind("@")
    # A password may contain a slash that should have been written %2F: then what looks like the port is no number.
    if end < 0 and not re.fullmatch(r"(?:\[[^]]*\]|[^:]*)(?::\d*)?", host):
        end = rest.rfind("@")
    if end >= 0:
        rest = HIDDEN + rest[end:]
    return match.group(0) + SECRET.sub(rf"\g<1>{HIDDEN}", rest)
