"""What `kpedge predict` reads: photos and folders of them, videos, addresses, and standard input."""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from kpedge.core.errors import ImageError, SourceError, UsageError
from kpedge.core.files import WRITTEN, closed_folders, nearest_file, real_path, recorded_outputs
from kpedge.core.images import MAX_BYTES, OTHER_IMAGES, PHOTO_SUFFIXES, ImageFrame, read_frames
from kpedge.core.leftovers import temporary_folder
from kpedge.core.text import quote
from kpedge.runtime.sources.addresses import mask_address, open_address, read_answer, scheme_of

if TYPE_CHECKING:
    from kpedge.runtime.sources.reader import Notify

VIDEOS = frozenset({".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"})
"""File name endings of videos."""
STDIN = "-"
ANSWER_S = 15.0  # seconds that a server may take to answer, or send too slowly
HEAD_BYTES = 1 << 25  # bytes of standard input that are read to see whether it is an image
LISTED = 5  # file names in a message, at most


def find_inputs(named: Sequence[str], skipped: Path | None) -> tuple[list[str], list[Path]]:
    """What is named, a file, an address, or `-`, each once, and for a folder the photos in it and below; and the images
    and videos there that are not read. `skipped` is a folder for results, left out there, as is what kpedge wrote in
    others.

    Raises:
        UsageError: a name is empty.
        ImageError: there is no photo in a folder.
    """
    found: list[str] = []
    unread: list[Path] = []
    for text in named:
        path = Path(text)
        if not text:
            raise UsageError("an input has an empty name", "name a photo, a folder, a video or an address")
        if text == STDIN or scheme_of(text) or not path.is_dir():
            found.append(text)
            continue
        every = sorted(file for file in path.rglob("*") if file.is_file())
        below = [file for file in every if not file.name.startswith(".")]
        closed = closed_folders(path)
        marks = [file for file in every if file.name == WRITTEN and file.parent != path]
        own = {file for mark in marks for file in recorded_outputs(mark)}
        if skipped and real_path(path) in real_path(skipped).parents:
            below = [file for file in below if real_path(skipped) not in real_path(file).parents]
        written = {file.parent for file in below if file in own}
        below = [file for file in below if file not in own]
        photos = [str(file) for file in below if file.suffix.lower() in PHOTO_SUFFIXES]
        others = [file for file in below if file.suffix.lower() in OTHER_IMAGES | VIDEOS]
        if not photos:
            listed = closed or sorted(written) or others or below
            raise ImageError(f"{path}: no photo in this folder or below it", unread_line(listed) if listed else "")
        unread += [*closed, *sorted(written)]
        found += photos
        unread += others
    return list(dict.fromkeys(found)), list(dict.fromkeys(unread))


def unread_line(files: Sequence[Path]) -> str:
    """A line about files in a folder that are not read; how to read the videos among them."""
    listed = ", ".join(map(str, files[:LISTED]))
    more = f" and {len(files) - LISTED:,} more" if len(files) > LISTED else ""
    video = next((file for file in files if file.suffix.lower() in VIDEOS), None)
    folders = [file for file in files if file.is_dir()]
    closed = "; permission denied" if any(not (folder / WRITTEN).is_file() for folder in folders) else ""
    own = "; kpedge wrote it: name it to read it" if any((folder / WRITTEN).is_file() for folder in folders) else ""
    return f"not read: {listed}{more}{closed}{own}" + (
        f"; name a video itself: kpedge predict {quote(video)}" if video else ""
    )


def display_name(text: str) -> str:
    """What messages and results call an input: an address without its password."""
    return "stdin" if text == STDIN else mask_address(text)


def file_name(text: str) -> str:
    """A name for files that are made from an input."""
    address = urlsplit(text) if scheme_of(text) else None
    name = Path(unquote(address.path) if address else text).name
    return "stdin" if text == STDIN else name or (address.hostname if address else "") or "image"


def is_video(text: str) -> bool:
    """Whether a file's name is that of a video."""
    return Path(file_name(text)).suffix.lower() in VIDEOS


def read_input(
    text: str, *, stored: bool = False, every: int = 1, notify: Notify = lambda _: None, stdin: BinaryIO | None = None
) -> Iterator[ImageFrame]:
    """The photo in what the user named, with the pixels as they are `stored` (as labels count them) or upright; or
    every Nth frame of an animated image or a video, or page of a TIFF. `stdin` stands in for the process's own.
    """
    if text == STDIN:
        pictures = _read_stream(stdin or sys.stdin.buffer, notify)
    elif scheme_of(text) in ("http", "https"):
        pictures = _read_address(text, notify)
    elif scheme_of(text) or is_video(text):
        pictures = _read_video(text, notify)
    elif not Path(text).exists():
        raise ImageError(f"{text}: no such photo", nearest_file(Path(text)))
    else:
        pictures = read_frames(Path(text), stored=stored)
    return itertools.islice(pictures, 0, None, every)


def _read_video(text: str, notify: Notify, stdin: BinaryIO | None = None) -> Iterator[ImageFrame]:
    from kpedge.runtime.sources.open import open_source  # photos need none of it

    source = open_source(text, notify=notify, stdin=stdin)
    try:
        if source.live:
            command = f"kpedge webcam {quote(source.name)}"
            raise UsageError(f"{source.name}: a live stream has no end", f"use: {command}")
        for frame in source:
            yield ImageFrame(frame.image, frame.number, round(frame.time_s, 3))
    finally:
        source.close()


def _read_bytes(
    data: bytes, name: str, read: Callable[[Path], Iterator[ImageFrame]] = read_frames
) -> Iterator[ImageFrame]:
    """The images in the content of a file."""
    with temporary_folder() as folder:
        path = folder / "image"
        path.write_bytes(data)
        try:
            yield from read(path)
        except (ImageError, SourceError) as error:
            raise type(error)(str(error).replace(str(path), name), error.advice) from error


def _read_address(address: str, notify: Notify) -> Iterator[ImageFrame]:
    """An image on a server, or else a video."""
    name = mask_address(address)
    try:
        with open_address(address, ANSWER_S) as answer:
            kind = answer.headers.get_content_type()
            image = kind.startswith("image/") or not _may_be_video(kind, address)
            data = read_answer(answer, MAX_BYTES, ANSWER_S) if image else None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ImageError(f"{name}: cannot be read: {reason}", "check the address and the network") from None
    yield from _read_video(address, notify) if data is None else _read_bytes(data, name)


def _may_be_video(kind: str, address: str) -> bool:
    return kind.startswith(("video/", "multipart/")) or kind == "application/vnd.apple.mpegurl" or is_video(address)


def _read_stream(stream: BinaryIO, notify: Notify) -> Iterator[ImageFrame]:
    """An image, a video, or JPEGs one after the other, from a pipe."""
    if stream.isatty():
        raise UsageError("standard input is a keyboard, not an image", "send one: kpedge predict - < photo.jpg")
    head = stream.read(HEAD_BYTES)
    if not head:
        raise ImageError("stdin: empty", "send an image or a video: kpedge predict - < photo.jpg")
    whole = len(head) < HEAD_BYTES
    if whole and head.find(b"\xff\xd9\xff\xd8") < 0 and _is_image(head):
        yield from _read_bytes(head, "standard input")
    elif whole and head[4:8] == b"ftyp":  # an MP4, whose index may be at its end
        yield from _read_bytes(head, "standard input", lambda path: _read_video(str(path), notify))
    else:
        yield from _read_video(STDIN, notify, cast(BinaryIO, _Joined(head, stream)))


def _is_image(data: bytes) -> bool:
    starts = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP")
    return data.startswith(starts) or data[8:12] == b"WEBP" or data[4:12] in IMAGE_BRANDS


IMAGE_BRANDS = tuple(b"ftyp" + brand for brand in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1"))
"""How images in an ISO container begin, after the first four bytes; MP4 videos have other brands."""


class _Joined:
    """What was read of a stream already, and the rest of it."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = io.BytesIO(head), rest

    def read(self, size: int) -> bytes:
        return self._head.read(size) or self._rest.read(size)

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        raise io.UnsupportedOperation
