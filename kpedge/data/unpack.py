"""Unpack zip and tar archives from strangers: nothing outside the folder, no links, no flood of bytes.

The extraction itself is the standard library's: `zipfile`, and `tarfile` with its data filter.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from kpedge.core.errors import ArchiveError
from kpedge.core.files import output_error, refuse_full_disk

MAX_FILES = 1_000_000
MAX_RATIO = 40  # bytes that may come out for each byte of the archive; photos hardly shrink, text by 10 or so
SMALL = 256_000_000  # bytes that may come out of any archive
CHUNK = MAX_HEADER = 1 << 20  # bytes of an extended tar header, which `tarfile` reads into memory
SUFFIXES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".rar", ".7z")
"""Files with these names should be archives, whether or not they can be unpacked here."""
UNSAFE = "the archive may be made to do harm: do not use it"
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, OSError, RuntimeError, ValueError)
"""What the standard library raises for broken archives (RuntimeError: encrypted; NotImplementedError is one too)."""


def is_archive(path: Path) -> bool:
    """Whether a file begins like a zip or tar archive (plain, gz, bz2 or xz)."""
    with path.open("rb") as stream:
        start = stream.read(512)
    magic = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")
    return start.startswith(magic) or start[257:262] == b"ustar"


def is_web_page(path: Path) -> bool:
    """Whether a file is HTML, which servers send in place of a file behind a login or a question."""
    with path.open("rb") as stream:
        return stream.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html"))


def unpack(
    archive: Path,
    folder: Path,
    *,
    max_files: int = MAX_FILES,
    max_bytes: int | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> int:
    """Unpack a zip or tar file into a folder, which should be a temporary one: what came out before an error stays.
    Files in it are never overwritten. At most `max_files` files and folders come out, and `max_bytes`, by default
    `MAX_RATIO` times the archive or `SMALL`, whichever is more. `progress` gets the bytes written and their total,
    None for tar.

    Returns:
        How many files came out.

    Raises:
        ArchiveError: it is not an archive, is broken, encrypted or too large, or holds something that is not safe.
        OutputError: a file cannot be written.
    """
    if not is_archive(archive):
        page = ": it is a web page, download the file again" if is_web_page(archive) else ""
        raise ArchiveError(f"{archive.name} is not an archive (zip or tar){page}", "unpack other kinds yourself")
    if max_bytes is None:
        max_bytes = max(SMALL, MAX_RATIO * archive.stat().st_size)
    files = entries = size = 0
    try:
        with _open(archive) as pack:
            total = sum(info.file_size for info in pack.infolist()) if isinstance(pack, zipfile.ZipFile) else None
            refuse_full_disk(folder, min(total or 0, max_bytes), "are to be unpacked")
            for name, length, is_folder, extract in _members(archive.name, pack):
                entries, size = entries + 1, size + length
                path = PurePosixPath(name.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts or ":" in name[:2]:
                    raise ArchiveError(f"{archive.name}: {name!r} leaves the folder", UNSAFE)
                if length < 0 or entries > max_files or max(size, total or 0) > max_bytes:
                    raise ArchiveError(
                        f"{archive.name}: more than {max_files:,} files or {max_bytes:,} bytes would come out", UNSAFE
                    )
                if not is_folder and (folder / path).exists():
                    raise ArchiveError(f"{archive.name}: {name!r} is there already", "unpack it yourself")
                extract(folder)
                files += not is_folder
                if progress:
                    progress(size, total)
            rest = max_bytes
            while isinstance(pack, tarfile.TarFile) and pack.fileobj and rest > 0:
                block = pack.fileobj.read(CHUNK)  # the checksum of gz, bz2 and xz stands at their end
                rest = rest - len(block) if block else 0
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno:  # those of the decoders have no number
            raise output_error(folder, error) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ArchiveError(f"{archive.name} is broken, cut off or encrypted: {reason}", "download it again") from error
    if not files:
        raise ArchiveError(f"{archive.name} is empty", "download it again")
    return files


def _open(archive: Path) -> zipfile.ZipFile | tarfile.TarFile:
    with archive.open("rb") as stream:
        is_zip = stream.read(2) == b"PK"
    return zipfile.ZipFile(archive) if is_zip else tarfile.open(archive, tarinfo=_Member)


class _Member(tarfile.TarInfo):
    """A tar header. `tarfile` would read extended ones and lists of holes of any length into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        if member.type == tarfile.GNUTYPE_SPARSE or (not member.isfile() and member.size > MAX_HEADER):
            raise tarfile.ReadError(f"{member.name!r} is sparse, or a header of {member.size:,} bytes")
        return member


def _members(
    archive: str, pack: zipfile.ZipFile | tarfile.TarFile
) -> Iterator[tuple[str, int, bool, Callable[[Path], object]]]:
    """Name, size, whether it is a folder, and a function that extracts it, for each member."""
    if isinstance(pack, zipfile.ZipFile):
        for info in pack.infolist():
            yield info.filename, info.file_size, info.is_dir(), partial(pack.extract, info)
        return
    while (member := pack.next()) is not None:
        pack.members.clear()  # type: ignore[attr-defined]  # it would keep every header
        if not (member.isfile() or member.isdir()) or member.issparse():
            raise ArchiveError(f"{archive}: {member.name!r} is a link, a device or sparse", UNSAFE)
        member.mode = None  # type: ignore[assignment]  # that of any new file
        yield member.name, member.size, member.isdir(), partial(pack.extract, member, set_attrs=False, filter="data")
