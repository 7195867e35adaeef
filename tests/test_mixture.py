from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from conftest import make_photos

from kpedge.core.errors import DataError, UsageError
from kpedge.core.geometry import CropRule
from kpedge.core.scheme import KeypointScheme
from kpedge.data.mixture import Mixture
from kpedge.data.packed import open_set
from kpedge.data.preparation import PrepareOptions, prepare
from kpedge.data.sampling import CropSampler, Jitter
from kpedge.training.config import TrainConfig
from kpedge.training.distributed import World
from kpedge.training.loop import build


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """Another set of faces, smaller than the main one."""
    folder = tmp_path_factory.mktemp("second")
    prepare(make_photos(folder / "photos", 12, seed=7), folder / "set", PrepareOptions(validation=0.2, test=0.0))
    return open_set(folder / "set")


@pytest.fixture(scope="module")
def background(tmp_path_factory):
    """A set without faces."""
    folder = tmp_path_factory.mktemp("background")
    (folder / "photos").mkdir()
    for number in range(6):
        picture = np.random.default_rng(number).integers(0, 255, (90, 120, 3), np.uint8)
        cv2.imwrite(str(folder / "photos" / f"{number}.png"), picture)
    options = PrepareOptions(validation=0.2, test=0.0)
    prepare(folder / "photos", folder / "set", options, label_format="background")
    return open_set(folder / "set")


@pytest.fixture(scope="module")
def without_negatives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("without")
    prepare(make_photos(folder / "photos", 6, seed=9), folder / "set", PrepareOptions(negatives=0))
    return open_set(folder / "set")


def mixture(*sets, negatives=0.5, others=1.0, seed=0, size=32, jitter=None):
    samplers = [CropSampler(one, size, "grey", CropRule(), jitter or Jitter(roll=20), seed) for one in sets]
    return Mixture(samplers, negatives, others, seed)


def rows_of(plan, number, face):
    return plan[(plan[:, 0] == number) & (plan[:, 2] == face), 1]


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
        for name in ("crops", "keypoints", "face", "source")
    )


# The plan


def test_every_face_of_the_main_set_is_shown_once(prepared, second, background):
    for epoch in (1, 2, 7):
        plan = mixture(prepared, second, background).plan(epoch)
        assert sorted(rows_of(plan, 0, 1)) == prepared.indices("train").tolist()
        assert set(rows_of(plan, 1, 1)) <= set(second.indices("train").tolist())
        for number, one in enumerate((prepared, second, background)):
            assert set(rows_of(plan, number, 0)) <= set(one.negatives("train").tolist())
        assert len(plan) == len({tuple(row) for row in plan.tolist()}), "there is enough not to show anything twice"


@pytest.mark.parametrize("others", [0.0, 0.1, 0.15, 100.0])
@pytest.mark.parametrize("negatives", [0.0, 0.3, 1.0])
def test_the_numbers_are_those_asked_for(prepared, second, background, others, negatives):
    main, more = len(prepared.indices("train")), len(second.indices("train"))
    plan = mixture(prepared, second, background, negatives=negatives, others=others).plan(3)
    expected = min(more, round(others * main))
    assert len(rows_of(plan, 1, 1)) == expected
    assert len(rows_of(plan, 2, 1)) == 0
    assert (plan[:, 2] == 0).sum() == round(negatives * (main + expected))


def test_negatives_come_from_all_sets_and_repeat_only_where_they_must(prepared, second, background):
    plan = mixture(prepared, second, background, negatives=2.0).plan(1)
    assert set(plan[plan[:, 2] == 0, 0]) == {0, 1, 2}
    pool = len(second.negatives("train")) + len(background.negatives("train"))
    count = round(8.0 * len(second.indices("train")))
    assert count > pool
    plan = mixture(second, background, negatives=8.0).plan(1)
    drawn = Counter(map(tuple, plan[plan[:, 2] == 0].tolist()))
    assert sum(drawn.values()) == count
    assert max(drawn.values()) > 1


def test_others_and_negatives_are_drawn_anew_each_epoch(prepared, second):
    whole = mixture(prepared, second, negatives=0.3, others=0.1)
    seen = [set(rows_of(whole.plan(epoch), 1, 1)) for epoch in range(1, 30)]
    assert len({frozenset(some) for some in seen}) > 5
    assert set.union(*seen) == set(second.indices("train")), "all get their turn"
    negatives = [frozenset(rows_of(whole.plan(epoch), 0, 0)) for epoch in range(1, 5)]
    assert len(set(negatives)) == 4


def test_the_plan_depends_on_seed_and_epoch_alone(prepared, second):
    plan = mixture(prepared, second).plan(4)
    assert np.array_equal(plan, mixture(prepared, second, size=112, jitter=Jitter(mirror=True)).plan(4))
    whole = mixture(prepared, second)
    whole.plan(1), list(whole.batches(2, 16))
    assert np.array_equal(plan, whole.plan(4)), "what was asked before does not matter"
    assert not np.array_equal(plan, whole.plan(5))
    assert not np.array_equal(plan, mixture(prepared, second, seed=1).plan(4))


# Batches


def test_batches_are_the_plan_in_its_order(prepared, second, background):
    whole = mixture(prepared, second, background, negatives=1.0)
    plan, batches = whole.plan(2), list(whole.batches(2, 16))
    assert [len(batch) for batch in batches[:-1]] == [16] * (len(plan) // 16)
    assert len(batches[-1]) == len(plan) % 16 > 0, "a last part batch is kept"
    assert len(batches) == whole.steps(16)
    assert np.array_equal(np.concatenate([batch.source for batch in batches]), plan[:, 0])
    assert np.array_equal(np.concatenate([batch.face for batch in batches]), plan[:, 2])
    crops, points = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("crops", "keypoints"))
    for place, (number, index, face) in enumerate(plan.tolist()):
        crop, expected = whole.samplers[number].sample(index, 2)
        assert np.array_equal(crops[place], crop)
        assert np.array_equal(points[place], expected.astype(np.float32), equal_nan=True)
        assert np.isfinite(points[place]).all() == bool(face)
        assert np.isnan(points[place]).all() != bool(face)
    first = batches[0]
    assert (first.crops.dtype, first.keypoints.dtype) == (np.uint8, np.float32)
    assert (first.face.dtype, first.source.dtype) == (np.float32, np.int64)
    assert first.crops.shape == (16, 32, 32, 1)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_prepare_the_same_batches(prepared, second, background, workers):
    whole = mixture(prepared, second, background, jitter=Jitter(mirror=True, roll=20, shift=0.1))
    plain, ahead = (list(whole.batches(3, 8, workers=count)) for count in (0, workers))
    assert len(plain) == len(ahead) > 2 * workers
    assert all(same(one, other) for one, other in zip(plain, ahead, strict=True))


@pytest.mark.parametrize(("world", "batch_size"), [(2, 8), (3, 5), (4, 3), (2, 30)])
def test_processes_share_what_one_alone_would_have(prepared, second, background, world, batch_size):
    whole = mixture(prepared, second, background)
    alone = list(whole.batches(2, batch_size * world))
    ranks = [list(whole.batches(2, batch_size, rank=rank, world=world)) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {whole.steps(batch_size, world)}
    assert len(alone) - whole.steps(batch_size, world) in (0, 1)
    for step, parts in enumerate(zip(*ranks, strict=True)):
        assert all(0 < len(part) <= batch_size for part in parts)
        for name in ("crops", "keypoints", "face", "source"):
            together = np.concatenate([getattr(part, name) for part in parts])
            assert np.array_equal(together, getattr(alone[step], name), equal_nan=True)


def test_a_part_batch_with_fewer_samples_than_processes_is_left_out(second):
    count = len(second.indices("train"))
    whole = mixture(second, negatives=0.0)
    for world in range(2, count):
        for batch_size in (1, 2, 3):
            ranks = [list(whole.batches(1, batch_size, rank=rank, world=world)) for rank in range(world)]
            shown = sum(len(batch) for batches in ranks for batch in batches)
            rest = count % (batch_size * world)
            assert shown == (count if rest >= world else count - rest)
            assert {len(batches) for batches in ranks} == {whole.steps(batch_size, world)}


# What cannot be mixed


def test_without_negatives_there_is_advice(without_negatives, prepared, background):
    with pytest.raises(DataError, match="no negatives to train on") as raised:
        mixture(without_negatives)
    assert str(without_negatives.path) in str(raised.value)
    assert "--negatives" in raised.value.advice
    assert "background" in raised.value.advice
    assert (mixture(without_negatives, negatives=0.0).plan(1)[:, 2] == 1).all()
    plan = mixture(without_negatives, background).plan(1)
    assert set(plan[plan[:, 2] == 0, 0]) == {1}
    assert (plan[:, 2] == 0).sum() == round(0.5 * len(without_negatives.indices("train")))


def test_sets_of_other_points_are_refused(prepared, second):
    pair = KeypointScheme("pair", ("a", "b"), ((0, 1),), (), {"all": (0, 1)}, None)
    with pytest.raises(DataError, match=r"has pair keypoints, .* has faces21"):
        mixture(prepared, replace(second, scheme=pair))


@pytest.fixture
def settings():
    """Those of a run; PyTorch's own are put back."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # loads half of PyTorch, once
    yield TrainConfig(threads=1, width=0.25, negatives=0.5, seed=3)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


def test_a_run_needs_faces_in_its_main_set(prepared, background, settings):
    for recipe in ("stage2", "stage3"):
        with pytest.raises(DataError, match="no face to train on") as raised:
            build(recipe, [background, prepared], settings, World(), None, print)
        assert "first" in raised.value.advice
    with pytest.raises(UsageError, match="no recipe is called 'stage9'"):
        build("stage9", [prepared], settings, World(), None, print)


def test_a_run_mixes_its_sets_as_its_recipe_needs(prepared, second, background, settings):
    scored = build("stage3", [prepared, second, background], settings, World(), None, print)
    plan = scored.mixture.plan(1)
    faces = len(prepared.indices("train")) + len(second.indices("train"))
    assert ((plan[:, 2] == 1).sum(), (plan[:, 2] == 0).sum()) == (faces, round(faces / 2))
    assert scored.loss.offsets.values.shape == (2, 21, 2)
    assert scored.card.has_score
    assert [one["name"] for one in scored.card.training["sets"]] == ["photos"] * 3
    trained = {id(parameter) for group in scored.groups for parameter in group["params"]}
    assert id(scored.loss.offsets.values) in trained
    plain = build("stage2", [prepared], settings, World(), None, print)
    assert (plain.mixture.plan(1)[:, 2] == 1).all(), "without a score there is no use for negatives"
    assert plain.loss.offsets is None
