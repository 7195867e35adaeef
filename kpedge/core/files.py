"""Reading files with a clear error, and writing them so that nothing is lost: whole or not at all, never unasked over a
user's file.
"""

import codecs
import contextlib
import difflib
import functools
import hashlib
import itertools
import json
import os
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kpedge.core.errors import KpedgeError, ModelError, OutputError
from kpedge.core.leftovers import owned_prefix, remove_leftovers

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

HEADROOM = 64_000_000  # bytes of the disk that large files leave free
_MARKS = {  # UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    codecs.BOM_UTF8: "utf-8",
}
WRITTEN = ".kpedge-written"  # list of the files in a folder that kpedge wrote, as `sha256sum` prints it


def real_path(path: Path) -> Path:
    """The absolute path without links. `Path.resolve` raises at a loop of links before Python 3.13."""
    return Path(os.path.realpath(path))


def read_bytes(
    path: Path, problem: type[KpedgeError], missing: str = "no such file", *, limit: int = -1, largest: int = 0
) -> bytes:
    """The content of a regular file, of which `limit` bytes are read, all when negative; a pipe or a device, which may
    never end, is an error of type `problem`, as is a file of more than `largest` bytes, if that is not 0.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode) and not stat.S_ISDIR(state.st_mode):
            raise problem(f"{path}: not a regular file", "give a file on a disk")
        if 0 < largest < state.st_size:
            raise problem(f"{path}: the file has {state.st_size:,} bytes, at most {largest:,} are read")
        with path.open("rb") as stream:
            return stream.read(limit)
    except FileNotFoundError:
        raise problem(f"{path}: {missing}", nearest_file(path)) from None
    except IsADirectoryError:
        names = ("best.pt", "*.onnx", "*.pt") if issubclass(problem, ModelError) else ()
        inside = next((one for name in names for one in sorted(path.glob(name))), None)
        raise problem(f"{path} is a folder, not a file", f"give {inside or 'a file in it'}") from None
    except OSError as error:
        raise problem(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError:  # a NUL byte in the name
        raise problem(f"{path}: {missing}") from None


MOST_NAMES = 1000  # in a folder in which a similar name is searched: many files may be missing


def nearest_file(path: Path) -> str:
    """Advice on the name of a missing file or folder: the most similar one, if its folder has one and is not large."""
    with contextlib.suppress(OSError):
        if path.is_symlink():
            return f"it is a link to {path.readlink()}, where no file is"
        names = [other.name for other in itertools.islice(path.parent.iterdir(), MOST_NAMES + 1)]
        if len(names) <= MOST_NAMES and (near := difflib.get_close_matches(path.name, names, 1)):
            return f"did you mean {path.with_name(near[0])}?"
    return "check its name and folder"


def text_encoding(data: bytes) -> str:
    """The encoding of a text: UTF-8, or UTF-16 or UTF-32 by its byte order mark; UTF-16 also by its NUL bytes."""
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return encoding
    head = data[:64].rstrip(b"\0")
    nuls = {"utf-16-be": head[::2].count(0), "utf-16-le": head[1::2].count(0)}
    return next((encoding for encoding, count in nuls.items() if count > len(head) / 3), "utf-8")


def decode_text(data: bytes, errors: str = "strict") -> str:
    """A text in an encoding of `text_encoding`, with Unix's line ends for those of Windows and old Macs.
    Byte order marks, which joined files have inside, a DOS end-of-file mark, and NUL bytes that a crash left at its end
    are no part of it.

    Raises:
        UnicodeDecodeError: it is no text, and `errors` is "strict".
    """
    text = data.decode(text_encoding(data), errors).replace("\ufeff", "").rstrip("\0\x1a")
    return text.replace("\r\n", "\n") if "\n" in text else text.replace("\r", "\n")


def read_text(path: Path, problem: type[KpedgeError], advice: str = "save it as UTF-8, or give another file") -> str:
    """The content of a text file, as `decode_text` decodes it; `problem` is raised where it cannot be read or is not
    text.
    """
    try:
        return decode_text(read_bytes(path, problem))
    except UnicodeDecodeError as error:
        what = f"byte {error.start} is not {error.encoding.upper()}"
        raise problem(f"{path}: not a text file ({what})", advice) from error


def read_json(path: Path, problem: type[KpedgeError]) -> Any:
    """The document of a JSON file, in any encoding of `decode_text`; `problem` says where it is not JSON."""
    advice = "export or copy the file again"
    text = read_text(path, problem, advice)
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        why = " (cut off?)" if cut else f": {error.msg} (column {error.colno})"
        raise problem(f"{path}:{error.lineno}: not JSON{why}", advice) from error
    except ValueError as error:  # a number of thousands of digits; nesting
        raise problem(f"{path}: not JSON that can be read: {error}", advice) from error


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of members with the same name the parser would keep the last, without a word."""
    names = dict(members)
    if len(names) < len(members):
        name, times = Counter(name for name, _ in members).most_common(1)[0]
        raise ValueError(f"an object has {times} members called {name!r}")
    return names


def parse_json(text: str | bytes) -> Any:
    """The document of a JSON text.

    Raises:
        ValueError: the text is not JSON, or has a name twice in an object; the message says why and where.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML file's text.

    Raises:
        ValueError: the text is not TOML; the message says why and where.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def output_error(path: Path, error: OSError) -> OutputError:
    """The error that says why `path` cannot be written."""
    reason = error.strerror or str(error)
    return OutputError(f"cannot write {path}: {reason}", "check the folder's permissions and the free disk space")


def refuse_existing(path: Path, *, force: bool = False) -> None:
    """Stop before work is done whose result would overwrite a file or folder of the user's. What kpedge wrote itself
    (`record_output`), and nobody changed since, may be replaced; with `force` all but `refuse_added`.

    Raises:
        OutputError: the path exists, is not kpedge's own output, and `force` is off; a folder has files of the user's;
            it cannot be written there.
    """
    check_writable((real_path(path) if path.is_dir() else path).parent)
    if force:
        refuse_added(path)
    elif path.exists() and not is_own_output(path):
        kind = "folder" if path.is_dir() else "file"
        raise OutputError(f"{path} exists already", f"name another {kind}, or add --force to replace it")


def check_writable(folder: Path) -> None:
    """Stop before work is done whose result could not be written into a folder, which need not exist yet.

    Raises:
        OutputError: it, or the folder in which it would be created, is a file or not writable.
    """
    # Path.exists raises below a closed folder.
    nearest = next((path for path in (folder, *folder.parents) if os.path.exists(path)), folder)  # noqa: PTH110
    if not nearest.is_dir():
        raise OutputError(f"{nearest} is a file, not a folder", "choose another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(
            f"cannot write into {nearest}: no permission", "choose another folder, or change its permissions"
        )


def refuse_added(folder: Path, *, changed: bool = False) -> None:
    """Stop before a folder that kpedge wrote is replaced, and with it what the user added, or `changed`, later.

    Raises:
        OutputError: there are files that the folder's list `WRITTEN` does not name; a folder without one has none.
    """
    try:
        own = recorded_outputs(folder / WRITTEN)
    except OSError:
        return
    users = [file for file in _files_below(folder) if file not in own or (changed and sha256(file) != own[file])]
    if users:
        more = f" and {len(users) - 1:,} more" if len(users) > 1 else ""
        raise OutputError(
            f"{folder} would be replaced, but {users[0].relative_to(folder)}{more} is not as kpedge wrote it",
            "move it elsewhere, or choose another --out",
        )


def record_output(path: Path) -> None:
    """Record a file, or a whole folder, as written by kpedge: its SHA-256, in the list `WRITTEN` of its folder.

    Raises:
        OutputError: the list cannot be written.
    """
    if path.is_dir():
        lines = "".join(f"{sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in _files_below(path))
        write_text(path / WRITTEN, lines)
        return
    target = path.parent / WRITTEN
    try:
        with target.open("a", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(f"{sha256(path)}  {path.name}\n")
    except OSError as error:
        raise output_error(target, error) from error


def recorded_outputs(mark: Path) -> dict[Path, str]:
    """The files that a list `WRITTEN` names -> their SHA-256."""
    state = mark.stat()
    return _recorded(mark, (state.st_mtime_ns, state.st_size))


def is_own_output(path: Path) -> bool:
    """Whether kpedge wrote a file, or every file of a folder, and it is unchanged."""
    folder = path if path.is_dir() else path.parent
    files = _files_below(path) if path.is_dir() else [path]
    try:
        recorded = recorded_outputs(folder / WRITTEN)
        return all(recorded.get(file) == sha256(file) for file in files)
    except OSError:
        return False


@functools.lru_cache(maxsize=8)
def _recorded(written: Path, _state: tuple[int, int]) -> dict[Path, str]:
    """A list as it is in this state."""
    lines = written.read_text("utf-8", errors="surrogateescape").splitlines()
    return {written.parent / name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != WRITTEN)


def closed_folders(root: Path) -> list[Path]:
    """A folder and those below it, as far as they may not be read: others walk past them without a word."""
    closed: list[Path] = []
    for _ in os.walk(root, onerror=lambda error: closed.append(Path(error.filename))):
        pass
    return closed


def make_folder(path: Path) -> Path:
    """Create a folder and its parents.

    Raises:
        OutputError: it cannot be created, or is not a folder, or not writable.
    """
    check_writable(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    return path


def refuse_full_disk(folder: Path, needed: int, what: str) -> None:
    """Stop before files of `needed` bytes are written into a folder for which there is no room; `what` says what they
    are.

    Raises:
        OutputError: there are too few left on its disk.
    """
    free = shutil.disk_usage(folder).free
    if needed + HEADROOM > free:
        raise OutputError(
            f"cannot write into {folder}: {needed:,} bytes {what}, {free:,} are free on the disk",
            "make room, or name an --out on another disk",
        )


def _temporary_path(path: Path) -> Path:
    """A new name next to a path. What is created there gets the permissions that the user's umask leaves, which those
    of `tempfile` do not.
    """
    return path.parent / f"{owned_prefix(path.name)}{secrets.token_hex(4)}.part"


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: readers see the old content or the new, a crash leaves no half of it.

    Raises:
        OutputError: the file cannot be written; nothing is left behind.
    """
    make_folder(path.parent)
    temporary: Path | None = None
    try:
        remove_leftovers(path.parent)
        temporary = _temporary_path(path)
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for UTF-8 text, and for the bytes of file names that are not."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, document: Any) -> None:
    """`write_bytes` for a JSON document, indented for people."""
    write_text(path, json.dumps(document, indent=1) + "\n")


def replace_folder(new: Path, path: Path) -> None:
    """Move a folder into the place of another one on the same disk, or of none; a failure leaves the old one.

    Raises:
        OutputError: it cannot be moved.
    """
    path = real_path(path)  # a link stays a link
    old = path.with_name(f"{owned_prefix(path.name)}.old") if path.exists() else None
    try:
        if old:
            path.replace(old)
        try:
            new.replace(path)
        except OSError:
            if old:
                old.replace(path)
            raise
        if old:
            shutil.rmtree(old)
    except OSError as error:
        raise output_error(path, error) from error


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder next to `path` that takes its place when the block ends well, and vanishes when it does not.

    Raises:
        OutputError: something in the block, or the final move, cannot be written; the user added files to the folder
            that would be replaced.
    """
    path = real_path(path)  # a link stays a link
    refuse_added(path)
    make_folder(path.parent)
    temporary: Path | None = None
    try:
        remove_leftovers(path.parent)
        temporary = _temporary_path(path)
        temporary.mkdir()
        yield temporary
        replace_folder(temporary, path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
