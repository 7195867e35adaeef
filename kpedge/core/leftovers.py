"""Temporary files and folders that name their owner, so that the next run removes those of processes that were killed;
and a lock on a folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sys
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path

from kpedge.core.errors import OutputError

HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
OWNED = re.compile(rf"\.?(?P<name>.+)\.{HOST}-(?P<pid>\d+)-[^.]*\.(?P<kind>part|old|tmp)(\.[^.]+)?")
"""Name of a temporary file or folder of this host."""
OWNER = ".running"  # file in a locked folder that names the process
_swept: set[Path] = set()
_locks: weakref.WeakValueDictionary[Path, FolderLock] = weakref.WeakValueDictionary()


def owned_prefix(name: str) -> str:
    """How the name of a temporary file for `name` begins; letters and a suffix such as `.part` follow."""
    return f".{name}.{HOST}-{os.getpid()}-"


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that are gone left in a folder, once per process.

    A folder that such a process had moved away, to put a new one in its place, is put back if the new one is missing.
    """
    if folder in _swept:
        return
    _swept.add(folder)
    with contextlib.suppress(OSError):  # it is a courtesy
        for path in [Path(entry.path) for entry in os.scandir(folder)]:
            match = OWNED.fullmatch(path.name)
            if match is None or _is_alive(int(match["pid"])):
                continue
            if match["kind"] == "old" and not (folder / match["name"]).exists():
                path.replace(folder / match["name"])
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder in the system's temporary directory, removed at the end, or by the next run if this one is killed."""
    parent = Path(tempfile.gettempdir())
    remove_leftovers(parent)
    with tempfile.TemporaryDirectory(prefix=owned_prefix("kpedge"), suffix=".tmp", dir=parent) as folder:
        yield Path(folder)


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":  # there os.kill ends a process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def lock_folder(folder: Path) -> FolderLock | None:
    """Lock a folder for this process, as long as the result is referenced; None if the system has no such locks.

    A killed process holds no lock. The same process may lock a folder twice.
    """
    key = Path(os.path.realpath(folder))
    lock = _locks.get(key)
    if lock is None and sys.platform != "win32":
        lock = _locks[key] = FolderLock(key)
    return lock


class FolderLock:
    """A lock on a folder; see `lock_folder`."""

    def __init__(self, folder: Path) -> None:
        import fcntl

        owner = folder / OWNER
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            try:
                name = owner.read_text(encoding="utf-8")
            except OSError:
                name = "another process"
            raise OutputError(f"{folder} is in use by {name}", "wait for it to end, or choose another folder") from None
        except OSError:  # a file system without locks
            os.close(handle)
            return
        with contextlib.suppress(OSError):
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        self.release = weakref.finalize(self, _release, handle, owner, os.getpid())


def _release(handle: int, owner: Path, pid: int) -> None:
    import fcntl

    if os.getpid() != pid:  # a forked process that ends
        return
    with contextlib.suppress(OSError):
        owner.unlink(missing_ok=True)
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)
