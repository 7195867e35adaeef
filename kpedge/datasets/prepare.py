"""From photos and labels to a prepared set (`kpedge.datasets.packed` has the format)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from kpedge.datasets.labels import (
    TEST_LIST,
    LabelProblem,
    LabelRow,
    Labels,
    format_row,
    photo_problem,
    read_labels,
    read_photo_list,
    usable_rows,
)
from kpedge.datasets.packed import FORMAT, SetWriter, is_prepared, open_set, read_info
from kpedge.datasets.split import SPLITS, split_photos
from kpedge.errors import DataError, ImageError, OutputError, StaleSetError, UsageError
from kpedge.files import atomic_folder, read_bytes
from kpedge.geometry import (
    CropRule,
    Image,
    crop_square,
    crop_transform,
    shrink_factor,
    shrunk_region,
    widen_box,
)
from kpedge.images import read_image
from kpedge.keypoints import FACES21, KeypointScheme

Progress = Callable[[int, int], None]
"""Called with (photos done, photos in all)."""


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How a set is prepared; all of it goes into the set's hash.

    Attributes:
        scheme: keypoint scheme of the label rows.
        seed: of the split.
        validation: fraction of the photos outside the test split that go to validation.
        test: fraction of the photos that go to test, where no test list is given.
        size: side of the crop, pixels, at whose resolution the regions are kept.
        rule: the crop rule at whose resolution the regions are kept.
        context: how far a region reaches beyond the box on each side, as a fraction of its longer side. 0.75 leaves
            room to turn a crop by 30 degrees and move it by a tenth, or to zoom out by a half; beyond it
            the region's edge is repeated.
        name: what the set is called in model cards; the folder's name when empty.
        terms: the terms of the photos, as model cards state them.
    """

    scheme: KeypointScheme = FACES21
    seed: int = 0
    validation: float = 0.1
    test: float = 0.1
    size: int = 112
    rule: CropRule = field(default_factory=CropRule)
    context: float = 0.75
    name: str = ""
    terms: str = "not stated"

    def __post_init__(self) -> None:
        if self.context < self.rule.widen:
            raise UsageError(f"--context {self.context:g} is less than the crop rule's {self.rule.widen:g}")


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What `prepare` did.

    Attributes:
        path: the prepared set.
        written: False when it was there already and still fits its source.
        counts: split -> {"photos": ..., "faces": ...}.
        problems: rows and photos that were left out, each named.
    """

    path: Path
    written: bool
    counts: dict[str, dict[str, int]]
    problems: tuple[LabelProblem, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """What a set is made from, read once: labels, hashes of the photos' content, the test list, what is wrong."""

    labels: Labels
    by_photo: dict[str, list[LabelRow]]
    digests: dict[str, str]
    listed: list[str] | None
    problems: list[LabelProblem]

    def sha256(self, options: PrepareOptions) -> str:
        rows = [(row.photo, row.box.tolist(), row.keypoints.tolist()) for row in self.labels.rows]
        broken = [str(problem) for problem in self.problems]
        settings = {**asdict(options), "scheme": options.scheme.to_dict(), "rule": options.rule.to_dict()}
        text = json.dumps([FORMAT, rows, broken, self.digests, self.listed, settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _read_source(source: Path, options: PrepareOptions, test_list: Path | None) -> _Source:
    labels = read_labels(source, options.scheme)
    by_photo = labels.by_photo()
    problems = list(labels.problems)
    digests: dict[str, str] = {}
    for photo, rows in by_photo.items():
        try:
            digests[photo] = hashlib.sha256(read_bytes(labels.root / photo, ImageError, "no such photo")).hexdigest()
        except ImageError as error:
            problems.append(photo_problem(labels.root, photo, rows, error))
    list_file = test_list or labels.root / TEST_LIST
    listed: list[str] | None = None
    if test_list or list_file.is_file():
        listed, unlabelled = read_photo_list(list_file, labels)
        listed = [photo for photo in listed if photo in digests]  # a missing photo is a named problem already
        problems += unlabelled
    return _Source(labels, by_photo, digests, listed, problems)


def face_region(photo: Image, row: LabelRow, options: PrepareOptions) -> tuple[Image, tuple[int, int], int]:
    """The region of a photo that is kept for a face, its first cell (x, y), and by how much it is averaged down."""
    factor = shrink_factor(crop_transform(row.box, options.size, options.rule), photo)
    x, y, side = crop_square(row.box, CropRule(options.context, options.rule.border))
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
    strict: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> PrepareReport:
    """Make a prepared set of a folder of labelled photos; do nothing when it is there and still fits.

    Args:
        source: folder with `label.txt` files; its `test_images.txt`, where it has one, is the test split.
        out: folder to write; it appears whole or not at all.
        options: settings.
        test_list: another list of test photos, paths relative to `source`, one a line.
        strict: fail on the first broken row or photo instead of leaving it out.
        force: replace a set that no longer fits.
        progress: told how far the work is.

    Raises:
        DataError: the labels cannot be used, or `strict` and something is wrong with one.
        StaleSetError: `out` is a set made from other data or settings, and `force` is off.
        OutputError: `out` is something else, or cannot be written.
    """
    options = options or PrepareOptions()
    options = replace(options, name=options.name or source.resolve().name)
    read = _read_source(source, options, test_list)
    digest = read.sha256(options)
    if strict:
        _raise_first(read.problems)
    if is_prepared(out):
        if read_info(out).get("source_sha256") == digest:
            info = open_set(out).info
            problems = tuple(LabelProblem(**problem) for problem in info["problems"])
            if strict:
                _raise_first(problems)
            return PrepareReport(out, False, info["counts"], problems)
        if not force:
            raise StaleSetError(
                f"{out} was prepared from other photos, labels or settings",
                "add --force to replace it, or choose another --out",
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists and is not a prepared set", "choose another --out")

    splits = split_photos(
        read.digests, seed=options.seed, validation=options.validation, test=options.test, test_list=read.listed
    )
    with atomic_folder(out) as folder:
        counts, problems = _write_set(folder, read, splits, options, digest, strict, progress)
    return PrepareReport(out, True, counts, problems)


def _raise_first(problems: Sequence[LabelProblem]) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}", "list them with: kpedge data check; leave --strict to skip them")


def _write_set(
    folder: Path,
    read: _Source,
    splits: dict[str, str],
    options: PrepareOptions,
    digest: str,
    strict: bool,
    progress: Progress | None,
) -> tuple[dict[str, dict[str, int]], tuple[LabelProblem, ...]]:
    problems = list(read.problems)
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    used: dict[str, set[str]] = {split: set() for split in SPLITS}
    photos = list(read.digests)
    with SetWriter(folder) as writer:
        for number, photo in enumerate(photos):
            rows, split = read.by_photo[photo], splits[photo]
            try:
                image = read_image(read.labels.root / photo, stored=True)
            except ImageError as error:
                problems.append(photo_problem(read.labels.root, photo, rows, error))
                continue
            rows, outside = usable_rows(rows, image)
            problems += outside
            for row in rows:
                region, origin, factor = face_region(image, row, options)
                writer.add(
                    region,
                    boxes=row.box,
                    keypoints=row.keypoints,
                    split=SPLITS.index(split),
                    photo=number,
                    origin=origin,
                    factor=factor,
                )
                box = widen_box(row.box, options.rule.widen)
                lists[split].append(format_row(photo, box, row.keypoints - box[:2]))
                used[split].add(photo)
            if progress:
                progress(number + 1, len(photos))
        if strict:
            _raise_first(problems)
        counts = {split: {"photos": len(used[split]), "faces": len(lists[split])} for split in SPLITS}
        if not counts["train"]["faces"]:
            raise DataError(f"{read.labels.root}: no face is left to train on", "see what is wrong: kpedge data check")
        for split, lines in lists.items():
            (folder / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        writer.finish(
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
                    "rule": options.rule.to_dict(),
                },
                "counts": counts,
                "problems": [asdict(problem) for problem in problems],
                "keypoints": options.scheme.to_dict(),
                "photos": photos,
            }
        )
    return counts, tuple(problems)
