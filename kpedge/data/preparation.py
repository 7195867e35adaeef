"""From photos and labels to a set that trains: crops for keypoint networks, or whole frames for the detector."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from kpedge.core.errors import DataError, OutputError, StaleSetError
from kpedge.core.files import atomic_folder, real_path, record_output
from kpedge.data.face_shape import Finding
from kpedge.data.formats import AUTO
from kpedge.data.frames import open_frames
from kpedge.data.labels import LabelProblem
from kpedge.data.pack_crops import PrepareOptions
from kpedge.data.pack_frames import FrameOptions
from kpedge.data.packed import open_set
from kpedge.data.packing import Counts, SetOptions
from kpedge.data.source import Progress, raise_first, read_source, terms_of
from kpedge.data.storage import is_set, read_set_info

__all__ = ["FrameOptions", "PrepareOptions", "PrepareReport", "prepare"]


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What `prepare` did."""

    path: Path  # the prepared set
    written: bool  # False if it existed already and still fits its source
    counts: Counts  # split -> {"photos": ..., "faces": ...}, of crops also "negatives"
    problems: tuple[LabelProblem, ...]  # rows and photos that were left out, each named
    remarks: tuple[str, ...] = ()  # notes on how the files were read
    findings: tuple[Finding, ...] = ()  # what is implausible about the labels


def prepare(
    source: str | Path,
    out: str | Path,
    options: SetOptions | None = None,
    *,
    test_list: str | Path | None = None,
    label_format: str = AUTO,
    only: Collection[str] = (),
    strict: bool = False,
    force: bool = False,
    trust: bool = False,
    progress: Progress | None = None,
) -> PrepareReport:
    """Make a set of a folder of labelled photos; do nothing if it exists and still fits.

    Args:
        source: folder of photos; its `test_images.txt`, if it has one, is the test split.
        out: folder to write; it appears whole or not at all.
        options: `PrepareOptions` for crops, the default, or `FrameOptions` for frames.
        test_list: another list of test photos, paths relative to `source`, one a line.
        label_format: a key of `kpedge.data.formats.FORMATS`, or "auto".
        only: names of the objects that are faces, in formats with names; all when empty.
        strict: fail on the first broken row or photo instead of leaving it out.
        force: replace a set that no longer fits.
        trust: use labels that are certainly wrong all the same.
        progress: called with (photos done, photos in all).

    Raises:
        DataError: the labels cannot be used, or are certainly wrong, or `strict` and something is wrong with one.
        StaleSetError: `out` is a set made from other data or settings, and `force` is off.
        OutputError: `out` is something else, or cannot be written.
    """
    source, out, test_list = Path(source), Path(out), Path(test_list) if test_list else None
    options = options or PrepareOptions()
    options = replace(options, name=options.name or real_path(source).name, terms=terms_of(source, options.terms))
    read = read_source(source, options.scheme, test_list, label_format, kept_test=bool(options.test), only=only)
    options = options.complete(read)
    digest = options.digest(read)
    if strict:
        raise_first(read.problems)
    remarks, findings = read.labels.remarks, tuple(read.findings)
    existing = _existing(out, options, digest, strict=strict, force=force)
    if existing is not None:
        return replace(existing, remarks=remarks, findings=findings)
    read.check(force=trust)
    packing = options.packing(read, progress)
    with atomic_folder(out) as folder:
        counts = packing.pack(folder, {"source_sha256": digest})
        if strict:
            raise_first(packing.problems)
        if not counts["train"]["photos"]:
            raise DataError(f"{source}: nothing is left to train on", "see what is wrong: kpedge data check")
        record_output(folder)
    return PrepareReport(out, True, counts, tuple(packing.problems), (*remarks, *packing.remarks), findings)


def _existing(out: Path, options: SetOptions, digest: str, *, strict: bool, force: bool) -> PrepareReport | None:
    """The report of a set in `out` that still fits; None if one may be written there.

    Raises:
        DataError: the set is damaged or left something out.
        StaleSetError: it was made from something else.
        OutputError: something else is there.
    """
    if not is_set(out, options.layout.kind):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise OutputError(f"{out} exists and is not a {options.layout.noun}", "choose another --out")
        return None
    try:
        if read_set_info(out, options.layout).get("source_sha256") == digest:
            info = (open_frames if isinstance(options, FrameOptions) else open_set)(out).info
            problems = tuple(LabelProblem(**problem) for problem in info["problems"])
            if strict:
                raise_first(problems)
            return PrepareReport(out, False, info["counts"], problems)
    except DataError:  # of another format, or damaged
        if not force:
            raise
        return None
    if not force:
        raise StaleSetError(
            f"{out} was prepared from other photos, labels or settings",
            "add --force to replace it, or choose another --out",
        )
    return None
