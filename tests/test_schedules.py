import json
import math
from dataclasses import fields
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kpedge.core.choices import OPTIMISERS, SCHEDULES
from kpedge.core.errors import TrainingError, UsageError
from kpedge.core.text import flag
from kpedge.training.config import RECIPES, TrainConfig
from kpedge.training.optimisers import new_optimiser, phase_of
from kpedge.training.schedules import epochs_since_best, falls_on_plateau, learning_rate

NAN = float("nan")


def factors(length=1000, errors=(), **options):
    config = TrainConfig(**{"warmup": 0, **options})
    return [learning_rate(config, step, length, errors) for step in range(length)]


# Schedules


@pytest.mark.parametrize(
    ("schedule", "start", "end"),
    [
        ("cosine", 1.0, 0.0),
        ("constant", 1.0, 1.0),
        ("step", 1.0, 0.01),
        ("multi-step", 1.0, 0.01),
        ("exponential", 1.0, 0.1),
        ("one-cycle", 0.04, 0.0),
        ("plateau", 1.0, 1.0),
    ],
)
def test_where_schedules_start_and_end(schedule, start, end):
    found = factors(schedule=schedule)
    assert found[0] == pytest.approx(start)
    assert found[-1] == pytest.approx(end, rel=0.01, abs=1e-4)
    assert all(0 <= factor <= 1 for factor in found)
    if schedule != "one-cycle":
        assert all(later <= sooner for sooner, later in pairwise(found))


def test_every_schedule_on_offer_is_known():
    for schedule in SCHEDULES:
        assert math.isfinite(learning_rate(TrainConfig(schedule=schedule), 500, 1000, [0.5]))


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if name != "one-cycle"])
def test_warm_up_is_a_straight_rise_in_front_of_the_schedule(schedule):
    plain, warm = factors(schedule=schedule), factors(schedule=schedule, warmup=40)
    for step in range(40):
        assert warm[step] == pytest.approx(plain[step] * (step + 1) / 40)
    assert warm[39:] == plain[39:]


def test_one_cycle_rises_by_itself_peaks_once_and_falls():
    found = factors(schedule="one-cycle", warmup=100)
    peak = found.index(max(found))
    assert (peak, found[peak]) == (300, 1.0)
    assert found == factors(schedule="one-cycle"), "it has no use for a warm-up"
    assert all(later > sooner for sooner, later in pairwise(found[:301]))
    assert all(later < sooner for sooner, later in pairwise(found[300:]))
    assert max(abs(later - sooner) for sooner, later in pairwise(found)) < 0.01, "it does not jump"


def test_cosine_is_half_way_down_in_the_middle():
    found = factors(schedule="cosine")
    assert found[500] == pytest.approx(0.5)
    assert found[250] == pytest.approx(0.5 + 0.5 * math.sqrt(0.5))


def test_multi_step_falls_exactly_at_its_milestones():
    found = factors(100, schedule="multi-step", milestones=(0.6, 0.29, 0.85), gamma=0.5)
    assert [step for step in range(1, 100) if found[step] != found[step - 1]] == [29, 60, 85]
    assert [found[step] for step in (28, 29, 60, 85)] == pytest.approx([1, 0.5, 0.25, 0.125])
    assert set(factors(schedule="multi-step", milestones=())) == {1.0}


@settings(deadline=None, max_examples=40)
@example(22, 22)
@given(st.integers(1, 60), st.integers(1, 300))
def test_step_falls_at_the_first_step_of_each_part(parts, steps):
    found = factors(steps, schedule="step", steps=parts, gamma=0.9)
    assert found == pytest.approx([0.9 ** (step * parts // steps) for step in range(steps)])


def test_exponential_falls_by_the_same_factor_at_every_step():
    found = factors(schedule="exponential", gamma=0.01)
    assert all(later / sooner == pytest.approx(0.01 ** (1 / 1000)) for sooner, later in pairwise(found))


def test_plateau_depends_on_the_history_alone():
    config = TrainConfig(schedule="plateau", plateau=2, gamma=0.5, warmup=0)
    for errors, falls in (
        ([], 0),
        ([3.0, 2.0, 1.0], 0),
        ([3.0, 3.0], 0),
        ([3.0, 3.0, 3.0], 1),
        ([3.0, 4.0, 2.0, 2.5], 0),
        ([3.0, 4.0, 5.0, 3.5, 3.2], 2),
        ([3.0, 4.0, 5.0, 2.0, 2.0], 1),
        ([NAN, NAN, 1.0], 1),
    ):
        for step in (0, 400, 999):
            assert learning_rate(config, step, 1000, errors) == pytest.approx(0.5**falls), errors
        assert falls_on_plateau(errors, 2) == falls
    assert set(factors(schedule="cosine")) == set(factors(schedule="cosine", errors=[1.0] * 50))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 9).map(float), max_size=30), st.integers(1, 5))
def test_falls_only_grow_with_the_history(errors, patience):
    counts = [falls_on_plateau(errors[:end], patience) for end in range(len(errors) + 1)]
    assert all(later - sooner in (0, 1) for sooner, later in pairwise(counts))
    assert counts[-1] <= max(0, len(errors) - 1) // patience
    assert falls_on_plateau(sorted(set(errors), reverse=True), patience) == 0


def test_epochs_since_the_best():
    assert epochs_since_best([]) == 0
    assert epochs_since_best([1.0]) == 0
    assert epochs_since_best([3.0, 2.0, 1.0]) == 0
    assert epochs_since_best([3.0, 1.0, 2.0, 4.0]) == 2
    assert epochs_since_best([1.0, 1.0, 1.0]) == 2, "as good is not better"
    assert epochs_since_best([NAN, 0.5, 0.4]) == 0
    assert epochs_since_best([0.5, NAN, NAN]) == 2
    assert epochs_since_best([NAN, NAN, 0.5]) == 0


# Configuration


@pytest.mark.parametrize(
    "wrong",
    [
        {"backbone": "vgg"},
        {"head": "tail"},
        {"norm": "weight"},
        {"colour": "rgb"},
        {"normalise": "white"},
        {"loss": "huber"},
        {"optimiser": "lion"},
        {"schedule": "linear"},
        {"precision": "float8"},
        {"patience": -1},
        {"width": 0.1},
        {"width": 9.0},
        {"dropout": 0.95},
        {"negatives": -0.5},
        {"negatives": 101.0},
        {"face_weight": -1.0},
        {"positive_weight": float("inf")},
        {"lr_sgd": -0.1},
        {"switch": 1.5},
        {"weight_decay": NAN},
        {"batch_size": 0},
        {"ema": 1.0},
        {"gamma": 1.1},
        {"steps": 0},
        {"plateau": 0},
        {"peak": 0.5},
        {"jpeg": 1.1},
        {"seed": -1},
        {"threads": 0},
        {"milestones": (0.5, 1.0)},
        {"milestones": (0.0,)},
        {"milestones": (NAN,)},
        {"lr_groups": (("a", -1.0),)},
        {"lr_groups": (("a", 0.1), ("b", NAN))},
    ],
)
def test_what_is_out_of_range_is_refused_by_flag(wrong):
    (name,) = wrong
    with pytest.raises(UsageError, match=f"--{flag(name)} "):
        TrainConfig(**wrong)


def test_messages_say_what_is_allowed():
    with pytest.raises(UsageError, match=r"--dropout must be at least 0 and at most 0.9, not 1"):
        TrainConfig(dropout=1.0)
    with pytest.raises(UsageError, match="--batch-size must be at least 1, not 0"):
        TrainConfig(batch_size=0)
    with pytest.raises(UsageError, match=r"--optimiser must be one of sgd, nesterov, .*, not 'x'"):
        TrainConfig(optimiser="x")
    with pytest.raises(UsageError, match=r"--lr-group conv\*=-1.0: a learning rate is a number from 0 up"):
        TrainConfig(lr_groups=(("conv*", -1.0),))


def test_the_ends_of_a_range_are_allowed():
    TrainConfig(dropout=0.9, switch=1.0, ema=0.0, seed=2**63 - 1, lr=0.0, momentum=0.0, lr_groups=(("a", 0.0),))


def test_every_field_is_a_flag_of_its_own_with_a_help():
    names = [flag(item.name) for item in fields(TrainConfig)]
    assert len(set(names)) == len(names)
    assert flag("lr_groups") == "lr-group"
    assert all(item.metadata["help"].endswith(".") for item in fields(TrainConfig))
    assert all(item.default in item.metadata["choices"] for item in fields(TrainConfig) if item.metadata["choices"])


@pytest.mark.parametrize(
    "config",
    [
        *RECIPES.values(),
        TrainConfig(
            freeze=("a.*", "b"), lr_groups=(("c*", 0.1), ("d", 0.0)), milestones=(0.1, 0.5, 0.9), mirror=False, seed=7
        ),
        TrainConfig(milestones=()),
    ],
)
def test_a_configuration_survives_json(config):
    again = TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert isinstance(again.milestones, tuple)
    assert isinstance(again.freeze, tuple)
    assert all(isinstance(group, tuple) for group in again.lr_groups)
    assert again.differences(config) == []


def test_a_configuration_of_another_version_is_refused():
    whole = TrainConfig().to_dict()
    for broken in ({**whole, "unheard_of": 1}, {**whole, "lr_groups": [["a"]]}, {**whole, "lr_groups": [["a", "x"]]}):
        with pytest.raises(TrainingError, match="does not fit this kpedge"):
            TrainConfig.from_dict(broken)


def test_differences_name_flags_and_both_values():
    found = TrainConfig(lr=0.2, lr_groups=(("a", 0.1),)).differences(TrainConfig())
    assert found == ["--lr 0.2, not 0.1", "--lr-group (('a', 0.1),), not ()"]


# Optimisers

CLASSES = {
    "sgd": torch.optim.SGD,
    "nesterov": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adam-sgd": torch.optim.Adam,
}


@pytest.fixture(autouse=True, scope="module")
def loaded():
    """The first optimiser of a process loads half of PyTorch."""
    torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)


def groups(*rates, decay=0.01):
    return [
        {"params": [torch.nn.Parameter(torch.ones(2))], "lr": lr, "initial_lr": lr, "weight_decay": decay}
        for lr in rates
    ]


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_have_their_class_and_the_rates_of_their_groups(name):
    config = TrainConfig(optimiser=name, lr=0.3, momentum=0.8)
    given_groups = groups(0.3, 0.02)
    optimiser = new_optimiser(phase_of(config, 1), given_groups, config)
    assert type(optimiser) is CLASSES[name]
    assert [group["lr"] for group in optimiser.param_groups] == [0.3, 0.02]
    assert [group["initial_lr"] for group in optimiser.param_groups] == [0.3, 0.02]
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.01, 0.01]
    first = optimiser.param_groups[0]
    if "betas" in first:
        assert first["betas"] == (0.8, 0.999)
    elif name != "adagrad":
        assert first["momentum"] == 0.8
    assert first.get("nesterov", False) == (name == "nesterov")
    first["lr"] = 0.0
    assert given_groups[0]["lr"] == 0.3, "the given groups are left alone"


def test_weight_decay_is_decoupled_in_adamw_alone():
    """Without a gradient AdamW shrinks weights by the rate times the decay, Adam takes a whole step."""
    left = {}
    for name in ("adam", "adamw"):
        config = TrainConfig(optimiser=name, lr=0.1)
        (group,) = groups(0.1, decay=0.5)
        group["params"][0].grad = torch.zeros(2)
        new_optimiser(name, [group], config).step()
        left[name] = float(group["params"][0].detach()[0])
    assert left["adamw"] == pytest.approx(1 - 0.1 * 0.5)
    assert left["adam"] == pytest.approx(1 - 0.1, abs=1e-4)


def test_nesterov_without_momentum_is_plain_descent():
    config = TrainConfig(optimiser="nesterov", momentum=0.0)
    assert not new_optimiser("nesterov", groups(0.1), config).param_groups[0]["nesterov"]


def test_adam_goes_over_to_sgd_after_its_share_of_the_epochs():
    config = TrainConfig(optimiser="adam-sgd", epochs=10, switch=0.3)
    assert [phase_of(config, epoch) for epoch in range(1, 11)] == ["adam"] * 3 + ["sgd"] * 7
    for switch, epochs, adam in ((0.0, 5, 0), (1.0, 5, 5), (0.29, 100, 29), (0.58, 50, 29), (0.5, 5, 2)):
        config = TrainConfig(optimiser="adam-sgd", epochs=epochs, switch=switch)
        assert sum(phase_of(config, epoch) == "adam" for epoch in range(1, epochs + 1)) == adam
    for name in OPTIMISERS:
        if name != "adam-sgd":
            assert {phase_of(TrainConfig(optimiser=name, epochs=4), epoch) for epoch in (1, 4)} == {name}


def test_sgd_after_adam_keeps_the_ratios_of_the_groups():
    config = TrainConfig(optimiser="adam-sgd", lr=0.001, lr_sgd=0.05, momentum=0.9)
    optimiser = new_optimiser("sgd", groups(0.001, 0.0001, 0.0), config)
    assert type(optimiser) is torch.optim.SGD
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.05, 0.005, 0])
    assert [group["initial_lr"] for group in optimiser.param_groups] == pytest.approx([0.05, 0.005, 0])
    assert [group["lr"] for group in new_optimiser("adam", groups(0.001), config).param_groups] == [0.001]
    plain = new_optimiser("sgd", groups(0.001), TrainConfig(lr=0.001, lr_sgd=0.05))
    assert plain.param_groups[0]["lr"] == 0.001, "SGD by itself has nothing to do with lr-sgd"
