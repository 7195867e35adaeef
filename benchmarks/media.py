"""Videos under attack, recordings under kill -9, and 100,000 frames: what `tests/test_video.py` and
`tests/test_record.py` show in short.

    python benchmarks/media.py --mutations 100000 --kills 100 --frames 100000 --out benchmarks/results/media.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from kpedge.core.errors import KpedgeError
from kpedge.core.keypoints import FACES21
from kpedge.core.machine import describe
from kpedge.runtime.overlay import Layers
from kpedge.runtime.sinks.record import Recorder
from kpedge.runtime.sinks.sink import LiveFrame
from kpedge.runtime.sinks.writers import FORMATS
from kpedge.runtime.sources import opencv, pyav
from kpedge.runtime.sources.open import open_source
from kpedge.runtime.sources.source import Frame

RATE = 25
SIZE = (160, 120)
BATCH = 200
"""Mutations per process: a crash of a decoder costs one batch, and is counted."""
MOST_FRAMES = 500
"""A mutated header may declare any number of frames."""


def frames(count: int, size: tuple[int, int] = SIZE):
    """Noise that moves, so that frames differ and take space."""
    image = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    for number in range(count):
        moved = np.roll(image, number, axis=1)
        yield LiveFrame("made", Frame(moved, number, number / RATE), (), FACES21, {}, RATE, Layers(False, False, False))


def record(path: Path, count: int, size: tuple[int, int] = SIZE) -> None:
    """Record a video."""
    recorder = Recorder(path, RATE, live=False)
    for frame in frames(count, size):
        recorder.show(frame)
    recorder.close()


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Flip some bytes, or cut or repeat a part; half of the changes are in the headers."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        end = len(changed) if rng.random() < 0.5 else min(len(changed), 2048)
        changed[rng.randrange(end)] = rng.choice((0, 255, rng.randrange(256)))
    kind, place = rng.random(), rng.randrange(len(changed))
    if kind < 0.2:
        del changed[place:]
    elif kind < 0.3:
        del changed[place : place + rng.randrange(1, 4096)]
    elif kind < 0.4:
        changed[place:place] = changed[place : place + rng.randrange(1, 4096)]
    return bytes(changed)


def read_mutations(folder: Path, first: int, count: int) -> None:
    """Read some mutations, and print how each ended; an exception that is not kpedge's own is a fault."""
    made = sorted(folder.glob("made.*"))
    for number in range(first, first + count):
        rng = random.Random(number)
        source = made[number % len(made)]
        path = folder / f"{first}{source.suffix}"
        path.write_bytes(mutate(source.read_bytes(), rng))
        try:
            with closing(open_source(str(path))) as opened:
                for _ in itertools.islice(opened, MOST_FRAMES):
                    pass
            end = "read"
        except KpedgeError:
            end = "named"
        except Exception as error:  # noqa: BLE001 -- what is looked for
            end = f"{type(error).__name__} at {number}"
        print(end, flush=True)


def attack(folder: Path, count: int) -> dict[str, object]:
    """Mutations of a video of each kind, in processes."""
    for suffix in FORMATS:
        record(folder / f"made{suffix}", 12)
    ends: dict[str, int] = {}
    faults: list[str] = []
    for first in range(0, count, BATCH):
        command = [sys.executable, __file__, "--child", "read", str(folder), str(first), str(min(BATCH, count - first))]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        except subprocess.TimeoutExpired:
            faults.append(f"hangs in the batch from {first}")
            continue
        for end in done.stdout.split("\n")[:-1]:
            if end in ("read", "named"):
                ends[end] = ends.get(end, 0) + 1
            else:
                faults.append(end)
        if done.returncode:
            faults.append(f"exit {done.returncode} at {first + done.stdout.count(chr(10))}")
    return {"mutations": count, **ends, "faults": faults}


def kill_recordings(folder: Path, count: int) -> dict[str, object]:
    """Recordings that are killed at any time: how much of what was shown before plays."""
    lost, unplayable = [], 0
    for number in range(count):
        suffix = (".mp4", ".mkv")[number % 2]
        path = folder / f"killed-{number}{suffix}"
        command = [sys.executable, __file__, "--child", "record", str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.Random(number).uniform(2.5, 5))
        process.send_signal(signal.SIGKILL)
        shown = [line for line in process.stdout.read().split("\n") if line.isdecimal()]
        process.wait()
        part = path.with_name(f"{path.stem}.part{suffix}")
        found = 0
        try:
            with closing(open_source(str(part))) as source:
                found = sum(1 for _ in source)
        except KpedgeError:
            unplayable += not found
        lost.append((int(shown[-1]) + 1 - found) / RATE)
        part.unlink(missing_ok=True)
    return {"kills": count, "unplayable": unplayable, "lost_s_median": float(np.median(lost)), "lost_s_most": max(lost)}


def endure(folder: Path, count: int) -> dict[str, object]:
    """Record a long video and read it to its end."""
    path = folder / "long.mp4"
    began = time.monotonic()
    record(path, count)
    recorded_s, began, read, memory = time.monotonic() - began, time.monotonic(), 0, []
    with closing(open_source(str(path))) as source:
        for frame in source:
            read += 1
            if read % (count // 10) == 0:
                memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20)
            assert abs(frame.time_s - frame.number / RATE) < 0.01
        threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    return {
        "frames": count,
        "read": read,
        "record_fps": round(count / recorded_s),
        "read_fps": round(count / (time.monotonic() - began)),
        "memory_mib": memory,
        "threads": threads,
        "descriptors": descriptors,
    }


def compare_readers(folder: Path, rounds: int = 5) -> dict[str, object]:
    """Milliseconds of processor time per frame of both readers, in turns; the best of some rounds."""
    result: dict[str, object] = {}
    for suffix in FORMATS:
        path = folder / f"speed{suffix}"
        record(path, 100, (640, 480))
        best = {"pyav": float("inf"), "opencv": float("inf")}
        for _ in range(rounds):
            for name in best:
                by_pyav = name == "pyav"
                reader = pyav.open_file(path, "a", None, print) if by_pyav else opencv.open_file(path, "a")
                began, count = time.process_time(), 0
                while reader.grab():
                    reader.image()
                    count += 1
                best[name] = min(best[name], 1000 * (time.process_time() - began) / count)
                reader.close()
        result[suffix] = {name: round(value, 3) for name, value in best.items()}
    return result


def main() -> None:
    """Run all parts, and write the results."""
    if sys.argv[1:2] == ["--child"]:
        if sys.argv[2] == "read":
            read_mutations(Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
            return
        recorder = Recorder(Path(sys.argv[3]), RATE, live=True)
        began = time.monotonic()
        for frame in frames(10**6):
            time.sleep(max(0.0, began + frame.frame.time_s - time.monotonic()))
            recorder.show(frame)
            print(frame.frame.number, flush=True)
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = {
            "machine": describe(),
            "readers_ms_per_frame_640x480": compare_readers(folder),
            "long": endure(folder, options.frames),
            "killed": kill_recordings(folder, options.kills),
            "mutated": attack(folder, options.mutations),
        }
    print(json.dumps(results, indent=1))
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
