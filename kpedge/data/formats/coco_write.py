"""Writing COCO keypoints: `annotations.json`, or a file for training and one for test in `annotations/`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kpedge.core.geometry import Box
from kpedge.data.formats.coco import EDGE
from kpedge.data.formats.coco_categories import category_of
from kpedge.data.formats.common import Places
from kpedge.data.labels import LabelRow, Labels

Sizes = Mapping[str, tuple[int, int]]
"""Photo -> width and height, pixels."""
_CATEGORY = 1


def place(photo: str, _test: bool) -> str:
    """Photos lie where they lay; `file_name` is relative to the folder."""
    return photo


def write(folder: Path, labels: Labels, places: Places, sizes: Sizes) -> None:
    """Write the files; what kpedge knows beyond COCO (scheme, convention of the boxes) stands in `info.kpedge`."""
    held_out = set(labels.test or ())
    photos = list(labels.by_photo())
    if not held_out:
        _write(folder / "annotations.json", labels, photos, places, sizes)
        return
    for split in ("train", "test"):
        own = [photo for photo in photos if (photo in held_out) == (split == "test")]
        _write(folder / "annotations" / f"{split}.json", labels, own, places, sizes)


def _write(path: Path, labels: Labels, photos: list[str], places: Places, sizes: Sizes) -> None:
    rows = labels.by_photo()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, photo in enumerate(photos, 1):
        width, height = sizes[photo]
        images.append({"id": number, "file_name": places[photo], "width": width, "height": height})
        faces: list[LabelRow | Box] = [*rows[photo], *labels.unlabelled.get(photo, ())]
        annotations += [_annotation(len(annotations) + 1 + k, number, face) for k, face in enumerate(faces)]
    category = category_of(labels.scheme, _CATEGORY)
    if labels.boxes_only:
        del category["keypoints"], category["skeleton"]
    document = {
        "info": {
            "description": "written by kpedge data convert",
            "kpedge": {"boxes": labels.convention, "scheme": labels.scheme.to_dict()},
        },
        "licenses": [],
        "categories": [category],
        "images": images,
        "annotations": [
            {key: value for key, value in one.items() if "keypoints" not in key or not labels.boxes_only}
            for one in annotations
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")


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
    labelled = face.labelled
    keypoints: list[float] = []
    for place, (x, y) in enumerate(face.keypoints.tolist()):
        flag = 0 if not labelled[place] else 1 if face.visible is not None and not face.visible[place] else 2
        keypoints += [_short(x), _short(y), flag] if flag else [0, 0, 0]
    return {**common, "keypoints": keypoints, "num_keypoints": int(labelled.sum())}


def _short(value: float) -> float:
    """Six digits behind the point; a whole number where it is one."""
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded
