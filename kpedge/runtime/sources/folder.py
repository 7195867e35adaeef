"""Images as frames: of a folder and those below it, or of one file, which may be animated or have pages."""

import re
from collections.abc import Iterator
from pathlib import Path

from kpedge.core.errors import ImageError, SourceError
from kpedge.core.files import closed_folders
from kpedge.core.geometry import Image
from kpedge.core.images import OTHER_IMAGES, PHOTO_SUFFIXES, ImageFrame, images_below, read_frames
from kpedge.runtime.sources.paced import DEFAULT_RATE, PacedSource
from kpedge.runtime.sources.reader import Notify, Reader
from kpedge.runtime.sources.source import Source, SourceKind, SourceRequest


def natural_order(path: Path) -> list[str | int]:
    """Sort key for paths that puts `2.jpg` before `10.jpg`."""
    return [int(part) if part.isdecimal() else part.casefold() for part in re.split(r"([0-9]+)", path.as_posix())]


class ImageReader(Reader):
    """The images in files, at a rate; `notify` names unreadable files, which are left out. A single one is an error."""

    def __init__(self, paths: list[Path], rate: float, notify: Notify) -> None:
        self.rate = rate
        self._count, self._notify = len(paths), notify
        self._images = self._read(paths)
        self._image: Image | None = None

    def _read(self, paths: list[Path]) -> Iterator[tuple[Path, ImageFrame]]:
        for path in paths:
            try:
                for picture in read_frames(path):
                    yield path, picture
            except ImageError as error:
                if len(paths) == 1 and self._image is None:
                    raise SourceError(str(error), error.advice) from error
                self._notify(f"{error}; it is left out")

    def grab(self) -> bool:
        path, picture = next(self._images, (None, None))
        self._image = None if picture is None else picture.image
        if picture is not None:
            self.name, self.time_s = str(path), picture.time_s
        return picture is not None

    def image(self) -> Image | None:
        return self._image

    def close(self) -> None:
        self._images = iter(())

    def describe(self, image: Image) -> str:  # noqa: ARG002 (their sizes differ)
        """How many files there are."""
        return f"{self._count} image{'s' * (self._count != 1)} at {self.rate:.4g} fps"


def _matches(request: SourceRequest) -> bool:
    path = request.path
    return path.is_dir() or (path.is_file() and path.suffix.lower() in PHOTO_SUFFIXES)


def _open(request: SourceRequest) -> Source:
    """Images in natural order."""
    path, name, rate = request.path, request.name, request.rate or DEFAULT_RATE
    below = path.rglob("*") if path.is_dir() else ()
    if unread := sorted(file.name for file in below if file.suffix.lower() in OTHER_IMAGES):
        listed = ", ".join(unread[:3]) + (f" and {len(unread) - 3} more" if len(unread) > 3 else "")
        request.notify(f"{name}: not read: {listed}; convert them to JPEG or PNG")
    if closed := closed_folders(path) if path.is_dir() else []:
        request.notify(f"{closed[0]}: not read: permission denied")
    paths = sorted(images_below(path), key=natural_order) if path.is_dir() else [path]
    if not paths:
        known = ", ".join(sorted(PHOTO_SUFFIXES))
        raise SourceError(f"{name}: there is no image in this folder", f"names of images end in {known}")
    reader = ImageReader(paths, rate, request.notify)
    # An animated image keeps its own times, unless the user gives a rate; images of a folder have none in common.
    fixed = rate if path.is_dir() or request.rate else None
    return PacedSource(name, reader, rate=fixed, realtime=request.realtime, notify=request.notify)


FOLDER = SourceKind(
    "a folder of images",
    "a folder, or an image",
    "its images in order (`2.jpg` before `10.jpg`), at `--rate` per second; every frame or page of an image that has "
    "several",
    frozenset({"rate", "realtime"}),
    _matches,
    _open,
)
