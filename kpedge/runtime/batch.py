"""Batches of images in, columns of faces out: what engines such as Ray Data call in each of their workers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kpedge.core.errors import KpedgeError, UsageError
from kpedge.core.model_zoo import DEFAULT_MODEL
from kpedge.runtime.face_model import load


class BatchPredictor:
    """Finds the faces of batches of images. `ray.data.Dataset.map_batches` takes it as the class of its actors, which
    open the models once (docs/scaling.md).

    Args:
        model: as `kpedge.load` takes it.
        column: of the images: the content of image files as bytes, as `ray.data.read_binary_files` gives them; paths
            as str; or arrays (H, W, 3) of uint8, red-green-blue, as `ray.data.read_images` does.
        settings: the other arguments of `kpedge.load`.

    Example:
        >>> import kpedge
        >>> from kpedge.core.model_zoo import sample_photo
        >>> predict = kpedge.BatchPredictor(column="path")
        >>> rows = predict({"path": [str(sample_photo()), "nowhere.jpg"]})
        >>> rows["width"], rows["error"]
        ([512, 0], ['', 'nowhere.jpg: no such photo'])
    """

    def __init__(self, model: str | Path = DEFAULT_MODEL, *, column: str = "bytes", **settings: Any) -> None:
        self._model = load(model, **{"pose": False, **settings})
        self._column = column

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """The columns of the batch, without the pixels, and of each image:

        `faces` (JSON, as in the lines of `kpedge predict`), `width` and `height` (pixels; 0 if it cannot be read) and
        `error` (empty if it can).

        Raises:
            UsageError: the batch has no column of images.
        """
        if self._column not in batch:
            raise UsageError(f"the batch has no column {self._column!r}", f"choose with column=: {', '.join(batch)}")
        rows = {name: list(values) for name, values in batch.items()}
        images = rows[self._column]
        if not all(isinstance(image, str) for image in images):
            del rows[self._column]
        results = [self._find(image) for image in images]
        return rows | {name: [one[name] for one in results] for name in ("faces", "width", "height", "error")}

    def _find(self, image: Any) -> dict[str, Any]:
        try:
            colour = "rgb" if isinstance(image, np.ndarray) else "bgr"
            found = self._model(image, colour=colour)
        except KpedgeError as error:
            return {"faces": "[]", "width": 0, "height": 0, "error": str(error)}
        faces = json.dumps([face.to_dict() for face in found])
        return {"faces": faces, "width": found.size[0], "height": found.size[1], "error": ""}
