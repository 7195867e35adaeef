"""The configuration of a training: what it refuses, its flags, JSON, and what differs."""

import json
from dataclasses import fields, replace

import pytest

from kpedge.core.errors import TrainingError, UsageError
from kpedge.core.text import flag
from kpedge.training.config import TrainConfig
from kpedge.training.recipes import DETECTOR, RECIPES

NAN = float("nan")


def out_of_range(config):
    """Settings that each field of a configuration has to refuse, by its choices and limits."""
    for item in fields(config):
        low, high, number = item.metadata["low"], item.metadata["high"], type(item.default) in (int, float)
        wrong = ["nonsense"] if item.metadata["choices"] else [low - 1, NAN] if number else []
        yield from ({item.name: value} for value in [*wrong, *([2 * high] if number and high < 2**64 else [])])
    yield from ({"lr_groups": groups} for groups in ((("a", -1.0),), (("a", 0.1), ("b", NAN))))
    yield from ({"milestones": places} for places in ((0.5, 1.0), (NAN,)))


@pytest.mark.parametrize("config", [TrainConfig(), DETECTOR], ids=["keypoints", "detector"])
def test_what_is_out_of_range_is_refused_by_flag(config):
    for wrong in out_of_range(config):
        (name,) = wrong
        with pytest.raises(UsageError, match=f"--{flag(name)} ?"):
            replace(config, **wrong)


def test_a_count_is_a_whole_number():
    with pytest.raises(UsageError, match="--epochs must be a whole number"):
        TrainConfig(epochs=1.5)


def test_the_ends_of_a_range_are_allowed():
    TrainConfig(dropout=0.9, switch_at=1.0, ema_decay=0.0, seed=2**63 - 1, lr=0.0, momentum=0.0, warmup=1.0)


@pytest.mark.parametrize("config", [RECIPES["stage1"], DETECTOR])
def test_every_field_is_a_flag_of_its_own_with_a_help(config):
    names = [flag(item.name) for item in fields(config)]
    assert len(set(names)) == len(names)
    assert all(item.metadata["help"].endswith(".") for item in fields(config))
    assert all(item.default in ("", *item.metadata["choices"]) for item in fields(config) if item.metadata["choices"])


@pytest.mark.parametrize(
    "config",
    [
        *RECIPES.values(),
        DETECTOR,
        TrainConfig(freeze=("a.*", "b"), lr_groups=(("c*", 0.1), ("d", 0.0)), milestones=(), mirror=False, seed=7),
    ],
)
def test_a_configuration_survives_json(config):
    again = type(config).from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.differences(config) == []


def test_a_configuration_of_another_version_is_refused():
    whole = TrainConfig().to_dict()
    for broken in ({**whole, "unheard_of": 1}, {**whole, "lr_groups": [["a"]]}, {**whole, "warmup": 100}):
        with pytest.raises(TrainingError, match="does not fit this version"):
            TrainConfig.from_dict(broken)


def test_differences_name_flags_and_both_values():
    found = TrainConfig(lr=0.2, lr_groups=(("a", 0.1),)).differences(TrainConfig())
    assert found == ["--lr 0.2, not 0.1", "--lr-group (('a', 0.1),), not ()"]
