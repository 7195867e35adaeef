"""`cvat`: CVAT's own XML, "CVAT for images 1.1": skeletons, boxes and points of every image.

Corners of a box count the edges of pixels; points are taken as they stand, as CVAT writes them into COCO.
"""

import json
import math
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring
from xml.sax.saxutils import quoteattr

from kpedge.core.scheme import KeypointScheme
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, WriteJob, files
from kpedge.data.formats.named_faces import NamedFaces, NamedPoint, Shape, check_upright, named_points
from kpedge.data.formats.reader import EDGE, LabelReader
from kpedge.data.formats.xml_tree import read_xml, starts_with
from kpedge.data.labels import Labels, follows
from kpedge.data.rows import RowError, check_box, parse_numbers

_CORNERS = ("xtl", "ytl", "xbr", "ybr")


def sniff(path: Path) -> bool:
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
        check_upright(element.get("rotation"))
        box = check_box(parse_numbers([element.get(corner, "") for corner in _CORNERS], 1) - EDGE)
        return Shape(name, box, group=group, place=place)
    if element.tag == "skeleton":
        shown = [part for part in element.iter("points") if part.get("outside") != "1"]
        points = named_points((part.get("label", ""), _parse_points(part)[0]) for part in shown if part.get("points"))
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
        images: list[Element] = []
        with reader.problems_in(file):
            images = list(read_xml(path, "annotations").iter("image"))
            if not images:
                raise RowError(
                    "form", "no <image> in it: export frames of a video as CVAT for images, or COCO keypoints"
                )
        for image in images:
            with reader.problems_in(file):
                photo = reader.photo(image.get("name", ""), "images")
                reader.add_size(photo, image.get("width"), image.get("height"))
                faces.add_each(photo, file, image, _parse_shape, f"image {image.get('id', photo)}, shape")
                reader.dropped["images without a label"] += not len(image)
    return faces.labels("face")


def write(job: WriteJob) -> None:
    """Write `annotations.xml`, and `cvat_labels.json` for the raw editor of the project's labels. A face is a skeleton;
    a box is written where there are no points, or where it does not follow from them.
    """
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    scheme = job.labels.scheme
    kind, points = ("rectangle", ()) if job.labels.boxes_only else ("skeleton", scheme.points)
    task = SubElement(SubElement(root, "meta"), "task")
    SubElement(task, "size").text = str(len(job.labels.by_photo()))
    names = SubElement(task, "labels")
    for name, of in (("face", kind), *((point, "points") for point in points)):
        label = SubElement(names, "label")
        SubElement(label, "name").text, SubElement(label, "type").text = name, of
        if of == "points":
            SubElement(label, "parent").text = "face"
    for number, (photo, rows) in enumerate(job.labels.by_photo().items()):
        width, height = map(str, job.sizes[photo])
        image = SubElement(
            root, "image", id=str(number), name=job.paths[photo].removeprefix("images/"), width=width, height=height
        )
        for group, row in enumerate(rows, 1):
            common = {"label": "face", "source": "auto", "z_order": "0", "group_id": str(group)}
            if job.labels.boxes_only or not follows(row, scheme):
                corners = (f"{value:.6f}" for value in (row.box + EDGE).tolist())
                SubElement(image, "box", dict(zip(_CORNERS, corners, strict=True)) | common | {"occluded": "0"})
            if not job.labels.boxes_only:
                skeleton = SubElement(image, "skeleton", common)
                for name, flag, (x, y) in zip(scheme.points, row.flags, row.keypoints.tolist(), strict=True):
                    there = {"points": f"{x:.6f},{y:.6f}"} if flag else {}
                    marks = {"label": name, "outside": str(int(not flag)), "occluded": str(int(flag == 1))}
                    SubElement(skeleton, "points", marks | there)
    indent(root)
    job.write_lines("annotations.xml", [tostring(root, encoding="unicode")])
    document = {"name": "face", "type": kind} | (_skeleton(scheme) if points else {})
    job.write_lines("cvat_labels.json", [json.dumps([document], ensure_ascii=False)])


def _skeleton(scheme: KeypointScheme) -> dict[str, Any]:
    """The points of a skeleton and the image of it that CVAT's editor needs, in percent."""
    side = math.ceil(math.sqrt(len(scheme)))
    places = [((k % side + 0.5) / side * 100, (k // side + 0.5) / side * 100) for k in range(len(scheme))]
    lines = (
        f'<line x1="{places[a][0]:.1f}" y1="{places[a][1]:.1f}" x2="{places[b][0]:.1f}" y2="{places[b][1]:.1f}" '
        f'data-type="edge" data-node-from="{a + 1}" data-node-to="{b + 1}"></line>'
        for a, b in scheme.skeleton
    )
    circles = (
        f'<circle r="0.75" cx="{x:.1f}" cy="{y:.1f}" data-type="element node" data-element-id="{k}" data-node-id="{k}" '
        f"data-label-name={quoteattr(name)}></circle>"
        for k, (name, (x, y)) in enumerate(zip(scheme.points, places, strict=True), 1)
    )
    sublabels = [{"name": name, "type": "points", "attributes": []} for name in scheme.points]
    return {"attributes": [], "sublabels": sublabels, "svg": "".join((*lines, *circles))}


FORMAT = LabelFormat(
    "cvat",
    "CVAT for images 1.1: annotations.xml with skeletons, boxes or points; photos in images/ or next to it",
    files("*.xml", sniff=sniff),
    sniff,
    read,
    FormatCapabilities.FACES | FormatCapabilities.VISIBILITY | FormatCapabilities.NAMES | FormatCapabilities.SIZES,
    write,
    lambda photo, _: f"images/{photo}",
)
