"""Packing frames: whole photos with the boxes of all their faces (`kpedge.data.frames`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import CONVENTIONS, POINTS, to_convention
from kpedge.core.errors import UsageError
from kpedge.core.geometry import Box, Image, resize_to
from kpedge.core.keypoints import FACES5, convert_points
from kpedge.data.frames import LAYOUT, MAX_SIDE, add_frame
from kpedge.data.labels import LabelRow, usable_rows
from kpedge.data.packing import Counts, Packing, SetOptions
from kpedge.data.source import Progress, Source, our_box
from kpedge.data.split import SPLITS
from kpedge.data.storage import Layout, SetWriter

_NO_POINTS = np.full((len(FACES5), 2), np.nan)


@dataclass(frozen=True, slots=True)
class FrameOptions(SetOptions):
    """How a frame set is prepared: with boxes that hold what `boxes` says, of `CONVENTIONS`; the format, when empty."""

    layout: ClassVar[Layout] = LAYOUT

    def __post_init__(self) -> None:
        if self.boxes and self.boxes not in CONVENTIONS:
            raise UsageError(f"--boxes must be one of {', '.join(CONVENTIONS)}, not {self.boxes!r}")

    def complete(self, read: Source) -> FrameOptions:
        """The same options with what the source decides."""
        return replace(self, scheme=read.labels.scheme, boxes=self.boxes or read.labels.convention)

    def digest(self, read: Source) -> str:
        """Hash of all that a set depends on."""
        settings = {"frames": MAX_SIDE, **asdict(self), "scheme": read.labels.scheme.to_dict()}
        return read.sha256(LAYOUT.version, settings)

    def packing(self, read: Source, progress: Progress | None) -> Packing:
        """What packs a source with these options."""
        return FramePacking(read, self, progress, 1)


class FramePacking(Packing):
    """Packs all photos; a copy of a photo adds nothing, and its labels may be others."""

    def pack(self, folder: Path, info: dict[str, Any]) -> Counts:
        """Write all files, with `info` in `set.json`, and count."""
        counts: Counts = {split: {"photos": 0, "faces": 0} for split in SPLITS}
        photos: list[str] = []
        written: set[str] = set()
        with SetWriter(folder, LAYOUT) as writer:
            for _, photo, content in self._each_photo():
                rows = self._read.by_photo[photo]
                image = None if content in written else self._open(photo, rows)
                if image is None:
                    continue
                written.add(content)
                rows, outside = usable_rows(rows, image.shape[1], image.shape[0])
                self.problems += outside
                frame, zoom = shrink(image)
                faces = self._faces(rows, self._read.ignored.get(photo, []), zoom)
                add_frame(writer, frame, self._splits[photo], faces)
                photos.append(photo)
                counts[self._splits[photo]]["photos"] += 1
                counts[self._splits[photo]]["faces"] += len(rows)
            writer.finish({**self._record(counts, photos, {"max_side": MAX_SIDE}), **info})
        return counts

    def _faces(self, rows: list[LabelRow], ignored: list[Box], zoom: NDArray[np.float64]) -> list[dict[str, Any]]:
        """The faces of a photo in pixels of the frame that is `zoom` times as large."""
        labels, kind = self._read.labels, self._common.boxes
        faces = []
        for row in rows:
            labelled = _zoom_box(row.box, zoom)
            # Heads become squares after the zoom, as sets of them were made before there were boxes from points.
            ours = (
                _zoom_box(our_box(row, labels, kind), zoom) if kind == POINTS else to_convention(labelled[None], kind)
            )
            points = (convert_points(row.keypoints, labels.scheme, FACES5) + 0.5) * zoom - 0.5
            faces.append({"labelled": labelled, "boxes": np.ravel(ours), "points": points, "ignore": False})
        for box in ignored:
            zoomed = _zoom_box(box, zoom)
            faces.append({"labelled": zoomed, "boxes": zoomed, "points": _NO_POINTS, "ignore": True})
        return faces


def shrink(image: Image, longest: int = MAX_SIDE) -> tuple[Image, NDArray[np.float64]]:
    """An image with a longer side of at most `longest` pixels, averaged down, and its zoom along x and y, (2,)."""
    return resize_to(image, min(longest, max(image.shape[:2])))


def _zoom_box(box: Box, zoom: NDArray[np.float64]) -> Box:
    return np.ravel((box.reshape(2, 2) + 0.5) * zoom - 0.5)
