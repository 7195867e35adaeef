"""Training samples from a prepared set larger than memory, made by repeating the rows of a small one.

The pixels are a sparse file: of `--every` rows one has its pixels on disk, the others are holes, which the system reads
as zeros into the same page cache. Memory is filled as by a set of that size; the disk is read for one row of `--every`.

    python benchmarks/large_set.py PREPARED FOLDER [--rows 1000000] [--every 10] [--workers 2]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np

from kpedge.core.geometry import CropRule
from kpedge.core.machine import describe
from kpedge.data.mixture import Mixture
from kpedge.data.packed import open_set
from kpedge.data.sampling import CropSampler, Jitter
from kpedge.data.storage import PIXELS_FILE, SET_FILE


def write_large(small: Path, folder: Path, rows: int, every: int) -> None:
    """Repeat the rows of a prepared set, in their order."""
    source = open_set(small)
    folder.mkdir()
    shutil.copy(small / SET_FILE, folder)
    row = np.arange(rows) % len(source)
    with np.load(small / "faces.npz") as table:
        columns = {name: table[name][row] for name in table.files}
    sizes = columns["height"].astype(np.int64) * columns["width"] * 3
    columns["offset"] = np.cumsum(sizes) - sizes
    np.savez(folder / "faces.npz", **columns)
    with (folder / PIXELS_FILE).open("wb") as file:
        file.truncate(int(sizes.sum()))
        for index in range(0, rows, every):
            file.seek(int(columns["offset"][index]))
            file.write(source.region(int(row[index])).tobytes())


def memory() -> dict[str, int]:
    """Megabytes of this process: its own, and those of the page cache that it has mapped."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) // 1024 for name in ("RssAnon", "RssFile")}


def main() -> None:
    """Make the set where it is not there, draw an epoch from it, and print speed and memory on the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("prepared", "folder"):
        parser.add_argument(name, type=Path)
    for name, default in (("--rows", 1_000_000), ("--every", 10), ("--workers", 2)):
        parser.add_argument(name, type=int, default=default)
    arguments = parser.parse_args()
    if not arguments.folder.exists():
        write_large(arguments.prepared, arguments.folder, arguments.rows, arguments.every)
    pixels, total = (arguments.folder / PIXELS_FILE).stat(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    sizes = {"set": pixels.st_size, "set_on_disk": pixels.st_blocks * 512, "memory": total}
    print(json.dumps({"machine": describe(), "gb": {key: round(size / 1e9, 1) for key, size in sizes.items()}}))
    jitter = Jitter(mirror=True, roll=10, scale=0.1, shift=0.1)
    mixture = Mixture([CropSampler(open_set(arguments.folder), 112, "grey", CropRule(), jitter)], 2.0, 0.0, 0)
    print(json.dumps({"samples": 0, **memory()}))
    done, began, step = 0, time.perf_counter(), arguments.rows // 10
    for batch in mixture.batches(1, 128, workers=arguments.workers):
        done += len(batch)
        if done >= step:
            rate = round(done / (time.perf_counter() - began))
            print(json.dumps({"samples": done, "samples_a_second": rate, **memory()}), flush=True)
            step += arguments.rows // 10


if __name__ == "__main__":
    main()
