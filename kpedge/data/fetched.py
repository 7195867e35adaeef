"""The folder that `kpedge data fetch` makes: what is unpacked into it, whole or not at all, and `fetched.json`, which
records what came from where.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kpedge import __version__
from kpedge.core.errors import ArchiveError, OutputError
from kpedge.core.files import atomic_folder, write_text
from kpedge.data.catalogue import PublicSet
from kpedge.data.unpack import Limits, is_archive, unpack

RECORD = "fetched.json"

Progress = Callable[[str, int, "int | None"], None]
"""Told what is being done, how many bytes are done, and of how many; None where that is not known."""


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that was downloaded, or given.

    Attributes:
        name, url: what it is called, and where it came from; `file:` and a path for one that was given.
        size: bytes.
        sha256: of its content.
        checked: the kind of checksum that it was held against; "" where none was known.
    """

    name: str
    url: str
    size: int
    sha256: str
    checked: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """What fetching did.

    Attributes:
        out: the folder.
        files: what was downloaded, or given.
        unpacked: how many files that gave.
        new: False where all was there already.
    """

    out: Path
    files: tuple[FetchedFile, ...]
    unpacked: int
    new: bool


def there_already(out: Path, record: dict[str, Any]) -> Fetched:
    """What an earlier run recorded, as the result of one that has nothing to do."""
    return Fetched(out, tuple(FetchedFile(**file) for file in record["files"]), int(record.get("unpacked", 0)), False)


def read_record(out: Path) -> dict[str, Any]:
    """What an earlier run recorded in the folder; empty where there was none."""
    try:
        document = json.loads((out / RECORD).read_text(encoding="utf-8"))
        fields = [set(file) for file in document["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return document if fields and all(names == set(FetchedFile.__slots__) for names in fields) else {}


def refuse_other(out: Path, record: dict[str, Any], source: PublicSet, *, force: bool) -> None:
    """Stop before a folder would be replaced.

    Args:
        out: the folder.
        record: what `read_record` found in it.
        source: the set that is to go there.
        force: a folder that was fetched may be replaced.

    Raises:
        OutputError: it holds something else.
    """
    if record and not force:
        title = record.get("title") or record.get("name")
        same = bool(source.name) and record.get("name") == source.name
        raise OutputError(
            f"{out} holds {title}, of other files" if same else f"{out} holds another set: {title}",
            "choose another --out, or add --force to replace it",
        )
    if not record and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists already and was not fetched", "choose another --out; it is never replaced")


def put_in_place(
    source: PublicSet,
    files: Sequence[tuple[FetchedFile, Path]],
    out: Path,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
    refused: Callable[[Path], None] | None = None,
) -> Fetched:
    """Unpack all files into the folder, with the record; a file that is no archive is copied.

    Args:
        source: the set.
        files: what there is to say of each, and where it lies; it stays there.
        out: the folder to make.
        limits: how much may come out of an archive.
        progress: told what is being done.
        refused: told where an archive lies that cannot be unpacked.

    Raises:
        ArchiveError: one is broken or not safe.
        OutputError: the folder cannot be written.
    """
    unpacked = 0
    with atomic_folder(out) as folder:
        for file, path in files:
            try:
                if is_archive(path):
                    bar = None if progress is None else named(progress, f"unpacking {path.name}")
                    unpacked += unpack(path, folder, limits=limits, progress=bar)
                else:
                    shutil.copyfile(path, folder / file.name)
                    unpacked += 1
                if (folder / RECORD).exists():
                    raise ArchiveError(f"{path.name}: it holds a {RECORD} of its own", "unpack it by hand")
            except ArchiveError:
                if refused:
                    refused(path)
                raise
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
        write_text(folder / RECORD, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return Fetched(out, tuple(file for file, _ in files), unpacked, True)


def named(progress: Progress, what: str) -> Callable[[int, int | None], None]:
    """The progress of one thing, from that of all."""
    return lambda done, total: progress(what, done, total)
