"""What packing crops and packing frames share: options, split, progress, and what is recorded in `set.json`."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from kpedge.core.errors import DataError, ImageError
from kpedge.core.geometry import Image
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.labels import LabelRow, photo_problem
from kpedge.data.leaks import group_copies, thumbnail
from kpedge.data.photos import open_photo
from kpedge.data.source import NOT_STATED, Progress, Source
from kpedge.data.split import split_photos
from kpedge.data.storage import Layout

Counts = dict[str, dict[str, int]]  # split -> {"photos": ..., "faces": ...}, of crops with "negatives"


@dataclass(frozen=True, slots=True)
class SetOptions(ABC):
    """How a set is prepared; all of it goes into the set's hash."""

    layout: ClassVar[Layout]
    scheme: KeypointScheme | None = None  # the requested keypoint scheme; the set's own when None
    seed: int = 0  # of the split
    validation: float = 0.1  # fraction of the photos outside the test split that go to validation
    # fraction of the photos that go to test, if no test list is given and the set keeps none for testing; 0 trains on
    # those too that a set keeps
    test: float = 0.1
    boxes: str = ""  # how the labelled boxes are used; as the format says when empty
    name: str = ""  # what the set is called in model cards; the folder's name when empty
    terms: str = NOT_STATED  # the terms of the photos, as model cards state them

    @abstractmethod
    def complete(self, read: Source) -> Any:
        """The same options with what the source decides."""

    @abstractmethod
    def digest(self, read: Source) -> str:
        """Hash of all that a set depends on."""

    @abstractmethod
    def packing(self, read: Source, progress: Progress | None) -> Packing:
        """What packs a source with these options."""


class Packing(ABC):
    """Packs a source into a folder."""

    def __init__(self, read: Source, options: SetOptions, progress: Progress | None, steps: int) -> None:
        self.problems = list(read.problems)  # rows and photos that were left out so far
        self._read, self._progress, self._steps, self._done = read, progress, steps + 1, 0
        self._common = options
        self.remarks: list[str] = []  # notes on the split
        self._splits = self._split(self._group_copies())

    def _group_copies(self) -> dict[str, str]:
        """Photo -> a hash that it has in common with its near-duplicates."""
        thumbnails = {}
        for _, photo, _ in self._each_photo():
            with contextlib.suppress(ImageError):  # named when it is packed
                thumbnails[photo] = thumbnail(open_photo(self._read.labels, photo))
        return group_copies(self._read.digests, thumbnails)

    def _split(self, groups: dict[str, str]) -> dict[str, str]:
        """Photo -> split: near-duplicates stay together, unless nothing would be left to train or validate on."""
        read, options = self._read, self._common

        def split(content: dict[str, str]) -> dict[str, str]:
            return split_photos(
                content, seed=options.seed, validation=options.validation, test=options.test, test_list=read.listed
            )

        by_photo = split(read.digests)
        moved = sum(groups[photo] != digest for photo, digest in read.digests.items())
        if not moved:
            return by_photo
        with contextlib.suppress(DataError):
            together = split(groups)
            if set(together.values()) == set(by_photo.values()):
                self.remarks.append(f"{format_count(moved, 'photo')} stay in one split with near-duplicates of theirs")
                return together
        self.remarks.append(
            "most photos are near-duplicates of each other, so they are in more than one split: figures on them say "
            "little about new photos"
        )
        return by_photo

    @abstractmethod
    def pack(self, folder: Path, info: dict[str, Any]) -> Counts:
        """Write all files, with `info` in `set.json`, and count."""

    def _open(self, photo: str, rows: list[LabelRow]) -> Image | None:
        """A photo's pixels; None, and a problem, if it cannot be read."""
        try:
            return open_photo(self._read.labels, photo)
        except ImageError as error:
            self.problems.append(photo_problem(self._read.labels.root, photo, rows, error))
            return None

    def _each_photo(self) -> Iterator[tuple[int, str, str]]:
        """Number, name and content hash of every photo, reporting progress."""
        for number, (photo, digest) in enumerate(self._read.digests.items()):
            yield number, photo, digest
            self._done += 1
            if self._progress:
                self._progress(self._done, len(self._read.digests) * self._steps)

    def _record(self, counts: Counts, photos: list[str], settings: dict[str, Any]) -> dict[str, Any]:
        """What both kinds of set record."""
        options = self._common
        return {
            "name": options.name,
            "terms": options.terms,
            "settings": {
                "seed": options.seed,
                "validation": options.validation,
                "test": "given list" if self._read.listed is not None else options.test,
                "boxes": options.boxes,
                **settings,
            },
            "counts": counts,
            "problems": [asdict(problem) for problem in self.problems],
            "photos": photos,
        }
