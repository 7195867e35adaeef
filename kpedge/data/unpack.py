"""Archives from strangers, unpacked so that nothing leaves the folder and nothing fills the disk.

Zip and tar (plain, gz, bz2, xz), told by their content. Only plain files and folders come out, each file once, with the
permissions of any new file. Sizes are those of the bytes that come out, not those that the archive claims.
"""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import io
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kpedge.core.errors import ArchiveError
from kpedge.core.files import output_error, refuse_full_disk

CHUNK = 1 << 20
HEADER = 1 << 24
"""Bytes that a tar archive may have read at once: headers above this are made to fill the memory."""
UNSAFE = "the archive may be made to do harm: do not use it"
BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""What Python's readers raise on broken archives."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may come out of an archive.

    Attributes:
        files: files and folders at most.
        size: bytes at most, of all files together.
        ratio: times the archive's own size at most; photos hardly shrink, text does by 10 or so.
        small: bytes up to which `ratio` does not count.
    """

    files: int = 1_000_000
    size: int = 200_000_000_000
    ratio: float = 40.0
    small: int = 256_000_000

    def bytes_of(self, archive: int) -> int:
        """Bytes that may come out of an archive of so many bytes."""
        return min(self.size, max(self.small, int(self.ratio * archive)))


@dataclass(frozen=True, slots=True)
class _Member:
    """A file or folder in an archive; `open` gives its content, and is None for a folder."""

    name: str
    size: int
    open: Callable[[], IO[bytes] | None] | None


def is_archive(path: Path) -> bool:
    """Whether a file begins like an archive that can be unpacked."""
    return _kind(path) != ""


def unpack(
    archive: Path,
    folder: Path,
    *,
    limits: Limits | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> int:
    """Unpack an archive into a folder, which should be a temporary one: what came out before a failure stays.

    Args:
        archive: a zip or tar file.
        folder: where its files go; it exists, and files in it are never overwritten.
        limits: how much may come out.
        progress: told how many bytes have come out, and of how many; None where the archive does not say.

    Returns:
        How many files came out.

    Raises:
        ArchiveError: it is no archive, broken, encrypted, too large, or holds something that is not safe.
        OutputError: a file cannot be written.
    """
    limits = limits or Limits()
    most = limits.bytes_of(archive.stat().st_size)
    kind = _kind(archive)
    if not kind:
        raise ArchiveError(f"{archive.name}: neither a zip nor a tar archive")
    written = entries = files = 0
    with _members(archive, kind, most) as (members, total):
        if total > most:
            raise _too_much(archive, most)
        refuse_full_disk(folder.parent, total, "are to be unpacked")
        for member in _each(archive, members):
            entries += 1
            if entries > limits.files:
                raise ArchiveError(f"{archive.name}: more than {limits.files:,} files", UNSAFE)
            parts = safe_parts(archive.name, member.name)
            target = folder.joinpath(*parts)
            if member.open is None:
                _make_folder(archive, target, member)
                continue
            if not parts or member.size < 0:
                raise ArchiveError(f"{archive.name}: {member.name!r} is no file", UNSAFE)
            _make_folder(archive, target.parent, member)
            if written + member.size > most:
                raise _too_much(archive, most)
            for count in _write(archive, member, target):
                written += count
                if written > most:
                    raise _too_much(archive, most)
                if progress:
                    progress(written, total or None)
            files += 1
    return files


def safe_parts(archive: str, name: str) -> tuple[str, ...]:
    """A member's path, as parts that stay below the folder on any system; empty for the folder itself.

    Raises:
        ArchiveError: it does not stay there, or is no path.
    """
    path = name.replace("\\", "/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        raise ArchiveError(f"{archive}: {name!r} is an absolute path", UNSAFE)
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ArchiveError(f"{archive}: {name!r} leaves the folder", UNSAFE)
    if re.search(r"[\x00-\x1f\x7f]", path):
        raise ArchiveError(f"{archive}: {name!r} has control characters in its name", UNSAFE)
    # Windows would take these for streams, devices and other names.
    if os.name == "nt" and any(
        ":" in part or part != part.rstrip(". ") or re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", part)
        for part in parts
    ):
        raise ArchiveError(f"{archive}: Windows has no file {name!r}", "unpack it on another system")
    return parts


def _kind(path: Path) -> str:
    with path.open("rb") as stream:
        begin = stream.read(512)
    if begin.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    for kind, magic in (("gz", b"\x1f\x8b"), ("bz2", b"BZh"), ("xz", b"\xfd7zXZ\x00")):
        if begin.startswith(magic):
            return kind
    return "tar" if begin[257:262] == b"ustar" else ""


@contextlib.contextmanager
def _members(archive: Path, kind: str, most: int) -> Iterator[tuple[Iterator[_Member], int]]:
    """The members of an archive, and how many bytes it claims to hold; 0 where it does not say."""
    with contextlib.ExitStack() as stack:
        try:
            if kind == "zip":
                pack = stack.enter_context(zipfile.ZipFile(archive))
                found: Iterator[_Member] = _zip_members(archive.name, pack)
                total = sum(info.file_size for info in pack.infolist())
            else:
                openers: dict[str, Callable[..., Any]] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
                plain = stack.enter_context(openers.get(kind, Path.open)(archive, "rb"))
                # Headers and padding come out too: a tenth more, and a little for the smallest.
                bounded = _Bounded(plain, archive, most + most // 10 + (1 << 20))
                tar = stack.enter_context(tarfile.open(fileobj=bounded, mode="r:"))
                found, total = _tar_members(archive.name, tar, bounded), 0
        except BROKEN as error:
            raise _broken(archive, error) from error
        yield found, total


def _zip_members(archive: str, pack: zipfile.ZipFile) -> Iterator[_Member]:
    for info in pack.infolist():
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ArchiveError(f"{archive}: {info.filename!r} is a link or device, not a file", UNSAFE)
        if info.flag_bits & 1:
            raise ArchiveError(f"{archive}: {info.filename!r} is encrypted", "unpack it by hand, with its password")
        yield _Member(info.filename, info.file_size, None if info.is_dir() else functools.partial(pack.open, info))


def _tar_members(archive: str, tar: tarfile.TarFile, stream: _Bounded) -> Iterator[_Member]:
    while (info := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # it keeps all that it has seen
        if not (info.isreg() or info.isdir()):
            raise ArchiveError(f"{archive}: {info.name!r} is a link or device, not a file", UNSAFE)
        yield _Member(info.name, info.size, None if info.isdir() else functools.partial(tar.extractfile, info))
    try:
        while stream.read(CHUNK):  # the checksum of gz, bz2 and xz stands at their end
            pass
    except gzip.BadGzipFile as error:
        if not str(error).startswith("Not a gzipped file"):  # some files go on with padding after the archive
            raise


def _each(archive: Path, members: Iterator[_Member]) -> Iterator[_Member]:
    """The members, with errors of the reader told as such."""
    while True:
        try:
            member = next(members)
        except StopIteration:
            return
        except ArchiveError:
            raise
        except BROKEN as error:
            raise _broken(archive, error) from error
        yield member


def _make_folder(archive: Path, folder: Path, member: _Member) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ArchiveError(f"{archive.name}: {member.name!r} needs a folder where a file is", UNSAFE) from None
    except OSError as error:
        raise output_error(folder, error) from error


def _write(archive: Path, member: _Member, target: Path) -> Iterator[int]:
    """Write one file; yields how many bytes each step wrote."""
    try:
        stream = target.open("xb")
    except (FileExistsError, IsADirectoryError):
        # Also where names differ in case only and the file system does not tell them apart.
        raise ArchiveError(f"{archive.name}: {member.name!r} comes twice", UNSAFE) from None
    except OSError as error:
        raise output_error(target, error) from error
    with stream:
        for block in _blocks(archive, member):
            try:
                stream.write(block)
            except OSError as error:
                raise output_error(target, error) from error
            yield len(block)


def _blocks(archive: Path, member: _Member) -> Iterator[bytes]:
    try:
        with (member.open and member.open()) or io.BytesIO() as content:
            while block := content.read(CHUNK):
                yield block
    except BROKEN as error:
        raise _broken(archive, error) from error


def _broken(archive: Path, error: Exception) -> ArchiveError:
    said = " ".join(str(error).split()) or type(error).__name__
    return ArchiveError(f"{archive.name}: the archive is broken or cut off: {said}", "download it again")


def _too_much(archive: Path, most: int) -> ArchiveError:
    return ArchiveError(f"{archive.name}: more than {most:,} bytes would come out of it", UNSAFE)


class _Bounded(io.RawIOBase):
    """A stream that gives no more than `most` bytes, and no huge piece at once.

    `tarfile` reads the extended headers of a member in one piece, however long they claim to be.
    """

    def __init__(self, stream: Any, archive: Path, most: int) -> None:
        super().__init__()
        self._stream, self._archive, self._most = stream, archive, most

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= HEADER:
            raise ArchiveError(f"{self._archive.name}: a header of {size:,} bytes", UNSAFE)
        block: bytes = self._stream.read(size)
        if self._stream.tell() > self._most:
            raise _too_much(self._archive, self._most)
        return block

    def tell(self) -> int:
        position: int = self._stream.tell()
        return position

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence == 0 and offset > self._most:
            raise _too_much(self._archive, self._most)
        position: int = self._stream.seek(offset, whence)
        return position

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
