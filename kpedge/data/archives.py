"""A public set from archives that its user has downloaded: checked and unpacked as a download is, without any network.

Most sets are to be had through a form, an account or a browser only. The archives are read and nothing else: they are
never moved, changed or deleted.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpedge.core.errors import ArchiveError, ChecksumError, DataError, UsageError
from kpedge.core.files import make_folder, refuse_full_disk
from kpedge.core.text import format_count
from kpedge.data.catalogue import Checksum, PublicSet, RemoteFile
from kpedge.data.fetch import from_elsewhere
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
from kpedge.data.unpack import CHUNK, Limits, is_archive


@dataclass(frozen=True, slots=True)
class _Given:
    """An archive that was given.

    Attributes:
        path: where it lies.
        size: bytes.
        digests: kind of a checksum -> of its content.
    """

    path: Path
    size: int
    digests: dict[str, str]


def fetch_archives(
    source: PublicSet,
    archives: Sequence[Path],
    out: Path,
    *,
    checksum: Checksum | None = None,
    force: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Fetched:
    """Check and unpack archives of a set.

    Args:
        source: the set. Where the catalogue knows its files, an archive for each is needed, and told by its content or
            its name; of another set any archives will do.
        archives: the files.
        out: the folder to make.
        checksum: what the one archive must hash to, where the catalogue does not say.
        force: replace a folder that was fetched before.
        limits: how much may come out of an archive.
        progress: told what is being done.

    Raises:
        UsageError: it cannot be told which file of the set an archive is, one is missing or given twice, or one lies
            in the folder that is to be replaced.
        DataError: there is no such file, or it cannot be read.
        ChecksumError: a file is not the one that the catalogue knows.
        ArchiveError: an archive is none, broken, or not safe.
        OutputError: `out` holds something else, or the disk is full.
    """
    out = out.resolve()
    record = read_record(out)
    source = _expected(source, len(archives), checksum)
    for path in archives:
        _refuse_no_file(path, source)
    if not record:
        refuse_other(out, record, source, force=force)
    kinds = {"sha256", *(one.kind for one in (checksum, *(file.checksum for file in source.files)) if one)}
    given = [_hashed(path, kinds, progress) for path in archives]
    files: list[tuple[FetchedFile, Path]] = []
    for one, file in zip(given, _files_of(given, source, checksum), strict=True):
        _check(one, file, source)
        kind = file.checksum.kind if file.checksum else ""
        came = FetchedFile(file.name, one.path.resolve().as_uri(), one.size, one.digests["sha256"], kind)
        files.append((came, one.path))
    if record and not force and _is_of(record, source, given):
        return there_already(out, record)
    refuse_other(out, record, source, force=force)
    for path in archives:
        if out in path.resolve().parents or out in (path.parent.resolve() / path.name).parents:
            raise UsageError(f"{path} lies in {out}, which is to be replaced", "move it elsewhere first")
    make_folder(out.parent)
    refuse_full_disk(out.parent, sum(one.size for one in given), "or so are needed")
    return put_in_place(source, files, out, limits=limits, progress=progress)


def _expected(source: PublicSet, count: int, checksum: Checksum | None) -> PublicSet:
    """The set, with the checksum that was given, once so many archives can be it."""
    if not source.files:
        if checksum and count != 1:
            raise UsageError(f"{count} archives are given: --sha256 and --md5 are of one", "leave them out")
        return source
    if count != len(source.files):
        names = ", ".join(file.name for file in source.files)
        are = "is" if count == 1 else "are"
        raise UsageError(
            f"{source.name} comes in {format_count(len(source.files), 'file')} ({names}), {count} {are} given",
            f"all of them: {source.with_archives}",
        )
    return from_elsewhere(source, None, checksum)


def _refuse_no_file(path: Path, source: PublicSet) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file", f"--archive takes a file that you downloaded, from {source.page}"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        raise DataError(
            f"{path} is a folder, not an archive", f"unpacked by hand? Go on with: {source.next_step(path)}"
        )
    if not stat.S_ISREG(mode):
        raise DataError(f"{path} is no plain file", "give the archive itself")


def _hashed(path: Path, kinds: Collection[str], progress: Progress | None) -> _Given:
    hashes: dict[str, Any] = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    bar, size = None if progress is None else named(progress, f"checking {path.name}"), 0
    try:
        total = path.stat().st_size
        with path.open("rb") as stream:
            while block := stream.read(CHUNK):
                size += len(block)
                for one in hashes.values():
                    one.update(block)
                if bar:
                    bar(size, total)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return _Given(path, size, {kind: one.hexdigest() for kind, one in hashes.items()})


def _files_of(given: Sequence[_Given], source: PublicSet, checksum: Checksum | None) -> list[RemoteFile]:
    """Which file of the set each archive is; where the catalogue knows none, one of the archive's own name."""
    found: list[RemoteFile] = []
    seen: dict[str, Path] = {}
    for one in given:
        if not source.files:
            file, key = RemoteFile("", one.path.name, checksum=checksum), one.digests["sha256"]
        else:
            file = source.files[0] if len(source.files) == 1 else _file_of(one, source)
            key = file.name
        if key in seen:
            raise UsageError(f"{seen[key]} and {one.path} are the same file, {file.name}", "give each file once")
        seen[key] = one.path
        found.append(file)
    return found


def _file_of(one: _Given, source: PublicSet) -> RemoteFile:
    """The file of a set that an archive is: by its content, else by its name, to which browsers may add a number."""
    for file in source.files:
        if file.checksum and one.digests[file.checksum.kind] == file.checksum.value:
            return file
    name = re.sub(r"\s*\(\d+\)(?=\.|$)", "", one.path.name).lower()
    for file in source.files:
        if file.name.lower() == name:
            return file
    names = ", ".join(file.name for file in source.files)
    raise UsageError(
        f"{one.path}: neither its name nor its content tells which file of {source.name} it is",
        f"the files are {names}: give it the name of the one that it is, or download it again from {source.page}",
    )


def _check(one: _Given, file: RemoteFile, source: PublicSet) -> None:
    """Hold an archive against what is known of the file that it is to be."""
    wrong = ""
    if file.size is not None and one.size != file.size:
        wrong = f"it has {one.size:,} bytes instead of {file.size:,}"
    elif file.checksum and one.digests[file.checksum.kind] != file.checksum.value:
        kind = file.checksum.kind
        wrong = f"its {kind} is {one.digests[kind]} instead of {file.checksum.value}"
    if (wrong or not file.checksum) and not is_archive(one.path):
        raise ArchiveError(
            f"{one.path}: neither a zip nor a tar archive",
            "unpack other kinds by hand; where a web page was saved instead of the file, download it again",
        )
    if wrong:
        whose = f", as {file.checksum_from} publish" if file.checksum_from else ""
        raise ChecksumError(
            f"{one.path}: {wrong}{whose}", f"it is cut off, or another file: download it again from {source.page}"
        )


def _is_of(record: dict[str, Any], source: PublicSet, given: Sequence[_Given]) -> bool:
    """Whether a folder holds just these archives."""
    there = sorted(file["sha256"] for file in record["files"])
    return record.get("name") == source.name and there == sorted(one.digests["sha256"] for one in given)
