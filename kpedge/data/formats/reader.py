"""What the readers of label formats share: collecting rows and problems, finding photos, choosing faces by name."""

import contextlib
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import box_of_points
from kpedge.core.errors import DataError
from kpedge.core.geometry import Box
from kpedge.core.images import PHOTO_SUFFIXES
from kpedge.core.keypoints import FACES21
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.labels import LabelProblem, LabelRow, Labels, photos_below
from kpedge.data.rows import RowError, check_box, check_name, is_file, is_folder, where_in

Parsed = tuple[str, Box, NDArray[np.float64]]  # a parsed row: photo, box (4,), and points (K, 2)

TEST_FOLDERS = ("test", "testset")  # folders with test photos, in sets without a list; Helen and LFPW have a `testset`
_QUOTED = re.compile(r"""(?P<mark>["'])(?P<name>.+)(?P=mark)""")
"""A name between quotation marks, where they mean nothing in the format."""
_UPLOADED = re.compile(r"(^|/)[0-9a-f]{8}-(?=[^/]+$)")  # what Label Studio puts before the names of uploaded files
TEST_FILE = re.compile(r"(?<![a-z])test(?:ing)?(?![a-z])")
"""In the path of a file of the test split: test.json, instances_test2017.json, testing.xml, not latest.json."""
EDGE = 0.5  # from the edge of the first pixel, where the boxes of many formats count from, to its centre
NO_POINTS = np.full((len(FACES21), 2), np.nan)  # the points of a face with a box alone
NAME_PARTS = 8  # how many parts at most are tried as the name of the photo in a row that cannot be read


def in_test_folder(photo: str) -> bool:
    """Whether a photo is, at any depth, in a folder with a name of `TEST_FOLDERS`."""
    return any(folder.lower() in TEST_FOLDERS for folder in photo.split("/")[:-1])


def points_box(points: NDArray[np.float64], scheme: KeypointScheme) -> Box:
    """The box that follows from a face's points, checked.

    Raises:
        RowError: fewer than two points are labelled, or all lie in one place.
    """
    if np.isfinite(points).all(axis=1).sum() < 2:
        raise RowError("points", "fewer than two points are labelled: no box follows")
    return check_box(box_of_points(points, scheme))


def corners(values: NDArray[np.float64], cells: list[str], smallest: float = 0.0) -> Box:
    """The box of `x y width height`, which count the edges of pixels, in our frame.

    Raises:
        RowError: it has no area.
    """
    if values[2:4].min() < 0:
        raise RowError("box without area", f"width and height are {cells[2]} and {cells[3]}")
    start = values[:2] - EDGE
    return check_box(np.concatenate([start, start + np.maximum(values[2:4], smallest)]))


def in_test_file(row: LabelRow) -> bool:
    """Whether the label file of a row is one of a test split, by its name."""
    return bool(TEST_FILE.search(row.file.lower()))


def _fold(name: str) -> str:
    """A name without differences in case and in how accents are composed (Unicode NFC)."""
    return unicodedata.normalize("NFC", name).casefold()


class PhotoFinder:
    """Finds photos that label files name differently from where and how they are stored: below another folder, with a
    Windows or absolute path of another machine, as an address, between quotation marks, in another case, with accents
    composed differently, or without their ending or with that of another image format.
    """

    def __init__(self, root: Path) -> None:
        """Remember the data folder; it is only listed when a name is not found at once."""
        self._root = root
        self._by_name: dict[str, list[str]] | None = None
        self._by_stem: dict[str, list[str]] | None = None
        self.unused: list[str] = []  # photos of the same name as one that was found, but for the ending
        self._found: dict[tuple[str, tuple[str, ...], str], str] = {}

    def __call__(self, name: str, folders: Iterable[str] = (), below: str = "") -> str:
        """The photo of a name, relative to the root: in one of the folders, else the only one in the folder `below`
        that shares the most trailing parts of its path; if there is none, the name in the first folder. If the
        folder in the name exists, its photos are not looked for in others: they are missing.
        """
        key = (name, tuple(folders), below)
        if key not in self._found:
            self._found[key] = self._find(*key)
        return self._found[key]

    def _find(self, name: str, folders: tuple[str, ...], below: str) -> str:
        plain = name.replace("\\", "/")
        places = [posixpath.normpath(posixpath.join(folder, one)) for one in (name, plain) for folder in (*folders, "")]
        for place in places:
            if not place.startswith("../") and is_file(self._root / place):
                return place
        home = {posixpath.dirname(place) for place in places if posixpath.dirname(plain)}
        home = {folder for folder in home if folder and is_folder(self._root / folder)}
        bare = unquote(_QUOTED.sub(r"\g<name>", plain)).partition("?")[0]  # of an address: %20, and ?what=follows
        variants = [plain, _UPLOADED.sub(r"\1", plain), bare]
        stem, ending = posixpath.splitext(bare)
        variants += [f"{one}.*" for one in ((bare, stem) if ending.lower() in PHOTO_SUFFIXES else (bare,))]
        found = next(filter(None, (self._elsewhere(one, below, home) for one in variants)), "")
        return found or posixpath.normpath(posixpath.join((*folders, "")[0], plain))

    def _elsewhere(self, name: str, below: str, home: Collection[str]) -> str:
        if self._by_name is None:
            self._by_name = {}
            for photo in photos_below(self._root):
                name_of = _fold(posixpath.basename(photo))
                for key in (name_of, f"{posixpath.splitext(name_of)[0]}.*"):
                    self._by_name.setdefault(key, []).append(photo)
        tail = _fold(posixpath.normpath(name)).split("/")[::-1]
        shared: dict[int, list[str]] = {}
        for photo in self._by_name.get(tail[0], ()):
            if photo.startswith(f"{below}/" if below else "") and (not home or posixpath.dirname(photo) in home):
                parts = [tail[0], *_fold(photo).split("/")[-2::-1]]
                same = next((k for k, (a, b) in enumerate(zip(parts, tail, strict=False)) if a != b), len(parts))
                shared.setdefault(same, []).append(photo)
        best = shared[max(shared)] if shared else []
        exact = [photo for photo in best if posixpath.basename(photo) == posixpath.basename(name)]
        return next((found[0] for found in (best, exact) if len(found) == 1), "")

    def of_stem(self, stems: Iterable[str]) -> str:
        """The first photo with one of these paths without ending, a JPEG if there are several; "" if there is none."""
        if self._by_stem is None:
            self._by_stem = {}
            for photo in sorted(photos_below(self._root), key=lambda one: not one.lower().endswith((".jpg", ".jpeg"))):
                self._by_stem.setdefault(_fold(posixpath.splitext(photo)[0]), []).append(photo)
        found = next((self._by_stem[_fold(stem)] for stem in stems if _fold(stem) in self._by_stem), [""])
        self.unused += [photo for photo in found[1:] if photo not in self.unused]
        return found[0]


class LabelReader:
    """Collects what a format reads from a folder's label files, in a scheme, if one was requested. `only` names the
    objects that are faces; all when empty.
    """

    def __init__(
        self, root: Path, files: list[Path], scheme: KeypointScheme | None = None, only: Collection[str] = ()
    ) -> None:
        self.root, self.files, self.scheme, self.only = root, files, scheme, frozenset(only)
        self.find = PhotoFinder(root)
        self.rows: list[LabelRow] = []
        self.problems: list[LabelProblem] = []
        self.dropped: Counter[str] = Counter()  # kinds of what the files hold and the rows do not
        self.names: Counter[str] = Counter()  # of all objects that have names
        self.background: list[str] = []  # photos without a face
        self.ignored: dict[str, list[Box]] = {}  # photo -> boxes of faces that are neither face nor background
        self.sizes: dict[str, tuple[float, float]] = {}  # photo -> width and height, pixels, as the files say
        self.remarks: list[str] = []  # notes on how the files were read

    def path_of(self, file: Path) -> str:
        """A label file relative to the data folder, for messages."""
        return file.relative_to(self.root).as_posix()

    def add_lines(
        self,
        file: str,
        lines: Iterable[tuple[int, str]],
        parse: Callable[[str], Parsed],
        photo_of: Callable[[str], str],
    ) -> None:
        """Add the numbered rows of a text file. `parse` raises `RowError` for a broken one, whose photo `photo_of`
        finds, if any.
        """
        for line, content in lines:
            try:
                photo, box, points = parse(content)
            except RowError as error:
                self.problem(error, where_in(file, line), photo_of(content))
            else:
                self.rows.append(LabelRow(photo, box, points, file, line))

    @contextlib.contextmanager
    def problems_in(self, file: str, place: int | str = "", photo: str = "") -> Iterator[None]:
        """Add a `RowError` of the block, which it ends, as a problem in a place of a file."""
        try:
            yield
        except RowError as error:
            self.problem(error, where_in(file, place) if place else file, photo)

    def problem(self, error: RowError, where: str, photo: str = "") -> None:
        """Add a row that cannot be read."""
        self.problems.append(LabelProblem(error.kind, where, str(error), photo))

    def leading_photo(self, cells: list[str], folders: Iterable[str] = (), below: str = "") -> str:
        """The photo that the first cells of a broken row name; "" if there is none of that name."""
        places = tuple(folders)
        for count in range(min(len(cells), NAME_PARTS), 0, -1):
            name = " ".join(cells[:count]).strip()
            if name and "\0" not in name and is_file(self.root / (photo := self.find(name, places, below))):
                return photo
        return ""

    def wants(self, name: str) -> bool:
        """Count an object, and say whether its name is among those that are faces."""
        self.names[name] += 1
        if self.only and name not in self.only:
            self.dropped["annotations of other categories"] += 1
            return False
        return True

    def add_size(self, photo: str, width: Any, height: Any) -> None:
        """Add the size of a photo, if it is one: some tools write 0."""
        try:
            size = float(width), float(height)
        except (TypeError, ValueError, OverflowError):
            return
        if min(size) > 0 and max(size) < 1e9:
            self.sizes[photo] = size

    def ignore(self, photo: str, box: Box) -> None:
        """Add a face that is neither face nor background."""
        self.ignored.setdefault(photo, []).append(box)

    def photo(self, name: str, *folders: str) -> str:
        """The photo of a name."""
        return self.find(check_name(name), folders)

    def labels(self, scheme: KeypointScheme, **more: Any) -> Labels:
        """What was collected, in a scheme, with further fields of `Labels`.

        Raises:
            DataError: nothing was found, or no object has one of the names that were asked for.
        """
        if self.only and not self.only & set(self.names):
            names = ", ".join(f"{name} ({count:,})" for name, count in self.names.most_common()) or "none"
            raise DataError(
                f"{self.root}: no object is called {' or '.join(sorted(self.only))}", f"objects, by name: {names}"
            )
        if not (self.rows or self.problems or self.background or self.ignored or sum(self.dropped.values())):
            raise DataError(f"{self.files[0]}: the label file is empty")
        lost = {kind: count for kind, count in self.dropped.items() if count}
        if lost and not (self.rows or self.problems or self.background or self.ignored):
            listed = ", ".join(f"{count:,} {kind}" for kind, count in lost.items())
            raise DataError(f"{self.root}: no labelled face in it, only {listed}", "see docs/data-formats.md")
        remarks = list(self.remarks)
        if unused := self.find.unused:
            remarks.append(f"{format_count(len(unused), 'photo')} not used, next to another of that name: {unused[0]}")
        missing = sorted(self.only - set(self.names))
        if missing:
            remarks.append(f"no object is called {', '.join(missing)}")
        if len(self.names) > 1 and not self.only:
            self.dropped["names of objects"] += self.names.total()
            every = ", ".join(f"{name} ({count:,})" for name, count in self.names.most_common())
            remarks.append(f"all objects are taken for faces: {every}; --label selects some of them")
        return Labels(
            self.root,
            scheme,
            tuple(self.rows),
            tuple(self.problems),
            tuple(map(self.path_of, self.files)),
            dropped=+self.dropped,
            background=tuple(self.background),
            ignored=self.ignored,
            sizes=self.sizes,
            remarks=tuple(remarks),
            **more,
        )

    def test_photos(self, is_test: Callable[[LabelRow], bool]) -> tuple[str, ...] | None:
        """The photos of the rows that a test keeps for testing; None without any."""
        return tuple(dict.fromkeys(row.photo for row in self.rows if is_test(row))) or None


def columns_error(count: int, expected: str) -> RowError:
    """The error of a row with another number of columns."""
    return RowError("columns", f"{format_count(count, 'column')}, expected {expected}")
