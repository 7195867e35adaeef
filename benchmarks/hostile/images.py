"""Images of every format."""

import itertools
import random
from pathlib import Path

import cv2
import numpy as np
from media import mutate
from PIL import Image

from kpedge.core.errors import KpedgeError
from kpedge.core.images import SUFFIXES, read_frames, read_image
from kpedge.core.model_zoo import sample_photo
from kpedge.data.photos import parse_head


def make(folder: Path) -> None:
    """A small photo in every format that is read, and in less usual forms of it."""
    small = cv2.resize(read_image(sample_photo()), (64, 48))
    for suffix in sorted(SUFFIXES - {".jfif"}):
        cv2.imwrite(str(folder / f"plain{suffix}"), small[..., 0] if suffix == ".pgm" else small)
    cv2.imwrite(str(folder / "alpha.png"), np.dstack([small, small[..., :1]]))
    cv2.imwrite(str(folder / "deep.png"), small.astype(np.uint16) * 16)
    cv2.imwrite(str(folder / "deep.tif"), small.astype(np.uint16) * 16)
    image = Image.fromarray(small[..., ::-1])
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "turned.jpg", exif=exif, progressive=True)
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.convert("P").save(folder / "palette.png")
    more = [image.rotate(90), image.rotate(180)]
    for name in ("moving.gif", "moving.webp", "pages.tif", "moving.png"):
        image.save(folder / name, save_all=True, append_images=more)


def attempt(folder: Path, number: int, rng: random.Random) -> str:
    """Read a mutated image: its header by Pillow, then its pixels, or an error."""
    sound = sorted(path for path in folder.iterdir() if path.stem != "try")
    source = sound[number % len(sound)]
    data, path = mutate(source.read_bytes(), rng), folder / f"try{source.suffix}"
    path.write_bytes(data)
    ends = set()
    for read in (lambda: parse_head(data, str(path)), lambda: list(itertools.islice(read_frames(path), 20))):
        try:
            result = read()
        except KpedgeError:
            ends.add("named")
        else:
            for one in result if isinstance(result, list) else ():
                assert one.image.dtype == np.uint8
                assert one.image.ndim == 3
                assert one.image.size
    return "named" if ends else "read"
