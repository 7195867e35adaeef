"""`labelme`: labelme's JSON, a file for each photo: rectangles, and points with names; `group_id` joins them.

Its coordinates count from the photo's edge, but its points mark pixels as people click on them, so they are taken as
they stand.
"""

from pathlib import Path
from typing import Any

import numpy as np

from kpedge.core.errors import DataError
from kpedge.core.files import read_json
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, files
from kpedge.data.formats.named_faces import NamedFaces, Shape
from kpedge.data.formats.reader import LabelReader
from kpedge.data.labels import Labels
from kpedge.data.rows import RowError, check_box, parse_numbers, sample_text


def sniff(path: Path) -> bool:
    """Whether it has a list of shapes, and names a photo."""
    ends = sample_text(path)
    return path.suffix.lower() == ".json" and '"shapes"' in ends and '"images"' not in ends


def _parse_shape(shape: Any, place: tuple[int, str]) -> Shape | None:
    """A shape; None for kinds that are not read."""
    if not isinstance(shape, dict) or shape.get("shape_type") not in ("rectangle", "point"):
        return None
    corners = np.array([parse_numbers(point, 1) for point in shape["points"]]).reshape(-1, 2)
    name, group = str(shape.get("label", "")), shape.get("group_id")
    if shape["shape_type"] == "point":
        return Shape("", None, {name: (float(corners[0, 0]), float(corners[0, 1]), True)}, group, place)
    box = check_box(np.concatenate([corners.min(axis=0), corners.max(axis=0)]))
    return Shape(name, box, group=group, place=place)


def read(reader: LabelReader) -> Labels:
    """The faces of all files."""
    faces = NamedFaces(reader)
    for path in reader.files:
        file = reader.path_of(path)
        folder = file.rpartition("/")[0]
        try:
            document = read_json(path, DataError)
            if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
                raise RowError("form", "not a labelme file: it has no list of shapes")
            photo = reader.photo(str(document.get("imagePath") or f"{path.stem}.jpg"), folder)
        except DataError as error:
            kind = error.kind if isinstance(error, RowError) else "not JSON"
            reader.problem(RowError(kind, str(error).removeprefix(f"{path}:").strip()), file)
            continue
        reader.add_size(photo, document.get("imageWidth"), document.get("imageHeight"))
        faces.add_each(photo, file, document["shapes"], _parse_shape, "shape")
    return faces.labels("face")


FORMAT = LabelFormat(
    "labelme",
    "labelme: *.json, each next to its photo: rectangles and named points",
    files("**/*.json", sniff=sniff),
    sniff,
    read,
    FormatCapabilities.FACES | FormatCapabilities.NAMES,
)
