"""From photos and labels to a prepared set (`kpedge.datasets.packed` has the format)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.boxes import POINTS
from kpedge.datasets.formats import AUTO
from kpedge.datasets.labels import LabelProblem, format_row, photo_problem, usable_rows
from kpedge.datasets.negatives import Overhang, choose_negatives, overhang
from kpedge.datasets.packed import FORMAT, SetWriter, is_prepared, open_set, read_info
from kpedge.datasets.photos import open_photo
from kpedge.datasets.source import Source, raise_first, read_source, source_of_crops
from kpedge.datasets.split import SPLITS, split_photos
from kpedge.errors import DataError, ImageError, OutputError, StaleSetError, UsageError
from kpedge.files import atomic_folder
from kpedge.geometry import (
    Box,
    CropRule,
    Image,
    crop_square,
    crop_transform,
    shrink_factor,
    shrunk_region,
    widen_box,
)
from kpedge.scheme import KeypointScheme

LABELLED = "labelled"
BOXES = (LABELLED, POINTS)
"""Around which boxes crops are cut: those of the labels, or those that follow from the points."""
Progress = Callable[[int, int], None]
"""Called with (photos done, photos in all)."""

NEGATIVES, NEGATIVES_FACELESS = 3, 8
"""Negatives taken of a photo with faces, and of one without, where `PrepareOptions.negatives` is None."""


NOT_STATED = "not stated"
"""Terms of photos of which nobody said any."""


def terms_of(source: Path, terms: str) -> str:
    """The terms of a folder's photos: those given, or for photos that kpedge rendered its own."""
    from kpedge.datasets.synthetic.write import FACELESS, RECORD, TERMS

    root = source.parent if source.name == FACELESS else source
    return TERMS if terms == NOT_STATED and (root / RECORD).is_file() else terms


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How a set is prepared; all of it goes into the set's hash.

    Attributes:
        scheme: keypoint scheme that is wanted; the set's own when None.
        seed: of the split.
        validation: fraction of the photos outside the test split that go to validation.
        test: fraction of the photos that go to test, where no test list is given and the set keeps none for testing;
            0 trains on those too that a set keeps.
        size: side of the crop, pixels, at whose resolution the regions are kept.
        rule: the crop rule at whose resolution the regions are kept.
        context: how far a region reaches beyond the box on each side, as a fraction of its longer side. 0.75 leaves
            room to turn a crop by 30 degrees and move it by a tenth, or to zoom out by a half; beyond it
            the region's edge is repeated.
        name: what the set is called in model cards; the folder's name when empty.
        terms: the terms of the photos, as model cards state them.
        negatives: crops without a face that are taken of each photo; when None, 3 of a photo with faces and 8 of one
            without.
        boxes: of `BOXES`; when empty, from the points where the set's boxes hold something else than ours.
        pointless: faces without any labelled point are faces, too: they teach the face score and no point. Else they
            are neither face nor background.
    """

    scheme: KeypointScheme | None = None
    seed: int = 0
    validation: float = 0.1
    test: float = 0.1
    size: int = 112
    rule: CropRule = field(default_factory=CropRule)
    context: float = 0.75
    name: str = ""
    terms: str = NOT_STATED
    negatives: int | None = None
    boxes: str = ""
    pointless: bool = False

    def __post_init__(self) -> None:
        if self.boxes and self.boxes not in BOXES:
            raise UsageError(
                f"--boxes must be one of {', '.join(BOXES)}, not {self.boxes!r}", "with --frames: face, head or points"
            )
        if self.negatives is not None and self.negatives < 0:
            raise UsageError(f"--negatives must be 0 or more, not {self.negatives}")
        if self.context < self.rule.widen:
            raise UsageError(f"--context {self.context:g} is less than the crop rule's {self.rule.widen:g}")


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What `prepare` did.

    Attributes:
        path: the prepared set.
        written: False when it was there already and still fits its source.
        counts: split -> {"photos": ..., "faces": ..., "negatives": ...}.
        problems: rows and photos that were left out, each named.
        remarks: what is to be known of how the files were read.
    """

    path: Path
    written: bool
    counts: dict[str, dict[str, int]]
    problems: tuple[LabelProblem, ...]
    remarks: tuple[str, ...] = ()


def face_region(photo: Image, box: Box, options: PrepareOptions) -> tuple[Image, tuple[int, int], int]:
    """The region of a photo that is kept for a box, its first cell (x, y), and by how much it is averaged down."""
    factor = shrink_factor(crop_transform(box, options.size, options.rule), photo)
    x, y, side = crop_square(box, CropRule(options.context, options.rule.border))
    centre = (np.array([x, y]) + 0.5) / factor
    reach = side / 2 / factor
    low, high = np.floor(centre - reach).astype(int), np.ceil(centre + reach).astype(int)
    region, origin = shrunk_region(photo, (low[0], low[1]), (high[0], high[1]), factor)
    return region, origin, factor


def prepare(
    source: Path,
    out: Path,
    options: PrepareOptions | None = None,
    *,
    test_list: Path | None = None,
    label_format: str = AUTO,
    only: Collection[str] = (),
    strict: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> PrepareReport:
    """Make a prepared set of a folder of labelled photos; do nothing when it is there and still fits.

    Args:
        source: folder of photos; its `test_images.txt`, where it has one, is the test split.
        out: folder to write; it appears whole or not at all.
        options: settings.
        test_list: another list of test photos, paths relative to `source`, one a line.
        label_format: a key of `kpedge.datasets.formats.FORMATS`, or "auto".
        only: names of the objects that are faces, in formats that name them; all when empty.
        strict: fail on the first broken row or photo instead of leaving it out.
        force: replace a set that no longer fits.
        progress: told how far the work is.

    Raises:
        DataError: the labels cannot be used, or `strict` and something is wrong with one.
        StaleSetError: `out` is a set made from other data or settings, and `force` is off.
        OutputError: `out` is something else, or cannot be written.
    """
    options = options or PrepareOptions()
    options = replace(options, name=options.name or source.resolve().name, terms=terms_of(source, options.terms))
    read = read_source(source, options.scheme, test_list, label_format, kept_test=bool(options.test), only=only)
    if read.labels.boxes_only:
        raise DataError(f"{source} labels boxes and no points", "it trains a detector: kpedge data prepare --frames")
    scheme = read.labels.scheme
    boxes = options.boxes or (POINTS if read.labels.convention == POINTS else LABELLED)
    options = replace(options, scheme=scheme, boxes=boxes)
    settings = {**asdict(options), "scheme": scheme.to_dict(), "rule": options.rule.to_dict()}
    if boxes == LABELLED:
        del settings["boxes"]  # as it was before there was a choice: sets prepared then still fit
    if not options.pointless:
        del settings["pointless"]  # likewise
    digest = read.sha256(FORMAT, settings)
    if strict:
        raise_first(read.problems)

    def known() -> dict[str, Any]:
        return open_set(out).info if read_info(out).get("source_sha256") == digest else {}

    earlier = still_fits(out, digest, known if is_prepared(out) else None, strict=strict, force=force)
    if earlier is not None:
        return replace(earlier, remarks=read.labels.remarks)

    splits = split_photos(
        read.digests, seed=options.seed, validation=options.validation, test=options.test, test_list=read.listed
    )
    with atomic_folder(out) as folder, SetWriter(folder) as writer:
        crops = source_of_crops(read, from_points=boxes == POINTS, pointless=options.pointless)
        packing = _Packing(crops, splits, options, writer, progress)
        packing.add_faces()
        packing.add_negatives()
        if strict:
            raise_first(packing.problems)
        counts = packing.finish(folder, digest)
    return PrepareReport(out, True, counts, tuple(packing.problems), read.labels.remarks)


def still_fits(
    out: Path, digest: str, known: Callable[[], dict[str, Any]] | None, *, strict: bool, force: bool
) -> PrepareReport | None:
    """What lies where a set is to be written: the report of one that fits, None where it may be written.

    Args:
        out: the folder.
        digest: hash of what the set is to be made from.
        known: gives the content of `set.json`; None where no set of the wanted kind lies there.
        strict: fail where that set left something out.
        force: a set that does not fit, or is damaged, may be replaced.

    Raises:
        DataError: the set is damaged or left something out.
        StaleSetError: it was made from something else.
        OutputError: something else lies there.
    """
    if known is None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise OutputError(f"{out} exists and is not a prepared set", "choose another --out")
        return None
    try:
        info = known()
    except DataError:  # of another format, or damaged
        if not force:
            raise
        return None
    if info.get("source_sha256") == digest:
        problems = tuple(LabelProblem(**problem) for problem in info["problems"])
        if strict:
            raise_first(problems)
        return PrepareReport(out, False, info["counts"], problems)
    if not force:
        raise StaleSetError(
            f"{out} was prepared from other photos, labels or settings",
            "add --force to replace it, or choose another --out",
        )
    return None


class _Packing:
    """Writes the samples of a set: the faces, then the negatives, whose overhangs follow those of the faces."""

    def __init__(
        self,
        read: Source,
        splits: dict[str, str],
        options: PrepareOptions,
        writer: SetWriter,
        progress: Progress | None,
    ) -> None:
        self.problems = list(read.problems)
        self._read, self._splits, self._options, self._writer, self._progress = read, splits, options, writer, progress
        self._photos = list(read.digests)
        self._nothing = np.full((len(read.labels.scheme), 2), np.nan)
        self._lists: dict[str, list[str]] = {split: [] for split in SPLITS}
        self._used: dict[str, set[str]] = {split: set() for split in SPLITS}
        self._faces: Counter[str] = Counter()
        self._overhangs: dict[str, list[Overhang]] = {split: [] for split in SPLITS}
        self._owed: dict[str, list[Overhang]] = {split: [] for split in SPLITS}
        self._done = 0

    def _step(self) -> None:
        self._done += 1
        if self._progress:
            self._progress(self._done, len(self._photos) * (1 if self._options.negatives == 0 else 2))

    def _add(self, number: int, image: Image, box: Box, keypoints: NDArray[np.float64] | None) -> None:
        """Write a face, or without keypoints a negative."""
        photo, rule = self._photos[number], self._options.rule
        split = self._splits[photo]
        region, origin, factor = face_region(image, box, self._options)
        self._writer.add(
            region,
            boxes=box,
            keypoints=self._nothing if keypoints is None else keypoints,
            face=keypoints is not None,
            split=SPLITS.index(split),
            photo=number,
            origin=origin,
            factor=factor,
        )
        widened = widen_box(box, rule.widen)
        relative = np.empty(0) if keypoints is None else keypoints - widened[:2]
        self._lists[split].append(f"{format_row(photo, widened, relative)} {int(keypoints is not None)}")
        self._used[split].add(photo)

    def add_faces(self) -> None:
        """Write all faces that can be used; name what cannot in `problems`."""
        for number, photo in enumerate(self._photos):
            rows = self._read.by_photo[photo]
            try:
                image = open_photo(self._read.labels, photo) if rows else None
            except ImageError as error:
                self.problems.append(photo_problem(self._read.labels.root, photo, rows, error))
                image = None
            if image is not None:
                rows, outside = usable_rows(rows, image)
                self.problems += outside
                split, (height, width) = self._splits[photo], image.shape[:2]
                for row in rows:
                    self._add(number, image, row.box, row.keypoints)
                    self._overhangs[split].append(overhang(row.box, self._options.rule, width, height))
                self._faces[split] += len(rows)
            self._step()

    def add_negatives(self) -> None:
        """Write the negatives of all photos whose faces are all known; a copy of a photo gives none."""
        options, digests = self._options, self._read.digests
        if options.negatives == 0:
            return
        every = [drawn for overhangs in self._overhangs.values() for drawn in overhangs]
        broken = {digests.get(problem.photo) for problem in self.problems}
        broken |= {digests.get(photo) for photo in self._read.labels.crowded}
        faces: dict[str, list[Box]] = {}
        unlabelled: dict[str, list[Box]] = {}
        for photo, digest in digests.items():  # what one copy of a photo shows, the others show too
            faces.setdefault(digest, []).extend(row.box for row in self._read.by_photo[photo])
            unlabelled.setdefault(digest, []).extend(self._read.unlabelled.get(photo, ()))
        for number, (photo, digest) in enumerate(digests.items()):
            if digest in broken or digest not in faces:
                self._step()
                continue
            boxes = faces.pop(digest)
            try:
                image = open_photo(self._read.labels, photo)
            except ImageError as error:
                self.problems.append(photo_problem(self._read.labels.root, photo, (), error))
            else:
                negatives = choose_negatives(
                    np.random.default_rng((options.seed, int(digest, 16))),
                    (image.shape[1], image.shape[0]),
                    boxes,
                    unlabelled[digest],
                    self._overhangs[self._splits[photo]] or every,
                    self._owed[self._splits[photo]],
                    options.negatives or (NEGATIVES if boxes else NEGATIVES_FACELESS),
                    options.rule,
                )
                for box in negatives:
                    self._add(number, image, box, None)
            self._step()

    def finish(self, folder: Path, digest: str) -> dict[str, dict[str, int]]:
        """Write the lists and the table, and count.

        Raises:
            DataError: there is nothing to train on.
        """
        read, options = self._read, self._options
        counts = {
            split: {
                "photos": len(self._used[split]),
                "faces": self._faces[split],
                "negatives": len(self._lists[split]) - self._faces[split],
            }
            for split in SPLITS
        }
        if not self._lists["train"]:
            raise DataError(f"{read.labels.root}: nothing is left to train on", "see what is wrong: kpedge data check")
        for split, lines in self._lists.items():
            (folder / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self._writer.finish(
            {
                "name": options.name,
                "terms": options.terms,
                "source_sha256": digest,
                "settings": {
                    "seed": options.seed,
                    "validation": options.validation,
                    "test": "given list" if read.listed is not None else options.test,
                    "size": options.size,
                    "context": options.context,
                    "negatives": options.negatives,
                    "boxes": options.boxes,
                    "rule": options.rule.to_dict(),
                },
                "counts": counts,
                "problems": [asdict(problem) for problem in self.problems],
                "keypoints": read.labels.scheme.to_dict(),
                "photos": self._photos,
            }
        )
        return counts
