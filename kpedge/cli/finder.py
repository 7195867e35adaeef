"""What `kpedge predict` finds faces with: a detector, or boxes that are given. Worker processes get a copy of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpedge.core.errors import ImageError
from kpedge.core.files import real_path
from kpedge.core.model_zoo import resolve_model

if TYPE_CHECKING:
    from kpedge.core.faces import Face
    from kpedge.core.geometry import Image
    from kpedge.core.scheme import KeypointScheme
    from kpedge.runtime.workers import Find


@dataclass(frozen=True, slots=True)
class Finder:
    """Models and settings."""

    # model, detector: as the flags name them
    model: str
    detector: str
    settings: Mapping[str, Any]  # threads, provider and backend
    search: Mapping[str, Any]  # further arguments of `FacePipeline`
    boxes: Path | None  # a file with the boxes of photos; None without
    box: Sequence[Sequence[float]]  # boxes for every photo; with neither, faces are detected
    keep_rejected: bool  # keep boxes that are given although they show no face

    def open_find(self) -> Find:
        """The function from an input and an image to its faces."""
        return self.open()[1]

    def open(self) -> tuple[KeypointScheme, Find, list[str]]:
        """The scheme of the keypoints, the function, and the photos that the file of boxes names.

        Raises:
            ModelError: a model cannot be used.
            DataError: the boxes cannot be read.
        """
        from kpedge.core.geometry import as_box
        from kpedge.data.labels import read_boxes
        from kpedge.export.load import open_model
        from kpedge.runtime.detector import detector_model
        from kpedge.runtime.keypoints import KeypointPredictor, keypoint_model
        from kpedge.runtime.looks import faces_in_boxes
        from kpedge.runtime.mirrored import MirrorAveraged
        from kpedge.runtime.pipeline import FacePipeline

        model = keypoint_model(open_model(resolve_model(self.model), **self.settings))
        scheme = model.card.scheme
        if not (self.box or self.boxes):
            detector = detector_model(open_model(resolve_model(self.detector), **self.settings))
            pipeline = FacePipeline(model, detector, keep_rejected=True, **self.search)
            return scheme, lambda _, image: pipeline(image), []
        given = [as_box(box) for box in self.box]
        by_photo = read_boxes(self.boxes) if self.boxes else {}
        resolved = {real_path(photo): boxes for photo, boxes in by_photo.items()}
        keep_all = self.keep_rejected and model.card.has_score
        model = MirrorAveraged(model) if self.search["flip_test"] else model
        predictor = KeypointPredictor(model, threshold=0.0 if keep_all else self.search["threshold"])

        def find(photo: str, image: Image) -> tuple[Face, ...]:
            own = given or resolved.get(real_path(Path(photo)))
            if not own:
                raise ImageError(f"{photo}: {self.boxes} has no box for this photo")
            return faces_in_boxes(predictor, image, own)

        return scheme, find, list(map(str, by_photo))
