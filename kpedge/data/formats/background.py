"""`background`: photos that show no face, and no labels; never guessed."""

from pathlib import Path

from kpedge.core.errors import DataError
from kpedge.core.keypoints import FACES21
from kpedge.data.formats.format import FormatCapabilities, LabelFormat
from kpedge.data.formats.label import LABEL_FILE
from kpedge.data.formats.reader import LabelReader
from kpedge.data.labels import Labels, photos_below
from kpedge.data.rows import glob_any_case


def find(root: Path) -> list[Path]:
    """All photos in the folder and below."""
    return [root / photo for photo in photos_below(root)]


def read(reader: LabelReader) -> Labels:
    """All photos of a folder as photos without a face.

    Raises:
        DataError: there are labels among them.
    """
    labels = next(glob_any_case(reader.root, f"**/{LABEL_FILE}"), None)
    if labels is not None:
        raise DataError(f"{labels} labels faces", "leave out --format background, or give a folder without labels")
    reader.background = [reader.path_of(path) for path in reader.files]
    reader.files = []
    return reader.labels(FACES21)


FORMAT = LabelFormat(
    "background",
    "photos that show no face, and no labels; must be asked for",
    find,
    lambda _path: False,
    read,
    FormatCapabilities.BACKGROUND,
    auto=False,
)
