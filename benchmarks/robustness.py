"""Hostile input by the hundred thousand, and trainings under kill -9: what `tests/test_robustness.py` shows in short.

    python benchmarks/robustness.py labels images sets models downloads kills --out benchmarks/results/robustness.json
    python benchmarks/robustness.py images --count 2000

Each part makes sound files, then attempts that must each end in a result or in an error of kpedge's own. Attempts run
in processes that may crash, hang or exhaust memory: each of these is a fault, named with its number, which repeats it:
`--first 1234 --count 1`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from hostile import downloads, images, kills, labels, models, sets  # noqa: E402

from kpedge.core.files import write_json  # noqa: E402
from kpedge.core.machine import describe  # noqa: E402

MEMORY = 8 << 30
"""Bytes of address space for each process of attempts."""
MEMORY_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where files are: opening one on a disk can take longer than the attempt."""
PIXELS = "4000000"
"""Pixels of an image, at most: a mutated header may state any number, and decoding them takes the time."""


@dataclass(frozen=True)
class Part:
    """Sound files, attempts, how many of them, how many in a process, and seconds after which one hangs."""

    make: Callable[[Path], None]
    attempt: Callable[[Path, int, random.Random], str]
    count: int
    batch: int
    hang_s: int = 120  # this machine may be shared


PARTS = {
    "labels": Part(labels.make, labels.attempt, 100_000, 5000),
    "images": Part(images.make, images.attempt, 100_000, 5000),
    "sets": Part(sets.make, sets.attempt, 100_000, 5000),
    "models": Part(models.make, models.attempt, 100_000, 5000),
    "downloads": Part(downloads.make, downloads.attempt, 100_000, 5000),
    "kills": Part(kills.make, kills.attempt, 100, 100, hang_s=1200),
}


ENDS = ("read", "named", "killed", "ended before")
"""How an attempt may end: with a result or an error of ours; or a training, by the signal or before it."""


def run_attempts(part: str, folder: Path, first: int, count: int) -> None:
    """In a child: print how each attempt ended."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for number in range(first, first + count):
        signal.alarm(PARTS[part].hang_s)
        try:
            end = PARTS[part].attempt(folder, number, random.Random(f"{part} {number}"))
        except Exception as error:  # noqa: BLE001 -- what is looked for
            place = traceback.extract_tb(error.__traceback__)[-1]
            end = (
                f"{type(error).__name__} at {number}: {str(error)[:100]!r} ({Path(place.filename).name}:{place.lineno})"
            )
        print(end, flush=True)


def attack(part: str, folder: Path, first: int, count: int) -> dict[str, Any]:
    """All attempts of a part, in processes; one that dies is a fault, and the next goes on behind it."""
    PARTS[part].make(folder)
    ends, faults, began, last = Counter[str](), [], time.monotonic(), first + count
    while first < last:
        size = min(PARTS[part].batch, last - first)
        command = [sys.executable, __file__, "--child", part, str(folder), str(first), str(size)]
        environment = os.environ | {"OPENCV_IO_MAX_IMAGE_PIXELS": PIXELS, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        lines = done.stdout.decode(errors="replace").splitlines()
        for line in lines:
            if line in ENDS:
                ends[line] += 1
            else:
                faults.append(line)
        first += len(lines)
        if done.returncode:
            faults.append(f"exit {done.returncode} at {first}: {done.stderr.decode(errors='replace')[-200:]!r}")
            first += 1
    return {"attempts": count, **ends, "faults": faults, "seconds": round(time.monotonic() - began)}


def main() -> None:
    """Run the parts, and write or extend the results."""
    if sys.argv[1:2] == ["--child"]:
        run_attempts(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=list(PARTS))
    parser.add_argument("--count", type=int, help="attempts of each part; by default as many as were recorded")
    parser.add_argument("--first", type=int, default=0, help="number of the first attempt")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    for part in options.parts:
        with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as name:
            counted = attack(part, Path(name), options.first, options.count or PARTS[part].count)
        print(part, json.dumps(counted, indent=1))
        results |= {"machine": describe(), f"{part} from {options.first}" if options.first else part: counted}
        if options.out:
            write_json(options.out, results)


if __name__ == "__main__":
    main()
