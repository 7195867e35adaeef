"""A file over HTTP, whole and checked: resumed where it broke off, retried, counted and hashed while it comes.

What has come lies in `NAME.part`, beside it `NAME.json` says of which version of which address that is the beginning.
Both stay when a download is stopped, and the next one goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kpedge.core.errors import ChecksumError, DownloadError
from kpedge.core.files import output_error, refuse_full_disk, write_json
from kpedge.data.catalogue import Checksum
from kpedge.data.transfer import CHUNK, Answer, Interruption, ask, check_url

LIMIT = 4_000_000_000
"""Bytes of the longest file that is taken where nobody says how long it is to be."""
WORTHWHILE = 1_000_000
"""Bytes that a try has to bring if the tries before it are to be forgotten."""

Progress = Callable[[int, int | None], None]
"""Told how many bytes have come, of how many; None where that is not known."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to put up with a bad connection.

    Attributes:
        stall_s: seconds without a byte after which a connection is given up.
        tries: failures in a row, none of which brought much, after which the download is given up.
        pause_s: seconds before the second try; doubled before each further one.
        longest_s: seconds that a pause takes at most. A server that asks for more is not waited for.
        sleep: what pauses.
    """

    stall_s: float = 30.0
    tries: int = 5
    pause_s: float = 1.0
    longest_s: float = 60.0
    sleep: Callable[[float], None] = field(default=time.sleep, compare=False)


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is there, whole.

    Attributes:
        path: where it lies.
        size: bytes.
        sha256: of its content, whether or not that was known before.
        resumed_from: bytes that an earlier run had left.
    """

    path: Path
    size: int
    sha256: str
    resumed_from: int


def download(
    url: str,
    path: Path,
    *,
    checksum: Checksum | None = None,
    size: int | None = None,
    limit: int = LIMIT,
    patience: Patience | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Downloaded:
    """Download a file, or the rest of it.

    Args:
        url: its address.
        path: where it will lie; its folder has to exist.
        checksum: what its content must hash to; None takes what comes.
        size: its bytes, where they are known.
        limit: bytes that it may have at most where `size` is not known.
        patience: with bad connections.
        progress: told what has come.
        say: told of failures that are tried again.

    Raises:
        UsageError: the address is none that may be asked.
        DownloadError: it cannot be had. What has come stays for the next run.
        ChecksumError: it is not what was promised. Nothing of it stays.
        OutputError: the disk is full, or not writable.
    """
    check_url(url)
    patience = patience or Patience()
    part = _Part(path, url, checksum)
    if path.is_file() and part.url_fits:
        part.take_whole()
    resumed = part.length
    pieces = resumed > 0
    if resumed and say:
        say(f"{path.name}: {resumed:,} bytes are there already")
    for last in (False, True):
        pieces |= _complete(part, limit, size, patience, progress, say)
        wrong = part.wrong(size)
        if not wrong:
            break
        part.restart()
        if last or not pieces:
            raise ChecksumError(f"{url}: {wrong}", "the file was changed, on the server or on its way: do not use it")
        # Pieces from several runs or connections may not fit together: once more from the start.
        resumed = 0
        if say:
            say(f"{path.name}: {wrong}; begins anew")
    return Downloaded(part.keep(), part.length, part.sha256.hexdigest(), resumed)


def _complete(
    part: _Part, limit: int, size: int | None, patience: Patience, progress: Progress | None, say: Say | None
) -> bool:
    """Ask until the part is whole; True where it took more than one connection."""
    failures, furthest, joined = 0, part.length, False
    while not part.whole:
        try:
            _attempt(part, limit, size, patience.stall_s, progress)
        except Interruption as stop:
            failures = 0 if part.length - furthest >= WORTHWHILE else failures
            furthest, failures, joined = max(furthest, part.length), failures + 1, joined or part.length > 0
            if failures >= patience.tries:
                raise DownloadError(
                    f"{part.url}: {stop}; given up after {failures} tries in a row",
                    f"run the same command later, it goes on from {part.length:,} bytes",
                ) from stop
            wait = patience.pause_s * 2 ** (failures - 1) if stop.wait_s is None else stop.wait_s
            if stop.wait_s is not None and wait > patience.longest_s:
                raise DownloadError(
                    f"{part.url}: {stop}, and asks to come back in {wait:.0f} s", "run the same command later"
                ) from stop
            wait = min(wait, patience.longest_s)
            if say:
                say(f"{part.path.name}: {stop}; try {failures + 1} of {patience.tries} in {wait:.0f} s")
            patience.sleep(wait)
    return joined


def _attempt(part: _Part, limit: int, size: int | None, stall_s: float, progress: Progress | None) -> None:
    """Ask once for what is missing, and take what comes."""
    if part.length and not part.validator and not part.checksum:
        part.restart()  # nothing could tell whether the rest belongs to the beginning
    with ask(part.url, start=part.length, validator=part.validator, timeout_s=stall_s) as answer:
        if not answer.satisfied:
            if answer.total == part.length:
                part.whole = True
                return
            part.restart()
            raise Interruption("the server's file is shorter than what has come; begins anew")
        if answer.start == 0:
            part.restart()
        elif answer.start != part.length or part.is_of_another(answer):
            part.restart()
            raise Interruption("the file on the server has changed; begins anew")
        announced, most = answer.total, limit if size is None else size
        if announced is not None and size is not None and announced != size:
            part.restart()
            raise ChecksumError(
                f"{part.url}: the server announces {announced:,} bytes instead of {size:,}",
                "the file was changed, or this is another one",
            )
        if announced is not None and announced > most:
            raise _too_long(part.url, announced, size, limit)
        refuse_full_disk(part.path.parent, (announced or part.length) - part.length, "are still to come")
        part.begin(answer)
        with part.appending():
            for block in answer.blocks():
                if part.length + len(block) > most:
                    length = part.length + len(block)
                    part.restart()
                    raise _too_long(part.url, length, size, limit)
                part.add(block)
                if progress:
                    progress(part.length, announced if size is None else size)
        expected = max(answer.end or 0, announced or 0, size or 0)
        if part.length < expected:
            raise Interruption(f"the server ended after {part.length:,} of {expected:,} bytes")
        part.whole = True


def _too_long(url: str, length: int, size: int | None, limit: int) -> DownloadError:
    if size is not None:
        return ChecksumError(f"{url}: the server sends more than the {size:,} bytes that the file has", "do not use it")
    return DownloadError(f"{url}: {length:,} bytes or more, over the limit of {limit:,}", "raise it with --max-size")


class _Part:
    """The beginning of a file that has come so far, its hashes, and of which version it is.

    Attributes:
        length: bytes that have come.
        whole: whether the server says that nothing is missing.
    """

    def __init__(self, path: Path, url: str, checksum: Checksum | None) -> None:
        self.path, self.url, self.checksum = path, url, checksum
        self.part, self._notes = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.json")
        self._stream: Any = None
        notes = self._read_notes()
        self.url_fits = notes.get("url") == url
        self.validator = str(notes.get("validator", "")) if self.url_fits else ""
        total = notes.get("total")
        self._total = total if isinstance(total, int) and self.url_fits else None
        self._forget()
        if self.url_fits and self.part.is_file():
            self._hash(self.part)

    def _read_notes(self) -> dict[str, Any]:
        try:
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none, or half of one: the part is of unknown origin
            return {}
        return notes if isinstance(notes, dict) else {}

    def _forget(self) -> None:
        self.length, self.whole = 0, False
        self.sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def _hash(self, path: Path) -> None:
        with path.open("rb") as stream:
            while block := stream.read(CHUNK):
                self._count(block)

    def _count(self, block: bytes) -> None:
        self.length += len(block)
        self.sha256.update(block)
        if self.checksum and self.checksum.kind == "md5":
            self._md5.update(block)

    def take_whole(self) -> None:
        """Take the file that an earlier run completed for the part."""
        self._forget()
        self._hash(self.path)
        self.path.replace(self.part)
        self.whole = True

    def restart(self) -> None:
        """Throw away what has come."""
        if self._stream is not None:
            self._stream.close()
        self._forget()
        self.validator, self._total = "", None
        self.part.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def is_of_another(self, answer: Answer) -> bool:
        """Whether an answer is a part of another version of the file."""
        other_tag = bool(self.validator and answer.validator and answer.validator != self.validator)
        return other_tag or (None not in (self._total, answer.total) and self._total != answer.total)

    def begin(self, answer: Answer) -> None:
        """Note of which version the following bytes are."""
        self.validator, self._total = answer.validator or self.validator, answer.total
        notes = {"url": self.url, "validator": self.validator, "total": self._total}
        write_json(self._notes, notes)

    def appending(self) -> Any:
        """The open file that `add` writes to."""
        try:
            self._stream = self.part.open("ab")
        except OSError as error:
            raise output_error(self.part, error) from error
        return self._stream

    def add(self, block: bytes) -> None:
        """Write what came."""
        try:
            self._stream.write(block)
            self._stream.flush()
        except OSError as error:
            with suppress(OSError):  # closing tries to write the rest once more
                self._stream.close()
            raise output_error(self.part, error) from error
        self._count(block)

    def wrong(self, size: int | None) -> str:
        """What is not as promised; "" where all is."""
        if size is not None and self.length != size:
            return f"has {self.length:,} bytes instead of {size:,}"
        if self.checksum is None:
            return ""
        found = (self.sha256 if self.checksum.kind == "sha256" else self._md5).hexdigest()
        kind, value = self.checksum.kind, self.checksum.value
        return "" if found == value else f"the {kind} is {found} instead of {value}"

    def keep(self) -> Path:
        """Give the whole file its name."""
        try:
            with self.part.open("r+b") as stream:
                os.fsync(stream.fileno())
            self.part.replace(self.path)
        except OSError as error:
            raise output_error(self.path, error) from error
        return self.path
