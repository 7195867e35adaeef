"""`coco`: COCO keypoints as CVAT, Label Studio, COCO Annotator, Roboflow, FiftyOne and MMPose write them.

Any number of points, named by the category; several files, those with `test` in their path for the test split.
Frames (cocodataset.org, "Data format", and Detectron2's page on datasets): keypoints are indices of pixels from 0,
which are our coordinates; a `bbox` counts the edges of pixels, so that our coordinates are half a pixel less.
"""

import math
import posixpath
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import CONVENTIONS, HEAD, POINTS
from kpedge.core.errors import DataError
from kpedge.core.files import read_json
from kpedge.core.geometry import Box
from kpedge.core.keypoints import FACES21
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.formats.coco_write import write
from kpedge.data.formats.format import FormatCapabilities, LabelFormat
from kpedge.data.formats.reader import EDGE, LabelReader, in_test_file, points_box
from kpedge.data.formats.schemes import Names, generic_scheme, numeric_order, scheme_of_points
from kpedge.data.labels import LabelRow, Labels
from kpedge.data.rows import RowError, check_box, check_points, glob_any_case, sample_text, where_in

_VISIBILITIES = (0, 1, 2)  # not labelled; labelled though hidden; visible
_FOLDERS = ("", "annotations", "train", "valid", "val", "test", "labels")
_PHOTO_FOLDERS = ("images", "data", "photos")


def json_files(root: Path) -> list[Path]:
    """The JSON files in the folders in which COCO files are found, or the one file that was given."""
    if root.is_file():
        return [root]
    return [path for folder in _FOLDERS for path in sorted(glob_any_case(root / folder, "*.json"))]


def find(root: Path) -> list[Path]:
    """The JSON files that look like COCO's."""
    return [path for path in json_files(root) if sniff(path)]


def sniff(path: Path) -> bool:
    """Whether it is JSON with annotations, or with categories and images."""
    ends = sample_text(path)
    if path.suffix.lower() != ".json" or ends.lstrip()[:1] == "[":
        return False
    return '"annotations"' in ends or ('"categories"' in ends and '"images"' in ends)


@dataclass(slots=True)
class _File:
    """A COCO file, its parts in the types that they have to have."""

    name: str  # in messages, relative to the data folder
    # images, annotations: as they are written
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[str, dict[str, Any]]  # id -> category
    own: dict[str, Any] = field(default_factory=dict)  # what kpedge wrote into it

    def category(self, annotation: dict[str, Any]) -> dict[str, Any]:
        """The category of an annotation; empty if it has none."""
        return self.categories.get(_key(annotation.get("category_id")), {})

    def category_name(self, annotation: dict[str, Any]) -> str:
        """The name of an annotation's category, or its id if the file does not list it; empty in files without any."""
        unlisted = f"category {annotation.get('category_id')}" if self.categories else ""
        return str(self.category(annotation).get("name", unlisted))

    def point_names(self, annotation: dict[str, Any]) -> Names:
        """The names of an annotation's points; () if it has none."""
        named = _names_of(self.category(annotation))
        count = len(_points_of(annotation))
        if named or not count:
            return named
        return generic_scheme(count // 3).points if count >= 3 and count % 3 == 0 else ()


def _open(path: Path, name: str) -> _File:
    document = read_json(path, DataError)
    if not isinstance(document, dict) or not all(isinstance(document.get(k), list) for k in ("images", "annotations")):
        raise DataError(f"{path}: not a COCO file: it has no lists 'images' and 'annotations'", "see --format")
    categories, info = document.get("categories"), document.get("info")
    own = info.get("kpedge") if isinstance(info, dict) else None

    def tables(entries: Any) -> list[dict[str, Any]]:
        return [entry if isinstance(entry, dict) else {} for entry in entries] if isinstance(entries, list) else []

    return _File(
        name,
        tables(document["images"]),
        tables(document["annotations"]),
        {_key(one.get("id")): one for one in tables(categories)},
        own if isinstance(own, dict) else {},
    )


def _key(value: Any) -> str:
    """An id: 7, 7.0 and "7" are the same."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _names_of(category: dict[str, Any]) -> Names:
    """The names of a category's points; () if it has no list of them."""
    names = category.get("keypoints")
    return tuple(str(name).strip() or "point" for name in names) if isinstance(names, list) else ()


def _points_of(annotation: dict[str, Any]) -> list[Any]:
    """The numbers of an annotation's points, in one list; some tools write a list for each point."""
    points = annotation.get("keypoints")
    if not isinstance(points, list):
        return []
    if points and all(isinstance(point, list) for point in points):
        return [value for point in points for value in (point if len(point) != 2 else [*point, 2])]
    return points


def _places(annotations: list[dict[str, Any]]) -> list[str]:
    """What to call each annotation: by its id, or by its number in the list if its id is not its own."""
    ids = [_key(one["id"]) if isinstance(one.get("id"), (int, float, str)) else "" for one in annotations]
    times = Counter(ids)
    return [
        f"annotation {key}" if key and times[key] == 1 else f"annotation {number} of the list"
        for number, key in enumerate(ids, 1)
    ]


def _number(value: Any, what: str) -> float:
    """A finite number of the file, perhaps written as text."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise RowError("not a number", f"{what} is {value!r}, not a finite number")
    return number


def plain_photo_name(name: str) -> str:
    """The path in the name of an image: Windows paths and addresses become plain paths."""
    name = name.replace("\\", "/")
    if "://" in name or "?" in name:
        try:
            address = urlsplit(name)
            local = parse_qs(address.query).get("d")  # Label Studio: /data/local-files/?d=folder/a.jpg
            name = local[0] if local else unquote(address.path)
        except ValueError:
            pass
    return name.lstrip("/")


def _find_photos(reader: LabelReader, file: _File) -> dict[str, str]:
    """Id of an image -> photo. Ids that several images have are named as problems and left out."""
    stem = posixpath.dirname(file.name)
    split = posixpath.basename(file.name).removesuffix(".json").rpartition("_")[2]
    folders = ["", stem, *_PHOTO_FOLDERS, *(f"{folder}/{split}" for folder in _PHOTO_FOLDERS), split]
    photos: dict[str, str] = {}
    twice: set[str] = set()
    for number, image in enumerate(file.images, 1):
        key = _key(image.get("id"))
        try:
            names = (image[key] for key in ("file_name", "path", "coco_url", "flickr_url") if image.get(key))
            name = next(names, None)
            if not isinstance(name, str):
                raise RowError("name", "the image has no file_name")
            photo = reader.photo(plain_photo_name(name), *dict.fromkeys(folders))
        except RowError as error:
            reader.problem(error, where_in(file.name, f"image {image.get('id', number)}"))
            continue
        if photos.setdefault(key, photo) != photo:
            twice.add(key)
            message = f"both {photos[key]} and {photo} have this id"
            reader.problem(RowError("id twice", message), where_in(file.name, f"image {key}"), photo)
        reader.add_size(photo, image.get("width"), image.get("height"))
    return {key: photo for key, photo in photos.items() if key not in twice}


def _parse_bbox(value: Any) -> Box | None:
    """A bbox in our frame; None if there is none, or one without area, as tools write that have none to write."""
    if not isinstance(value, list) or not value:
        return None
    if len(value) != 4:
        raise RowError("box", f"bbox has {format_count(len(value), 'number')}, expected x, y, width, height")
    x, y, width, height = (_number(one, "a number of bbox") for one in value)
    if width <= 0 or height <= 0:
        return None
    return check_box(np.array([x, y, x + width, y + height]) - EDGE)


def _parse_points(values: list[Any], count: int) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """Points (K, 2), and which of them are visible, None if all are."""
    points, visible = np.full((count, 2), np.nan), np.ones(count, dtype=bool)
    if not values:
        return points, None
    if len(values) not in (3 * count, 2 * count):
        found = format_count(len(values), "number")
        raise RowError("columns", f"{found} in keypoints, expected {3 * count}: x, y, v of {count}")
    step = len(values) // count
    for place in range(count):
        x, y, v = (*values[step * place : step * place + 2], values[step * place + 2] if step == 3 else 2)
        flag = 2.0 * v if isinstance(v, bool) else 0.0 if v is None else _number(v, "v")
        if flag not in _VISIBILITIES:
            raise RowError("visibility", f"v of keypoint {place + 1} is {flag:g}, expected 0, 1 or 2")
        if flag > 0 and not (x is None and y is None):
            points[place] = [_number(one, f"keypoint {place + 1}") for one in (x, y)]
            visible[place] = flag != 1
    return check_points(points), None if visible.all() else visible


@dataclass(slots=True)
class _Annotations:
    """Adds the annotations of files to a reader: those whose points have the names `names`, and those of the category
    `category` without points; without names, boxes alone.
    """

    reader: LabelReader
    names: Names
    category: str
    scheme: KeypointScheme
    crowds: set[str] = field(default_factory=set)

    def add_file(self, file: _File) -> None:
        photos = _find_photos(self.reader, file)
        places = _places(file.annotations)
        for number, (annotation, place) in enumerate(zip(file.annotations, places, strict=True), 1):
            name, names = file.category_name(annotation), file.point_names(annotation)
            only = self.reader.only
            if (only and name not in only) or not (names == self.names or (not names and name == self.category)):
                self.reader.dropped["annotations of other categories"] += 1
                continue
            for kind in ("attributes", "segmentation"):
                self.reader.dropped[f"{kind.rstrip('s')}s"] += bool(annotation.get(kind))
            photo = photos.get(_key(annotation.get("image_id")), "")
            with self.reader.problems_in(file.name, place, photo):
                if not photo:
                    raise RowError("no image", f"no image has the id {annotation.get('image_id')!r}")
                self._add(annotation, photo, file, (number, place))

    def _add(self, annotation: dict[str, Any], photo: str, file: _File, place: tuple[int, str]) -> None:
        for name in ("keypoints", "bbox"):
            if (value := annotation.get(name)) and not isinstance(value, list):
                raise RowError("columns", f"{name} is {value!r:.40}, not a list of numbers")
        points, visible = _parse_points(_points_of(annotation), len(self.scheme))
        box = _parse_bbox(annotation.get("bbox"))
        if annotation.get("iscrowd") in (1, True, "1"):
            if not file.own:  # kpedge writes single faces that nobody labelled
                self.crowds.add(photo)
            if box is not None:
                self.reader.ignore(photo, box)
            return
        order = numeric_order(self.names)
        if order != sorted(order):
            points, visible = points[order], None if visible is None else visible[order]
        box = points_box(points, self.scheme) if box is None else box
        self.reader.rows.append(LabelRow(photo, box, points, file.name, place[0], visible, place[1]))


def read(reader: LabelReader) -> Labels:
    """The faces of all files: of the points that most annotations have.

    Raises:
        DataError: there is nothing to read.
    """
    files = [_open(path, reader.path_of(path)) for path in reader.files]
    counts: Counter[tuple[Names, str]] = Counter()
    for file in files:
        for one in file.annotations:
            name = file.category_name(one)
            reader.names[name] += 1
            if not reader.only or name in reader.only:
                counts[file.point_names(one), name] += 1
    pointed = {key: count for key, count in counts.items() if key[0]}
    names, category = max(pointed, key=lambda key: pointed[key]) if pointed else ((), "")
    scheme = reader.scheme or FACES21
    if names:
        scheme, reader.remarks = _scheme(reader.root, files, category, names)
        # The same points again in other files: instances_*.json has the boxes of person_keypoints_*.json.
        files = [file for file in files if any(file.point_names(one) for one in file.annotations)]
    annotations = _Annotations(reader, names, category, scheme)
    for file in files:
        annotations.add_file(file)
    if not reader.only and not (reader.rows or reader.problems or reader.ignored):
        found = dict.fromkeys(str(one.get("name")) for file in files for one in file.categories.values())
        images = format_count(sum(len(file.images) for file in files), "image")
        raise DataError(
            f"{reader.files[0]}: no annotation of a face", f"{images} listed; categories: {', '.join(found) or 'none'}"
        )
    reader.remarks += _other_categories(counts, names)
    if reader.only <= set(reader.names):
        reader.names.clear()
        reader.only = frozenset()
    kind = files[0].own.get("boxes") if files else None
    reader.files = [path for path in reader.files if reader.path_of(path) in {file.name for file in files}]
    return reader.labels(
        scheme,
        test=reader.test_photos(in_test_file),
        boxes_only=not names,
        convention=kind if kind in CONVENTIONS else (POINTS if names else HEAD),
        crowds=frozenset(annotations.crowds),
    )


def _scheme(root: Path, files: list[_File], name: str, names: Names) -> tuple[KeypointScheme, list[str]]:
    for file in files:
        try:
            own = KeypointScheme.from_dict(file.own["scheme"])
        except (KeyError, TypeError, OverflowError, DataError):
            continue
        if own.points == names:
            return own, []
    same = (one for file in files for one in file.categories.values() if _names_of(one) == names)
    order = numeric_order(names)
    skeleton = next(same, {}).get("skeleton") if order == sorted(order) else None
    return scheme_of_points(root, name, tuple(names[place] for place in order), skeleton)


def _other_categories(counts: Counter[tuple[Names, str]], names: Names) -> list[str]:
    """Whose annotations are used, if there are several categories."""
    used = [f"{name} ({count:,})" for (points, name), count in counts.items() if points == names]
    left = [f"{name} ({count:,})" for (points, name), count in counts.items() if points != names]
    remarks = []
    if left:
        remarks.append(f"annotations of other categories are not used: {', '.join(left)}")
    if len(used) > 1:
        remarks.append(f"several categories are taken for faces: {', '.join(used)}; --label selects some of them")
    return remarks


_CAN = FormatCapabilities
FORMAT = LabelFormat(
    "coco",
    "COCO JSON: *.json, annotations/*.json, or …/_annotations.coco.json, with the photos in any folder",
    find,
    sniff,
    read,
    _CAN.FACES | _CAN.VISIBILITY | _CAN.IGNORED | _CAN.TEST_SPLIT | _CAN.NAMES | _CAN.SIZES,
    write,
    label_folders=("annotations",),
)
