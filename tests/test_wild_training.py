"""What training for faces in the wild adds: turns, darkness, masks, faces without points, brightened frames."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_photos

from kpedge.boxes import box_of_points
from kpedge.datasets.augmentation import DARKEST, Photometric
from kpedge.datasets.packed import open_set
from kpedge.datasets.prepare import PrepareOptions, prepare
from kpedge.datasets.sampling import CropSampler, Jitter, peaked
from kpedge.datasets.wearing import wear
from kpedge.geometry import CropRule
from kpedge.keypoints import FACES5, FACES21, FACES21_MEAN
from kpedge.models.detector import BRIGHT, Detector, DetectorModel

MEAN = FACES21_MEAN * 60 + 56


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("wild") / "photos", 8)


def test_peaked_draws_keep_their_sign_and_their_ends() -> None:
    draws = np.linspace(-1, 1, 21)
    moved = np.array([peaked(draw, 3) for draw in draws])
    assert (np.sign(moved) == np.sign(draws)).all()
    assert (np.abs(moved) <= np.abs(draws) + 1e-12).all()
    assert moved[0] == -1
    assert moved[-1] == 1


def test_a_turned_square_is_where_the_box_of_the_turned_face_is(photos: Path, tmp_path: Path) -> None:
    source = open_set(prepare(photos, tmp_path / "set", PrepareOptions(negatives=0)).path)
    source = replace(source, boxes=np.array([box_of_points(points) for points in source.keypoints]))
    sampler = CropSampler(source, 112, "bgr", CropRule(), Jitter(roll=90, roll_peak=1.0001))
    for index in range(len(source)):
        _, points = sampler.sample(index, 3)
        x1, y1, x2, y2 = box_of_points(points * 112)
        assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((56, 56), abs=0.5)


def test_the_dark_is_a_part_of_the_light() -> None:
    image = np.full((32, 32, 3), 200, np.uint8)
    rng = np.random.default_rng(0)
    seen = [int(Photometric(dark=1).apply(image, rng).mean()) for _ in range(40)]
    assert min(seen) >= math.floor(200 * DARKEST)
    assert max(seen) <= 200
    assert len(set(seen)) > 10


def test_a_mask_or_glasses_cover_what_they_cover() -> None:
    image = np.full((112, 112, 3), 128, np.uint8)
    covered = []
    for seed in range(40):
        dressed = wear(image, MEAN, FACES21, np.random.default_rng(seed))
        changed = np.abs(dressed.astype(int) - 128).max(axis=2) > 8
        assert changed.any()
        rows = np.flatnonzero(changed.any(axis=1))
        covered.append(rows.mean() > MEAN[18, 1])
    assert 0.5 < np.mean(covered) < 0.95
    assert (image == 128).all()


def test_nothing_is_worn_where_eyes_or_mouth_are_not_labelled() -> None:
    image = np.full((112, 112, 3), 128, np.uint8)
    points = MEAN.copy()
    points[16] = np.nan
    assert wear(image, points, FACES21, np.random.default_rng(0)) is image
    assert wear(image, MEAN[[16, 17, 18, 19, 20]], FACES5, np.random.default_rng(0)) is not image


def test_faces_without_points_are_faces_where_that_is_asked_for(photos: Path, tmp_path: Path) -> None:
    label = photos / "label.txt"
    lines = label.read_text().splitlines()
    cells = lines[0].split()
    lines[0] = " ".join(cells[:5] + ["nan"] * (len(cells) - 5))
    label.write_text("\n".join(lines) + "\n")
    without = open_set(prepare(photos, tmp_path / "without", PrepareOptions(negatives=0)).path)
    given = open_set(prepare(photos, tmp_path / "with", PrepareOptions(negatives=0, pointless=True)).path)
    assert given.face.sum() == without.face.sum() + 1
    assert np.isnan(given.keypoints).all(axis=(1, 2)).sum() == 1


def test_dark_frames_are_brightened_and_others_stay() -> None:
    torch.manual_seed(0)
    network = Detector()
    plain, bright = DetectorModel(network).eval(), DetectorModel(network, brighten=True).eval()
    frame = torch.randint(90, 250, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(plain.raw(frame)[0], bright.raw(frame)[0])
        dark = torch.full((1, 64, 96, 3), 8, dtype=torch.uint8)
        lit = torch.full((1, 64, 96, 3), round(8 * BRIGHT / 9), dtype=torch.uint8)
        assert torch.allclose(bright.raw(dark)[0], plain.raw(lit)[0], atol=0.02)
