"""Downloads from a server that lies, breaks off or changes its file between tries."""

import atexit
import contextlib
import functools
import hashlib
import random
import tempfile
from pathlib import Path
from typing import Any

import fake_web as web
from test_download import make_lies

from kpedge.core.errors import ChecksumError, DownloadError
from kpedge.data.catalogue import RemoteFile
from kpedge.data.download import download


def make(folder: Path) -> None:
    """Nothing: the server holds what is downloaded."""


@functools.cache
def _web() -> Any:
    """A server that stays up for all attempts of a process."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(web.serving_without_proxies())


def attempt(folder: Path, number: int, rng: random.Random) -> str:
    """Download from a server that lies, breaks off or changes its file between tries: the right file, or an error."""
    right = bytes(range(256)) * 160  # two of the blocks that are read at once, and a half
    lies = make_lies(right)

    def lie() -> Any:
        data = rng.choice((right, right, right[::-1]))
        after = rng.randrange(len(data))
        length = rng.choice((0, -1, len(data) - 7, len(data) + 7, "many", 10**30, "1, 2", ""))
        code = rng.choice((200, 203, 204, 206, 226, 300, 302, 304, 307, 400, 404, 416, 429, 500, 503, 999))
        span = rng.choice((f"bytes {after}-/*", "bytes 0-1/2", "x", f"bytes 5-{len(data) - 1}/{len(data)}"))
        return rng.choice(
            (
                *(web.cut(data, after), web.reset(data, after), web.chunked(data, whole=rng.random() < 0.5)),
                *(web.raw(code, data[after:], Content_Range=span), web.raw(200, data, Content_Length=length)),
                *(web.good(data[: rng.randrange(len(data))]), rng.choice(lies[rng.choice(list(lies))])),
                web.raw(200, data, Content_Encoding=rng.choice(("gzip", "br", "deflate", "x"))),
            )
        )

    server = _web()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        steps = [*(lie() for _ in range(1 + number % 3)), *([web.good(right)] * rng.randrange(2))]
        checksum = f"sha256:{hashlib.sha256(right).hexdigest()}"
        file = RemoteFile(server.at(f"/{number}", *steps), "f", None, checksum)
        try:
            path = download(file, Path(name), tries=4, timeout=2)
        except (DownloadError, ChecksumError):
            assert not (Path(name) / "f").exists()
            return "named"
        finally:
            server.steps.clear()
            server.asked.clear()
        assert path.read_bytes() == right
    return "read"
