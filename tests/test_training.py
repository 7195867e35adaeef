import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from conftest import EASY

from kpedge.cli.main import main
from kpedge.core.errors import CorruptModelError, OutputError, TrainingError, UsageError
from kpedge.core.model_zoo import resolve_weights
from kpedge.models.checkpoint import load_checkpoint
from kpedge.training.config import TrainConfig
from kpedge.training.loop import train
from kpedge.training.weights import InitWeights, load_init_weights, read_init_weights

pytestmark = pytest.mark.slow

SHORT = {"epochs": 3, "batch_size": 8, "lr": 0.03, "warmup": 0.2}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_it_learns(trained, prepared):
    checkpoint = load_checkpoint(trained / "best.pt")
    history = checkpoint.progress["history"]
    assert history[-1]["train_loss"] < 0.7, "1 is the mean shape; 0.22 here, with one thread and with two"
    last = load_checkpoint(trained / "last.pt").progress
    from kpedge.evaluation.evaluate import evaluate, faces_of_split
    from kpedge.models.torch_model import TorchModel

    faces = faces_of_split(prepared, "validation", 112, "grey", checkpoint.card.crop)
    evaluation = evaluate(TorchModel(checkpoint.model(), checkpoint.card), faces, checkpoint.card)
    assert evaluation.accuracy.nme_box < 0.9 * evaluation.mean_face.nme_box
    best = last["history"][last["best_epoch"] - 1]["val_nme"]
    assert evaluation.accuracy.nme_box == pytest.approx(best)
    assert checkpoint.card.accuracy["validation"]["nme_box"] == pytest.approx(best, abs=1e-5)


def test_a_run_leaves_its_records(trained):
    rows = list(csv.DictReader((trained / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == [str(n) for n in range(1, 26)]
    assert json.loads((trained / "config.json").read_text())["batch_size"] == 8
    assert (trained / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert next((trained / "tensorboard").iterdir()).name.startswith("events")
    card = load_checkpoint(trained / "best.pt").card
    assert card.training["sets"][0]["terms"] == "made by the tests"
    assert card.training["recipe"]["epochs"] == 25


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(prepared, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train("stage1", prepared, tmp_path / name, TrainConfig(**SHORT, seed=seed, roll=10, mirror=True))
    a, b, c = (load_checkpoint(tmp_path / name / "last.pt").state for name in "abc")
    assert same(a, b)
    assert not same(a, c)


@pytest.mark.parametrize("kills", [(2, 5)])
def test_a_killed_run_resumes_and_ends_with_the_same_bits(prepared, tmp_path, kills):
    flags = [
        *("--data", str(prepared.path), "--epochs", "8", "--batch-size", "8", "--lr", "0.03", "--warmup", "0.1"),
        *("--roll", "10", "--shift", "0.05", "--threads", "2"),
    ]
    command = [sys.executable, "-m", "kpedge", "train", "stage1", *flags]
    subprocess.run([*command, "--out", tmp_path / "whole"], check=True, capture_output=True)
    for epoch in kills:
        process = subprocess.Popen(
            [*command, "--out", tmp_path / "cut", "--resume"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for line in process.stderr:
            if line.startswith(f"epoch {epoch}/"):
                time.sleep(0.02 * epoch)  # somewhere in the next epoch
                os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
        assert process.returncode == -signal.SIGKILL
        assert epoch <= len(load_checkpoint(tmp_path / "cut" / "last.pt").progress["history"]) < 8
    done = subprocess.run([*command, "--out", tmp_path / "cut", "--resume"], check=True, capture_output=True, text=True)
    assert "resuming after epoch" in done.stderr
    whole, cut = (load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "cut"))
    assert same(whole.state, cut.state)
    assert whole.progress["best_epoch"] == cut.progress["best_epoch"]
    assert same(
        load_checkpoint(tmp_path / "whole" / "best.pt").state, load_checkpoint(tmp_path / "cut" / "best.pt").state
    )
    assert len((tmp_path / "cut" / "metrics.csv").read_text().splitlines()) == 9


def test_resuming_with_other_flags_or_data_is_refused_by_name(prepared, trained, tmp_path):
    config = TrainConfig(**EASY)
    with pytest.raises(TrainingError, match=r"--lr 0.03, not 0.02"):
        train("stage1", prepared, trained, TrainConfig(**{**config.to_dict(), "lr": 0.02}), resume=True)
    lines = []
    done = train("stage1", prepared, trained, config, resume=True, notify=lines.append)
    assert done.epochs == 25, "a finished run has nothing left to do"
    assert any("all 25 epochs are done" in line for line in lines)


def test_a_run_is_not_overwritten_unasked(prepared, tmp_path):
    config = TrainConfig(**SHORT)
    train("stage1", prepared, tmp_path / "run", config)
    before = (tmp_path / "run" / "last.pt").read_bytes()
    with pytest.raises(OutputError, match="holds a run already"):
        train("stage1", prepared, tmp_path / "run", config)
    assert (tmp_path / "run" / "last.pt").read_bytes() == before
    assert train("stage1", prepared, tmp_path / "run", config, force=True).epochs == 3


def test_frozen_layers_do_not_move_and_are_named(prepared, trained, tmp_path):
    lines = []
    config = TrainConfig(**SHORT, freeze=("conv*", "prelu[1-4]_*"), lr_groups=(("ip?", 0.001),))
    train("stage1", prepared, tmp_path / "run", config, init_from=trained / "best.pt", notify=lines.append)
    before, after = load_checkpoint(trained / "best.pt").state, load_checkpoint(tmp_path / "run" / "last.pt").state
    frozen = next(line for line in lines if line.startswith("frozen: ")).removeprefix("frozen: ").split(", ")
    assert "conv1_1.weight" in frozen
    assert "prelu4_2.weight" in frozen
    for name in before:
        layer = name.removeprefix("network.")
        if layer in ("mean_shape", "spread"):
            continue
        assert torch.equal(before[name], after[name]) == (layer in frozen), name
    assert any("learning rate 0.001 for 180,480 parameters, 0.03 for the rest" in line for line in lines)


@pytest.mark.parametrize(("rate", "worse"), [(1e-9, False), (0.3, True)])
def test_a_run_that_ends_worse_than_it_started_says_so(prepared, trained, tmp_path, rate, worse):
    lines, config = [], TrainConfig(**SHORT | {"epochs": 1, "lr": rate})
    train("stage1", prepared, tmp_path / "run", config, init_from=trained / "best.pt", notify=lines.append)
    assert any("no epoch is better than the weights" in line for line in lines) == worse


def test_a_learning_rate_of_its_own_holds_for_its_layers(prepared, tmp_path):
    config = TrainConfig(**SHORT, lr_groups=(("conv*", 0.0),))
    train("stage1", prepared, tmp_path / "run", config)
    torch.manual_seed(config.seed)
    from kpedge.training.keypoint_task import new_card, new_model

    start = new_model(new_card("stage1", [prepared], config), prepared, config).state_dict()
    end = load_checkpoint(tmp_path / "run" / "last.pt").state
    for name in start:
        if name.startswith("network."):
            assert torch.equal(start[name], end[name]) == name.startswith("network.conv"), name


@pytest.mark.parametrize("flags", [{"freeze": ("conv9*",)}, {"lr_groups": (("head*", 0.1),)}])
def test_a_pattern_that_fits_nothing_lists_the_layers(prepared, tmp_path, flags):
    with pytest.raises(UsageError, match="no layer of that name") as caught:
        train("stage1", prepared, tmp_path / "run", TrainConfig(**SHORT, **flags))
    assert "conv1_1" in caught.value.advice
    with pytest.raises(UsageError, match="leaves nothing to train"):
        train("stage1", prepared, tmp_path / "run", TrainConfig(**SHORT, freeze=("*",)))


@pytest.mark.parametrize("prefix", ["network.", ""])
def test_weights_that_fit_are_loaded_and_the_rest_is_named(trained, prefix):
    from kpedge.models.keypoint_model import KeypointModel
    from kpedge.models.stage1 import Stage1

    state = load_checkpoint(trained / "best.pt").model().network.state_dict()
    other, lines = KeypointModel(Stage1(5), torch.zeros(5, 2), 1.0), []
    prefixed = {prefix + name: tensor for name, tensor in state.items()}
    load_init_weights(other, InitWeights("old.pt", prefixed, "", {}), lines.append)
    assert torch.equal(other.network.conv1_1.weight, state["conv1_1.weight"])
    left = "network.landmarks.bias, network.landmarks.weight"
    assert any(line.startswith("left as initialised: ") and left in line for line in lines)
    assert any(f"not used: {left}" in line for line in lines)
    with pytest.raises(TrainingError, match="not one weight fits"):
        load_init_weights(other, InitWeights("other.pt", {"x": torch.zeros(1)}, "", {}), lines.append)


def test_a_wider_network_starts_as_the_narrower_one_that_it_is_given():
    from kpedge.models.keypoint_model import empty_model

    init, lines = read_init_weights(Path("stage3")), []
    checkpoint = load_checkpoint(resolve_weights(Path("stage3")))
    architecture = checkpoint.card.architecture
    wider = {**architecture, "options": {**architecture["options"], "width": 2.0}}
    wide = empty_model(replace(checkpoint.card, architecture=wider)).eval()
    load_init_weights(wide, init, lines.append)
    assert "widened by new channels" in lines[0]
    assert len(lines) == 1, "no layer is left out"
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 112, 112, 1), np.uint8))
    with torch.inference_mode():
        own, narrow = wide.raw(crops), checkpoint.model().eval().raw(crops)
    for name, value in own.items():
        torch.testing.assert_close(value, narrow[name], rtol=1e-4, atol=1e-4)
    fresh = wide.network.backbone.stages[0][0].conv.weight[32:]
    assert fresh.abs().min() > 0, "new channels see something from the first step on"


def test_only_channels_are_widened():
    """The points of another scheme, and the places of a larger crop, are none of the old ones with some added."""
    from kpedge.models.keypoint_model import KeypointModel
    from kpedge.models.stage2 import Stage2

    few, many = (KeypointModel(Stage2(count), torch.zeros(count, 2), 1.0) for count in (5, 9))
    lines = []
    load_init_weights(many, InitWeights("few.pt", few.state_dict(), "", {}), lines.append)
    assert any("left as initialised" in line and "network.head.linear.weight" in line for line in lines)
    assert not any("widened" in line for line in lines)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_training_starts_from_a_plain_state_dict_of_a_distributed_model(prepared, trained, tmp_path, wrap):
    state = {f"module.{name}": tensor for name, tensor in load_checkpoint(trained / "best.pt").state.items()}
    torch.save(wrap(state), tmp_path / "plain.pt")
    lines = []
    config = TrainConfig(**{**SHORT, "epochs": 1, "lr": 0.0})
    train("stage1", prepared, tmp_path / "run", config, init_from=tmp_path / "plain.pt", notify=lines.append)
    assert any("24 of 24" in line or "tensors loaded" in line for line in lines)
    after = load_checkpoint(tmp_path / "run" / "last.pt")
    assert torch.equal(after.state["network.ip1.weight"], state["module.network.ip1.weight"])
    assert after.card.training["start"]["weights_sha256"]


def test_a_loss_that_is_not_finite_stops_the_run(prepared, tmp_path):
    with pytest.raises(TrainingError, match=r"epoch \d+, step \d+: the loss is (nan|inf)") as caught:
        train("stage1", prepared, tmp_path / "run", TrainConfig(epochs=30, batch_size=8, lr=1e6, grad_clip=0, warmup=0))
    assert "--lr" in caught.value.advice


def test_a_run_that_never_validates_finitely_fails(prepared, tmp_path):
    config = TrainConfig(epochs=1, batch_size=1000, lr=1e30, grad_clip=0, warmup=0)
    with pytest.raises(TrainingError, match="validation error is nan"):
        train("stage1", prepared, tmp_path / "run", config)


def test_files_of_a_user_are_not_replaced_by_a_run(prepared, tmp_path):
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(OutputError, match=r"holds config.json already"):
        train("stage1", prepared, tmp_path, TrainConfig(**SHORT))
    assert (tmp_path / "config.json").read_text() == "mine"
    assert not (tmp_path / "last.pt").exists()


def test_a_run_that_was_stopped_as_it_began_can_be_resumed(prepared, tmp_path, monkeypatch):
    config = TrainConfig(**{**SHORT, "epochs": 1})
    monkeypatch.setattr("kpedge.training.loop.Board", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train("stage1", prepared, tmp_path, config)
    monkeypatch.undo()
    assert train("stage1", prepared, tmp_path, config, resume=True).epochs == 1


def test_finetuning_is_recorded_and_resumed_from_the_same_start(prepared, trained, tmp_path):
    config = TrainConfig(**{**SHORT, "epochs": 2})
    start = load_checkpoint(trained / "best.pt")
    train("stage1", prepared, tmp_path / "run", config, init_from=trained / "best.pt")
    card = load_checkpoint(tmp_path / "run" / "best.pt").card
    assert card.training["start"]["weights_sha256"] == start.card.weights_sha256
    assert card.training["start"]["sets"] == start.card.training["sets"]
    assert train("stage1", prepared, tmp_path / "run", config, resume=True).epochs == 2, (
        "the start need not be named again"
    )
    with pytest.raises(TrainingError, match="--init-from"):
        train("stage1", prepared, tmp_path / "run", config, resume=True, init_from=trained / "last.pt")


def test_a_checkpoint_whose_weights_were_changed_is_refused(trained, tmp_path):
    content = torch.load(trained / "best.pt", weights_only=True)
    content["state"]["network.ip1.bias"][0] += 1e-3
    torch.save(content, tmp_path / "changed.pt")
    with pytest.raises(CorruptModelError, match="not those that its card names"):
        load_checkpoint(tmp_path / "changed.pt").model()


def test_a_collapse_to_the_mean_face_is_told(prepared, tmp_path, capsys):
    flags = ["--epochs", "6", "--init", "torch", "--lr", "0.001", "--out", str(tmp_path / "run")]
    assert main(["train", "stage1", "--data", str(prepared.path), *flags]) == 0
    assert capsys.readouterr().err.count("no better than the mean-shape baseline") == 2


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_a_checkpoint_cannot_run_code(tmp_path):
    for name, save in (
        ("new.pt", lambda o, p: torch.save(o, p)),
        ("old.pt", lambda o, p: torch.save(o, p, _use_new_zipfile_serialization=False)),
    ):
        save({"kpedge": 1, "card": Evil(tmp_path / "ran")}, tmp_path / name)
        with pytest.raises(CorruptModelError, match="refused"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a checkpoint"),
        (b"hello", "not a checkpoint"),
        (b"PK\x03\x04broken", "not a checkpoint"),
        (None, "no such file"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content, words):
    path = tmp_path / "a.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CorruptModelError, match=words):
        load_checkpoint(path)


def test_somebody_elses_checkpoint_and_a_cut_one_are_refused(tmp_path, trained):
    torch.save({"state_dict": {"a": torch.zeros(3)}}, tmp_path / "other.pt")
    with pytest.raises(CorruptModelError, match="not a checkpoint of kpedge"):
        load_checkpoint(tmp_path / "other.pt")
    data = (trained / "best.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptModelError, match="cut off"):
        load_checkpoint(tmp_path / "cut.pt")
    torch.save({"kpedge": 99}, tmp_path / "later.pt")
    with pytest.raises(CorruptModelError, match="format 99"):
        load_checkpoint(tmp_path / "later.pt")
