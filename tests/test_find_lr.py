import csv

import numpy as np
import pytest
from conftest import EASY

from kpedge.cli.main import main
from kpedge.core.errors import OutputError, TrainingError, UsageError
from kpedge.training import find_lr, loop
from kpedge.training.config import TrainConfig
from kpedge.training.find_lr import HIGHEST, LOWEST, STEPS, LossCurve, find_learning_rate
from kpedge.training.loop import Stepper
from kpedge.training.recipes import RECIPES

pytestmark = pytest.mark.slow

RATES = LOWEST * (HIGHEST / LOWEST) ** (np.arange(STEPS) / (STEPS - 1))


def valley(fall, rise, noise=0.0):
    """Losses that fall to 0.4 of what they were around one rate and rise again beyond another, of uneven batches."""
    rng = np.random.default_rng(0)
    start = rng.uniform(0.5, 3, STEPS)
    away = np.log10(RATES)
    losses = 1 - 0.6 / (1 + np.exp(-4 * (away - np.log10(fall)))) + 0.5 * np.maximum(away - np.log10(rise), 0)
    return LossCurve(RATES, (losses + noise * rng.normal(size=STEPS)) * start, start)


class Watched(Stepper):
    """Takes steps, and remembers the rates and losses of each."""

    seen = None

    def __call__(self, batch):
        rates = [group["lr"] for group in self.optimizer.param_groups]
        found = super().__call__(batch)
        self.seen.append((rates, found[2]))
        return found


@pytest.fixture
def seen(monkeypatch):
    """Rates and loss of each step, of searches and trainings alike."""
    steps = []
    monkeypatch.setattr(Watched, "seen", steps)
    monkeypatch.setattr(find_lr, "Stepper", Watched)
    monkeypatch.setattr(loop, "Stepper", Watched)
    return steps


@pytest.mark.parametrize("noise", [0.0, 0.08])
@pytest.mark.parametrize(("fall", "rise"), [(1e-3, 1e-1), (3e-5, 3e-1), (3e-2, 1e-1)])
def test_fall_and_rise_are_found_up_to_the_lag_of_the_average(fall, rise, noise):
    curve = valley(fall, rise, noise)
    assert fall / 2 < curve.steepest < 5 * fall
    assert max(curve.steepest, rise / 30) < curve.highest < 5 * rise, "the floor between them is flat"
    assert curve.suggested == min(curve.steepest, curve.highest / 10)


def test_a_loss_that_only_varies_or_rises_falls_nowhere():
    varied = np.random.default_rng(0).uniform(0.5, 3, STEPS)
    for losses in (varied, varied * np.geomspace(1, 4, STEPS), varied * np.geomspace(1, 0.995, STEPS)):
        curve = LossCurve(RATES, losses, varied)
        assert curve.steepest is None
        assert curve.suggested is None
    with_start = LossCurve(RATES, varied * np.geomspace(1, 0.5, STEPS), varied)
    assert with_start.highest == pytest.approx(HIGHEST), "it never rises"


def test_a_search_leaves_a_chart_and_a_table_and_nothing_of_a_run(prepared, tmp_path):
    done = []
    config = TrainConfig(**EASY)
    found = find_learning_rate("stage1", [prepared], tmp_path, config, progress=lambda *step: done.append(step))
    assert {path.name for path in tmp_path.iterdir() if path.suffix} == {"find_lr.png", "find_lr.csv"}
    assert found.chart.read_bytes()[:4] == b"\x89PNG"
    rows = list(csv.DictReader(found.table.read_text().splitlines()))
    assert rows[0].keys() == {"step", "lr", "loss", "start_loss", "smoothed"}
    rates = [float(row["lr"]) for row in rows]
    assert rates[0] == pytest.approx(LOWEST)
    assert np.allclose(np.diff(np.log(rates)), np.log(HIGHEST / LOWEST) / (STEPS - 1), rtol=1e-4)
    assert done == [(step, STEPS) for step in range(1, len(rows) + 1)]
    assert rows[0]["loss"] == rows[0]["start_loss"]
    assert 1e-4 < found.suggested <= found.steepest < found.highest <= HIGHEST
    before = found.table.read_bytes()
    assert find_learning_rate("stage1", [prepared], tmp_path, config) == found, "kpedge's own files may be replaced"
    assert found.table.read_bytes() == before, "the same search finds the same"
    found.table.write_text("mine")
    with pytest.raises(OutputError, match=r"find_lr\.\w+ exists already"):
        find_learning_rate("stage1", [prepared], tmp_path, config)


def test_a_search_begins_as_a_training_does_and_keeps_ratios_of_rates(prepared, tmp_path, seen):
    settings = {**EASY, "epochs": 1, "freeze": ("conv1_1",), "lr_groups": (("ip*", 0.003),)}
    loop.train("stage1", prepared, tmp_path / "run", TrainConfig(**settings))
    trained = seen.copy()
    seen.clear()
    find_learning_rate("stage1", [prepared], tmp_path, TrainConfig(**settings))
    assert seen[0][1] == trained[0][1], "the same weights and the same batch"
    assert seen[1][1] != trained[1][1]
    for (search, _), (training, _) in zip(seen, trained, strict=False):
        assert np.allclose(np.divide(search, search[0]), np.divide(training, training[0]))


def test_stage_3_is_searched_from_given_weights_too(prepared, tmp_path, seen):
    recipe = "stage3"
    options = {**RECIPES[recipe].to_dict(), "width": 0.25, "batch_size": 4, "epochs": 1, "negatives": 0.0, "threads": 1}
    config = TrainConfig.from_dict(options)
    best = loop.train(recipe, prepared, tmp_path / "run", config).best
    losses = []
    for start in (None, best):
        seen.clear()
        found = find_learning_rate(recipe, [prepared], tmp_path / str(start is None), config, init_from=start)
        assert LOWEST < found.suggested < 0.1
        losses.append(seen[0][1])
    assert losses[0] != losses[1], "other weights"


def test_a_loss_that_does_not_fall_is_an_error_that_names_the_chart(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(find_lr, "STEPS", 25)
    monkeypatch.setattr(find_lr, "HIGHEST", 1e-5)
    with pytest.raises(TrainingError, match=r"falls at no learning rate from 1e-06 to 1e-05: see .*find_lr\.png"):
        find_learning_rate("stage1", [prepared], tmp_path, TrainConfig(**EASY))
    assert (tmp_path / "find_lr.png").exists()


def test_what_cannot_be_searched_is_refused(prepared, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="--find-lr needs an --lr above 0"):
        find_learning_rate("stage1", [prepared], tmp_path, TrainConfig(lr=0))
    monkeypatch.setattr(find_lr, "LOWEST", 1e30)
    monkeypatch.setattr(find_lr, "HIGHEST", 1e32)
    with pytest.raises(TrainingError, match=r"step \d+, rate 1e\+30: the loss is (nan|inf)"):
        find_learning_rate("stage1", [prepared], tmp_path, TrainConfig(**EASY))
    assert not list(tmp_path.iterdir())


def test_the_command_prints_the_suggested_rate(prepared, tmp_path, capsys):
    flags = ["--data", str(prepared.path), "--batch-size", "8", "--threads", "1", "--out", str(tmp_path / "run")]
    assert main(["train", "stage1", *flags, "--find-lr"]) == 0
    captured = capsys.readouterr()
    assert 1e-4 < float(captured.out) < 1
    assert f"chart: {tmp_path / 'run' / 'find_lr.png'}" in captured.err
    assert main(["train", "stage1", *flags, "--find-lr"]) == 0, "kpedge's own files may be replaced"
    (tmp_path / "run" / "find_lr.csv").write_text("mine")
    assert main(["train", "stage1", *flags, "--find-lr"]) == 1
    assert "--force" in capsys.readouterr().err
