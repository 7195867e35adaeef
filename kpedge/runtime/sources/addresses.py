"""Network addresses: which are streams, and how they are shown without their passwords."""

from __future__ import annotations

import re

SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp")
"""Protocols of streams."""
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
SECRET = re.compile(r"(?i)([?&;](?:[^=&#]*(?:user|usr|login|pass|pwd|token|key|auth|secret)[^=&#]*)=)[^&;#]*")
HIDDEN = "***"


def scheme_of(text: str) -> str:
    """The protocol that an address begins with, in small letters; empty when the text is no address."""
    found = ADDRESS.match(text)
    return found.group(1).lower() if found else ""


def masked(text: str) -> str:
    """An address with the user's name and password, and what looks like them in its query, replaced by stars."""
    found = ADDRESS.match(text)
    if not found:
        return text
    rest = text[found.end() :]
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    end = host.rfind("@")
    # A password may hold a slash that ought to have been written %2F: then what looks like the port is no number.
    if end < 0 and not re.fullmatch(r"(?:\[[^]]*\]|[^:]*)(?::\d*)?", host):
        end = rest.rfind("@")
    if end >= 0:
        rest = HIDDEN + rest[end:]
    return found.group(0) + SECRET.sub(rf"\g<1>{HIDDEN}", rest)
