"""`imglab`: dlib's XML: `<image file>` with `<box top left width height>` and in it `<part name x y>`, in whole pixels.

A box counts pixels that belong to it (`dlib/data_io/image_dataset_metadata.h`: `left` and `width`), so it reaches from
`left - 0.5` to `left + width - 0.5` in our frame; parts are pixels, as ours. Numbers for names are the positions of a
scheme, as in dlib's own 68 points of iBUG.
"""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from kpedge.core.geometry import Box
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, WriteJob
from kpedge.data.formats.named_faces import NamedFaces, Shape, named_points
from kpedge.data.formats.reader import EDGE, LabelReader, corners, in_test_file
from kpedge.data.formats.xml_tree import read_xml, starts_with, text_of
from kpedge.data.labels import LabelRow, Labels
from kpedge.data.rows import format_number, glob_any_case, parse_numbers

_SPLIT = re.compile(r"_(?:train|test)$")
_SIDES = ("left", "top", "width", "height")


def find(root: Path) -> list[Path]:
    """The XML files of the folder; not one that repeats two others, as `x.xml` does `x_train.xml` and `x_test.xml`."""
    paths = sorted(path for path in glob_any_case(root, "*.xml") if starts_with(path, "dataset"))
    parts = {_SPLIT.sub("", path.stem) for path in paths if _SPLIT.search(path.stem)}
    return [path for path in paths if path.stem not in parts]


def sniff(path: Path) -> bool:
    """Whether it has imglab's root element."""
    return starts_with(path, "dataset")


def _parse_box(element: Element) -> Box:
    cells = [element.get(side, "") for side in _SIDES]
    return corners(parse_numbers(cells, 1), cells)


def _parse_face(element: Element, number: int) -> Shape:
    parts = []
    for part in element.iter("part"):
        x, y = parse_numbers([part.get("x", ""), part.get("y", "")], 1)
        parts.append((part.get("name", ""), (float(x), float(y), True)))
    place = (number, f"box {number}")
    return Shape(text_of(element, "label"), _parse_box(element), named_points(parts), place, place)


def read(reader: LabelReader) -> Labels:
    """The boxes and parts of all files; those to be ignored are neither face nor background, and an image without a box
    shows no face. Images of files with `test` in their name are the test split.
    """
    faces = NamedFaces(reader)
    for path in reader.files:
        file = reader.path_of(path)
        images: Iterable[Element] = ()
        with reader.problems_in(file):
            images = read_xml(path, "dataset").iter("image")
        numbers = itertools.count(1)
        for image in images:
            photo, boxes = "", list(image.iter("box"))
            with reader.problems_in(file):
                photo = reader.photo(image.get("file", ""))
                reader.add_size(photo, image.get("width"), image.get("height"))
                if not boxes:
                    reader.background.append(photo)
            for element in boxes if photo else ():
                number = next(numbers)
                with reader.problems_in(file, f"box {number}", photo):
                    if element.get("ignore") == "1":
                        reader.ignore(photo, _parse_box(element))
                    else:
                        faces.add(photo, file, [_parse_face(element, number)])
    return faces.labels(by_position=True, is_test=in_test_file)


def write(job: WriteJob) -> None:
    """Write `training.xml` and, if there is a test split, `testing.xml`."""
    for is_test, name in ((False, "training.xml"), (True, "testing.xml")):
        photos = [photo for photo in job.labels.by_photo() if job.is_test(photo) == is_test]
        if not photos and is_test:
            continue
        dataset = Element("dataset")
        images = SubElement(dataset, "images")
        for photo in photos:
            width, height = job.sizes[photo]
            image = SubElement(images, "image", file=job.paths[photo], width=str(width), height=str(height))
            for row in job.labels.by_photo()[photo]:
                _write_face(image, job.labels, row)
            for box in job.labels.ignored.get(photo, ()):
                _write_box(image, box).set("ignore", "1")
        indent(dataset)
        (job.folder / name).write_bytes(tostring(dataset, encoding="utf-8", xml_declaration=True) + b"\n")


def _write_box(image: Element, box: Box) -> Element:
    left, top, right, bottom = np.round(box + EDGE).tolist()
    sides = zip(_SIDES, (left, top, max(right - left, 1), max(bottom - top, 1)), strict=True)
    return SubElement(image, "box", {side: format_number(value) for side, value in sides})


def _write_face(image: Element, labels: Labels, row: LabelRow) -> None:
    element = _write_box(image, row.box)
    for name, (x, y) in zip(labels.scheme.points, np.round(row.keypoints).tolist(), strict=True):
        if not labels.boxes_only and np.isfinite(x):
            SubElement(element, "part", name=name, x=format_number(x), y=format_number(y))


_CAN = FormatCapabilities
FORMAT = LabelFormat(
    "imglab",
    "dlib: *.xml with <image file>, <box top left width height> and <part name x y>",
    find,
    sniff,
    read,
    _CAN.FACES | _CAN.IGNORED | _CAN.BACKGROUND | _CAN.TEST_SPLIT | _CAN.NAMES | _CAN.SIZES | _CAN.WHOLE_PIXELS,
    write,
)
