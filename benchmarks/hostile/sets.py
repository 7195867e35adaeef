"""Prepared sets."""

import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
from conftest import make_photos
from media import mutate

from hostile.mutation import mutate_document
from kpedge.core.errors import DataError
from kpedge.data.frames import open_frames
from kpedge.data.pack_frames import FrameOptions
from kpedge.data.packed import open_set
from kpedge.data.preparation import prepare


def make(folder: Path) -> None:
    """A prepared set of crops and one of frames."""
    photos = make_photos(folder / "photos", 4, faces=2)
    for name, options in (("crops", None), ("frames", FrameOptions())):
        prepare(photos, folder / "sound" / name, options)
        shutil.copytree(folder / "sound" / name, folder / name)


def _mutate_table(path: Path, rng: random.Random) -> None:
    """Change a column of a table: values, length, type, shape, or its being there."""
    with np.load(path) as table:
        columns = dict(table)
    name = rng.choice(sorted(columns))
    column = columns[name].copy()
    extremes = [-1, 0, 1, 2**31 - 1, 255] + ([math.nan, math.inf, -1e300] if column.dtype.kind == "f" else [])

    def set_value() -> np.ndarray:
        column.reshape(-1)[rng.randrange(column.size)] = np.array(rng.choice(extremes)).astype(column.dtype)
        return column

    changed = rng.choice(
        (
            *(set_value, set_value, set_value, lambda: column[:-1], lambda: column[::-1], lambda: column[0]),
            *(lambda: column.astype("O"), lambda: column.astype("U8"), lambda: column.astype("f2"), lambda: None),
            *(lambda: np.concatenate([column, column]), lambda: column[..., None], lambda: column + column),
        )
    )()
    columns = {key: value for key, value in (columns | {name: changed}).items() if value is not None}
    np.savez(path, **columns)


def attempt(folder: Path, number: int, rng: random.Random) -> str:
    """Open a mutated set, and look at every row of it."""
    kind = ("crops", "frames")[number % 2]
    path, sound = folder / kind, folder / "sound" / kind
    name = rng.choice(("set.json", "faces.npz", "frames.npz", "pixels.bin"))
    name = name if (sound / name).exists() else next(sound.glob("*.npz")).name
    data, target = (sound / name).read_bytes(), path / name
    if rng.random() < 0.3 or name == "pixels.bin":
        target.write_bytes(mutate(data, rng))
    elif name == "set.json":
        document = json.loads(data)
        mutate_document(document, rng)
        target.write_text(json.dumps(document), encoding="utf-8")
    else:
        target.write_bytes(data)
        _mutate_table(target, rng)
    try:
        if kind == "crops":
            crops = open_set(path)
            for row in range(len(crops)):
                assert crops.region(row).size
                assert 0 <= crops.photo[row] < len(crops.photos), "another photo than its own"
                crops.photo_from_region(row)
        else:
            frames = open_frames(path)
            for row in range(len(frames)):
                assert frames.image(row).size
                assert np.isfinite(frames.boxes[frames.faces(row)]).all()
    except DataError:
        return "named"
    finally:
        shutil.copy(sound / name, target)
    return "read"
