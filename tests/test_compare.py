import csv
import json
import shutil

import pytest

from kpedge.cli.main import main
from kpedge.core.errors import TrainingError, UsageError
from kpedge.evaluation.compare import (
    differing_flags,
    read_run,
    read_runs,
    seed_groups,
    within_chance,
)
from kpedge.training.config import TrainConfig


def make_run(folder, best, *, epochs=6, sets=("faces21 0123abcd",), face=False, **changed):
    """A run whose error falls to `best` in its last epoch but one."""
    folder.mkdir(parents=True)
    settings = {"recipe": "stage1", "sets": list(sets), **TrainConfig(epochs=epochs).to_dict(), **changed}
    (folder / "config.json").write_text(json.dumps({name: v for name, v in settings.items() if v is not None}))
    rows = []
    for epoch in range(1, epochs + 1):
        error = best + 0.01 * abs(epochs - 1 - epoch)
        row = {"epoch": epoch, "train_loss": 1 / epoch, "val_nme": error, "val_failure": 0.1, "criterion": error}
        row |= {"val_accuracy": 0.9, "val_face_accuracy": 0.8, "val_negative_accuracy": 0.95} if face else {}
        rows.append({**row, "seconds": 2.0 + (epoch == 1)})
    with (folder / "metrics.csv").open("w") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture
def runs(tmp_path):
    """A network with three seeds, one that is as good, one that is better."""
    errors = {"s0": 0.030, "s1": 0.032, "s2": 0.034}
    found = [make_run(tmp_path / name, error, seed=number) for number, (name, error) in enumerate(errors.items())]
    found.append(make_run(tmp_path / "euclidean", 0.0315, loss="euclidean"))
    found.append(make_run(tmp_path / "fast", 0.020, lr=0.2, mirror=False))
    return found


def test_figures_of_a_real_run_are_those_of_its_checkpoint(trained, tmp_path):
    from kpedge.models.checkpoint import load_checkpoint

    progress = load_checkpoint(trained / "best.pt").progress
    run = read_run(trained, "run")
    figures = run.to_dict()
    assert figures["best_epoch"] == progress["best_epoch"]
    assert figures["best_nme"] == pytest.approx(progress["history"][progress["best_epoch"] - 1]["val_nme"], rel=1e-6)
    assert (figures["epochs"], figures["planned_epochs"]) == (25, 25)
    assert figures["last_nme"] == run.history[-1]["val_nme"]
    assert figures["face_accuracy"] is None
    assert run.settings["sets"][0].startswith("photos ")


def test_runs_are_sorted_and_grouped_by_seed(runs):
    found = read_runs(runs)
    assert [run.name for run in found] == ["fast", "s0", "euclidean", "s1", "s2"]
    groups = seed_groups(found)
    assert [group.name for group in groups] == ["fast", "euclidean", "s0, s1, s2"]
    assert groups[2].mean == pytest.approx(0.032)
    assert groups[2].deviation == pytest.approx(0.002)
    assert groups[0].deviation is None
    assert within_chance(groups) == [], "the best is far ahead"
    ((best, other, spread),) = within_chance(seed_groups(found[1:]))
    assert (best.name, other.name) == ("euclidean", "s0, s1, s2")
    assert spread == pytest.approx(0.002)


def test_copies_other_data_and_other_lengths_are_no_seeds(tmp_path):
    folders = [
        make_run(tmp_path / "a", 0.03),
        make_run(tmp_path / "b", 0.031),
        make_run(tmp_path / "c", 0.03, seed=1, sets=("other 0123abcd",)),
        make_run(tmp_path / "d", 0.03, seed=2, epochs=3),
    ]
    assert {group.name for group in seed_groups(read_runs(folders))} == {"a", "b", "c", "d"}


def test_only_flags_that_differ_are_told_and_the_usual_ones_left_out(runs):
    flags = dict(zip([run.name for run in read_runs(runs)], differing_flags(read_runs(runs)), strict=True))
    assert flags == {
        "s0": "",
        "s1": "--seed 1",
        "s2": "--seed 2",
        "euclidean": "--loss euclidean",
        "fast": "--lr 0.2 --no-mirror",
    }


def test_flags_of_every_kind_are_written_as_they_are_given(tmp_path):
    one = make_run(tmp_path / "one", 0.1, init_from="0123456789ab", freeze=["conv*", "ip1"], recipe="stage3")
    two = make_run(
        tmp_path / "two",
        0.2,
        sets=("faces21 0123abcd", "more 4567cdef"),
        lr_groups=[["ip*", 0.01]],
        later=3.0,  # which the other, of an older kpedge, does not know
    )
    (first, second) = read_runs([two, one])
    assert differing_flags([first, second]) == [
        "stage3 --data faces21 --freeze conv* --freeze ip1 no --lr-group --init-from 01234567",
        "stage1 --data faces21 --extra-data more no --freeze --lr-group ip*=0.01 no --init-from",
    ]
    again = make_run(tmp_path / "again", 0.2, sets=("faces21 99999999",))
    texts = differing_flags(read_runs([one, again]))
    assert "--data faces21 0123abcd" in texts[0], "sets of one name are told apart"


def test_the_command_prints_a_table_and_says_what_chance_does(runs, capsys):
    assert main(["compare", *map(str, runs)]) == 0
    captured = capsys.readouterr()
    head, _, first, *_ = captured.out.splitlines()
    assert head.split("  ")[0] == "run"
    assert "negatives" not in head
    assert first.split() == ["fast", "6/6", "5", "2.00%", "3.00%", "10.00%", "2.0", "--lr", "0.2", "--no-mirror"]
    assert "s0, s1, s2" in captured.out
    assert "± 0.200%" in captured.out
    assert captured.err == ""
    assert main(["compare", *map(str, runs[:4])]) == 0
    assert "no difference shown: euclidean and s0, s1, s2 are 0.050% apart, seeds alone bring 0.200%" in (
        capsys.readouterr().err
    )
    assert main(["compare", str(runs[0]), str(runs[4])]) == 0
    assert "no two runs differ in --seed alone" in capsys.readouterr().err


def test_face_scores_and_runs_without_recorded_data(tmp_path, runs, capsys):
    scored = make_run(tmp_path / "scored", 0.025, face=True, sets=())
    settings = json.loads((scored / "config.json").read_text())
    del settings["sets"]
    (scored / "config.json").write_text(json.dumps(settings))
    assert main(["compare", str(scored), str(runs[0])]) == 0
    captured = capsys.readouterr()
    head, _, first, second = captured.out.splitlines()[:4]
    assert "negatives" in head
    assert first.split()[6:8] == ["80.00%", "95.00%"]
    assert second.split()[6:8] == ["–", "–"]
    assert "which may differ too: scored" in captured.err


def test_errors_of_other_points_are_not_held_against_each_other(tmp_path, capsys):
    for seed, error in enumerate((0.030, 0.034)):
        make_run(tmp_path / f"many{seed}", error, seed=seed, sets=["a 01"], scheme="ibug68")
    make_run(tmp_path / "few", 0.0301, sets=["b 02"], scheme="faces5")
    make_run(tmp_path / "old", 0.0302, sets=["c 03"])
    found = read_runs(sorted(tmp_path.iterdir()))
    groups = seed_groups(found)
    assert [group.name for group in groups] == ["few", "old", "many0, many1"]
    assert within_chance(groups) == [], "the best is one of other points"
    assert main(["compare", *(str(run.path) for run in found)]) == 0
    captured = capsys.readouterr()
    assert "of different points (faces5, ibug68)" in captured.err
    assert "--data b (faces5)" in captured.out
    assert main(["compare", str(tmp_path / "many0"), str(tmp_path / "many1")]) == 0
    assert "different points" not in capsys.readouterr().err


def test_json_holds_the_same(runs, capsys):
    assert main(["compare", *map(str, runs), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [run["run"] for run in document["runs"]] == ["fast", "s0", "euclidean", "s1", "s2"]
    assert document["runs"][0]["settings"] == {"lr": 0.2, "loss": "mse", "mirror": False, "seed": 0}
    assert document["runs"][0]["seconds_per_epoch"] == 2
    assert document["seed_groups"][2]["runs"] == ["s0", "s1", "s2"]
    assert document["within_chance"] == []


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    with pytest.raises(UsageError, match="1 run given, 2 to 12"):
        read_runs(runs[:1])
    with pytest.raises(UsageError, match=r"s0.*is given twice"):
        read_runs([runs[0], runs[0] / ".." / "s0"])
    for folder in (tmp_path / "nothing", runs[0] / "config.json"):
        with pytest.raises(TrainingError, match="not the folder of a run"):
            read_runs([runs[0], folder])
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        TrainingError, match=r"config\.json: no such file, so this is not the folder of a run"
    ) as caught:
        read_runs([runs[0], tmp_path / "empty"])
    assert "after its first epoch" in caught.value.advice


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: "", r"metrics\.csv:1: no column epoch"),
        (lambda text: text.splitlines()[0] + "\n", r"metrics\.csv: no epoch was validated yet"),
        (lambda text: text.replace("val_nme", "nme"), r"metrics\.csv:1: no column val_nme"),
        (lambda text: text.rpartition(",")[0], r"metrics\.csv:7: 5 cells under 6 names"),
        (lambda text: text.replace("\n3,", "\nthree,"), r"metrics\.csv:4: could not convert .*'three'"),
        (lambda text: text.replace("\n3,", "\n7,"), r"metrics\.csv:4: epoch 7, expected 3"),
        (lambda text: text.replace(",1.0,", ",nan,", 1), r"metrics\.csv:2: train_loss is nan"),
        (lambda text: text + '"', r"metrics\.csv: not a CSV file"),
    ],
)
def test_a_broken_table_is_told_with_its_line(runs, change, words):
    path = runs[1] / "metrics.csv"
    path.write_text(change(path.read_text().replace("\r\n", "\n")))
    with pytest.raises(TrainingError, match=words):
        read_runs(runs)


def test_broken_settings_are_told(runs):
    for content in ("{", "[1]", '"x"'):
        (runs[1] / "config.json").write_text(content)
        with pytest.raises(TrainingError, match=r"s1/config\.json: not"):
            read_runs(runs)


def test_runs_of_one_name_are_called_by_their_paths(tmp_path):
    one, two = make_run(tmp_path / "a" / "run", 0.1), make_run(tmp_path / "b" / "run", 0.2)
    assert [run.name for run in read_runs([two, one])] == [str(one), str(two)]
    shutil.rmtree(two)
    with pytest.raises(TrainingError):
        read_runs([two, one])
