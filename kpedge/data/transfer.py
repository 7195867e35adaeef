"""One request for a file over HTTP: which addresses may be asked, what comes back, and which failures may pass.

Only http and https are ever opened, whatever a server redirects to, and never http after https. Proxies are those of
the environment (`http_proxy`, `https_proxy`, `no_proxy`) or the system.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from typing import IO, Any, NoReturn

from kpedge import __version__
from kpedge.core.errors import DownloadError, UsageError

CHUNK = 1 << 18
"""Most bytes that are read at once."""
REDIRECTS = 5
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers of a server that has trouble now and may have none later."""
KEPT_HEADERS = ("Range", "If-range", "Accept")
"""Headers that go along when a server redirects; a proxy's password, above all, does not."""


class Interruption(Exception):  # noqa: N818 (never leaves the download)
    """A failure that may pass.

    Args:
        reason: what happened.
        wait_s: how long the server asks to wait, seconds; None where it does not say.
    """

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answers.

    Attributes:
        start: the byte of the file at which the body begins.
        total: bytes of the whole file; None where the server does not say.
        end: the byte before which the body ends; None where the server does not say.
        validator: what tells this version of the file from others, for `If-Range`; "" where there is nothing.
        satisfied: False where the server has nothing from the asked byte on.
        response: whose body is the content.
    """

    start: int
    total: int | None
    end: int | None
    validator: str
    satisfied: bool
    response: Any

    def blocks(self) -> Iterator[bytes]:
        """The body, as it comes.

        Raises:
            Interruption: it stalls, or the connection breaks.
        """
        while True:
            try:
                block = self.response.read1(CHUNK)
            except TimeoutError as error:
                raise Interruption("nothing comes any more") from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise Interruption(f"the connection broke: {_reason(error)}") from error
            if not block:
                return
            yield block


def check_url(url: str) -> None:
    """Stop before an address is asked that cannot be, or must not be.

    Raises:
        UsageError: it is not http or https, names no host, or carries a password.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        port_fits = parts.port is None or parts.port > 0
    except ValueError:
        port_fits = False
    if not port_fits or re.search(r"[\s\x00-\x1f\x7f]", url) or not url.isascii():
        raise UsageError(f"{url!r} is no address", "it has to be http://HOST/PATH or https://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise UsageError("the address carries a name or password", "download the file by hand, or use a server without")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url}: not an http or https address", "it has to be http://HOST/PATH or https://HOST/PATH")


@contextlib.contextmanager
def ask(url: str, *, start: int = 0, validator: str = "", timeout_s: float = 30.0) -> Iterator[Answer]:
    """Ask for a file, or for the rest of it.

    Args:
        url: its address.
        start: the first byte wanted.
        validator: of the version whose rest is wanted; where the file is another by now, the answer starts at 0.
        timeout_s: how long the server may be silent, seconds.

    Raises:
        DownloadError: there is no such file, it may not be had, or a page for people came instead.
        Interruption: a failure that may pass.
    """
    headers = {"Accept": "*/*"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-range"] = validator
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (check_url allows http and https only)
    try:
        response = _opener().open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and start:
                yield Answer(start, _total_of_range(error.headers, "*")[1], None, "", False, error)
                return
            _refused(url, error)
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DownloadError(
                f"{url}: the server's certificate does not hold: {_reason(reason)}",
                "check the clock; where a company has certificates of its own, name their file in SSL_CERT_FILE",
            ) from error
        raise Interruption(f"cannot connect{_through_proxy(url)}: {_reason(reason)}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Interruption(f"the server gives no answer{_through_proxy(url)}: {_reason(error)}") from error
    with response:
        yield _answer(url, response)


def _answer(url: str, response: Any) -> Answer:
    headers = response.headers
    if response.status not in (200, 206):
        raise DownloadError(
            f"{url}: the server answers HTTP {response.status}, which is no file", "look at the address in a browser"
        )
    if headers.get_content_type() == "text/html":
        raise DownloadError(
            f"{url}: the server sends a web page instead of the file",
            "the file may have moved, or need a login: look at the address in a browser",
        )
    start, total = 0, _whole_number(headers.get("Content-Length"))
    length = total
    if response.status == 206:
        first, total = _total_of_range(headers, "")
        if first is None:
            raise Interruption("the server does not say which part it sends")
        start = first
    tag = headers.get("ETag", "")
    # A weak tag may not be used to resume (RFC 9110, 13.1.5).
    validator = headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    end = None if length is None else start + length
    return Answer(start, total, end, validator.strip(), True, response)


def _total_of_range(headers: Message, first: str) -> tuple[int | None, int | None]:
    """First byte and size of the whole file, from `Content-Range`; None for what it does not say."""
    shape = r"bytes\s+\*/(\d+)" if first else r"bytes\s+(\d+)-\d+/(\d+|\*)"
    match = re.fullmatch(shape, (headers.get("Content-Range") or "").strip())
    if match is None:
        return None, None
    return (None if first else int(match[1])), _whole_number(match[match.re.groups])


def _whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d{1,18}", text.strip()) else None


def _refused(url: str, error: urllib.error.HTTPError) -> NoReturn:
    """Turn an answer that is no file into the error that says what to do."""
    said = f"HTTP {error.code} {error.reason or ''}".strip()
    if error.code in PASSING:
        raise Interruption(f"the server answers {said}", _retry_after(error.headers.get("Retry-After")))
    if error.code == 407:
        raise DownloadError(f"{url}: the proxy asks for a password ({said})", "set it in https_proxy and http_proxy")
    if error.code in (401, 403):
        raise DownloadError(
            f"{url}: the server refuses ({said})",
            "it may need a login, or refuse this network for now: look at the page of the set",
        )
    advice = "the file may have moved: look at the set's page" if error.code in (404, 410) else ""
    raise DownloadError(f"{url}: the server answers {said}", advice)


def _retry_after(text: str | None) -> float | None:
    """`Retry-After`, seconds or a date, as seconds from now."""
    if not text:
        return None
    seconds = _whole_number(text)
    if seconds is not None:
        return float(seconds)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _reason(error: object) -> str:
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return " ".join(text.split()) or type(error).__name__


def _through_proxy(url: str) -> str:
    """Which proxy an address is asked through, without its password."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    return f" through the proxy {proxy.rpartition('@')[2].rpartition('//')[2].rstrip('/')}"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, to http and https only, and never from https back to http."""

    def http_error_302(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: http.client.HTTPMessage,
    ) -> Any:
        place = headers.get("Location") or headers.get("URI")
        where = urllib.parse.urlsplit(urllib.parse.urljoin(req.full_url, place or ""))
        past = list(getattr(req, "passed", ()))
        fp.close()
        if not place:
            raise DownloadError(f"{req.full_url}: the server redirects, and does not say where to")
        # Addresses in the wild hold blanks and letters that a request must not.
        target = urllib.parse.quote(where.geturl(), safe="%/:=&?~#+!$,;'@()*[]")
        try:
            check_url(target)
        except UsageError as error:
            raise DownloadError(f"{req.full_url}: it redirects, and {error}", "do not use this server") from None
        if urllib.parse.urlsplit(req.full_url).scheme == "https" and where.scheme == "http":
            raise DownloadError(
                f"{req.full_url}: the server redirects from https to {target}", "http can be changed on its way"
            )
        if len(past) >= REDIRECTS:
            raise DownloadError(f"{past[0]}: the server redirects more than {REDIRECTS} times")
        kept = {name: value for name, value in req.header_items() if name in KEPT_HEADERS}
        following = urllib.request.Request(target, headers=kept)  # noqa: S310 (the scheme has been checked)
        following.passed = [*past, req.full_url]  # type: ignore[attr-defined]
        return self.parent.open(following, timeout=req.timeout)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener() -> urllib.request.OpenerDirector:
    """An opener without urllib's handlers of file:, ftp: and data:."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", f"kpedge/{__version__}")]
    return opener
