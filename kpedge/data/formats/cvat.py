"""`cvat`: CVAT's own XML, "CVAT for images 1.1": skeletons, boxes and points of every image.

Corners of a box count the edges of pixels; points are taken as they stand, as CVAT writes them into COCO.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

from kpedge.core.scheme import KeypointScheme
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, files
from kpedge.data.formats.named_faces import NamedFaces, NamedPoint, Shape
from kpedge.data.formats.reader import EDGE, LabelReader
from kpedge.data.formats.xml_tree import read_xml, starts_with
from kpedge.data.labels import Labels
from kpedge.data.rows import RowError, check_box, parse_numbers

_CORNERS = ("xtl", "ytl", "xbr", "ybr")


def sniff(path: Path, _scheme: KeypointScheme | None) -> bool:
    """Whether it has CVAT's root element."""
    return starts_with(path, "annotations")


def _parse_points(element: Element) -> list[NamedPoint]:
    pairs = [pair.split(",") for pair in element.get("points", "").split(";") if pair]
    values = [parse_numbers(pair, 1) for pair in pairs]
    if any(len(value) != 2 for value in values):
        raise RowError("columns", "points are not x,y")
    return [(float(x), float(y), element.get("occluded") != "1") for x, y in values]


def _parse_shape(element: Element, place: tuple[int, str]) -> Shape | None:
    """A shape of an image; None for kinds that are not read."""
    name, group = element.get("label", ""), element.get("group_id")
    if element.tag == "box":
        box = check_box(parse_numbers([element.get(corner, "") for corner in _CORNERS], 1) - EDGE)
        return Shape(name, box, group=group, place=place)
    if element.tag == "skeleton":
        shown = [part for part in element.iter("points") if part.get("outside") != "1"]
        points = {part.get("label", ""): _parse_points(part)[0] for part in shown if part.get("points")}
        return Shape(name, None, points, group, place)
    if element.tag == "points":
        found = _parse_points(element)
        if len(found) == 1:  # a label of its own for every point
            return Shape("", None, {name: found[0]}, group, place)
        return Shape(name, None, {str(number): point for number, point in enumerate(found, 1)}, group, place)
    return None


def read(reader: LabelReader) -> Labels:
    """The faces of all files; images in which nothing was drawn are not used, as nobody says that they show no face."""
    faces = NamedFaces(reader)
    for path in reader.files:
        file = reader.path_of(path)
        try:
            images = list(read_xml(path, "annotations").iter("image"))
        except RowError as error:
            reader.problem(error, file)
            continue
        if not images:
            message = "no <image> in it: of a video, export frames as CVAT for images, or COCO keypoints"
            reader.problem(RowError("form", message), file)
        for image in images:
            try:
                photo = reader.photo(image.get("name", ""), "images")
            except RowError as error:
                reader.problem(error, file)
                continue
            reader.add_size(photo, image.get("width"), image.get("height"))
            faces.add_each(photo, file, image, _parse_shape, f"image {image.get('id', photo)}, shape")
            reader.dropped["images without a label"] += not len(image)
    return faces.labels("face")


FORMAT = LabelFormat(
    "cvat",
    "CVAT for images 1.1: annotations.xml with skeletons, boxes or points; photos in images/ or next to it",
    files("*.xml", sniff=sniff),
    sniff,
    read,
    FormatCapabilities.FACES | FormatCapabilities.VISIBILITY | FormatCapabilities.NAMES,
)
