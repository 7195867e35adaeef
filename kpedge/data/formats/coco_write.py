"""Writing COCO keypoints: `annotations.json`, or a file for training and one for test in `annotations/`."""

import json
from typing import Any

from kpedge.core.geometry import Box
from kpedge.data.formats.format import WriteJob
from kpedge.data.formats.reader import EDGE
from kpedge.data.labels import LabelRow

_CATEGORY = 1


def write(job: WriteJob) -> None:
    """Write the files; what kpedge knows beyond COCO (scheme, convention of the boxes) is in `info.kpedge`."""
    photos = list(job.labels.by_photo())
    if not job.labels.test:
        _write(job, "annotations.json", photos)
        return
    for split in ("train", "test"):
        _write(job, f"annotations/{split}.json", [one for one in photos if job.is_test(one) == (split == "test")])


def _write(job: WriteJob, name: str, photos: list[str]) -> None:
    labels, rows = job.labels, job.labels.by_photo()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, photo in enumerate(photos, 1):
        width, height = job.sizes[photo]
        images.append({"id": number, "file_name": job.paths[photo], "width": width, "height": height})
        faces: list[LabelRow | Box] = [*rows[photo], *labels.ignored.get(photo, ())]
        annotations += [_annotation(len(annotations) + 1 + k, number, face) for k, face in enumerate(faces)]
    category: dict[str, Any] = {"id": _CATEGORY, "name": "face", "supercategory": "person"}
    if labels.boxes_only:
        annotations = [{key: one[key] for key in one if "keypoints" not in key} for one in annotations]
    else:
        lines = [[start + 1, end + 1] for start, end in labels.scheme.skeleton]
        category |= {"keypoints": list(labels.scheme.points), "skeleton": lines}
    document = {
        "info": {
            "description": "written by kpedge data convert",
            "kpedge": {"boxes": labels.convention, "scheme": labels.scheme.to_dict()},
        },
        "licenses": [],
        "categories": [category],
        "images": images,
        "annotations": annotations,
    }
    job.write_lines(name, [json.dumps(document, ensure_ascii=False)])


def _annotation(number: int, image: int, face: LabelRow | Box) -> dict[str, Any]:
    box = face.box if isinstance(face, LabelRow) else face
    x1, y1, x2, y2 = (_short(value) for value in box.tolist())
    size = _short(x2 - x1), _short(y2 - y1)
    common = {
        "id": number,
        "image_id": image,
        "category_id": _CATEGORY,
        "bbox": [_short(x1 + EDGE), _short(y1 + EDGE), *size],
        "area": _short(size[0] * size[1]),
        "iscrowd": int(not isinstance(face, LabelRow)),
        "segmentation": [],
    }
    if not isinstance(face, LabelRow):
        return common
    keypoints: list[float] = []
    for flag, (x, y) in zip(face.flags, face.keypoints.tolist(), strict=True):
        keypoints += [_short(x), _short(y), flag] if flag else [0, 0, 0]
    return {**common, "keypoints": keypoints, "num_keypoints": sum(flag > 0 for flag in face.flags)}


def _short(value: float) -> float:
    """Six decimals; a whole number if it is one."""
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded
