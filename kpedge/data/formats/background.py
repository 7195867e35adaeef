"""`background`: photos that show no face, and no labels; never guessed."""

from __future__ import annotations

from pathlib import Path

from kpedge.core.errors import DataError
from kpedge.core.keypoints import FACES21
from kpedge.core.scheme import KeypointScheme
from kpedge.data.labels import LABEL_FILE, Labels, photos_below

HOLDS = "photos that show no face, and no labels; it has to be asked for"


def looks_like(_root: Path) -> bool:
    """Photos without labels are never guessed to show no face."""
    return False


def read(root: Path, scheme: KeypointScheme | None = None) -> Labels:
    """All photos of a folder as photos that show no face.

    Raises:
        DataError: no such folder, no photo in it, or labels beside them.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    labels = next(root.rglob(LABEL_FILE), None)
    if labels is not None:
        raise DataError(f"{labels} labels faces", "leave --format background, or give a folder without labels")
    photos = photos_below(root)
    if not photos:
        raise DataError(f"{root}: no photo in this folder or below it")
    return Labels(root, scheme or FACES21, (), (), (), background=tuple(photos), format="background")
