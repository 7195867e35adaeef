"""The script of docs/scaling.md on a local Ray: one of two workers is killed, then speed, next to `kpedge predict`.

    kpedge data synth --out photos --count 400 --frames
    pip install 'ray[data]' && python benchmarks/ray_workers.py photos

Killed: a worker gets SIGKILL after the first shard; afterwards each photo must be a row once, with the faces that
`kpedge predict` finds, and no shard that existed may have been written again, nor by a second run that makes two
deleted ones again. Speed: whole commands, in turn, on all photos and on every sixth: the difference is what the others
take. Processor time is that of all processes, Ray's own included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet

from kpedge.core.files import write_json
from kpedge.core.images import PHOTO_SUFFIXES
from kpedge.core.machine import describe

DOCS = Path(__file__).parents[1] / "docs" / "scaling.md"


def write_script(path: Path, size: int) -> Path:
    """The documented script, with shards of `size` photos."""
    code = re.search(r"```python\n(# label\.py.+?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert code
    path.write_text(code[1].replace("1000, 2", f"{size}, 2"), "utf-8")
    return path


def predict(photos: Path, *options: str) -> list[str]:
    """The command that prints the faces of a folder."""
    return [sys.executable, "-m", "kpedge", "predict", str(photos), "--json", *options]


def measure(command: list[str]) -> tuple[float, float]:
    """Wall-clock time and processor time of a command and all its processes, seconds."""
    begin, used = time.perf_counter(), {}
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            for one in (process, *process.children(recursive=True)):
                times = one.cpu_times()
                used[one.pid] = times.user + times.system
        time.sleep(0.1)
    assert process.returncode == 0
    return time.perf_counter() - begin, sum(used.values())


def rows_of(shards: Path) -> list[dict[str, Any]]:
    """The rows of all shards."""
    return [row for shard in sorted(shards.glob("*.parquet")) for row in pyarrow.parquet.read_table(shard).to_pylist()]


def written(out: Path) -> dict[str, int]:
    """When each shard was written."""
    return {shard.name: shard.stat().st_mtime_ns for shard in sorted(out.glob("*.parquet"))}


def kill_a_worker(script: Path, photos: Path, out: Path) -> dict[str, Any]:
    """Run the script and kill a worker after the first shard; then delete two shards and run it again."""
    command = [sys.executable, str(script), str(photos), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (early := written(out)):
        assert process.poll() is None, "the script ended without a shard"
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    workers = [one for one in family if one.name().startswith("ray::") and "Shard" in one.name()]
    assert len(workers) == 2, [one.name() for one in family]
    workers[0].kill()
    assert process.wait() == 0
    first = written(out)
    assert early.items() <= first.items()
    lost = sorted(first)[:2]
    for name in lost:
        (out / name).unlink()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    second = written(out)
    assert sorted(second) == sorted(first)
    assert {name for name in first if first[name] != second[name]} == set(lost)
    return {"shards_when_killed": len(early), "shards": len(first)}


def compare(rows: list[dict[str, Any]], expected: list[dict[str, Any]], broken: Path) -> dict[str, int]:
    """Each photo is a row once, with the faces of `kpedge predict`; the broken one has its error."""
    by_path = {row["path"]: row for row in rows}
    assert len(by_path) == len(rows) == len(expected) + 1
    assert [name for name, row in by_path.items() if row["error"]] == [str(broken)]
    for line in expected:
        assert json.loads(by_path[line["image"]]["faces"]) == line["faces"]
    return {"photos": len(rows), "faces": sum(len(line["faces"]) for line in expected)}


def main() -> None:
    """Kill a worker, measure, and write `results/ray_workers.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        photos, few = root / "photos", root / "few"
        for path in (photos, few):
            path.mkdir()
        names = sorted(path for path in arguments.photos.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
        for number, path in enumerate(names):
            for folder in (photos, few) if number % 6 == 0 else (photos,):
                shutil.copy(path, folder / f"{number:05}.jpg")
        script = write_script(root / "label.py", len(names) // 8)
        print(f"{len(names)} photos", file=sys.stderr)

        lines = subprocess.run(predict(photos), stdout=subprocess.PIPE, check=True, text=True).stdout
        expected = [json.loads(line) for line in lines.splitlines()]
        (photos / "broken.jpg").write_bytes(b"broken")
        killed = kill_a_worker(script, photos, root / "killed")
        killed |= compare(rows_of(root / "killed"), expected, photos / "broken.jpg")
        (photos / "broken.jpg").unlink()
        print(killed, file=sys.stderr)

        commands: dict[str, Callable[[Path], list[str]]] = {
            "1 process": predict,
            "--workers 2": lambda source: predict(source, "--workers", "2"),
            "Ray, 2 workers": lambda source: [sys.executable, str(script), str(source), tempfile.mkdtemp(dir=root)],
        }
        seconds: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in commands}
        for _ in range(arguments.rounds):
            for name, command in commands.items():
                seconds[name].append([measure(command(source)) for source in (few, photos)])
                print(name, seconds[name][-1], file=sys.stderr)
    count = len(names) - len(names[::6])
    medians = {name: np.median(rounds, axis=0) for name, rounds in seconds.items()}
    speed = {
        name: {
            "all_s": round(whole[0], 1),
            "all_processor_s": round(whole[1], 1),
            "photos_per_s": round(count / (whole[0] - start[0]), 1),
            "processor_ms_per_photo": round(1000 * (whole[1] - start[1]) / count, 1),
        }
        for name, (start, whole) in medians.items()
    }
    import ray

    result = {"machine": describe(), "ray": ray.__version__, "killed": killed, "rounds": arguments.rounds} | speed
    write_json(Path(__file__).parent / "results" / "ray_workers.json", result)
    print(json.dumps({key: value for key, value in result.items() if key != "machine"}, indent=1))


if __name__ == "__main__":
    main()
