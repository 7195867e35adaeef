"""Label files of every format."""

import random
import shutil
from pathlib import Path

import test_formats_fuzz as fuzz

from hostile.mutation import mutate_text


def make(folder: Path) -> None:
    """Labels of two faces in every format."""
    fuzz.make_folders(folder)


def attempt(folder: Path, number: int, rng: random.Random) -> str:
    """Read a mutated label file of each format in turn: finite boxes and points, or an error."""
    name = fuzz.NAMES[number % len(fuzz.NAMES)]
    sound = next((folder / name).rglob("*.sound"), None)
    if sound is None:
        path = fuzz.FORMATS[name].find(folder / name)[0]
        sound = Path(shutil.copy(path, f"{path}.sound"))
    mutated = mutate_text(sound.read_bytes(), rng)
    labels = fuzz.same_or_told(folder / name, sound.with_suffix(""), name, mutated)
    return "named" if labels is None else "read"
