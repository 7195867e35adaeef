"""Hostile input by the hundred thousand, and trainings under kill -9: what `tests/test_robustness.py` shows in short.

    python benchmarks/robustness.py labels images sets models downloads kills --out benchmarks/results/robustness.json
    python benchmarks/robustness.py images --count 2000

Each part makes sound files, then attempts that must each end in a result or in an error of kpedge's own. Attempts run
in processes that may crash, hang or exhaust memory: each of these is a fault, named with its number, which repeats it:
`--first 1234 --count 1`.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import copy
import functools
import hashlib
import io
import itertools
import json
import math
import multiprocessing
import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from media import mutate  # noqa: E402

from kpedge.core.errors import DataError, KpedgeError, TrainingError  # noqa: E402
from kpedge.core.files import write_json  # noqa: E402
from kpedge.core.images import SUFFIXES, read_frames, read_image  # noqa: E402
from kpedge.core.machine import describe  # noqa: E402

MEMORY = 8 << 30
"""Bytes of address space for each process of attempts."""
MEMORY_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where files are: opening one on a disk can take longer than the attempt."""
PIXELS = "4000000"
"""Pixels of an image, at most: a mutated header may state any number, and decoding them takes the time."""
WORDS = (
    *("nan", "inf", "-1e400", "1e7", "", "0", "-0", "x", "null", "true", "[]", "{}", '"', ",", "\\", "\0", "\r"),
    *("1,5", "٣", "\ufeff", "\u2028", "../" * 9, "9" * 5000, "[" * 5000, "<!ENTITY a 'b'>", "&#0;", "-1", "1_0"),
)
VALUES = (
    *(None, True, -1, 0, 2**31, 2**63, 10**400, 0.5, math.nan, math.inf, -math.inf, "", "x", "\0", [], {}, [[]]),
    *({"": None}, [None], "../../x", "é" * 300),
)
"""Put in place of values of JSON documents."""


def mutate_text(data: bytes, rng: random.Random) -> bytes:
    """Bytes as `mutate` changes them, or words and numbers replaced."""
    if rng.random() < 0.4:
        return mutate(data, rng)
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(text) + 1)
        found = re.compile(r"[-\d.]+|\w+").search(text, at)
        start, stop = found.span() if found and rng.random() < 0.7 else (at, at)
        text = text[:start] + rng.choice(WORDS) + text[stop:]
    return text.encode("utf-8", "surrogateescape")


def mutate_document(document: Any, rng: random.Random) -> None:
    """Replace or remove values of a JSON document, in place."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = document
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
                place = place[key]
            elif rng.random() < 0.2:
                del place[key]
                break
            else:
                place[key] = copy.deepcopy(rng.choice(VALUES))
                break


def make_labels(folder: Path) -> None:
    """Labels of two faces in every format."""
    import test_formats_fuzz as fuzz

    fuzz.make_folders(folder)


def try_labels(folder: Path, number: int, rng: random.Random) -> str:
    """Read a mutated label file of each format in turn: finite boxes and points, or an error."""
    import test_formats_fuzz as fuzz

    name = fuzz.NAMES[number % len(fuzz.NAMES)]
    sound = next((folder / name).rglob("*.sound"), None)
    if sound is None:
        path = fuzz.FORMATS[name].find(folder / name)[0]
        sound = Path(shutil.copy(path, f"{path}.sound"))
    mutated = mutate_text(sound.read_bytes(), rng)
    labels = fuzz.same_or_told(folder / name, sound.with_suffix(""), name, mutated)
    return "named" if labels is None else "read"


def make_images(folder: Path) -> None:
    """A small photo in every format that is read, and in less usual forms of it."""
    from PIL import Image

    small = cv2.resize(read_image(next((ROOT / "data" / "sample").glob("*.jpg"))), (64, 48))
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


def try_images(folder: Path, number: int, rng: random.Random) -> str:
    """Read a mutated image: its header by Pillow, then its pixels, or an error."""
    from kpedge.data.photos import parse_head

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


def make_sets(folder: Path) -> None:
    """A prepared set of crops and one of frames."""
    from conftest import make_photos

    from kpedge.data.pack_frames import FrameOptions
    from kpedge.data.preparation import prepare

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


def try_sets(folder: Path, number: int, rng: random.Random) -> str:
    """Open a mutated set, and look at every row of it."""
    from kpedge.data.frames import open_frames
    from kpedge.data.packed import open_set

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


@dataclass
class Gadget:
    """What runs a call when it is unpickled by `pickle`."""

    call: Any
    arguments: tuple[Any, ...]

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.arguments


def _gadget(ran: Path, rng: random.Random) -> Gadget:
    code = f"open({str(ran)!r}, 'w').close()"
    return rng.choice(
        (
            Gadget(os.system, (f"touch {ran}",)),
            Gadget(eval, (code,)),
            Gadget(exec, (code,)),
            Gadget(subprocess.check_call, (["touch", str(ran)],)),
            Gadget(os.makedirs, (str(ran),)),
            Gadget(open, (str(ran), "w")),
            Gadget(getattr, (Gadget(__import__, ("os",)), "getpid")),
            Gadget(shutil.copy, (__file__, str(ran))),
        )
    )


def make_models(folder: Path) -> None:
    """A checkpoint, safetensors, a card and an ONNX file of a released model."""
    from kpedge.models.checkpoint import load_checkpoint, save_checkpoint

    for name in ("stage1.onnx", "stage1.safetensors", "detector.json"):
        shutil.copy(ROOT / "export" / name, folder)
    save_checkpoint(folder / "stage1.pt", load_checkpoint(folder / "stage1.safetensors"))
    (folder / "card.json").write_text(load_checkpoint(folder / "stage1.pt").card.to_json())


def try_models(folder: Path, number: int, rng: random.Random) -> str:
    """Load a mutated card or model file, or a file whose pickle would run code: it must not run."""
    import torch

    from kpedge.core.card import card_from_json
    from kpedge.models.checkpoint import load_checkpoint, load_weights
    from kpedge.runtime.sessions import OnnxModel

    ran = folder / "ran"
    kinds = ("card", "card", "card.json", "stage1.onnx", "stage1.safetensors", "stage1.pt", "gadget", "npz")
    kind = kinds[number % len(kinds)]
    try:
        if kind == "card":
            document = json.loads((folder / rng.choice(("card.json", "detector.json"))).read_bytes())
            mutate_document(document, rng)
            card_from_json(json.dumps(document))
        elif kind == "card.json":
            card_from_json(mutate_text((folder / kind).read_bytes(), rng).decode("utf-8", "replace"))
        elif kind == "gadget":
            content: dict[str, Any] = {
                "kpedge": 1,
                "card": "{}",
                "state": {},
                "config": {},
                "progress": {},
                "resume": {},
            }
            content[rng.choice(list(content))] = _gadget(ran, rng)
            buffer = io.BytesIO()
            if rng.random() < 0.3:
                pickle.dump(content, buffer, protocol=rng.randrange(2, 6))
            else:
                torch.save(content, buffer, _use_new_zipfile_serialization=rng.random() < 0.5)
            (folder / "try.pt").write_bytes(buffer.getvalue())
            (load_checkpoint if rng.random() < 0.5 else load_weights)(folder / "try.pt")
        elif kind == "npz":
            from kpedge.data.packed import LAYOUT
            from kpedge.data.storage import read_columns

            with zipfile.ZipFile(folder / LAYOUT.table, "w") as archive, archive.open("boxes.npy", "w") as stream:
                np.lib.format.write_array(stream, np.array([_gadget(ran, rng)], dtype=object), allow_pickle=True)
            read_columns(folder, LAYOUT)
        else:
            path = folder / f"try{Path(kind).suffix}"
            path.write_bytes(mutate((folder / kind).read_bytes(), rng))
            if kind == "stage1.onnx":
                OnnxModel(path)(np.zeros((1, 112, 112, 1), np.uint8))
            else:
                load_checkpoint(path).model()
    except KpedgeError:
        return "named"
    finally:
        if ran.exists():
            raise AssertionError(f"code ran: {kind}")
    assert kind not in ("gadget", "npz"), "code in a file is refused"
    return "read"


def make_downloads(folder: Path) -> None:
    """Nothing: the server holds what is downloaded."""


@functools.cache
def _web() -> Any:
    """A server that stays up for all attempts of a process."""
    import fake_web

    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(fake_web.serving_without_proxies())


def try_downloads(folder: Path, number: int, rng: random.Random) -> str:
    """Download from a server that lies, breaks off or changes its file between tries: the right file, or an error."""
    import fake_web as web
    from test_download import make_lies

    from kpedge.core.errors import ChecksumError, DownloadError
    from kpedge.data.catalogue import RemoteFile
    from kpedge.data.download import download

    right = bytes(range(256)) * 160  # two of the blocks that are read at once, and a half
    lies = make_lies(right)

    def lie() -> Any:
        data = rng.choice((right, right, right[::-1]))
        after = rng.randrange(len(data))
        length = rng.choice((0, -1, len(data) - 7, len(data) + 7, "many", 10**30, "1, 2", ""))
        code = rng.choice((200, 203, 204, 206, 226, 300, 302, 304, 307, 400, 404, 416, 429, 500, 503, 999))
        span = rng.choice((f"bytes {after}-/*", "bytes 0-1/2", "x", f"bytes 5-{len(data) - 1}/{len(data)}"))
        return rng.choice(
            (
                *(web.cut(data, after), web.reset(data, after), web.chunked(data, whole=rng.random() < 0.5)),
                *(web.raw(code, data[after:], Content_Range=span), web.raw(200, data, Content_Length=length)),
                *(web.good(data[: rng.randrange(len(data))]), rng.choice(lies[rng.choice(list(lies))])),
                web.raw(200, data, Content_Encoding=rng.choice(("gzip", "br", "deflate", "x"))),
            )
        )

    server = _web()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        steps = [*(lie() for _ in range(1 + number % 3)), *([web.good(right)] * rng.randrange(2))]
        checksum = f"sha256:{hashlib.sha256(right).hexdigest()}"
        file = RemoteFile(server.at(f"/{number}", *steps), "f", None, checksum)
        try:
            path = download(file, Path(name), tries=4, timeout=2)
        except (DownloadError, ChecksumError):
            assert not (Path(name) / "f").exists()
            return "named"
        finally:
            server.steps.clear()
            server.asked.clear()
        assert path.read_bytes() == right
    return "read"


FLAGS = (
    *("--epochs", "12", "--batch-size", "4", "--lr", "0.03", "--warmup", "0.1", "--roll", "10", "--shift", "0.05"),
    *("--threads", "1", "--mirror"),
)
KILLS_PER_RUN = 5


def _train(folder: Path, name: str) -> None:
    """Train, in a process that was forked: PyTorch is loaded already."""
    from kpedge.cli.main import main

    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    command = ["train", "stage1", "--data", str(folder / "crops"), *FLAGS, "--out", str(folder / name), "--resume"]
    os._exit(main(command))


def make_kills(folder: Path) -> None:
    """A prepared set, and a training that nobody kills."""
    import torch

    torch.set_num_threads(1)
    make_sets(folder)
    process = multiprocessing.get_context("fork").Process(target=_train, args=(folder, "whole"))
    process.start()
    process.join()
    assert process.exitcode == 0


def try_kills(folder: Path, number: int, rng: random.Random) -> str:
    """Kill a training and resume it; in the end its weights are those of the whole run, bit for bit."""
    import torch

    from kpedge.models.checkpoint import load_checkpoint

    def epochs() -> int:
        try:
            return len(load_checkpoint(folder / "cut" / "last.pt").progress["history"])
        except KpedgeError:
            return 0

    def start() -> Any:
        process = multiprocessing.get_context("fork").Process(target=_train, args=(folder, "cut"))
        process.start()
        return process

    step = number % KILLS_PER_RUN
    if step == 0:
        shutil.rmtree(folder / "cut", ignore_errors=True)
    process, before = start(), epochs()
    while process.is_alive() and epochs() < max(before, 2 * step + 1):
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.3))
    killed = process.is_alive()
    if killed:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    if step == KILLS_PER_RUN - 1:
        process = start()
        process.join()
        if process.exitcode:
            raise TrainingError("a training that was killed cannot be resumed")
        for name in ("last.pt", "best.pt"):
            one, other = (load_checkpoint(folder / run / name) for run in ("whole", "cut"))
            assert one.state.keys() == other.state.keys()
            assert all(torch.equal(one.state[key], other.state[key]) for key in one.state), f"{name} differs"
    return "killed" if killed else "ended before"


@dataclass(frozen=True)
class Part:
    """Sound files, attempts, how many of them, how many in a process, and seconds after which one hangs."""

    make: Callable[[Path], None]
    attempt: Callable[[Path, int, random.Random], str]
    count: int
    batch: int
    hang_s: int = 120  # this machine may be shared


PARTS = {
    "labels": Part(make_labels, try_labels, 100_000, 5000),
    "images": Part(make_images, try_images, 100_000, 5000),
    "sets": Part(make_sets, try_sets, 100_000, 5000),
    "models": Part(make_models, try_models, 100_000, 5000),
    "downloads": Part(make_downloads, try_downloads, 100_000, 5000),
    "kills": Part(make_kills, try_kills, 100, 100, hang_s=1200),
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
