"""What a label format is: `LabelFormat`, what it can hold, and what its writer gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Flag, auto
from pathlib import Path
from typing import TYPE_CHECKING

from kpedge.core.scheme import KeypointScheme
from kpedge.data.labels import LabelRow, Labels
from kpedge.data.rows import glob_any_case

if TYPE_CHECKING:
    from kpedge.data.formats.reader import LabelReader


class FormatCapabilities(Flag):
    """What a label format can hold. What it cannot is counted when labels are converted to it."""

    NONE = 0
    BOXES = auto()  # boxes of its own; without them, boxes follow from the points
    POINTS = auto()
    PARTIAL_POINTS = auto()  # single points may be missing
    VISIBILITY = auto()  # points may be marked as hidden
    BOXES_ONLY = auto()  # faces may have a box and no points
    MANY_FACES = auto()  # a photo may have several faces
    IGNORED = auto()  # faces that are neither face nor background
    BACKGROUND = auto()  # photos without a face
    TEST_SPLIT = auto()
    NAMES = auto()  # objects have names, among which `--label` chooses
    SIZES = auto()  # writing needs the size of every photo
    WHOLE_PIXELS = auto()  # coordinates are whole numbers
    FILE_PER_PHOTO = auto()  # label files have the names of the photos, with another ending
    BLANK_SEPARATED = auto()  # the name of a photo stands between blanks, so it cannot hold a number by itself
    HEADS = BOXES | BOXES_ONLY | MANY_FACES  # boxes without points
    FACES = HEADS | POINTS | PARTIAL_POINTS  # boxes, points, or both, of any number of faces


@dataclass(frozen=True, slots=True)
class WriteJob:
    """What a writer gets."""

    folder: Path  # where to write
    labels: Labels  # nothing in them exceeds the format's capabilities
    paths: Mapping[str, str]  # photo -> its path in the folder
    sizes: Mapping[str, tuple[int, int]]  # photo -> width and height, pixels; only for formats with `SIZES`

    def is_test(self, photo: str) -> bool:
        """Whether a photo belongs to the test split."""
        return photo in (self.labels.test or ())

    def splits(self) -> Iterator[tuple[bool, list[LabelRow]]]:
        """False and the faces to train on; then, if there is a test split, True and those of it."""
        held_out = set(self.labels.test or ())
        for is_test in (False, True):
            rows = [row for row in self.labels.rows if (row.photo in held_out) == is_test]
            if rows or not is_test:
                yield is_test, rows

    def write_lines(self, name: str, lines: Iterable[str]) -> None:
        """Write a text file into the folder, and the folders that it needs."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


Sniff = Callable[[Path], bool]


def files(*patterns: str, sniff: Sniff | None = None) -> Callable[[Path], list[Path]]:
    """A `LabelFormat.find`: the files of some patterns (`Path.glob`) that `sniff`, if it is given, accepts."""

    def find(root: Path) -> list[Path]:
        found = (path for pattern in patterns for path in sorted(glob_any_case(root, pattern)) if path.is_file())
        return [path for path in found if sniff is None or sniff(path)]

    return find


def photos_in(train: str, test: str = "") -> Callable[[str, bool], str]:
    """A `LabelFormat.image_path`: photos go into a folder, those of the test split into another if it is given."""

    def image_path(photo: str, is_test: bool) -> str:
        folder = test if is_test and test else train
        return photo if photo.startswith(f"{folder}/") else f"{folder}/{photo}"

    return image_path


def _same_path(photo: str, _is_test: bool) -> str:
    return photo


@dataclass(frozen=True, slots=True)
class LabelFormat:
    """A label format. Its module defines one as `FORMAT`; `kpedge.data.formats` registers it."""

    name: str  # for `--format` and `--to`
    description: str  # what a folder of it holds, in one line
    find: Callable[[Path], list[Path]]  # the files of a folder that may hold its labels, whatever is in them
    sniff: Sniff  # whether one of these files looks like it
    read: Callable[[LabelReader], Labels]  # reads the files that `find` gave
    capabilities: FormatCapabilities  # what it holds, and what writing it needs
    write: Callable[[WriteJob], None] | None = None  # writes labels; None for a format that is only read
    # where a photo goes, by its name and whether it belongs to the test split
    image_path: Callable[[str, bool], str] = _same_path
    scheme: KeypointScheme | None = None  # the points that it always has; None for any
    label_folders: tuple[str, ...] = ()  # names of the folders for label files, which lie in the data folder
    bare_points: bool = False  # rows hold points and no box
    auto: bool = True  # whether it is recognised by its files; others must be asked for

    def is_explained_by(self, requested: KeypointScheme | None) -> bool:
        """Whether its rows may be boxes and points of the requested scheme."""
        own = self.scheme if self.bare_points else None
        return own is not None and requested is not None and 4 + 2 * len(requested) == 2 * len(own)

    @property
    def points(self) -> str:
        """How many points a face has, in words."""
        if self.scheme is not None:
            return str(len(self.scheme))
        if FormatCapabilities.POINTS not in self.capabilities:
            return "none"
        return "any, or none" if FormatCapabilities.BOXES_ONLY in self.capabilities else "any"

    def data_folder(self, file: Path) -> Path:
        """The data folder of one label file."""
        folder = file.parent
        while folder.name in self.label_folders:
            folder = folder.parent
        return folder
