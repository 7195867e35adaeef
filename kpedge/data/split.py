"""Splitting by photo: all faces of one photo, and every copy of that photo, fall on the same side."""

import hashlib
from collections.abc import Iterable, Mapping

from kpedge.core.errors import DataError, UsageError

SPLITS = ("train", "validation", "test")


def split_photos(
    content: Mapping[str, str], *, seed: int, validation: float, test: float, test_list: Iterable[str] | None = None
) -> dict[str, str]:
    """Assign every photo, by a hash of its content, to one of `SPLITS`; `validation` is a fraction of the photos
    outside the test split, and `test` is not used when there is a `test_list`, whose copies under other names go
    there too.

    Photos are ranked by a hash of the seed and their content, so the split is a function of the seed and the photos
    alone: it does not depend on their order or names, and copies of a photo stay together. Where a fraction is not 0,
    its split gets a photo at least, as long as one is left to train on.

    Raises:
        UsageError: a fraction is out of range.
        DataError: no photo is left to train on.
    """
    if not (0 <= validation < 1 and 0 <= test < 1):
        raise UsageError(f"the fractions of validation ({validation}) and test ({test}) must be from 0 to below 1")

    def ranked(digests: Iterable[str]) -> list[str]:
        return sorted(set(digests), key=lambda digest: hashlib.sha256(f"{seed}:{digest}".encode()).digest())

    digests = ranked(content.values())
    if test_list is None:
        held_out = set(digests[: _share(test, len(digests))])
    else:
        held_out = {content[photo] for photo in test_list if photo in content}
    rest = [digest for digest in digests if digest not in held_out]
    chosen = set(rest[: _share(validation, len(rest))])

    def side(digest: str) -> str:
        return "test" if digest in held_out else "validation" if digest in chosen else "train"

    splits = {photo: side(digest) for photo, digest in content.items()}
    if "train" not in splits.values():
        raise DataError("no photo is left to train on", "give more photos, or a smaller test or validation split")
    return splits


def _share(fraction: float, count: int) -> int:
    """A fraction of a count, at least one where the fraction is not 0 and more than one is there."""
    return max(round(fraction * count), 1 if fraction > 0 and count > 1 else 0)
