"""Who may use the preview: token, host name and origin, and the headers that keep other sites out."""

import hashlib
import os
import re
import secrets
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import urlsplit

from kpedge.core.errors import UsageError
from kpedge.core.files import read_bytes
from kpedge.runtime.server.http import RefusedError, Request

VARIABLE = "KPEDGE_SERVE_TOKEN"
TOKEN = re.compile(r"[A-Za-z0-9._~-]{8,128}")
LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1")
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every response: nothing is loaded from elsewhere, and no other site can show the images or frame the page."""


def new_token() -> str:
    """A token that nobody can guess: 128 random bits."""
    return secrets.token_urlsafe(16)


def find_token(token: str | None, file: Path | None) -> str | None:
    """The token: that of `--serve-token`, or from `--serve-token-file`, or from the variable `KPEDGE_SERVE_TOKEN`.

    Other users of the machine can read the first in the list of processes, but not the others.

    Raises:
        UsageError: both options are given, or the file cannot be read.
    """
    if token is not None and file is not None:
        raise UsageError("--serve-token and --serve-token-file cannot be combined", "use the file")
    if file is None:
        return token if token is not None else os.environ.get(VARIABLE)
    return read_bytes(file, UsageError, limit=1024).decode("latin-1").strip()


def choose_token(token: str | None, *, loopback: bool) -> str | None:
    """The token that the user chose, or else a new one for a server that other machines can reach (not `loopback`).

    Raises:
        UsageError: it is too short, or has characters that an address would have to escape.
    """
    if token is None:
        return None if loopback else new_token()
    if not TOKEN.fullmatch(token):
        raise UsageError(
            "the token of --serve must have 8 to 128 letters, digits or . _ ~ -",
            f"for example {new_token()}",
        )
    return token


class Access:
    """Lets a request through, or refuses it: without the token, if there is one, or, if only this machine can reach the
    server (`loopback`), for any host name but its own: it comes from a page of another site whose name was made to
    point here (DNS rebinding). Browsers share cookies between ports, so the port is part of the cookie's name.
    """

    def __init__(self, token: str | None, loopback: bool, port: int) -> None:
        self._token, self._loopback, self._cookie = token, loopback, f"kpedge-{port}"
        # The cookie is not the token itself, and has only characters that a cookie can hold.
        self._secret = hashlib.sha256(f"kpedge cookie {token}".encode()).hexdigest()

    def check(self, request: Request) -> dict[str, str]:
        """Headers of the response to a request that is let through: a cookie in place of a token in the address.

        Raises:
            RefusedError: it is not let through.
        """
        headers, host = request.headers, request.headers.get("host", "")
        if self._loopback and not LOOPBACK.fullmatch(_host_name(host)):
            raise RefusedError(403, "this preview answers to localhost only: forward the port, or use another --serve")
        reads = request.method in ("GET", "HEAD")
        in_query = reads and self._matches(request.query.get("token", ""))
        if self._token is not None and not (in_query or self._in_cookie(headers.get("cookie", ""))):
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not self._matches(given.strip()):
                advice = "a token is needed: open the address that kpedge printed"
                raise RefusedError(401, advice, {"WWW-Authenticate": "Bearer"})
        # A link on another site may open the page, which cannot be framed; nothing else may come from there.
        is_link = request.path == "/" and reads and headers.get("sec-fetch-dest") == "document"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not is_link:
            raise RefusedError(403, "pages of other sites may not use this preview")
        if not reads and headers.get("origin", "") and _netloc(headers["origin"]) != host.lower():
            raise RefusedError(403, "pages of other sites may not control this preview")
        return {"Set-Cookie": f"{self._cookie}={self._secret}; Path=/; HttpOnly; SameSite=Strict"} if in_query else {}

    def _matches(self, given: str) -> bool:
        return self._token is not None and secrets.compare_digest(given.encode(), self._token.encode())

    def _in_cookie(self, header: str) -> bool:
        try:
            cookies = SimpleCookie(header)
        except CookieError:
            return False
        return self._cookie in cookies and secrets.compare_digest(
            cookies[self._cookie].value.encode(), self._secret.encode()
        )


def _host_name(header: str) -> str:
    """The host of a Host header, without the port, in lower case."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


def _netloc(origin: str) -> str:
    """Host and port of an origin, in lower case; empty if it has none (`null`)."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
