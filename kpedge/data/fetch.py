"""A public set, or an archive of one's own: downloaded, checked and unpacked into a folder, whole or not at all.

What has been downloaded waits in `.NAME.download` beside the folder until all is unpacked; a run that was stopped goes
on from there. `fetched.json` in the folder records what came from where.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kpedge.core.errors import ArchiveError, ChecksumError, OutputError, UsageError
from kpedge.core.files import make_folder, output_error, refuse_full_disk
from kpedge.data.catalogue import Checksum, PublicSet, RemoteFile
from kpedge.data.download import LIMIT, Patience, Say, download
from kpedge.data.fetched import (
    Fetched,
    FetchedFile,
    Progress,
    named,
    put_in_place,
    read_record,
    refuse_other,
    there_already,
)
from kpedge.data.transfer import check_url
from kpedge.data.unpack import Limits


def own_set(url: str, checksum: Checksum | None) -> PublicSet:
    """A set that is in no catalogue: one archive, or one file, from an address of one's own.

    Raises:
        UsageError: the address cannot be asked.
    """
    check_url(url)
    return PublicSet("", url, url, "", label_format="auto", files=(RemoteFile(url, file_name(url), checksum=checksum),))


def file_name(url: str) -> str:
    """What to call the file of an address."""
    last = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]", "_", last).lstrip(".")[-100:] or "download"


def from_elsewhere(source: PublicSet, url: str | None, checksum: Checksum | None) -> PublicSet:
    """A set whose file comes from another address, or is held against a checksum that the catalogue lacks.

    Raises:
        UsageError: the set has several files or none, or has another checksum.
    """
    if url is None and checksum is None:
        return source
    if len(source.files) != 1:
        raise UsageError(
            f"{source.name} has {len(source.files)} files to fetch: --url and checksums are for one", "leave them out"
        )
    file = source.files[0]
    if checksum and file.checksum and checksum != file.checksum:
        raise UsageError(
            f"{source.name} has the {file.checksum.kind} {file.checksum.value}, by {file.checksum_from}",
            "leave the checksum out, or give --url alone, without a name",
        )
    if url is not None:
        check_url(url)
    return replace(source, files=(replace(file, url=url or file.url, checksum=checksum or file.checksum),))


def fetch(
    source: PublicSet,
    out: Path,
    *,
    unverified: bool = False,
    force: bool = False,
    max_size: int = LIMIT,
    patience: Patience | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Fetched:
    """Download, check and unpack a set.

    Args:
        source: the set.
        out: the folder to make.
        unverified: take a file whose checksum nobody knows.
        force: replace a folder that was fetched before.
        max_size: bytes of a file whose size is not known.
        patience: with bad connections.
        limits: how much may come out of an archive.
        progress: told what is being done.
        say: told of failures that are tried again.

    Raises:
        UsageError: the set has to be got by hand, or has no checksum and `unverified` is off.
        OutputError: `out` holds something else, or the disk is full.
        DownloadError: a file cannot be had; what has come stays for the next run.
        ChecksumError: a file is not what was promised.
        ArchiveError: an archive is broken or not safe.
    """
    if not source.files:
        raise UsageError(
            f"{source.name} cannot be fetched: it has to be got by hand",
            f"from {source.page}, then: {source.with_archives}",
        )
    out = out.resolve()
    record = read_record(out)
    source = _with_known_checksums(source, record)
    if record and not force and _fits(record, source):
        return there_already(out, record)
    refuse_other(out, record, source, force=force)
    unknown = [file.name for file in source.files if file.checksum is None]
    if unknown and not unverified:
        raise UsageError(
            f"no checksum of {', '.join(unknown)} is known, so nothing tells whether it was changed",
            "give one with --sha256, or take what comes with --unverified, and keep the SHA-256 that is then printed",
        )
    waiting = out.with_name(f".{out.name}.download")
    make_folder(waiting)
    with _alone(waiting):
        _needs_space(waiting, source)
        arrived: list[tuple[FetchedFile, Path]] = []
        try:
            for file in source.files:
                there = download(
                    file.url,
                    waiting / file.name,
                    checksum=file.checksum,
                    size=file.size,
                    limit=max_size,
                    patience=patience,
                    progress=None if progress is None else named(progress, file.name),
                    say=say,
                )
                kind = file.checksum.kind if file.checksum else ""
                arrived.append((FetchedFile(file.name, file.url, there.size, there.sha256, kind), there.path))
            fetched = put_in_place(source, arrived, out, limits=limits, progress=progress, refused=_throw_away)
        except (ChecksumError, ArchiveError):
            with contextlib.suppress(OSError):  # not empty: other files of the set wait in it
                waiting.rmdir()
            raise
        shutil.rmtree(waiting, ignore_errors=True)
    return fetched


def _throw_away(path: Path) -> None:
    """Remove a download that cannot be unpacked, with the notes on it."""
    path.unlink()
    path.with_name(f"{path.name}.json").unlink(missing_ok=True)


def _with_known_checksums(source: PublicSet, record: dict[str, Any]) -> PublicSet:
    """The set, with the SHA-256 of an earlier fetch from the same address where no other is known."""
    known = {file["url"]: file["sha256"] for file in record.get("files", ())}
    files = tuple(
        replace(file, checksum=Checksum("sha256", known[file.url]))
        if file.checksum is None and file.url in known
        else file
        for file in source.files
    )
    return replace(source, files=files)


def _fits(record: dict[str, Any], source: PublicSet) -> bool:
    """Whether a folder holds just what is asked for."""
    there = [(file["name"], file["url"], file["sha256"]) for file in record["files"]]
    if len(there) != len(source.files) or record.get("name") != source.name:
        return False
    for file, (name, url, digest) in zip(source.files, there, strict=True):
        # An archive that was given, of which nothing is known, contradicts nothing.
        same = url.startswith("file:") or file.url == url
        if file.checksum and file.checksum.kind == "sha256":
            same = file.checksum.value == digest
        if file.name != name or not same:
            return False
    return True


def _needs_space(waiting: Path, source: PublicSet) -> None:
    """Stop before a download for which, unpacked, there is no room; photos take as much room again."""
    there = sum(path.stat().st_size for path in waiting.iterdir() if path.is_file())
    needed = 2 * sum(file.size or 0 for file in source.files) - there
    refuse_full_disk(waiting.parent, needed, "or so are needed")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second run away from the same downloads."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows has no such locks
        yield
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"{folder}: another run is downloading into it", "wait for it to end") from None
        yield
    finally:
        os.close(handle)
