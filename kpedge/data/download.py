"""Download one file over HTTP with pooch and requests: retried, verified, and only then given its name."""

import itertools
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from kpedge import __version__
from kpedge.core.errors import ChecksumError, DownloadError, UsageError
from kpedge.core.extras import importable
from kpedge.core.files import output_error, refuse_full_disk
from kpedge.core.transfer import read_blocks
from kpedge.data.catalogue import RemoteFile

pooch: Any = importable("pooch", "data")
requests: Any = importable("requests", "data")
pooch.get_logger().setLevel("WARNING")

MAX_SIZE = 4_000_000_000  # bytes of a file whose size is not known, at most
CHUNK = 1 << 14  # bytes read at once
TEMPORARY = (408, 416, 425, 429, 500, 502, 503, 504)  # HTTP status codes after which another try may succeed

Progress = Callable[[str, int, "int | None"], None]
"""Called with what is being done, how many bytes are done, and how many there are (None if unknown)."""
Notify = Callable[[str], None]


def check_url(url: str) -> None:
    """Raise `UsageError` unless `url` is a complete http or https address without a password."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isascii() or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise UsageError(f"{url!r} is not an http or https address", "use http://HOST/PATH or https://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise UsageError("the address contains a user name or password", "download the file yourself: --archive FILE")


def download(
    file: RemoteFile,
    folder: Path,
    *,
    max_size: int = MAX_SIZE,
    timeout: float = 30.0,
    tries: int = 5,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> Path:
    """Download a file into a folder, where it appears once it is whole and verified; one with its name and checksum is
    not downloaded again.

    Args:
        file: what to download; its checksum, if known, is verified.
        folder: where it goes.
        max_size: bytes at most if `file.size` is None.
        timeout: seconds after which a connection is dropped that sends nothing, or less than 1000 bytes per second.
        tries: connections that may fail before giving up; the pause between them doubles from one second.
        progress: called as bytes arrive.
        notify: called with a line about each failed try.

    Raises:
        DownloadError: the server does not deliver the file.
        ChecksumError: what arrived is not the file.
        OutputError: the disk is full or not writable.
    """
    check_url(file.url)
    if file.checksum is None:
        (folder / file.name).unlink(missing_ok=True)  # pooch would take it for the download
    transfer = _Transfer(file, max_size if file.size is None else file.size, timeout, progress)
    for failures in itertools.count(1):
        try:
            return Path(pooch.retrieve(file.url, file.checksum, file.name, folder, downloader=transfer))
        except (requests.RequestException, TimeoutError) as error:
            reason, advice = _explain(error, timeout)
            if advice or failures >= tries:
                tried = "" if advice else f"; gave up after {failures} tries"
                raise DownloadError(f"{file.url}: {reason}{tried}", advice or "run the command again later") from error
            pause = 2.0 ** (failures - 1)
            if notify:
                notify(f"{file.name}: {reason}; try {failures + 1} of {tries} in {pause:.0f} s")
            time.sleep(pause)
        except ValueError as error:  # from pooch: the checksum differs
            raise ChecksumError(
                f"{file.url}: the content does not match {file.checksum}",
                "the file was changed, on the server or on its way: do not use it",
            ) from error
    raise AssertionError("unreachable")


@dataclass(slots=True)
class _Transfer:
    """A downloader for pooch that checks each response before its body, and the size while it arrives."""

    file: RemoteFile
    limit: int
    timeout: float
    progress: Progress | None
    size: int = 0
    total: int = 0
    stream: Any = None
    response: Any = None

    def __call__(self, url: str, output: str, _pooch: Any) -> None:
        self.size = self.total = 0
        headers = {"Accept-Encoding": "identity", "User-Agent": f"kpedge/{__version__}"}
        hooks = {"response": self.inspect}
        http = pooch.HTTPDownloader(chunk_size=CHUNK, timeout=self.timeout, headers=headers, hooks=hooks)
        with Path(output).open("wb") as self.stream:
            try:
                http(url, self, None)
            finally:  # pooch leaves the connection open when it fails
                if self.response is not None:
                    self.response.close()
        if self.size < self.total:
            raise requests.ConnectionError(f"ended after {self.size:,} of {self.total:,} bytes")

    def inspect(self, response: Any, **_: Any) -> None:
        """Check a response before its body is read."""
        url, self.response = response.url, response
        if response.is_redirect:
            target = urljoin(url, response.headers["location"])
            if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
                raise DownloadError(f"{url}: the server redirects from https to {target}", "do not use this server")
            response.raw.close()  # the server may be about to close the connection: the next request takes a new one
            return
        if not response.ok:  # the downloader raises
            return
        is_page = response.headers.get("content-type", "").startswith("text/html")
        if is_page or response.status_code != 200:
            what = "a web page" if is_page else f"HTTP {response.status_code}"
            raise DownloadError(
                f"{url}: the server sends {what} instead of the file",
                "it may have moved or need a login: open the address in a browser",
            )
        self.total = max(int(response.headers.get("content-length", 0)), self.file.size or 0)
        self.check_limit(self.total)
        raw = response.raw  # whose own `stream` waits for whole blocks, however slowly they come
        raw.stream = lambda size, **_: read_blocks(raw.read1, size, self.timeout)
        refuse_full_disk(Path(self.stream.name).parent, self.total, "are still to come")

    def check_limit(self, size: int) -> None:
        """Raise an error if so many bytes are too many."""
        if size > self.limit and self.file.size is not None:
            raise ChecksumError(f"{self.file.url}: more than the {self.limit:,} bytes of the file", "do not use it")
        if size > self.limit:
            raise DownloadError(f"{self.file.url}: more than {self.limit:,} bytes", "raise the limit with --max-size")

    def write(self, block: bytes) -> None:
        """Take what arrived: to pooch's downloader this object is the file."""
        self.size += len(block)
        self.check_limit(self.size)
        try:
            self.stream.write(block)
            self.stream.flush()
        except OSError as error:
            with suppress(OSError):  # closing tries to write the rest once more
                self.stream.close()
            raise output_error(Path(self.stream.name).with_name(self.file.name), error) from error
        if self.progress:
            self.progress(self.file.name, self.size, self.total or None)

    def flush(self) -> None:
        """Do nothing: `write` flushes."""


def _explain(error: Any, timeout: float) -> tuple[str, str]:
    """Why a request failed, and what to do about it; no advice if another try may succeed."""
    moved = "the file may have moved: see the page of the set"
    if isinstance(error, TimeoutError):
        return str(error), ""
    if isinstance(error, requests.exceptions.SSLError):
        return str(error), "check the clock; name a company's own certificates in REQUESTS_CA_BUNDLE"
    if isinstance(error, requests.HTTPError):
        code = error.response.status_code
        advice = "it may need a login: see the page of the set, then use --archive" if code in (401, 403) else moved
        return f"HTTP {code} {error.response.reason or ''}".rstrip(), "" if code in TEMPORARY else advice
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return f"no data for {timeout:g} s", ""
    cause: BaseException = error
    while cause.__context__ is not None:  # requests wraps urllib3, which wraps the system's error
        cause = cause.__context__
    proxy = "the proxy: " if isinstance(error, requests.exceptions.ProxyError) else ""
    passing = isinstance(error, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError))
    return proxy + (" ".join(str(cause).split()) or type(cause).__name__), "" if passing else moved
