"""Training for faces in the wild: rotation, darkness, accessories, faces without points, brightened frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_photos

from kpedge.core.boxes import box_of_points
from kpedge.core.geometry import CropRule
from kpedge.core.keypoints import FACES5, FACES21, FACES21_MEAN
from kpedge.data.accessories import GLASSES, MASK, draw_accessory
from kpedge.data.augmentation import DARKEST, Photometric
from kpedge.data.packed import open_set
from kpedge.data.preparation import PrepareOptions, prepare
from kpedge.data.sampling import CropSampler, Jitter, concentrate
from kpedge.models.detector import BRIGHT, Detector, DetectorModel
from kpedge.training.keypoint_loss import DatasetBias

POINTS = FACES21_MEAN * 60 + 56
GREY = np.full((112, 112, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("wild") / "photos", 8)


def test_an_exponent_moves_draws_towards_zero_and_keeps_the_range() -> None:
    draws = np.linspace(-1, 1, 21)
    moved = np.array([concentrate(draw, 3) for draw in draws])
    assert moved == pytest.approx(draws**3)
    assert [concentrate(draw, 1) for draw in draws] == draws.tolist()


def test_rotated_crops_are_centred_on_the_box_of_the_rotated_face(photos: Path, tmp_path: Path) -> None:
    source = open_set(prepare(photos, tmp_path / "set", PrepareOptions(negatives=0)).path)
    source = replace(source, boxes=np.array([box_of_points(points) for points in source.keypoints]))
    sampler = CropSampler(source, 112, "bgr", CropRule(), Jitter(roll=90, roll_exponent=1.0001))
    for index in range(len(source)):
        _, points = sampler.sample(index, 3)
        x1, y1, x2, y2 = box_of_points(points * 112)
        assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((56, 56), abs=0.5)


def test_dark_images_keep_a_part_of_their_light() -> None:
    rng = np.random.default_rng(0)
    levels = [int(Photometric(dark=1).apply(GREY, rng).mean()) for _ in range(40)]
    assert min(levels) >= int(128 * DARKEST)
    assert max(levels) <= 128
    assert len(set(levels)) > 10


@pytest.mark.parametrize(("kind", "below"), [(MASK, True), (GLASSES, False)])
def test_accessories_cover_the_mouth_or_the_eyes(kind: str, below: bool) -> None:
    for seed in range(20):
        image = draw_accessory(GREY, POINTS, FACES21, np.random.default_rng(seed), kind)
        changed = np.flatnonzero((image != GREY).any(axis=(1, 2)))
        assert (changed.mean() > POINTS[18, 1]) == below
    assert (GREY == 128).all()


def test_accessories_need_eyes_and_mouth_in_any_scheme() -> None:
    points = POINTS.copy()
    points[16] = np.nan
    assert draw_accessory(GREY, points, FACES21, np.random.default_rng(0)) is GREY
    assert draw_accessory(GREY, POINTS[16:], FACES5, np.random.default_rng(0)) is not GREY


@pytest.mark.parametrize("colour", ["grey", "bgr"])
def test_samples_have_accessories_as_often_as_asked(photos: Path, tmp_path: Path, colour: str) -> None:
    source = open_set(prepare(photos, tmp_path / "set", PrepareOptions(negatives=0)).path)
    plain, masked = (CropSampler(source, 64, colour, CropRule(), Jitter(accessories=share)) for share in (0, 1))
    rows = np.arange(len(source))
    (crops, points), (others, same) = plain.batch(rows, 1), masked.batch(rows, 1)
    assert others.shape == crops.shape
    assert (crops != others).any(axis=(1, 2, 3)).all()
    assert np.array_equal(points, same)


def test_faces_without_points_are_kept_if_asked(photos: Path, tmp_path: Path) -> None:
    label = photos / "label.txt"
    first, *rest = label.read_text().splitlines()
    cells = first.split()
    label.write_text("\n".join([" ".join(cells[:5] + ["nan"] * (len(cells) - 5)), *rest]) + "\n")
    sets = [
        open_set(prepare(photos, tmp_path / str(keep), PrepareOptions(negatives=0, pointless=keep)).path)
        for keep in (False, True)
    ]
    assert sets[1].face.sum() == sets[0].face.sum() + 1
    assert [np.isnan(one.keypoints).all(axis=(1, 2)).sum() for one in sets] == [0, 1]


def test_the_network_brightens_dark_frames_and_no_others() -> None:
    torch.manual_seed(0)
    network = Detector()
    plain, bright = DetectorModel(network).eval(), DetectorModel(network, brighten=True).eval()
    frame = torch.randint(90, 250, (1, 64, 96, 3), dtype=torch.uint8)
    dark, lit = (torch.full((1, 64, 96, 3), level, dtype=torch.uint8) for level in (8, round(8 * BRIGHT / 9)))
    with torch.inference_mode():
        assert torch.equal(plain.raw(frame)[0], bright.raw(frame)[0])
        assert torch.allclose(bright.raw(dark)[0], plain.raw(lit)[0], atol=0.02)


def test_the_bias_of_known_sets_is_taken_over() -> None:
    bias = DatasetBias(3, FACES5)
    other = torch.arange(20.0).reshape(2, 5, 2)
    bias.restore(other, ["another", "first", "second"], ["main", "second", "new"])
    assert not bias.values.any()
    bias.restore(other, ["main", "first", "second"], ["main", "second", "new"])
    assert torch.equal(bias.values[0], other[1])
    assert not bias.values[1].any()
