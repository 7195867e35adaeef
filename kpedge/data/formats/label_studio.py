"""`label-studio`: Label Studio's own JSON: tasks with key points and rectangles, in percent of the photo.

0 is the photo's left edge and 100 its right one, so a value p lies at p / 100 · W - 0.5 in our frame. Its COCO export
rounds points to whole pixels; this one keeps them.
"""

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError
from kpedge.core.files import read_json
from kpedge.data.formats.coco import plain_photo_name
from kpedge.data.formats.format import FormatCapabilities, LabelFormat, WriteJob, files
from kpedge.data.formats.named_faces import NamedFaces, Shape, check_upright
from kpedge.data.formats.reader import EDGE, LabelReader
from kpedge.data.labels import LabelRow, Labels
from kpedge.data.rows import RowError, check_box, parse_numbers, sample_text, where_in


def sniff(path: Path) -> bool:
    """Whether it is a list of tasks with results in them."""
    ends = sample_text(path)
    return path.suffix.lower() == ".json" and ends.lstrip()[:1] == "[" and '"result"' in ends


def _parse_result(result: dict[str, Any], place: tuple[int, str]) -> Shape | None:
    """A result of a task; None for kinds that are not read."""
    value, kind = result["value"], result.get("type")
    if kind not in ("keypointlabels", "rectanglelabels"):
        return None
    check_upright(result.get("image_rotation"), "photo")
    names = value.get(kind) or [""]
    size = parse_numbers([result["original_width"], result["original_height"]], 1) / 100
    x, y = parse_numbers([value["x"], value["y"]], 1) * size - EDGE
    group = result.get("parentID") or (result.get("id") if kind == "rectanglelabels" else None)
    if kind == "keypointlabels":
        return Shape("", None, {str(names[0]): (float(x), float(y), True)}, group, place)
    check_upright(value.get("rotation"))
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
            reader.dropped["further annotations of a task"] += max(len(done) - 1, 0)
            reader.dropped["predictions that nobody accepted"] += bool(task.get("predictions")) and not done
            reader.dropped["images without a label"] += not results
    return faces.labels("face")


def write(job: WriteJob) -> None:
    """Write `tasks.json`, and `labeling_config.xml` for the project's settings. Photos are named as Label Studio serves
    them from local storage: `/data/local-files/?d=images/…`, relative to its document root.
    """
    tasks = []
    for number, (photo, rows) in enumerate(job.labels.by_photo().items(), 1):
        size = np.array(job.sizes[photo])
        results = [result for place, row in enumerate(rows, 1) for result in _results(row, job, f"face{place}", size)]
        data = {"image": f"/data/local-files/?d={job.paths[photo]}"}
        tasks.append({"id": number, "data": data, "annotations": [{"id": number, "result": results}]})
    job.write_lines("tasks.json", [json.dumps(tasks, ensure_ascii=False)])
    points = (
        ""
        if job.labels.boxes_only
        else "".join(
            f'<Label value={quoteattr(point)} model_index="{index}"/>'
            for index, point in enumerate(job.labels.scheme.points)
        )
    )
    config = ['<Image name="image" value="$image"/>']
    config += ['<RectangleLabels name="box" toName="image"><Label value="face"/></RectangleLabels>']
    config += [f'<KeyPointLabels name="points" toName="image">{points}</KeyPointLabels>'] if points else []
    job.write_lines("labeling_config.xml", ["<View>", *config, "</View>"])


def _results(row: LabelRow, job: WriteJob, face: str, size: NDArray[np.int64]) -> list[dict[str, Any]]:
    """A rectangle, and a key point of each labelled point, which belongs to it."""
    common = {"to_name": "image", "image_rotation": 0, "original_width": int(size[0]), "original_height": int(size[1])}

    def percent(point: NDArray[np.float64]) -> list[float]:
        return [float(value) for value in (point + EDGE) / size * 100]

    (x, y), (right, bottom) = percent(row.box[:2]), percent(row.box[2:])
    value: dict[str, Any] = {"x": x, "y": y, "width": right - x, "height": bottom - y, "rotation": 0}
    value["rectanglelabels"] = ["face"]
    results = [{"id": face, "type": "rectanglelabels", "from_name": "box", "value": value, **common}]
    if not job.labels.boxes_only:
        for name, point in zip(job.labels.scheme.points, row.keypoints, strict=True):
            if np.isfinite(point).all():
                x, y = percent(point)
                value = {"x": x, "y": y, "width": 0.5, "keypointlabels": [name]}
                one = {"id": f"{face}-{name}", "parentID": face, "type": "keypointlabels", "from_name": "points"}
                results.append({**one, "value": value, **common})
    return results


FORMAT = LabelFormat(
    "label-studio",
    "Label Studio: *.json with tasks: key points and rectangles",
    files("*.json", sniff=sniff),
    sniff,
    read,
    FormatCapabilities.FACES | FormatCapabilities.NAMES | FormatCapabilities.SIZES,
    write,
    lambda photo, _: f"images/{photo}",
)
