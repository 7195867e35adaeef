"""What a label format can hold when it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kpedge.core.scheme import KeypointScheme


@dataclass(frozen=True, slots=True)
class Target:
    """How a format is written.

    Attributes:
        write: writes the label files; takes the folder, `Labels` that hold nothing that the format cannot, photo ->
            place in the folder, and with `sizes` photo -> (width, height).
        place: where a photo lies, by its name and whether it tests.
        scheme: the points that it has; None for any.
        boxes: it has boxes of its own.
        points: it has points.
        gaps: a point may be missing.
        visible: it tells hidden points.
        several: a photo may have several faces.
        boxes_only: faces may be without points.
        unlabelled: it has faces that are neither face nor background.
        background: it has photos without a face.
        own_test: it tells the test split itself.
        sizes: it needs the size of every photo.
        stems: its files bear the names of the photos, without their endings.
        words: a photo's name stands between blanks.
    """

    write: Callable[..., None]
    place: Callable[[str, bool], str]
    scheme: KeypointScheme | None = None
    boxes: bool = False
    points: bool = True
    gaps: bool = False
    visible: bool = False
    several: bool = True
    boxes_only: bool = False
    unlabelled: bool = False
    background: bool = False
    own_test: bool = False
    sizes: bool = False
    stems: bool = False
    words: bool = False
