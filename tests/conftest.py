"""Generated data for all tests: drawn faces with exact points, a prepared set, a short training, its exports."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from kpedge.datasets.labels import format_row, parse_row
from kpedge.datasets.packed import PreparedSet, open_set
from kpedge.datasets.prepare import PrepareOptions, prepare
from kpedge.keypoints import FACES21

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data" / "sample"
PHOTOS = ROOT.parent / "shared" / "data" / "faces21"
"""Where the real photos lie on a machine that has them; they are never part of the project."""


def template() -> np.ndarray:
    """The sample's points (21, 2) as fractions of its box."""
    _, box, points = parse_row((SAMPLE / "label.txt").read_text(), FACES21)
    return (points - box[:2]) / (box[2:] - box[:2])


def draw_face(image: np.ndarray, points: np.ndarray, size: float, skin: tuple[int, int, int]) -> None:
    """Draw a plain face whose features lie at the points."""

    def at(point: np.ndarray) -> tuple[int, int]:
        return round(float(point[0]) * 16), round(float(point[1]) * 16)

    roll = float(np.degrees(FACES21.roll(points)))
    head, line = points[[16, 17, 14]].mean(axis=0), max(1, round(size / 30))
    axes = (round(size * 0.62 * 16), round(size * 0.8 * 16))
    cv2.ellipse(image, at(head), axes, roll, 0, 360, skin, -1, cv2.LINE_AA, 4)
    for brow in (points[0:3], points[3:6]):
        cv2.polylines(image, [np.array([at(p) for p in brow])], False, (30, 40, 60), line + 1, cv2.LINE_AA, 4)
    for outer, inner, pupil in ((6, 7, 16), (9, 8, 17)):
        width = float(np.linalg.norm(points[outer] - points[inner])) / 2
        white = (round(width * 16), round(width * 8))
        cv2.ellipse(
            image, at(points[[outer, inner]].mean(axis=0)), white, roll, 0, 360, (245, 245, 245), -1, cv2.LINE_AA, 4
        )
        cv2.circle(image, at(points[pupil]), round(width * 7), (20, 20, 20), -1, cv2.LINE_AA, 4)
    nose = np.array([at(points[i]) for i in (10, 11, 12, 18)])
    cv2.polylines(image, [nose], True, (60, 70, 110), line, cv2.LINE_AA, 4)
    cv2.fillPoly(image, [np.array([at(points[i]) for i in (19, 13, 20, 15)])], (70, 60, 190), cv2.LINE_AA, 4)


def make_photos(folder: Path, count: int, seed: int = 0, faces: int = 1) -> Path:
    """Write `count` photos with drawn faces and their label.txt."""
    rng = np.random.default_rng(seed)
    shape, rows = template(), []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = np.full((240, 320, 3), rng.integers(40, 200, 3), np.uint8)
        for _ in range(40):
            start, stop = rng.integers(0, 320, 2), rng.integers(0, 320, 2)
            cv2.line(image, start.tolist(), stop.tolist(), rng.integers(0, 255, 3).tolist(), 3)
        for face in range(faces):
            size = rng.uniform(50, 90)
            angle, centre = rng.uniform(-0.35, 0.35), rng.uniform(60, 180, 2) + np.array([110 * face, 0])
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            moved = shape + rng.normal(0, 0.012, shape.shape)
            points = (moved - 0.5) * (size * rng.uniform(0.85, 1.1), size) @ turn.T + centre
            skin = tuple(int(v) for v in rng.integers((110, 140, 170), (190, 210, 250)))
            draw_face(image, points, size, skin)
            middle, half = points.mean(axis=0) + rng.normal(0, 0.03 * size, 2), size * rng.uniform(0.48, 0.56)
            rows.append(format_row(f"{number:03}.png", np.concatenate([middle - half, middle + half]), points))
        cv2.imwrite(str(folder / f"{number:03}.png"), image)
    (folder / "label.txt").write_text("\n".join(rows) + "\n")
    return folder


def turned_jpeg(data: bytes) -> bytes:
    """A JPEG with an EXIF orientation of 6: stored on its side, to be turned right by a quarter when shown."""
    header = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01"  # big-endian TIFF with one entry
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"  # orientation, a short, 6
    exif = b"Exif\x00\x00" + header + entry
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 photos, one drawn face each."""
    return make_photos(tmp_path_factory.mktemp("drawn") / "photos", 60)


@pytest.fixture(scope="session")
def prepared(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    """The photos, prepared."""
    out = tmp_path_factory.mktemp("prepared") / "set"
    prepare(photos, out, PrepareOptions(validation=0.15, test=0.15, terms="drawn by the tests"))
    return open_set(out)


DRAWN = {"epochs": 25, "batch_size": 8, "lr": 0.03, "warmup": 20, "threads": 1, "roll": 0.0, "scale": 0.0, "shift": 0.0}
"""Settings with which the plain network learns drawn faces in seconds."""


@pytest.fixture(scope="session")
def trained(prepared: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short training."""
    from kpedge.training.config import TrainConfig
    from kpedge.training.loop import train

    out = tmp_path_factory.mktemp("runs") / "stage1"
    train("stage1", prepared, out, TrainConfig(**DRAWN))
    return out


@pytest.fixture(scope="session")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the training's ONNX and TorchScript files and their card."""
    from kpedge.export.gate import export_model

    out = tmp_path_factory.mktemp("exported")
    export_model(trained / "best.pt", out, ("onnx", "torchscript"))
    return out


@pytest.fixture
def card_of(exported: Path) -> dict:
    """The card beside the exported files."""
    return json.loads((exported / "stage1.json").read_text())


LEAN = {"width": 0.5, "batch_size": 16, "threads": 1, "warmup": 5, "lr": 5e-3, "ema": 0.9}
"""Settings with which a narrow stage 2 or 3 learns drawn faces in seconds."""


@pytest.fixture(scope="session")
def trained3(prepared: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short training of stage 3."""
    from dataclasses import replace

    from kpedge.training.config import RECIPES
    from kpedge.training.loop import train

    out = tmp_path_factory.mktemp("runs") / "stage3"
    train("stage3", prepared, out, replace(RECIPES["stage3"], **LEAN, epochs=30, negatives=2.0, face_weight=1.0))
    return out


@pytest.fixture(scope="session")
def exported3(trained3: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with its ONNX and TorchScript files and their card."""
    from kpedge.export.gate import export_model

    out = tmp_path_factory.mktemp("exported3")
    export_model(trained3 / "best.pt", out, ("onnx", "torchscript"))
    return out


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of a demo in small, and what was told while it was made."""
    from kpedge.demo.settings import DemoSettings
    from kpedge.demo.story import run_demo

    out, told = tmp_path_factory.mktemp("demo") / "a demo", []
    settings = DemoSettings(photos=60, epochs=10, rounds=1, calls=2, seconds=1.2, seed=1)
    assert run_demo(out, settings, say=told.append) == out / "index.html"
    return out, told
