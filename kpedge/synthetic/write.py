"""Writing synthetic photos as a data folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kpedge.core.errors import OutputError
from kpedge.core.files import (
    make_folder,
    output_error,
    real_path,
    record_output,
    refuse_existing,
    replace_folder,
    write_json,
    write_text,
)
from kpedge.core.text import check_whole
from kpedge.data.formats.label import LABEL_FILE, format_row
from kpedge.data.source import BACKGROUND_FOLDER, RECORD
from kpedge.synthetic.scene import render_photo

SYNTHETIC_FORM = 2  # version of what the renderer draws: another one draws other images from the same seed
JOURNAL = "journal.jsonl"  # file of an unfinished set: what is being made, then a line for each photo
QUALITIES = (40, 96)  # JPEG qualities, drawn for every photo
_BACKGROUND_FROM = 10**9  # numbers of photos without faces begin here, so that they share none with the others


@dataclass(frozen=True, slots=True)
class SyntheticReport:
    """What was written."""

    path: Path
    photos: int  # photos with labels, or with `frames` all frames
    faces: int  # labelled faces
    background: int  # photos without a face in the folder `background`
    boxes_px: tuple[float, float, float]  # least, median and largest side of the faces' boxes; zeros without faces


def write_synthetic(
    out: str | Path,
    count: int,
    *,
    seed: int = 0,
    frames: bool = False,
    background: int = 0,
    wild: bool = False,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SyntheticReport:
    """Write `count` synthetic photos and their `label.txt` into a folder, which appears when it is complete. An
    interrupted call leaves a hidden folder next to it, in which the next call with the same arguments continues.
    `frames` and `wild` are those of `render_photo`.

    Photo N is the same in every set with that seed, however many photos it has. The files are the same on every run;
    another version of OpenCV or NumPy, or another processor, may round pixels or compress them differently.

    Frames without any face have no row, and lie in the folder `background`, as do further photos without a face: a data
    set of its own, of the format background.

    Raises:
        UsageError: a count or a seed that is none.
        OutputError: the folder exists, and `force` is off, or cannot be written.
    """
    for name, value, least in (("--count", count, 1), ("--background", background, 0), ("--seed", seed, 0)):
        check_whole(name, value, least)
    out = Path(out)
    if out.exists() and not (out / RECORD).is_file():
        raise OutputError(
            f"{out} exists and is no synthetic set", "name another folder: --force replaces synthetic sets only"
        )
    refuse_existing(out, force=force)
    plan = {
        "synthetic": SYNTHETIC_FORM,
        "kind": "frames" if frames else "photos",
        "seed": seed,
        "count": count,
        "background": background,
        **({"wild": True} if wild else {}),
    }
    total = count + background
    folder = make_folder(real_path(out).with_name(f".{real_path(out).name}.partial"))
    try:
        done = _resume(folder, plan)
        with (folder / JOURNAL).open("a") as journal:
            for number in range(len(done), total):
                done.append(_write_photo(folder, number, seed=seed, count=count, frames=frames, wild=wild))
                journal.write(json.dumps(done[-1]) + "\n")
                journal.flush()
                if progress is not None:
                    progress(number + 1, total)
        (folder / JOURNAL).unlink()
    except OSError as error:
        raise output_error(folder, error) from error
    rows = [row for photo in done for row in photo["rows"]]
    sides = [side for photo in done for side in photo["sides"]]
    write_text(folder / LABEL_FILE, "".join(f"{row}\n" for row in rows))
    write_json(folder / RECORD, plan | {"faces": len(rows)})
    record_output(folder)
    replace_folder(folder, out)
    spread = np.percentile(sides, (0, 50, 100)).tolist() if sides else [0.0, 0.0, 0.0]
    empty = sum(not photo["rows"] for photo in done)
    return SyntheticReport(out, count, len(rows), empty, (spread[0], spread[1], spread[2]))


def _resume(folder: Path, plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The photos that an interrupted run of the same plan has written; the folder is emptied if it was another one."""
    try:
        lines = (folder / JOURNAL).read_text().splitlines(keepends=True)
    except FileNotFoundError:
        lines = []
    whole = [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be cut off
    if not whole or whole[0] != plan:
        shutil.rmtree(folder)
        make_folder(folder)
        whole = [plan]
    write_text(folder / JOURNAL, "".join(json.dumps(entry) + "\n" for entry in whole))
    return whole[1:]


def _write_photo(folder: Path, number: int, *, seed: int, count: int, frames: bool, wild: bool) -> dict[str, Any]:
    """Render and write a photo of the set; its label rows, and the sides of its boxes in pixels."""
    without = number >= count
    index = _BACKGROUND_FROM + number - count if without else number
    photo = render_photo(seed, index, frame=frames, background=without, wild=wild)
    name = f"{number - count if without else number:06}.jpg"
    if not photo.faces:
        name = f"{BACKGROUND_FOLDER}/{'' if without else 'frame'}{name}"
    path = folder / name
    rng = np.random.default_rng((seed, index, 1))
    quality = int(rng.integers(QUALITIES[0], QUALITIES[1] + 1))
    _, data = cv2.imencode(".jpg", photo.image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data.tobytes())
    return {
        "rows": [format_row(name, face.box, face.points) for face in photo.faces],
        "sides": [float(face.box[2] - face.box[0]) for face in photo.faces],
    }
