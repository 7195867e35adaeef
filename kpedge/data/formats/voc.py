"""`voc`: Pascal VOC's boxes: `Annotations/*.xml`, photos in `JPEGImages/`, `ImageSets/Main/test.txt`; no points.

Pixels are counted from 1, and both corners are pixels that belong to the object (VOC2011 development kit, section on
annotation), so a box reaches from `xmin - 1.5` to `xmax - 0.5` in our frame.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from kpedge.core.boxes import HEAD
from kpedge.core.errors import DataError
from kpedge.core.geometry import Box
from kpedge.core.images import SUFFIXES
from kpedge.core.keypoints import FACES21
from kpedge.core.scheme import KeypointScheme
from kpedge.data.formats.coco_write import Sizes
from kpedge.data.formats.common import Collected, PhotoFinder, Places, in_test_folder
from kpedge.data.formats.xml_tree import read_xml, text_of
from kpedge.data.labels import LabelRow, Labels
from kpedge.data.rows import (
    RowError,
    first_lines,
    is_file,
    number_text,
    row_box,
    row_name,
    row_numbers,
    text_lines,
    where_in,
)

HOLDS = "Annotations/*.xml with boxes, photos in JPEGImages/ or beside them; boxes and no points"
ANNOTATIONS, PHOTOS, TEST_SET = "Annotations", "JPEGImages", "ImageSets/Main/test.txt"
LABEL_MAP = "labelmap.txt"
"""Which names of objects the annotations have: CVAT and Datumaro refuse names that VOC did not know without it."""
_LABEL_MAP_TEXT = "# label:color_rgb:parts:actions\nbackground:::\nface:::\n"
_SHIFT = np.array([1.5, 1.5, 0.5, 0.5])
"""What is taken off xmin, ymin, xmax, ymax."""
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    folder = root / ANNOTATIONS if (root / ANNOTATIONS).is_dir() else root
    return sorted(folder.rglob("*.xml"))


def looks_like(root: Path) -> bool:
    """Whether files with its root element lie there."""
    if root.is_file() and root.suffix.lower() != ".xml":
        return False
    return any("<annotation" in "".join(first_lines(path, 3)) for path in _files(root)[:3])


def read(root: Path, scheme: KeypointScheme | None = None, *, only: Collection[str] = ()) -> Labels:
    """The boxes of all objects; those that are marked as difficult are neither face nor background. A photo whose file
    names no object shows no face.

    Args:
        root: the folder, or one file.
        scheme: what boxes without points are to have.
        only: names of objects; all when empty.

    Raises:
        DataError: there is nothing to read.
    """
    files = _files(root)
    if not files:
        raise DataError(f"{root}: no {ANNOTATIONS}/*.xml", "give the folder that holds it")
    if root.is_file():
        root = root.parent.parent if root.parent.name == ANNOTATIONS else root.parent
    scheme = scheme or FACES21
    nothing = np.full((len(scheme), 2), np.nan)
    find, found, names = PhotoFinder(root), Collected(), Counter[str]()
    unlabelled: dict[str, list[Box]] = {}
    sizes: dict[str, tuple[float, float]] = {}
    background, stems = [], {}
    for path in files:
        file = path.relative_to(root).as_posix()
        try:
            tree = read_xml(path)
            if tree.tag != "annotation":
                hint = "; of CVAT export COCO or Pascal VOC" if tree.tag == "annotations" else ""
                raise RowError("form", f"the root element is <{tree.tag}>, expected <annotation>{hint}")
            photo = _photo(tree, path, root, find)
        except RowError as error:
            found.problem(error, file)
            continue
        stems[path.relative_to(_annotations(root, path)).with_suffix("").as_posix()] = photo
        _add_size(tree, photo, sizes)
        objects = list(tree.iter("object"))
        names.update(text_of(one, "name") for one in objects)
        wanted = [(n, one) for n, one in enumerate(objects, 1) if not only or text_of(one, "name") in only]
        found.dropped["annotations of other categories"] += len(objects) - len(wanted)
        if not objects:
            background.append(photo)
        for number, one in wanted:
            place = f"object {number}"
            try:
                box = _box(one)
            except RowError as error:
                found.problem(error, where_in(file, place), photo)
                continue
            if text_of(one, "difficult") == "1":
                unlabelled.setdefault(photo, []).append(box)
            else:
                found.rows.append(LabelRow(photo, box, nothing, file, number, place=place))
    found.dropped["names of objects"] += sum(names.values()) if len(names) > 1 else 0
    remarks = []
    if len(names) > 1 and not only:
        every = ", ".join(f"{name} ({count:,})" for name, count in names.most_common())
        remarks.append(f"all objects are taken for heads: {every}; --label chooses among them")
    if not found.rows and not found.problems and not unlabelled and not background:
        raise DataError(f"{root}: no object called {', '.join(only)}", f"objects: {', '.join(names)}")
    return found.labels(
        root,
        scheme,
        files,
        "voc",
        background=tuple(background),
        test=_tests(root, stems, [*(row.photo for row in found.rows), *background]) or None,
        boxes_only=True,
        convention=HEAD,
        unlabelled=unlabelled,
        remarks=tuple(remarks),
        sizes=sizes,
    )


def _annotations(root: Path, path: Path) -> Path:
    return root / ANNOTATIONS if path.is_relative_to(root / ANNOTATIONS) else root


def _photo(tree: Element, path: Path, root: Path, find: PhotoFinder) -> str:
    """The photo that a file is about: named in it, or of its own name."""
    name = text_of(tree, "filename").replace("\\", "/")
    own = path.relative_to(_annotations(root, path)).with_suffix("").as_posix()
    folder = posixpath.dirname(own)
    beside = [folder, PHOTOS, posixpath.join(PHOTOS, folder), "images", text_of(tree, "folder")]
    if not name:
        name = own
    if PurePosixPath(name).suffix.lower() not in SUFFIXES:  # LabelImg leaves the ending away
        endings = (f"{name}{ending}" for ending in sorted(SUFFIXES))
        name = next((one for one in endings if is_file(root / find(one, beside))), f"{name}.jpg")
    return find(row_name(posixpath.basename(name)), dict.fromkeys(folder.replace("\\", "/") for folder in beside))


def _add_size(tree: Element, photo: str, sizes: dict[str, tuple[float, float]]) -> None:
    try:
        width, height = row_numbers([text_of(tree, "size/width"), text_of(tree, "size/height")], 1)
    except RowError:
        return
    if width > 0 and height > 0:  # some tools write 0
        sizes[photo] = float(width), float(height)


def _box(element: Element) -> Box:
    texts = [text_of(element, f"bndbox/{corner}") for corner in _CORNERS]
    missing = next((corner for corner, text in zip(_CORNERS, texts, strict=True) if not text), None)
    if missing:
        raise RowError("box", f"no {missing} in its bndbox")
    return row_box(row_numbers(texts, 1) - _SHIFT)


def _tests(root: Path, stems: dict[str, str], photos: list[str]) -> tuple[str, ...]:
    """The photos of the set's own test split: those of its list or, where there is no list, in a test folder."""
    path = root / TEST_SET
    if not is_file(path):
        return tuple(dict.fromkeys(filter(in_test_folder, photos)))
    lines = [line.strip() for _, line in text_lines(path)]  # a stem, or a stem and 1, 0 or -1
    listed = (line if line in stems else line.rsplit(maxsplit=1)[0] for line in lines)
    return tuple(dict.fromkeys(stems[stem] for stem in listed if stem in stems))


def place(photo: str, _test: bool) -> str:
    """Photos lie in `JPEGImages/`."""
    return photo if photo.startswith(f"{PHOTOS}/") else f"{PHOTOS}/{photo}"


def write(folder: Path, labels: Labels, places: Places, sizes: Sizes) -> None:
    """Write a file for each photo, and the lists of both splits."""
    held_out = set(labels.test or ())
    stems: dict[bool, list[str]] = {False: [], True: []}
    for photo, rows in labels.by_photo().items():
        where = PurePosixPath(places[photo])
        stem = where.relative_to(PHOTOS).with_suffix("").as_posix()
        stems[photo in held_out].append(stem)
        tree = Element("annotation")
        SubElement(tree, "folder").text = where.parent.as_posix()
        SubElement(tree, "filename").text = where.name
        size = SubElement(tree, "size")
        for name, value in zip(("width", "height", "depth"), (*sizes[photo], 3), strict=True):
            SubElement(size, name).text = str(value)
        SubElement(tree, "segmented").text = "0"
        ignored = labels.unlabelled.get(photo, ())
        for box, difficult in (*((row.box, 0) for row in rows), *((box, 1) for box in ignored)):
            one = SubElement(tree, "object")
            for name, text in (("name", "face"), ("pose", "Unspecified"), ("truncated", "0"), ("difficult", difficult)):
                SubElement(one, name).text = str(text)
            corners = SubElement(one, "bndbox")
            for name, value in zip(_CORNERS, (box + _SHIFT).tolist(), strict=True):
                SubElement(corners, name).text = number_text(value)
        indent(tree)
        path = folder / ANNOTATIONS / f"{stem}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tostring(tree, encoding="utf-8") + b"\n")
    (folder / LABEL_MAP).write_text(_LABEL_MAP_TEXT, encoding="utf-8")
    (folder / TEST_SET).parent.mkdir(parents=True)
    for test, name in ((False, "trainval.txt"), (True, "test.txt")):
        text = "".join(f"{stem}\n" for stem in stems[test])
        (folder / TEST_SET).with_name(name).write_text(text, encoding="utf-8")
