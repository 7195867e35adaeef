"""Fetch a public set, or your own archive: download, verify, unpack into a folder that appears whole or not at all.

Downloads wait in `.NAME.download` next to the folder until all are unpacked, so that a run that was stopped can be
continued. `fetched.json` in the folder records what came from where.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from kpedge import __version__
from kpedge.core.errors import ArchiveError, ChecksumError, DataError, OutputError, UsageError
from kpedge.core.files import atomic_folder, make_folder, parse_json, real_path, refuse_full_disk, write_json
from kpedge.core.leftovers import lock_folder
from kpedge.core.text import format_count
from kpedge.data.catalogue import PublicSet, RemoteFile
from kpedge.data.download import MAX_SIZE, Notify, Progress, check_url, download, pooch
from kpedge.data.unpack import SUFFIXES, is_archive, is_web_page, unpack

RECORD = "fetched.json"


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that was downloaded, or given with `--archive`."""

    name: str  # what it is called in the catalogue, or its own name
    url: str  # where it came from; `file:` for an archive that was given
    size: int  # bytes
    sha256: str  # of its content
    checked: str  # the kind of checksum that was verified; "" if none was known


@dataclass(frozen=True, slots=True)
class Fetched:
    """What `fetch` did: the folder, the files, how many files came out of them, and whether that is new."""

    out: Path
    files: tuple[FetchedFile, ...]
    unpacked: int
    new: bool


def custom_set(url: str, checksum: str | None) -> PublicSet:
    """A set for an address that is not in the catalogue."""
    check_url(url)
    return PublicSet("", url, url, "", label_format="auto", files=(RemoteFile(url, file_name(url), checksum=checksum),))


def file_name(url: str) -> str:
    """A file name for an address."""
    last = unquote(urlsplit(url).path).rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]", "_", last).lstrip(".")[-100:] or "download"


def override(source: PublicSet, url: str | None, checksum: str | None) -> PublicSet:
    """A set whose only file comes from another address, or has a checksum that the catalogue lacks.

    Raises:
        UsageError: the set does not have one file, or has another checksum.
    """
    if url is None and checksum is None:
        return source
    if len(source.files) != 1:
        raise UsageError(
            f"{source.name} has {format_count(len(source.files), 'file')}: --url and checksums are for one", "omit them"
        )
    (file,) = source.files
    if checksum and file.checksum and checksum != file.checksum:
        raise UsageError(f"{source.name} has the {file.checksum}, published by {file.checksum_from}", "omit yours")
    if url is not None:
        check_url(url)
    return replace(source, files=(replace(file, url=url or file.url, checksum=checksum or file.checksum),))


def fetch(
    source: PublicSet,
    out: Path,
    *,
    archives: Sequence[Path] = (),
    unverified: bool = False,
    force: bool = False,
    max_size: int = MAX_SIZE,
    timeout: float = 30.0,
    tries: int = 5,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> Fetched:
    """Download what a set consists of, or take it from archives, which are only read, verify it and unpack it into the
    folder `out`. `unverified` accepts a file whose checksum is not known, `force` replaces a folder that was fetched
    before; further arguments are those of `download`.

    Raises:
        UsageError: the set cannot be downloaded, or archives do not fit it.
        DataError: an archive cannot be read.
        OutputError: `out` holds something else, or cannot be written.
        DownloadError: a file cannot be downloaded.
        ChecksumError: a file is not the one it should be.
        ArchiveError: an archive is broken or not safe.
    """
    out = real_path(out)
    waiting = out.with_name(f".{out.name}.download")
    if archives:
        if any(out in real_path(path).parents or out in path.absolute().parents for path in archives):
            raise UsageError(f"an archive lies in {out}, which will be replaced", "move it elsewhere first")
        files = _match_archives(source, archives)
        expected = [file for file, _ in files]
    else:
        _check_downloadable(source, unverified)
        expected = [_describe(file, None) for file in source.files]
    record = _read_record(out)
    there = tuple(FetchedFile(**file) for file in record.get("files", ()))
    if there and not force:
        if record.get("name") == source.name and _same(expected, there):
            return Fetched(out, there, int(record.get("unpacked", 0)), new=False)
        raise OutputError(
            f"{out} holds {record.get('title') or 'another set'}, fetched from other files",
            "choose another --out, or add --force to replace it",
        )
    if there and (added := sum(path.is_file() for path in out.rglob("*")) - 1 - int(record.get("unpacked", 0))) > 0:
        raise OutputError(
            f"{out} would be replaced, but {format_count(added, 'file')} in it did not come from the set",
            "move yours elsewhere, or choose another --out",
        )
    if not there and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists and was not fetched", "choose another --out; it is never replaced")
    make_folder(out.parent)
    if archives:
        return _unpack_all(source, files, out, progress)
    lock = lock_folder(make_folder(waiting))
    refuse_full_disk(waiting, 2 * sum(file.size or 0 for file in source.files), "or so are needed")
    files = []
    try:
        for file in source.files:
            path = download(
                file, waiting, max_size=max_size, timeout=timeout, tries=tries, progress=progress, notify=notify
            )
            files.append((_describe(file, path), path))
        fetched = _unpack_all(source, files, out, progress)
    except (ChecksumError, ArchiveError):  # what waits is of no use
        shutil.rmtree(waiting, ignore_errors=True)
        raise
    shutil.rmtree(waiting, ignore_errors=True)
    del lock
    return fetched


def _check_downloadable(source: PublicSet, unverified: bool) -> None:
    if not source.files:
        raise UsageError(
            f"{source.name} cannot be downloaded by a program",
            f"get it from {source.page}, then: {source.with_archives}",
        )
    unknown = [file.name for file in source.files if file.checksum is None]
    if unknown and not unverified:
        raise UsageError(
            f"no checksum of {', '.join(unknown)} is known, so a change would not be noticed",
            "add --sha256, or --unverified to accept any content",
        )


def _describe(file: RemoteFile, path: Path | None) -> FetchedFile:
    """The record of a file; before it is there, as far as the catalogue knows it."""
    kind, _, value = (file.checksum or "").partition(":")
    if path is None:
        return FetchedFile(file.name, file.url, file.size or 0, value if kind == "sha256" else "", kind)
    digest = pooch.file_hash(str(path))
    return FetchedFile(file.name, file.url, path.stat().st_size, digest, kind)


def _same(expected: Sequence[FetchedFile], there: Sequence[FetchedFile]) -> bool:
    """Whether the files that were fetched are those expected: by SHA-256, or by address if none is known."""
    recorded = {file.name: file for file in there}
    return recorded.keys() == {file.name for file in expected} and all(
        file.sha256 == recorded[file.name].sha256 if file.sha256 else file.url == recorded[file.name].url
        for file in expected
    )


def _unpack_all(
    source: PublicSet, files: Sequence[tuple[FetchedFile, Path]], out: Path, progress: Progress | None
) -> Fetched:
    """Unpack all files into the folder, with the record; a file that is not an archive is copied."""
    unpacked = 0
    with atomic_folder(out) as folder:
        for file, path in files:
            if is_archive(path) or path.name.lower().endswith(SUFFIXES):
                unpacked += unpack(
                    path, folder, progress=partial(progress, f"unpacking {path.name}") if progress else None
                )
            elif is_web_page(path):
                raise ArchiveError(f"{path.name} is a web page, not data", "open the address in a browser")
            else:
                shutil.copyfile(path, folder / file.name)
                unpacked += 1
            if (folder / RECORD).exists():
                raise ArchiveError(f"{path.name} contains a {RECORD} of its own", "unpack it yourself")
        document = {
            "name": source.name,
            "title": source.title,
            "page": source.page,
            "terms": source.terms,
            "format": source.label_format,
            "scheme": source.scheme,
            "files": [asdict(file) for file, _ in files],
            "unpacked": unpacked,
            "kpedge": __version__,
        }
        write_json(folder / RECORD, document)
    return Fetched(out, tuple(file for file, _ in files), unpacked, new=True)


def _read_record(out: Path) -> dict[str, Any]:
    """What an earlier run recorded in the folder; empty if there was none."""
    try:
        document = parse_json((out / RECORD).read_text(encoding="utf-8"))
        valid = all(set(file) == set(FetchedFile.__slots__) for file in document["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return document if valid else {}


def _match_archives(source: PublicSet, archives: Sequence[Path]) -> list[tuple[FetchedFile, Path]]:
    """Which file of the set each archive is, by content or name; verified if a checksum is known."""
    if source.files and len(archives) != len(source.files):
        names = ", ".join(file.name for file in source.files)
        raise UsageError(
            f"{source.name} has {format_count(len(source.files), 'file')} ({names}), not {len(archives)}",
            f"give all of them: {source.with_archives}",
        )
    matches: dict[str, tuple[FetchedFile, Path]] = {}
    for path in archives:
        if path.is_dir():
            raise DataError(f"{path} is a folder", f"if it is unpacked already, go on with: {source.next_step(path)}")
        if not path.is_file():
            raise DataError(f"{path}: no such file", f"--archive takes a file downloaded from {source.page}")
        try:
            digest = pooch.file_hash(str(path))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        file = _file_of(source, path, digest)
        kind, _, value = (file.checksum or "").partition(":")
        if kind and pooch.file_hash(str(path), kind) != value:
            raise ChecksumError(
                f"{path}: its {kind} is not {value}, published by {file.checksum_from or 'you'}",
                f"it is cut off, or another file: download it again from {source.page}",
            )
        if file.name in matches:
            raise UsageError(f"{matches[file.name][1]} and {path} are both {file.name}", "give each file once")
        url = real_path(path).as_uri()
        matches[file.name] = (FetchedFile(file.name, url, path.stat().st_size, digest, kind), path)
    return list(matches.values())


def _file_of(source: PublicSet, path: Path, digest: str) -> RemoteFile:
    """The file of a set that an archive is: by content, else by name, to which browsers append a number."""
    if not source.files:
        return RemoteFile("", path.name)
    if len(source.files) == 1:
        return source.files[0]
    plain = re.sub(r"\s*\(\d+\)(?=\.|$)", "", path.name).lower()
    for file in source.files:
        if file.checksum == f"sha256:{digest}":
            return file
    for file in source.files:
        if file.name.lower() == plain:
            return file
    names = ", ".join(file.name for file in source.files)
    raise UsageError(
        f"{path}: neither name nor content shows which file of {source.name} it is", f"name it as: {names}"
    )
