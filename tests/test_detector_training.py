import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_frames import SHORT, write_set

from kpedge.core.card import DETECTOR as TASK
from kpedge.core.card import DetectorCard, ModelCard
from kpedge.core.errors import DataError, TrainingError, UsageError
from kpedge.core.geometry import CropRule
from kpedge.core.keypoints import FACES5, FACES21
from kpedge.models.build import new_detector
from kpedge.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kpedge.models.detector import DetectorModel
from kpedge.training.detector_task import DetectorTask, new_detector_card
from kpedge.training.detector_validation import VALIDATION_SIDE, validate_detector
from kpedge.training.distributed import World
from kpedge.training.loop import train

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
NARROW = {"stem": (8, 16), "widths": (16, 16, 32), "depths": (1, 1, 1), "neck": 16}


class Stop(Exception):
    """A run is cut off here."""


def narrow_card(sets, config, start=None):
    card = new_detector_card(sets, config, start)
    return replace(card, architecture={"name": "detector", "options": NARROW})


@pytest.fixture(autouse=True, scope="module")
def narrow():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kpedge.training.detector_task.new_detector_card", narrow_card)
        yield


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Drawing them takes longer than these runs; the run of the fixture below is made before this, with its curves."""
    monkeypatch.setattr("kpedge.training.detector_task.detector_curves", lambda history: None)
    monkeypatch.setattr("kpedge.training.loop.figure_png", lambda figure: b"curves")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("frames") / "set")


@pytest.fixture(scope="module")
def run(drawn, tmp_path_factory):
    """The folder of a short run."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train("detector", [drawn], out, SHORT)
    return out


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def trained(checkpoint):
    """The weights that are trained, not their average."""
    return {name.removeprefix("model."): values for name, values in checkpoint.resume["loss"].items()}


def figures(history):
    """Records without the time that they took."""
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


# A run


def test_a_run_leaves_its_records(run, drawn):
    assert sorted(path.name for path in run.iterdir() if not path.name.startswith(".") and path.is_file()) == [
        "best.pt",
        "config.json",
        "curves.png",
        "last.pt",
        "metrics.csv",
    ]
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    losses = ("train_loss", "train_face_loss", "train_quality_loss", "train_box_loss", "train_points_loss")
    for row in rows:
        assert all(float(row[name]) > 0 for name in (*losses, "grad_norm", "lr", "seconds"))
        assert float(row["criterion"]) == pytest.approx(1 - float(row["val_ap_drawn"]))
        total = 1 * float(row[losses[1]]) + 1 * float(row[losses[2]]) + 5 * float(row[losses[3]])
        assert float(row["train_loss"]) == pytest.approx(total + 10 * float(row[losses[4]]), rel=1e-4)
    assert (run / "curves.png").read_bytes()[:4] == b"\x89PNG"
    config = json.loads((run / "config.json").read_text())
    assert (config["recipe"], config["batch_size"], config["size"]) == ("detector", 3, 64)
    assert config["sets"] == ["drawn drawn0dr"]


def test_its_checkpoints_are_detectors(run, drawn):
    best, last = load_checkpoint(run / "best.pt"), load_checkpoint(run / "last.pt")
    for checkpoint in (best, last):
        card = checkpoint.card
        assert isinstance(card, DetectorCard)
        assert (card.task, card.name, card.scheme, card.stride) == (TASK, "detector", FACES5, 32)
        assert isinstance(checkpoint.model(), DetectorModel)
        assert 0 < card.threshold < 1
        (one,) = card.training["sets"]
        assert (one["name"], one["terms"]) == ("drawn", "drawn by the tests")
        assert one["counts"]["train"] == {"photos": 7, "faces": 6}
        assert card.training["recipe"]["epochs"] == 2
    assert not best.resume
    assert last.resume
    assert best.card.accuracy["validation"]["side"] == VALIDATION_SIDE
    measured = validate_detector(best.model(), best.card, [drawn])
    assert measured.threshold == best.card.threshold
    assert best.card.accuracy["validation"]["drawn"] == json.loads(json.dumps(measured.by_set["drawn"].to_dict()))
    assert best.progress["history"][best.progress["best_epoch"] - 1]["criterion"] == measured.criterion
    assert measured.by_set["drawn"].faces == 2
    assert measured.by_set["drawn"].frames == 3


def test_weights_are_the_average_where_one_is_kept(drawn, tmp_path):
    train("detector", [drawn], tmp_path / "averaged", replace(SHORT, epochs=1))
    train("detector", [drawn], tmp_path / "plain", replace(SHORT, epochs=1, ema_decay=0.0))
    averaged, plain = (load_checkpoint(tmp_path / name / "last.pt") for name in ("averaged", "plain"))
    assert same(averaged.resume["loss"], plain.resume["loss"]), "the steps are the same"
    assert same(plain.state, trained(plain))
    assert not same(averaged.state, trained(averaged))


@pytest.mark.parametrize(
    ("settings", "stop"),
    [
        ({}, 1),
        (
            {
                "ema_decay": 0.0,
                "optimizer": "adam-sgd",
                "sgd_lr": 1e-3,
                "switch_at": 0.34,
                "validate": 2,
                "grad_clip": 0.0,
            },
            1,
        ),
        ({"validate": 2, "schedule": "plateau", "plateau": 1}, 2),
    ],
)
def test_a_run_that_was_stopped_ends_with_the_same_bits(drawn, tmp_path, settings, stop):
    config = replace(SHORT, epochs=3, **settings)
    train("detector", [drawn], tmp_path / "whole", config)

    def cut(record, epochs):
        if record["epoch"] == stop:
            raise Stop

    with pytest.raises(Stop):
        train("detector", [drawn], tmp_path / "cut", config, on_epoch=cut)
    assert len(load_checkpoint(tmp_path / "cut" / "last.pt").progress["history"]) == stop
    lines = []
    torch.manual_seed(1234)  # whatever was drawn before
    train("detector", [drawn], tmp_path / "cut", config, resume=True, notify=lines.append)
    assert f"resuming after epoch {stop} of 3" in lines
    for name in ("last.pt", "best.pt"):
        whole, resumed = (load_checkpoint(tmp_path / folder / name) for folder in ("whole", "cut"))
        assert same(whole.state, resumed.state)
        assert whole.card.to_json() == resumed.card.to_json()
        assert figures(whole.progress["history"]) == figures(resumed.progress["history"])
        assert whole.progress["best_epoch"] == resumed.progress["best_epoch"]
    assert len((tmp_path / "cut" / "metrics.csv").read_text().splitlines()) == 4


def test_resuming_with_other_flags_or_data_is_refused(run, drawn, tmp_path):
    before = (run / "last.pt").read_bytes()
    with pytest.raises(TrainingError, match=r"made with --lr 0\.003, not 0\.004"):
        train("detector", [drawn], run, replace(SHORT, lr=4e-3), resume=True)
    with pytest.raises(TrainingError, match=r"--mosaic 0\.3, not 0\.0; --validate 1, not 2|--validate.*--mosaic"):
        train("detector", [drawn], run, replace(SHORT, mosaic=0.0, validate=2), resume=True)
    other = write_set(tmp_path / "other", seed=1)
    for sets in ([other], [drawn, write_set(tmp_path / "more", name="more", seed=2)]):
        with pytest.raises(TrainingError, match="trained on other data"):
            train("detector", sets, run, SHORT, resume=True)
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "last.pt").write_bytes((run / "best.pt").read_bytes())
    with pytest.raises(TrainingError, match="holds no optimizer state"):
        train("detector", [drawn], tmp_path / "best", SHORT, resume=True)
    assert (run / "last.pt").read_bytes() == before


def test_a_run_of_a_keypoint_model_is_not_gone_on_with(drawn, tmp_path):
    card = ModelCard(
        name="stage1",
        task="keypoints",
        architecture={"name": "stage1", "options": {}},
        colour="grey",
        scheme=FACES21,
        size=112,
        crop=CropRule(),
        mean_shape=np.full((21, 2), 0.5),
    )
    (tmp_path / "run").mkdir()
    save_checkpoint(tmp_path / "run" / "last.pt", Checkpoint(card, {}, {}, {"history": []}))
    with pytest.raises(TrainingError, match="a run of stage1, not detector"):
        train("detector", [drawn], tmp_path / "run", SHORT, resume=True)


def test_an_epoch_without_validation_has_no_figures_and_the_last_always_has(drawn, tmp_path):
    records = []
    config = replace(SHORT, epochs=3, validate=2)
    train("detector", [drawn], tmp_path, config, on_epoch=lambda record, epochs: records.append((record, epochs)))
    assert [epochs for _, epochs in records] == [3, 3, 3]
    assert ["criterion" in record for record, _ in records] == [False, True, True]
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["criterion"] == "" for row in rows] == [True, False, False]


# What goes wrong


def test_a_network_whose_answers_are_not_finite_is_not_kept_as_the_best(drawn, tmp_path):
    config = replace(SHORT, epochs=1, batch_size=100, optimizer="sgd", lr=1e30, grad_clip=0.0, warmup=0, ema_decay=0.0)
    with pytest.raises(TrainingError, match="the network's outputs are not finite"):
        train("detector", [drawn], tmp_path, config)
    assert not (tmp_path / "best.pt").exists()


@pytest.mark.parametrize("why", ["none", "ignored", "small"])
def test_without_a_face_to_validate_on_nothing_is_trained(tmp_path, why):
    def change(face, split):
        if split == "validation":
            face["ignore"] = why == "ignored"
            if why == "small":
                face["boxes"] = face["labelled"] = np.array([10.0, 10, 17, 17])

    source = write_set(tmp_path / "set", train=4, validation=0 if why == "none" else 2, change=change)
    with pytest.raises(DataError, match="no face to validate on") as caught:
        train("detector", [source], tmp_path / "run", SHORT)
    assert "--validation" in caught.value.advice
    assert not (tmp_path / "run").exists()


# More than one set, and other weights to start from


def test_a_set_that_is_given_twice_is_shown_twice_as_often_and_validated_once(drawn):
    once, twice = (DetectorTask("detector", [drawn] * count, SHORT, World(), None, print) for count in (1, 2))
    assert len(twice.sampler.order(1)) == 2 * len(once.sampler.order(1))
    assert len(twice.sets) == 1


def test_background_sets_teach_the_background_and_bound_the_threshold(drawn, tmp_path):
    other = write_set(tmp_path / "empty", "empty", train=0, validation=0, background=3)
    train("detector", [drawn, other], tmp_path / "run", replace(SHORT, epochs=1))
    card = load_checkpoint(tmp_path / "run" / "best.pt").card
    assert [one["name"] for one in card.training["sets"]] == ["drawn", "empty"]
    figures = card.accuracy["validation"]
    assert figures["empty"]["average_precision"] is None
    assert (figures["empty"]["frames"], figures["empty"]["faces"]) == (3, 0)
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    assert "val_ap_empty" not in rows[0]


def test_frozen_layers_keep_their_weights_and_statistics(drawn, tmp_path):
    lines = []
    train("detector", [drawn], tmp_path, replace(SHORT, epochs=1, freeze=("stem.*", "level8.0.*")), notify=lines.append)
    torch.manual_seed(SHORT.seed)
    start = new_detector(narrow_card([drawn], SHORT)).state_dict()
    end = load_checkpoint(tmp_path / "last.pt").state
    for name, before in start.items():
        frozen = name.startswith(("network.stem.", "network.level8.0."))
        assert torch.equal(before, end[name]) == frozen, name
    assert any(line.startswith("frozen: stem.0.conv.weight") for line in lines)
    with pytest.raises(UsageError, match=r"--freeze backbone\*: no layer of that name"):
        train("detector", [drawn], tmp_path / "other", replace(SHORT, freeze=("backbone*",)))
