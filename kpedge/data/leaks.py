"""Photos that leak from one split into another: the same file, the same pixels, or nearly the same image.

The perceptual hash is the usual pHash (C. Zauner, "Implementation and benchmarking of perceptual image hash functions",
2010): the signs of the 64 lowest frequencies of a 32-pixel grey thumbnail. Candidates by hash are confirmed by the
correlation of their thumbnails, since photos with large plain areas often share a hash.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.geometry import Image
from kpedge.core.text import format_count
from kpedge.data.face_shape import Finding
from kpedge.data.labels import LabelProblem, Labels

SIDE = 32  # side of a thumbnail, pixels
NEAR = 14  # bits of 64 in which the hashes of two near-duplicates differ, at most
BLOCK = 512  # photos that are compared with all others at a time
ALIKE = 0.93  # correlation of two thumbnails from which on they show the same
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Folder or start of a file's name -> the split that it stands for."""

Thumbnail = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two photos that show the same."""

    # photo, other: the photos; the same one where it is listed in two splits
    photo: str
    other: str
    splits: tuple[str, str]  # the split of each
    kind: str  # "same photo", "near-duplicate" or "mirrored near-duplicate"

    @property
    def leaks(self) -> bool:
        """Whether they are in different splits."""
        return self.splits[0] != self.splits[1]


def thumbnail(image: Image) -> Thumbnail:
    """A grey thumbnail, float32 (SIDE, SIDE), of mean 0 and length 1 (0 for a plain image)."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-6), dtype=np.float32)


def perceptual_hash(small: Thumbnail) -> NDArray[np.uint8]:
    """The pHash of a thumbnail, uint8 (8,): 64 bits."""
    low = cv2.dct(small)[:8, :8].ravel()
    return np.packbits(low > np.median(low[1:]))


def near_duplicates(thumbnails: Mapping[str, Thumbnail]) -> list[tuple[str, str, bool]]:
    """Pairs of photos that show nearly the same, and whether one is the mirror image of the other."""
    names = list(thumbnails)
    if len(names) < 2:
        return []
    pixels = np.array(list(thumbnails.values()))
    signs = _hash_signs(pixels)
    pairs = []
    for mirrored in (False, True):
        other_pixels = pixels[:, :, ::-1] if mirrored else pixels
        other_signs = _hash_signs(other_pixels) if mirrored else signs
        for start in range(0, len(names), BLOCK):
            near = signs[start : start + BLOCK] @ other_signs.T >= 64 - 2 * NEAR
            for row, other in zip(*np.nonzero(near), strict=True):
                index = start + row
                if other > index and float((pixels[index] * other_pixels[other]).sum()) >= ALIKE:
                    pairs.append((names[index], names[other], mirrored))
    return pairs


def _hash_signs(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The pHashes of thumbnails as -1 and 1, float32 (N, 64): their product is 64 less twice the bits that differ."""
    hashes = np.array([perceptual_hash(np.ascontiguousarray(small)) for small in pixels])
    return np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1


def group_copies(digests: Mapping[str, str], thumbnails: Mapping[str, Thumbnail]) -> dict[str, str]:
    """Photo -> the least content hash of the photos that show nearly the same, directly or by way of others."""
    least = {digest: digest for digest in digests.values()}

    def find(digest: str) -> str:
        while least[digest] != digest:
            digest = least[digest]
        return digest

    for photo, other, _ in near_duplicates(thumbnails):
        low, high = sorted((find(digests[photo]), find(digests[other])))
        least[high] = low
    return {photo: find(digest) for photo, digest in digests.items()}


def splits_of(labels: Labels, test: Sequence[str] | None = None) -> dict[str, tuple[str, ...]]:
    """The splits of each photo; more than one where lists of different splits name it, none where there are no splits.

    A photo is in the test split if `test`, or the set itself, lists it; otherwise the names of its label file and of
    its folders decide (`SPLITS`), and what they do not decide is for training.
    """
    listed = set(test if test is not None else labels.test or ())
    found: dict[str, set[str]] = {photo: {"test"} if photo in listed else set() for photo in labels.by_photo()}
    for row in labels.rows:
        named = _named_split(row.file) or _named_split(row.photo)
        if named and not (named == "test" and row.photo in listed):
            found[row.photo].add(named)
    if not any(found.values()):
        return dict.fromkeys(found, ())
    return {photo: tuple(sorted(splits)) or ("train",) for photo, splits in found.items()}


def _named_split(path: str) -> str:
    """The split that a folder of a path or the start of its name stands for."""
    parts = PurePosixPath(path.lower()).parts
    words = [*parts[:-1], parts[-1].split(".")[0].split("_")[0].split("-")[0]]
    return next((SPLITS[word] for word in words if word in SPLITS), "")


def find_pairs(thumbnails: Mapping[str, Thumbnail], splits: Mapping[str, tuple[str, ...]]) -> list[Pair]:
    """Photos that are listed in two splits, and pairs of near-duplicates."""
    pairs = [
        Pair(photo, photo, (one, other), "same photo")
        for photo, own in splits.items()
        for one, other in itertools.combinations(own, 2)
    ]
    for photo, other, mirrored in near_duplicates(thumbnails):
        first, second = (splits.get(name) or ("",) for name in (photo, other))
        apart = next(((a, b) for a in first for b in second if a != b), (first[0], second[0]))
        pairs.append(Pair(photo, other, apart, "mirrored near-duplicate" if mirrored else "near-duplicate"))
    return pairs


def report_pairs(
    pairs: Sequence[Pair], splits: Mapping[str, tuple[str, ...]]
) -> tuple[list[Finding], list[LabelProblem]]:
    """What pairs mean: a finding where photos leak into another split, and a remark for each pair."""
    remarks = [
        LabelProblem(
            "leak" if pair.leaks else "near-duplicate",
            pair.photo,
            f"{pair.kind}: {pair.splits[0]}, and {pair.splits[1]} ({pair.other})"
            if pair.leaks
            else f"{pair.kind} of {pair.other}",
        )
        for pair in pairs
    ]
    leaks = [pair for pair in pairs if pair.leaks]
    if not leaks:
        return [], remarks
    held_out = {photo for photo, own in splits.items() if set(own) - {"train"}}
    leaked = {photo for pair in leaks for photo in (pair.photo, pair.other)} & held_out
    kinds = ", ".join(
        f"{format_count(count, kind)}"
        for kind in ("same photo", "near-duplicate", "mirrored near-duplicate")
        if (count := sum(pair.kind == kind for pair in leaks))
    )
    first = leaks[0]
    example = f"{first.photo} and {first.other}" if first.photo != first.other else f"{first.photo}, in both lists"
    finding = Finding(
        "leak",
        f"{len(leaked):,} of {format_count(len(held_out), 'photo')} for validation and test are in another split, too "
        f"({kinds}): {example}",
        "figures on them say little about new photos: leave them out of one split (--json lists all)",
    )
    return [finding], remarks
