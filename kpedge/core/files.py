"""Reading files with a clear error, and writing them so that nothing is lost: whole or not at all, never unasked over a
user's file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kpedge.core.errors import KpedgeError, OutputError

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

HEADROOM = 64_000_000
"""Bytes of the disk that large files leave free."""


def read_bytes(path: Path, problem: type[KpedgeError], missing: str = "no such file", *, limit: int = -1) -> bytes:
    """The content of a file.

    Args:
        path: the file.
        problem: the error to raise when it cannot be read.
        missing: what to say when it is not there.
        limit: how many bytes to read; all when negative.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(limit)
    except FileNotFoundError:
        raise problem(f"{path}: {missing}") from None
    except IsADirectoryError:
        inside = next((one for name in ("best.pt", "*.onnx", "*.pt") for one in sorted(path.glob(name))), None)
        raise problem(f"{path} is a folder, not a file", f"give {inside or 'a file in it'}") from None
    except OSError as error:
        raise problem(f"{path}: cannot be read: {error.strerror}") from error


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML file's text.

    Raises:
        ValueError: the text is not TOML; the message says why and where.
    """
    return tomllib.loads(text)


def output_error(path: Path, error: OSError) -> OutputError:
    """The one line that tells why `path` cannot be written."""
    reason = error.strerror or str(error)
    return OutputError(f"cannot write {path}: {reason}", "check the folder's permissions and the free disk space")


def refuse_existing(path: Path, *, force: bool = False) -> None:
    """Stop before work is done whose result would overwrite a file.

    Raises:
        OutputError: the path exists and `force` is off.
    """
    if path.exists() and not force:
        kind = "folder" if path.is_dir() else "file"
        raise OutputError(f"{path} exists already", f"name another {kind}, or add --force to replace it")


def make_folder(path: Path) -> Path:
    """Create a folder and its parents.

    Raises:
        OutputError: it cannot be created, or is not a folder, or not writable.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputError(f"{path} is a file, not a folder", "choose another folder") from None
    except OSError as error:
        raise output_error(path, error) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write into {path}: no permission", "choose another --out, or change its permissions")
    return path


def refuse_full_disk(folder: Path, needed: int, what: str) -> None:
    """Stop before files are written for which there is no room.

    Args:
        folder: where they go; it exists.
        needed: bytes.
        what: what is to be said of these bytes, such as "are still to come".

    Raises:
        OutputError: there are too few left on its disk.
    """
    free = shutil.disk_usage(folder).free
    if needed + HEADROOM > free:
        raise OutputError(
            f"cannot write into {folder}: {needed:,} bytes {what}, {free:,} are free on the disk",
            "make room, or name an --out on another disk",
        )


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: readers see the old content or the new, a crash leaves no half of it.

    Raises:
        OutputError: the file cannot be written; nothing is left behind.
    """
    make_folder(path.parent)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, document: Any) -> None:
    """`write_bytes` for a JSON document, indented for people."""
    write_text(path, json.dumps(document, indent=1) + "\n")


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well, and vanishes when it does not.

    Raises:
        OutputError: something in the block, or the final move, cannot be written.
    """
    path = path.resolve()  # a link stays a link
    make_folder(path.parent)
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        temporary.chmod(0o755)
        yield temporary
        if path.exists():
            old = temporary.with_suffix(".old")
            path.replace(old)
            try:
                temporary.replace(path)
            except OSError:
                old.replace(path)
                raise
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
