"""Generated data for all tests: synthetic faces with exact points, a prepared set, a short training, its exports."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import cv2
import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from kpedge.core import model_zoo
from kpedge.core.keypoints import FACES21
from kpedge.data.formats.label import format_row, parse_row
from kpedge.data.packed import PreparedSet, open_set
from kpedge.data.preparation import PrepareOptions, prepare
from kpedge.runtime import models
from kpedge.runtime.overlay import Layers
from kpedge.runtime.sessions import OnnxModel
from kpedge.runtime.sinks.sink import Controls
from kpedge.synthetic import SyntheticPhoto, render_photo

# A loaded machine is no reason to fail; `benchmarks/robustness.py` tries far more.
settings.register_profile("any machine", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

ROOT = Path(__file__).resolve().parent.parent
COUNT = 100
"""Photos of the fixture `photos`, and faces of `prepared`."""
SAMPLE = ROOT / "data" / "sample"
PHOTOS = ROOT.parent / "shared" / "data" / "faces21"
"""Where the real photos lie on a machine that has them; they are never part of the project."""


def load_script(path: Path) -> ModuleType:
    """A script outside the package as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def template() -> np.ndarray:
    """The sample's points (21, 2) as fractions of its box."""
    _, box, points = parse_row((SAMPLE / "label.txt").read_text(), FACES21)
    return (points - box[:2]) / (box[2:] - box[:2])


def _is_easy(photo: SyntheticPhoto, width: int) -> bool:
    """Whether a photo shows one face that looks ahead, of a middling size, and fits."""
    if len(photo.faces) != 1 or photo.image.shape[0] > 240 or photo.image.shape[1] > width:
        return False
    (face,) = photo.faces
    turned = max(abs(face.pose.yaw), abs(face.pose.pitch), abs(face.pose.roll))
    return turned < 20 and 40 <= face.box[2] - face.box[0] <= 100


@functools.cache
def rendered(number: int) -> SyntheticPhoto:
    """Photo `number` of synthetic photos of seed 0, rendered once for all processes of a test run."""
    if Shared.root is None:  # a script that is no test
        return render_photo(0, number)
    file = Shared.root / f"photo-{number}"
    if not file.exists():
        part = file.with_suffix(f".{os.getpid()}")
        part.write_bytes(pickle.dumps(render_photo(0, number)))
        part.replace(file)
    return pickle.loads(file.read_bytes())


def noise_photo(path: Path, seed: int = 0, size: tuple[int, int] = (160, 120)) -> None:
    """Write a picture of noise, of that width and height, and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), np.uint8)
    assert cv2.imwrite(str(path), pixels)


@functools.cache
def _photo_files(count: int, seed: int, faces: int) -> dict[str, bytes]:
    rng = np.random.default_rng(seed)
    width, rows, files, number = 320 // faces, [], {}, 20 * seed
    for index in range(count):
        image = np.full((240, 320, 3), rng.integers(40, 200, 3), np.uint8)
        for _ in range(40):
            start, stop = rng.integers(0, 320, 2), rng.integers(0, 320, 2)
            cv2.line(image, start.tolist(), stop.tolist(), rng.integers(0, 255, 3).tolist(), 3)
        for place in range(faces):
            while not _is_easy(photo := rendered(number), width):
                number += 1
            number += 1
            high, wide = photo.image.shape[:2]
            x, y = place * width + int(rng.integers(0, width - wide + 1)), int(rng.integers(0, 240 - high + 1))
            image[y : y + high, x : x + wide] = photo.image
            (face,) = photo.faces
            rows.append(
                format_row(f"{index:03}.png", face.box + np.array([x, y, x, y]), face.points + np.array([x, y]))
            )
        files[f"{index:03}.png"] = cv2.imencode(".png", image)[1].tobytes()
    return {**files, "label.txt": "".join(f"{row}\n" for row in rows).encode()}


def make_photos(folder: Path, count: int, seed: int = 0, faces: int = 1) -> Path:
    """Write `count` photos of 320x240 with synthetic faces that are easy to learn, and their label.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _photo_files(count, seed, faces).items():
        (folder / name).write_bytes(content)
    return folder


def names_in(folder: Path) -> list[str]:
    """The visible files and folders in a folder."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def turned_jpeg(data: bytes) -> bytes:
    """A JPEG with an EXIF orientation of 6: stored on its side, to be turned right by a quarter when shown."""
    header = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01"  # big-endian TIFF with one entry
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"  # orientation, a short, 6
    exif = b"Exif\x00\x00" + header + entry
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """All cores for the whole suite, none for a few files: starting workers would take longer than it saves."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return min(os.cpu_count() or 1, 8) if whole else 0


SLOW_FIXTURES = {"trained", "exported", "trained3", "exported3", "small_demo", "chromium"}
"""What takes more than a few seconds to make: tests that use one of these count as slow."""


HEAVY = (
    *("test_distributed.py", "test_robustness.py", "test_training.py", "test_detector_training.py", "test_demo.py"),
    *("test_stage3.py", "test_export_formats.py", "test_readme.py", "test_schemes.py", "test_options.py"),
    *("test_web.py", "test_cpp_example.py", "test_find_lr.py", "test_record.py", "test_bench.py"),
)
"""The files that take longest come first, so that no process works alone at the end. Neighbours share no training."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use slow fixtures, and those on real photos; order the files."""
    items.sort(key=lambda item: HEAVY.index(item.path.name) if item.path.name in HEAVY else len(HEAVY))
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())) or item.get_closest_marker("photos"):
            item.add_marker(pytest.mark.slow)


class Shared:
    """Folders that are made once, whichever of the parallel processes needs them first."""

    root: ClassVar[Path | None] = None

    def folder(self, name: str, make: Callable[[Path], None]) -> Path:
        """The folder of that name, made by `make` unless it is there."""
        out = self.root / name
        with FileLock(self.root / f"{name}.lock"):
            done = self.root / f"{name}.done"
            if not done.exists():
                make(out)
                done.touch()
        return out


@pytest.fixture(scope="session", autouse=True)
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Shared:
    """What the processes of one test run share."""
    base = tmp_path_factory.getbasetemp()
    Shared.root = (base if worker_id == "master" else base.parent) / "shared"
    Shared.root.mkdir(exist_ok=True)
    return Shared()


@pytest.fixture(scope="session", autouse=True)
def _released_models_opened_once() -> Iterator[None]:
    """Tests open the released models hundreds of times, with few settings; a session has no state."""
    folder, opened = model_zoo.models_folder(), functools.cache(OnnxModel)

    def open_once(path: Path, **settings: object) -> OnnxModel:
        return (opened if path.parent == folder else OnnxModel)(path, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "OnnxModel", open_once)
        yield


@pytest.fixture(scope="session")
def photos(shared: Shared) -> Path:
    """`COUNT` photos, one synthetic face each."""
    return shared.folder("photos", lambda out: make_photos(out, COUNT))


@pytest.fixture(scope="session")
def prepared(photos: Path, shared: Shared) -> PreparedSet:
    """The photos, prepared."""
    options = PrepareOptions(validation=0.15, test=0.15, terms="made by the tests")
    return open_set(shared.folder("set", lambda out: prepare(photos, out, options)))


EASY = {"epochs": 25, "batch_size": 8, "lr": 0.03, "warmup": 0.1, "threads": 1, "roll": 0.0, "scale": 0.0, "shift": 0.0}
"""Settings with which the plain network learns easy faces in seconds."""


@pytest.fixture(scope="session")
def trained(prepared: PreparedSet, shared: Shared) -> Path:
    """The folder of a short training."""
    from kpedge.training.config import TrainConfig
    from kpedge.training.loop import train

    return shared.folder("run-stage1", lambda out: train("stage1", prepared, out, TrainConfig(**EASY)))


@pytest.fixture(scope="session")
def exported(trained: Path, shared: Shared) -> Path:
    """A folder with the training's ONNX and TorchScript files and their card."""
    from kpedge.export.exporter import export_model

    return shared.folder("exported-stage1", lambda out: export_model(trained / "best.pt", out, ("onnx", "torchscript")))


@pytest.fixture
def card_of(exported: Path) -> dict:
    """The card beside the exported files."""
    return json.loads((exported / "stage1.json").read_text())


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch computes on one thread; afterwards, this and what a training asked of it are undone."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


LEAN = {"width": 0.5, "batch_size": 16, "threads": 1, "warmup": 0.05, "lr": 5e-3, "ema_decay": 0.9}
"""Settings with which a narrow stage 2 or 3 learns easy faces in seconds."""


@pytest.fixture(scope="session")
def trained3(prepared: PreparedSet, shared: Shared) -> Path:
    """The folder of a short training of stage 3."""
    from dataclasses import replace

    from kpedge.training.loop import train
    from kpedge.training.recipes import RECIPES

    config = replace(RECIPES["stage3"], **LEAN, epochs=30, negatives=2.0, face_weight=1.0)
    return shared.folder("run-stage3", lambda out: train("stage3", prepared, out, config))


@pytest.fixture(scope="session")
def exported3(trained3: Path, shared: Shared) -> Path:
    """A folder with its ONNX and TorchScript files and their card."""
    from kpedge.export.exporter import export_model

    return shared.folder(
        "exported-stage3", lambda out: export_model(trained3 / "best.pt", out, ("onnx", "torchscript"))
    )


@pytest.fixture
def said() -> list[str]:
    """What is printed, where `said.append` is given as `notify`."""
    return []


@pytest.fixture
def web() -> Iterator[object]:
    """A web server that does what a test asks for (`fake_web.Web`)."""
    from fake_web import serving_without_proxies

    with serving_without_proxies() as server:
        yield server


@pytest.fixture
def controls() -> Controls:
    """What people at the outputs have asked for: nothing."""
    return Controls(Layers(), 0.5)


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    """A browser. Not for the whole session: while it runs, so does an event loop."""
    from real_browser import launched

    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def small_demo(shared: Shared) -> tuple[Path, list[str]]:
    """The folder of a demo in small, and the lines that it printed."""
    from kpedge.demo.settings import DemoSettings
    from kpedge.demo.story import run_demo

    def make(out: Path) -> None:
        lines: list[str] = []
        settings = DemoSettings(photos=60, epochs=10, rounds=1, calls=2, seconds=1.2, seed=1)
        assert run_demo(out / "a demo", settings, say=lines.append) == out / "a demo" / "index.html"
        (out / "lines.json").write_text(json.dumps(lines))

    folder = shared.folder("demo", make)
    return folder / "a demo", json.loads((folder / "lines.json").read_text())
