"""`coco`: COCO keypoints as CVAT, Label Studio, COCO Annotator, Roboflow, FiftyOne and MMPose write them.

Any number of points, named by the category; several files, those with `test` in their path for the test split.
Frames (cocodataset.org, "Data format", and Detectron2's page on datasets): keypoints are indices of pixels from 0,
which are our coordinates; a `bbox` counts the edges of pixels, so that our coordinates are half a pixel less.
"""

from __future__ import annotations

import contextlib
import json
import math
import posixpath
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import CONVENTIONS, HEAD, POINTS
from kpedge.core.errors import DataError
from kpedge.core.geometry import Box
from kpedge.core.keypoints import FACES21
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.formats.coco_categories import Names, names_of, scheme_of, unnamed
from kpedge.data.formats.common import Collected, PhotoFinder, points_box
from kpedge.data.formats.unknown import refuse_json
from kpedge.data.labels import LabelRow, Labels
from kpedge.data.rows import RowError, check_points, read_text, row_box, row_name, where_in

HOLDS = "COCO JSON: annotations.json, annotations/*.json, or …/_annotations.coco.json, with the photos in any folder"
EDGE = 0.5
"""From the edge of the first pixel, where a bbox counts from, to its centre."""
VISIBILITIES = (0, 1, 2)
"""Not labelled; labelled though hidden; seen."""
_HEAD = 1 << 16
_TEST = re.compile(r"(?<![a-z])test(?![a-z])")
"""In the path of a file of the test split: test.json, instances_test2017.json, test/…, not latest.json."""
_FOLDERS = ("", "annotations", "train", "valid", "val", "test", "labels")
_PHOTO_FOLDERS = ("images", "data", "photos")


def files_of(root: Path) -> list[Path]:
    """The files of a folder that look like COCO's, or the one file that was given."""
    return [root] if root.is_file() else [path for path in json_files(root) if _is_coco(path)]


def json_files(root: Path) -> list[Path]:
    """The JSON files where a folder may have COCO's, or the one file that was given."""
    if root.is_file():
        return [root]
    return [path for folder in _FOLDERS for path in sorted((root / folder).glob("*.json"))]


def _is_coco(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            ends = stream.read(_HEAD)
            stream.seek(max(0, path.stat().st_size - _HEAD))
            ends += stream.read()
    except OSError:
        return False
    return b'"annotations"' in ends or (b'"categories"' in ends and b'"images"' in ends)


def looks_like(root: Path) -> bool:
    """Whether such a file lies there."""
    return _is_coco(root) if root.is_file() else bool(files_of(root))


@dataclass(slots=True)
class _File:
    """A COCO file, its parts in the types that they have to have.

    Attributes:
        name: in messages, relative to the data folder.
        images, annotations: as they stand there.
        categories: id -> category.
        own: what kpedge wrote into it.
    """

    name: str
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[str, dict[str, Any]]
    own: dict[str, Any] = field(default_factory=dict)


def _open(path: Path, root: Path) -> _File:
    try:
        document = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: not JSON: {error.msg} (column {error.colno})", "export or copy the file again"
        ) from error
    except (RecursionError, ValueError) as error:
        raise DataError(f"{path}: not JSON that can be read: {error}", "export or copy the file again") from error
    if not isinstance(document, dict) or not all(isinstance(document.get(k), list) for k in ("images", "annotations")):
        raise DataError(f"{path}: not a COCO file: it has no lists 'images' and 'annotations'", "see --format")
    categories = document.get("categories")
    info = document.get("info")
    own = info.get("kpedge") if isinstance(info, dict) else None
    return _File(
        path.relative_to(root).as_posix(),
        [image if isinstance(image, dict) else {} for image in document["images"]],
        [one if isinstance(one, dict) else {} for one in document["annotations"]],
        {
            _key(one.get("id")): one
            for one in (categories if isinstance(categories, list) else [])
            if isinstance(one, dict)
        },
        own if isinstance(own, dict) else {},
    )


def _key(value: Any) -> str:
    """An id: 7, 7.0 and "7" are one."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _places(annotations: list[dict[str, Any]]) -> list[str]:
    """What to call each annotation: by its id, or by its place in the list where it shares its id or has none."""
    ids = [_key(one["id"]) if isinstance(one.get("id"), (int, float, str)) else "" for one in annotations]
    times = Counter(ids)
    return [
        f"annotation {key}" if key and times[key] == 1 else f"annotation {number} of the list"
        for number, key in enumerate(ids, 1)
    ]


def _number(value: Any, what: str) -> float:
    """A number of the file, or one that stands there as text.

    Raises:
        RowError: it is none, or not finite.
    """
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise RowError("not a number", f"{what} is {value!r}, not a finite number")
    return number


def _photo_name(image: dict[str, Any]) -> str:
    """The path of an image as the file has it: Windows paths and addresses become plain paths.

    Raises:
        RowError: it has none.
    """
    name = next((image[key] for key in ("file_name", "path", "coco_url", "flickr_url") if image.get(key)), None)
    if not isinstance(name, str):
        raise RowError("name", "the image has no file_name")
    name = name.replace("\\", "/")
    if "://" in name or "?" in name:
        try:
            address = urlsplit(name)
            local = parse_qs(address.query).get("d")  # Label Studio: /data/local-files/?d=folder/a.jpg
            name = local[0] if local else unquote(address.path)
        except ValueError:
            pass
    return row_name(name.lstrip("/"))


def _points_of(annotation: dict[str, Any]) -> list[Any]:
    points = annotation.get("keypoints")
    return points if isinstance(points, list) else []


@dataclass(slots=True)
class _Reader:
    """Reads the annotations of all files into rows."""

    root: Path
    only: frozenset[str]
    find: PhotoFinder
    found: Collected = field(default_factory=Collected)
    sizes: dict[str, tuple[float, float]] = field(default_factory=dict)
    unlabelled: dict[str, list[Box]] = field(default_factory=dict)
    crowded: set[str] = field(default_factory=set)

    def names(self, file: _File, annotation: dict[str, Any]) -> Names:
        """What the points of an annotation are called; nothing where it has none."""
        named = names_of(file.categories.get(_key(annotation.get("category_id")), {}))
        count = len(_points_of(annotation))
        if named or not count:
            return named
        return unnamed(count // 3) if count >= 3 and count % 3 == 0 else ()

    def photos(self, file: _File) -> dict[str, str]:
        """Id of an image -> photo; those that are there twice are named and left out."""
        stem = posixpath.dirname(file.name)
        split = posixpath.basename(file.name).removesuffix(".json").rpartition("_")[2]
        folders = [stem, *_PHOTO_FOLDERS, *(f"{folder}/{split}" for folder in _PHOTO_FOLDERS), split]
        photos: dict[str, str] = {}
        twice: set[str] = set()
        for number, image in enumerate(file.images, 1):
            key = _key(image.get("id"))
            try:
                photo = self.find(_photo_name(image), dict.fromkeys(["", *folders]))
            except RowError as error:
                self.found.problem(error, where_in(file.name, f"image {image.get('id', number)}"))
                continue
            if photos.setdefault(key, photo) != photo:
                twice.add(key)
                message = f"the id of {photos[key]} and of {photo}: their faces cannot be told apart"
                self.found.problem(RowError("id twice", message), where_in(file.name, f"image {key}"), photo)
            with contextlib.suppress(KeyError, RowError):
                self.sizes[photo] = _number(image["width"], "width"), _number(image["height"], "height")
        return {key: photo for key, photo in photos.items() if key not in twice}

    def read(self, file: _File, wanted: Names, name: str, scheme: KeypointScheme) -> None:
        """Take the annotations of a file whose points have the wanted names, and those of the category `name` without
        points; no names: boxes alone.
        """
        photos = self.photos(file)
        places = _places(file.annotations)
        for number, (annotation, place) in enumerate(zip(file.annotations, places, strict=True), 1):
            category = file.categories.get(_key(annotation.get("category_id")), {})
            names = self.names(file, annotation)
            same = names == wanted or (not names and str(category.get("name", "")) == name)
            if (self.only and str(category.get("name")) not in self.only) or not same:
                self.found.dropped["annotations of other categories"] += 1
                continue
            self.found.dropped["attributes"] += bool(annotation.get("attributes"))
            self.found.dropped["segmentations"] += bool(annotation.get("segmentation"))
            photo = photos.get(_key(annotation.get("image_id")), "")
            try:
                if not photo:
                    raise RowError("no image", f"no image has the id {annotation.get('image_id')!r}")
                self.add(annotation, scheme, photo, file, (number, place))
            except RowError as error:
                self.found.problem(error, where_in(file.name, place), photo)

    def add(
        self, annotation: dict[str, Any], scheme: KeypointScheme, photo: str, file: _File, place: tuple[int, str]
    ) -> None:
        """Take one annotation, whose place is its number in the list and the words for that.

        Raises:
            RowError: it cannot be read.
        """
        points, visible = _keypoints(_points_of(annotation), len(scheme))
        box = _bbox(annotation.get("bbox"))
        if annotation.get("iscrowd") in (1, True, "1"):
            if not file.own:  # kpedge writes single faces that nobody labelled
                self.crowded.add(photo)
            if box is not None:
                self.unlabelled.setdefault(photo, []).append(box)
            return
        box = points_box(points, scheme) if box is None else box
        self.found.rows.append(LabelRow(photo, box, points, file.name, place[0], visible, place[1]))


def _bbox(value: Any) -> Box | None:
    """A bbox in our frame; None where there is none, or one without area, as tools write that have none to write."""
    if not isinstance(value, list) or not value:
        return None
    if len(value) != 4:
        raise RowError("box", f"bbox has {format_count(len(value), 'number')}, expected x, y, width, height")
    x, y, width, height = (_number(one, "a number of bbox") for one in value)
    if width <= 0 or height <= 0:
        return None
    return row_box(np.array([x, y, x + width, y + height]) - EDGE)


def _keypoints(values: list[Any], count: int) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """Points (K, 2), and which of them are seen, where not all are."""
    points, visible = np.full((count, 2), np.nan), np.ones(count, dtype=bool)
    if not values:
        return points, None
    if len(values) not in (3 * count, 2 * count):
        found = format_count(len(values), "number")
        raise RowError("columns", f"{found} in keypoints, expected {3 * count}: x, y, v of {count}")
    step = len(values) // count
    for place in range(count):
        flag = _number(values[step * place + 2], "v") if step == 3 else 2.0
        if flag not in VISIBILITIES:
            raise RowError("visibility", f"v of keypoint {place + 1} is {flag:g}, expected 0, 1 or 2")
        if flag > 0:
            points[place] = [_number(one, f"keypoint {place + 1}") for one in values[step * place : step * place + 2]]
            visible[place] = flag != 1
    return check_points(points), None if visible.all() else visible


def read(root: Path, scheme: KeypointScheme | None = None, *, only: Collection[str] = ()) -> Labels:
    """The faces of all COCO files of a folder, or of one.

    Args:
        root: the folder, or one file.
        scheme: what boxes without points are to have.
        only: names of categories; all when empty.

    Raises:
        DataError: there is nothing to read.
    """
    paths = files_of(root)
    if not paths:
        refuse_json(json_files(root))
        raise DataError(f"{root}: no COCO file (*.json, annotations/*.json)", "give the file itself")
    root = _data_folder(root) if root.is_file() else root
    reader = _Reader(root, frozenset(only), PhotoFinder(root))
    files = [_open(path, root) for path in paths]
    counts: Counter[tuple[Names, str]] = Counter()
    for file in files:
        for one in file.annotations:
            category = file.categories.get(_key(one.get("category_id")), {})
            if not only or str(category.get("name")) in only:
                counts[reader.names(file, one), str(category.get("name", ""))] += 1
    pointed = {key: count for key, count in counts.items() if key[0]}
    wanted, category_name = max(pointed, key=lambda key: pointed[key]) if pointed else ((), "")
    remarks: list[str] = []
    own = scheme or FACES21
    if wanted:
        own, remarks = _scheme(root, files, category_name, wanted)
        # The same points again in other files: instances_*.json has the boxes of person_keypoints_*.json.
        files = [file for file in files if any(reader.names(file, one) for one in file.annotations)]
    for file in files:
        reader.read(file, wanted, category_name, own)
    found = reader.found
    listed = {photo for file in files for photo in reader.photos(file).values()} if not found.rows else set()
    if not found.rows and not found.problems and not reader.unlabelled:
        names = dict.fromkeys(str(one.get("name")) for file in files for one in file.categories.values())
        wished = f", of a category called {' or '.join(only)}" if only else ""
        raise DataError(
            f"{paths[0]}: no annotation of a face{wished}",
            f"{format_count(len(listed), 'image')} listed; categories: {', '.join(names) or 'none'}",
        )
    kept = dict.fromkeys(row.photo for row in found.rows if _TEST.search(row.file.lower()))
    told = files[0].own.get("boxes")
    return Labels(
        root,
        own,
        tuple(found.rows),
        tuple(found.problems),
        tuple(file.name for file in files),
        test=tuple(kept) or None,
        boxes_only=not wanted,
        convention=told if told in CONVENTIONS else (POINTS if wanted else HEAD),
        unlabelled=reader.unlabelled,
        crowded=frozenset(reader.crowded),
        remarks=(*remarks, *_other_categories(counts, wanted)),
        dropped=+found.dropped,
        sizes=reader.sizes,
        format="coco",
    )


def _data_folder(path: Path) -> Path:
    """The folder of a file, or the one above where it lies in `annotations/`."""
    return path.parent.parent if path.parent.name == "annotations" else path.parent


def _scheme(root: Path, files: list[_File], name: str, wanted: Names) -> tuple[KeypointScheme, list[str]]:
    for file in files:
        try:
            own = KeypointScheme.from_dict(file.own["scheme"])
        except (KeyError, TypeError, OverflowError, DataError):
            continue
        if own.points == wanted:
            return own, []
    same = (one for file in files for one in file.categories.values() if names_of(one) == wanted)
    return scheme_of(root, name, wanted, next(same, {}).get("skeleton"))


def _other_categories(counts: Counter[tuple[Names, str]], wanted: Names) -> list[str]:
    """Whose annotations are taken, where there are several categories."""
    taken = [f"{name} ({count:,})" for (names, name), count in counts.items() if names == wanted]
    left = [f"{name} ({count:,})" for (names, name), count in counts.items() if names != wanted]
    remarks = []
    if left:
        remarks.append(f"annotations of other categories are not used: {', '.join(left)}")
    if len(taken) > 1:
        remarks.append(f"several categories are taken for faces: {', '.join(taken)}; --label chooses among them")
    return remarks
