"""`voc`: Pascal VOC's boxes: `Annotations/*.xml`, photos in `JPEGImages/`, `ImageSets/Main/test.txt`; no points.

Pixels are counted from 1, and both corners are pixels that belong to the object (VOC2011 development kit, section on
annotation), so a box reaches from `xmin - 1.5` to `xmax - 0.5` in our frame.
"""

import posixpath
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from kpedge.core.boxes import HEAD
from kpedge.core.geometry import Box
from kpedge.core.images import PHOTO_SUFFIXES
from kpedge.core.keypoints import FACES21
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, WriteJob, photos_in
from kpedge.data.formats.reader import NO_POINTS, LabelReader, in_test_folder
from kpedge.data.formats.xml_tree import read_xml, starts_with, text_of
from kpedge.data.labels import LabelRow, Labels
from kpedge.data.rows import (
    RowError,
    check_box,
    format_number,
    glob_any_case,
    is_file,
    parse_numbers,
    text_lines,
)

ANNOTATIONS, PHOTOS, TEST_SET = "Annotations", "JPEGImages", "ImageSets/Main/test.txt"
LABEL_MAP = "labelmap.txt"  # the names of objects: CVAT and Datumaro refuse names that VOC did not have without it
_SHIFT = np.array([1.5, 1.5, 0.5, 0.5])  # what is subtracted from xmin, ymin, xmax, ymax
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def find(root: Path) -> list[Path]:
    """The XML files in `Annotations/`, or in the folder and below."""
    folder = root / ANNOTATIONS if (root / ANNOTATIONS).is_dir() else root
    return sorted(glob_any_case(folder, "**/*.xml"))


def sniff(path: Path) -> bool:
    """Whether it has VOC's root element."""
    return starts_with(path, "annotation")


def read(reader: LabelReader) -> Labels:
    """The boxes of all objects; difficult ones are neither face nor background. A file without any shows no face."""
    base = reader.root / ANNOTATIONS if (reader.root / ANNOTATIONS).is_dir() else reader.root
    stems = {}
    for path in reader.files:
        file = reader.path_of(path)
        stem = path.relative_to(base).with_suffix("").as_posix()
        with reader.problems_in(file):
            tree = read_xml(path, "annotation")
            photo = stems[stem] = _find_photo(reader, tree, stem)
            reader.add_size(photo, text_of(tree, "size/width"), text_of(tree, "size/height"))
            objects = list(tree.iter("object"))
            if not objects:
                reader.background.append(photo)
            for number, element in enumerate(objects, 1):
                if reader.wants(text_of(element, "name")):
                    _add_object(reader, element, photo, file, number)
    photos = [*(row.photo for row in reader.rows), *reader.background]
    return reader.labels(FACES21, test=_find_tests(reader.root, stems, photos), boxes_only=True, convention=HEAD)


def _add_object(reader: LabelReader, element: Element, photo: str, file: str, number: int) -> None:
    place = f"object {number}"
    with reader.problems_in(file, place, photo):
        box = _parse_box(element)
        if text_of(element, "difficult") == "1":
            reader.ignore(photo, box)
        else:
            reader.rows.append(LabelRow(photo, box, NO_POINTS, file, number, place=place))


def _find_photo(reader: LabelReader, tree: Element, stem: str) -> str:
    """The photo of a file: named in it, or with its own name; LabelImg leaves the ending out."""
    name = text_of(tree, "filename").replace("\\", "/") or stem
    folder = posixpath.dirname(stem)
    folders = tuple(dict.fromkeys([folder, PHOTOS, posixpath.join(PHOTOS, folder), "images", text_of(tree, "folder")]))
    if PurePosixPath(name).suffix.lower() not in PHOTO_SUFFIXES:
        endings = (f"{name}{ending}" for ending in sorted(PHOTO_SUFFIXES))
        name = next((one for one in endings if is_file(reader.root / reader.photo(one, *folders))), f"{name}.jpg")
    return reader.photo(posixpath.basename(name), *folders)


def _parse_box(element: Element) -> Box:
    texts = [text_of(element, f"bndbox/{corner}") for corner in _CORNERS]
    missing = next((corner for corner, text in zip(_CORNERS, texts, strict=True) if not text), None)
    if missing:
        raise RowError("box", f"no {missing} in its bndbox")
    return check_box(parse_numbers(texts, 1) - _SHIFT)


def _find_tests(root: Path, stems: dict[str, str], photos: list[str]) -> tuple[str, ...] | None:
    """The photos of the set's own test split: those of its list or, if there is no list, in a test folder."""
    if not is_file(root / TEST_SET):
        return tuple(dict.fromkeys(filter(in_test_folder, photos))) or None
    lines = [line.strip() for _, line in text_lines(root / TEST_SET)]  # a stem, or a stem and 1, 0 or -1
    listed = (line if line in stems else line.rsplit(maxsplit=1)[0] for line in lines)
    return tuple(dict.fromkeys(stems[stem] for stem in listed if stem in stems)) or None


def write(job: WriteJob) -> None:
    """Write a file for each photo, and the lists of both splits."""
    stems: dict[bool, list[str]] = {False: [], True: []}
    for photo, rows in job.labels.by_photo().items():
        where = PurePosixPath(job.paths[photo])
        stem = where.relative_to(PHOTOS).with_suffix("").as_posix()
        stems[job.is_test(photo)].append(stem)
        tree = Element("annotation")
        SubElement(tree, "folder").text = where.parent.as_posix()
        SubElement(tree, "filename").text = where.name
        size = SubElement(tree, "size")
        for name, value in zip(("width", "height", "depth"), (*job.sizes[photo], 3), strict=True):
            SubElement(size, name).text = str(value)
        SubElement(tree, "segmented").text = "0"
        ignored = job.labels.ignored.get(photo, ())
        for box, difficult in (*((row.box, 0) for row in rows), *((box, 1) for box in ignored)):
            one = SubElement(tree, "object")
            for name, text in (("name", "face"), ("pose", "Unspecified"), ("truncated", "0"), ("difficult", difficult)):
                SubElement(one, name).text = str(text)
            corners = SubElement(one, "bndbox")
            for name, value in zip(_CORNERS, (box + _SHIFT).tolist(), strict=True):
                SubElement(corners, name).text = format_number(value)
        indent(tree)
        job.write_lines(f"{ANNOTATIONS}/{stem}.xml", [tostring(tree, encoding="unicode")])
    job.write_lines(LABEL_MAP, ["# label:color_rgb:parts:actions", "background:::", "face:::"])
    for is_test, name in ((False, "trainval.txt"), (True, "test.txt")):
        job.write_lines(posixpath.join(posixpath.dirname(TEST_SET), name), stems[is_test])


_CAN = FormatCapabilities
FORMAT = LabelFormat(
    "voc",
    "Pascal VOC: Annotations/*.xml with boxes, photos in JPEGImages/; or both in one folder",
    find,
    sniff,
    read,
    _CAN.HEADS | _CAN.IGNORED | _CAN.BACKGROUND | _CAN.TEST_SPLIT | _CAN.NAMES | _CAN.SIZES | _CAN.FILE_PER_PHOTO,
    write,
    photos_in(PHOTOS),
    label_folders=(ANNOTATIONS,),
)
