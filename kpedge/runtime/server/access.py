"""Who may look: token, host name, origin, and the headers that keep the page to itself."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kpedge.core.errors import UsageError

_TOKEN = re.compile(r"[A-Za-z0-9._~-]{8,128}")
_LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer. Nothing is loaded from elsewhere, and no other site can show the pictures or frame the page."""


def new_token() -> str:
    """A token that nobody guesses: 128 random bits."""
    return secrets.token_urlsafe(16)


def check_token(token: str) -> str:
    """A token that people chose.

    Raises:
        UsageError: it is short, or would have to be written differently in an address.
    """
    if not _TOKEN.fullmatch(token):
        raise UsageError("--serve-token: a token has 8 to 128 letters, digits or . _ ~ -", f"for example {new_token()}")
    return token


def host_name(header: str) -> str:
    """The host of a Host header or an origin's host and port, without the port, in lower case."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


class Guard:
    """Lets a request through, or refuses it.

    Args:
        app: what answers.
        token: what everybody has to show; None where only this machine can reach the server.
        loopback: only this machine can reach the server: a request by any name but this machine's own comes from a page
            of another site, whose name was made to point here (DNS rebinding).
        port: on which the server listens; cookies are not told apart by port, so it is part of the cookie's name.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, loopback: bool, port: int) -> None:
        self._app, self._token, self._loopback = app, token, loopback
        self._cookie = f"kpedge-{port}"
        # What the browser keeps is not the token itself, and has no character that a cookie cannot hold.
        self._secret = hashlib.sha256(f"kpedge cookie {token}".encode()).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        by_query = self._by_query(scope)
        problem = self._problem(scope, headers, by_query)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                given.setdefault("Cache-Control", "no-store")
                for name, value in HEADERS.items():
                    given[name] = value
                if by_query and not problem:
                    given["Set-Cookie"] = f"{self._cookie}={self._secret}; Path=/; HttpOnly; SameSite=Strict"
            await send(message)

        if problem is None:
            await self._app(scope, receive, send_guarded)
        else:
            await problem(scope, receive, send_guarded)

    def _problem(self, scope: Scope, headers: Headers, by_query: bool) -> JSONResponse | None:
        host = headers.get("host", "")
        if self._loopback and not _LOOPBACK.fullmatch(host_name(host)):
            return _refuse(403, "this preview answers to localhost only; forward the port, or serve on another address")
        if self._token is not None and not (by_query or self._by_cookie(headers) or self._by_header(headers)):
            return _refuse(
                401, "a token is needed: open the address that kpedge printed", {"WWW-Authenticate": "Bearer"}
            )
        if scope["method"] not in ("GET", "HEAD") and not _same_origin(headers, host):
            return _refuse(403, "another site's page may not control this preview")
        return None

    def _by_query(self, scope: Scope) -> bool:
        if self._token is None or scope["method"] not in ("GET", "HEAD"):
            return False
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        return _equal(given, self._token)

    def _by_cookie(self, headers: Headers) -> bool:
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return self._cookie in cookies and _equal(cookies[self._cookie].value, self._secret)

    def _by_header(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and self._token is not None and _equal(given.strip(), self._token)


def _equal(given: str, wanted: str) -> bool:
    """Whether two secrets are the same, in a time that does not tell how much of them is."""
    return secrets.compare_digest(given.encode(errors="replace"), wanted.encode())


def _same_origin(headers: Headers, host: str) -> bool:
    """Whether a request comes from the page itself, or from no page at all."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or _netloc(origin) == host.lower()


def _netloc(origin: str) -> str:
    """Host and port of an origin, in lower case; empty where it has none (`null`)."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _refuse(status: int, reason: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": reason}, status, headers)
