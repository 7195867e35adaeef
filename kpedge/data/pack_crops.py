"""Packing crops: the region around every face of labelled photos, and negatives (`kpedge.data.packed`)."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import POINTS
from kpedge.core.errors import DataError, UsageError
from kpedge.core.files import write_text
from kpedge.core.geometry import (
    Box,
    CropRule,
    Image,
    crop_square,
    crop_transform,
    shrink_factor,
    shrunk_region,
    widen_box,
)
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import check_whole
from kpedge.data.formats.label import format_row
from kpedge.data.labels import usable_rows
from kpedge.data.negatives import Overhang, choose_negatives, overhang
from kpedge.data.packed import LAYOUT
from kpedge.data.packing import Counts, Packing, SetOptions
from kpedge.data.source import Progress, Source, source_of_crops
from kpedge.data.split import SPLITS
from kpedge.data.storage import Layout, SetWriter

LABELLED = "labelled"
BOXES = (LABELLED, POINTS)  # around which boxes crops are cut: the labelled ones, or those that follow from the points
NEGATIVES, NEGATIVES_BACKGROUND = 3, 8  # negatives from a photo with faces, and from one without, by default


@dataclass(frozen=True, slots=True)
class PrepareOptions(SetOptions):
    """How a set of crops is prepared: around `boxes` of `BOXES`; when empty, those that follow from the points if the
    set's boxes hold something else than ours.
    """

    layout: ClassVar[Layout] = LAYOUT
    size: int = 112  # side of the crop, pixels, at whose resolution the regions are kept
    rule: CropRule = field(default_factory=CropRule)  # the crop rule at whose resolution the regions are kept
    # how far a region reaches beyond the box on each side, as a fraction of its longer side: room to turn a crop by 30
    # degrees and move it by a tenth, or to zoom out by a half; beyond it the region's edge is repeated
    context: float = 0.75
    negatives: int | None = None  # crops without a face from each photo; `NEGATIVES` when None
    pointless: bool = False  # keep faces without labelled points, for the score; else neither face nor background

    def __post_init__(self) -> None:
        if self.boxes and self.boxes not in BOXES:
            raise UsageError(
                f"--boxes must be one of {', '.join(BOXES)}, not {self.boxes!r}", "with --frames: face, head or points"
            )
        for name, value, least in (
            ("size", self.size, 16),
            ("--seed", self.seed, 0),
            ("--negatives", self.negatives, 0),
        ):
            if value is not None:
                check_whole(name, value, least)
        if self.scheme is not None and not isinstance(self.scheme, KeypointScheme):
            raise UsageError(f"not a scheme: {self.scheme!r}", "give kpedge.data.scheme_named(NAME)")
        if self.context < self.rule.widen:
            raise UsageError(f"--context {self.context:g} is less than the crop rule's {self.rule.widen:g}")

    def complete(self, read: Source) -> PrepareOptions:
        """The same options with what the source decides.

        Raises:
            DataError: it has boxes and no points.
        """
        if read.labels.boxes_only and not self.pointless:
            raise DataError(
                f"{read.labels.root} labels boxes and no points",
                "to train a detector, add --frames; to train the face score alone, --pointless",
            )
        default = POINTS if read.labels.convention == POINTS else LABELLED
        return replace(self, scheme=read.labels.scheme, boxes=self.boxes or default)

    def digest(self, read: Source) -> str:
        """Hash of all that a set depends on."""
        settings = {**asdict(self), "scheme": read.labels.scheme.to_dict(), "rule": self.rule.to_dict()}
        if self.boxes == LABELLED:
            del settings["boxes"]  # as it was before there was a choice: sets prepared then still fit
        if not self.pointless:
            del settings["pointless"]  # for the same reason
        return read.sha256(LAYOUT.version, settings)

    def packing(self, read: Source, progress: Progress | None) -> Packing:
        """What packs a source with these options."""
        return CropPacking(
            source_of_crops(read, from_points=self.boxes == POINTS, pointless=self.pointless), self, progress
        )


def face_region(photo: Image, box: Box, options: PrepareOptions) -> tuple[Image, tuple[int, int], int]:
    """The region of a photo that is kept for a box, its first cell (x, y), and by how much it is averaged down."""
    factor = shrink_factor(crop_transform(box, options.size, options.rule), photo)
    x, y, side = crop_square(box, CropRule(options.context, options.rule.border))
    centre = (np.array([x, y]) + 0.5) / factor
    reach = side / 2 / factor
    low, high = np.floor(centre - reach).astype(int), np.ceil(centre + reach).astype(int)
    region, origin = shrunk_region(photo, (low[0], low[1]), (high[0], high[1]), factor)
    return region, origin, factor


class CropPacking(Packing):
    """Packs the faces, then the negatives, whose overhangs follow those of the faces."""

    def __init__(self, read: Source, options: PrepareOptions, progress: Progress | None) -> None:
        super().__init__(read, options, progress, 1 if options.negatives == 0 else 2)
        self._options = options
        self._no_points = np.full((len(read.labels.scheme), 2), np.nan)
        self._lists: dict[str, list[str]] = {split: [] for split in SPLITS}
        self._used: dict[str, set[str]] = {split: set() for split in SPLITS}
        self._faces: Counter[str] = Counter()
        self._overhangs: dict[str, list[Overhang]] = {split: [] for split in SPLITS}
        self._owed: dict[str, list[Overhang]] = {split: [] for split in SPLITS}

    def pack(self, folder: Path, info: dict[str, Any]) -> Counts:
        """Write all files, with `info` in `set.json`, and count."""
        options = self._options
        with SetWriter(folder, LAYOUT) as writer:
            self._add_faces(writer)
            if options.negatives != 0:
                self._add_negatives(writer)
            counts = {
                split: {
                    "photos": len(self._used[split]),
                    "faces": self._faces[split],
                    "negatives": len(self._lists[split]) - self._faces[split],
                }
                for split in SPLITS
            }
            for split, lines in self._lists.items():
                write_text(folder / f"{split}.txt", "".join(f"{line}\n" for line in lines))
            settings = {
                "size": options.size,
                "context": options.context,
                "negatives": options.negatives,
                "rule": options.rule.to_dict(),
            }
            record = self._record(counts, list(self._read.digests), settings)
            writer.finish({**record, **info, "keypoints": self._read.labels.scheme.to_dict()})
        return counts

    def _add(
        self, writer: SetWriter, number: int, photo: str, image: Image, box: Box, keypoints: NDArray[np.float64] | None
    ) -> None:
        """Write a face, or without keypoints a negative."""
        split = self._splits[photo]
        region, origin, factor = face_region(image, box, self._options)
        writer.add(
            region,
            split,
            boxes=box,
            keypoints=self._no_points if keypoints is None else keypoints,
            face=keypoints is not None,
            photo=number,
            origin=origin,
            factor=factor,
        )
        widened = widen_box(box, self._options.rule.widen)
        relative = np.empty(0) if keypoints is None else keypoints - widened[:2]
        self._lists[split].append(f"{format_row(photo, widened, relative)} {int(keypoints is not None)}")
        self._used[split].add(photo)

    def _add_faces(self, writer: SetWriter) -> None:
        """Write all faces that can be used; name what cannot in `problems`."""
        for number, photo, _ in self._each_photo():
            rows = self._read.by_photo[photo]
            image = self._open(photo, rows) if rows else None
            if image is not None:
                split, (height, width) = self._splits[photo], image.shape[:2]
                rows, outside = usable_rows(rows, width, height)
                self.problems += outside
                for row in rows:
                    self._add(writer, number, photo, image, row.box, row.keypoints)
                    self._overhangs[split].append(overhang(row.box, self._options.rule, width, height))
                self._faces[split] += len(rows)

    def _add_negatives(self, writer: SetWriter) -> None:
        """Write the negatives of all photos whose faces are all known; a copy of a photo gives none."""
        options, digests = self._options, self._read.digests
        every = [drawn for overhangs in self._overhangs.values() for drawn in overhangs]
        broken = {digests.get(problem.photo) for problem in self.problems}
        broken |= {digests.get(photo) for photo in self._read.labels.crowds}
        faces: dict[str, list[Box]] = {}
        ignored: dict[str, list[Box]] = {}
        for photo, digest in digests.items():  # what one copy of a photo shows, the others show too
            faces.setdefault(digest, []).extend(row.box for row in self._read.by_photo[photo])
            ignored.setdefault(digest, []).extend(self._read.ignored.get(photo, ()))
        for number, photo, digest in self._each_photo():
            if digest in broken or digest not in faces:
                continue
            boxes = faces.pop(digest)
            image = self._open(photo, [])
            if image is None:
                continue
            negatives = choose_negatives(
                np.random.default_rng((options.seed, int(digest, 16))),
                (image.shape[1], image.shape[0]),
                boxes,
                ignored[digest],
                self._overhangs[self._splits[photo]] or every,
                self._owed[self._splits[photo]],
                options.negatives or (NEGATIVES if boxes else NEGATIVES_BACKGROUND),
                options.rule,
            )
            for box in negatives:
                self._add(writer, number, photo, image, box, None)
