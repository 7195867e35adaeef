"""`label-studio`: Label Studio's own JSON: tasks with key points and rectangles, in percent of the photo.

0 is the photo's left edge and 100 its right one, so a value p lies at p / 100 · W - 0.5 in our frame. Its COCO export
rounds points to whole pixels; this one keeps them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kpedge.core.errors import DataError
from kpedge.core.files import read_json
from kpedge.core.scheme import KeypointScheme
from kpedge.data.formats.coco import plain_photo_name
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, files
from kpedge.data.formats.named_faces import NamedFaces, Shape
from kpedge.data.formats.reader import EDGE, LabelReader
from kpedge.data.labels import Labels
from kpedge.data.rows import RowError, check_box, parse_numbers, sample_bytes, where_in


def sniff(path: Path, _scheme: KeypointScheme | None) -> bool:
    """Whether it is a list of tasks with results in them."""
    ends = sample_bytes(path)
    return path.suffix == ".json" and ends.lstrip()[:1] == b"[" and b'"result"' in ends


def _parse_result(result: dict[str, Any], place: tuple[int, str]) -> Shape | None:
    """A result of a task; None for kinds that are not read."""
    value, kind = result["value"], result.get("type")
    if kind not in ("keypointlabels", "rectanglelabels"):
        return None
    names = value.get(kind) or [""]
    size = parse_numbers([result["original_width"], result["original_height"]], 1) / 100
    x, y = parse_numbers([value["x"], value["y"]], 1) * size - EDGE
    group = result.get("parentID") or (result.get("id") if kind == "rectanglelabels" else None)
    if kind == "keypointlabels":
        return Shape("", None, {str(names[0]): (float(x), float(y), True)}, group, place)
    side = parse_numbers([value["width"], value["height"]], 1) * size
    return Shape(str(names[0]), check_box(np.array([x, y, x + side[0], y + side[1]])), group=group, place=place)


def read(reader: LabelReader) -> Labels:
    """The faces of all tasks that were labelled."""
    faces = NamedFaces(reader)
    for path in reader.files:
        file = reader.path_of(path)
        tasks = read_json(path, DataError)
        for number, task in enumerate(tasks if isinstance(tasks, list) else [], 1):
            place = f"task {task.get('id', number) if isinstance(task, dict) else number}"
            try:
                names = [value for value in task["data"].values() if isinstance(value, str)]
                photo = reader.photo(plain_photo_name(str(task["data"].get("image") or next(iter(names), ""))))
                done = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
                results = list(done[0]["result"]) if done else []
            except (KeyError, TypeError, AttributeError, RowError) as error:
                reader.problem(RowError("form", f"not a labelled task: {error}"), where_in(file, place))
                continue
            for result in results:
                if isinstance(result, dict):
                    reader.add_size(photo, result.get("original_width"), result.get("original_height"))
            faces.add_each(photo, file, results, _parse_result, f"{place}, result")
            reader.dropped["images without a label"] += not results
    return faces.labels("face")


FORMAT = LabelFormat(
    "label-studio",
    "Label Studio: *.json with tasks: key points and rectangles",
    files("*.json", sniff=sniff),
    sniff,
    read,
    FormatCapabilities.FACES | FormatCapabilities.NAMES,
)
