"""`kpedge eval --by`: figures by group of faces."""

import json

import numpy as np
import pytest
from conftest import SAMPLE, make_photos

from kpedge.cli.main import main
from kpedge.core.errors import DataError, UsageError
from kpedge.data.formats.label import read_labels
from kpedge.evaluation.groups import band_names, measure_groups, parse_by, read_groups, read_report, wilson_interval


def test_numbers_are_cut_into_bands_where_bounds_are_given_or_there_are_many():
    assert band_names(["5", "20", "39.5", "80", ""], (20, 40)) == [
        "under 20",
        "20 to 40",
        "20 to 40",
        "from 40",
        "not given",
    ]
    assert band_names(["1", "2", "1.0"]) == ["1", "2", "1"]
    assert len(set(band_names([str(number) for number in range(100)]))) == 4
    assert band_names(["male", "", "female"]) == ["male", "not given", "female"]
    with pytest.raises(DataError, match="not hold numbers"):
        band_names(["male"], (20,))


@pytest.mark.parametrize("text", ["age:20,10", "age:x", "age:20,20"])
def test_bounds_must_rise(text):
    with pytest.raises(UsageError, match="rising"):
        parse_by(text)


def test_figures_of_groups_add_up_to_those_of_all():
    rng = np.random.default_rng(0)
    names = ["b"] * 40 + ["10 to 20"] * 30 + ["from 20"] * 20 + ["under 10"] * 9 + ["not given"]
    errors, found = rng.uniform(0.01, 0.05, 100), rng.random(100) < 0.9
    groups = measure_groups(names, errors, found)
    assert [group.name for group in groups] == ["under 10", "10 to 20", "from 20", "b", "not given"]
    assert sum(group.faces * group.nme_box for group in groups) / 100 == pytest.approx(errors.mean(), abs=1e-5)
    assert sum(group.faces * group.recall for group in groups) / 100 == pytest.approx(found.mean(), abs=1e-5)
    for group in groups[:-1]:
        assert group.nme_box_95[0] < group.nme_box < group.nme_box_95[1]
        assert group.recall_95[0] <= group.recall <= group.recall_95[1]
    assert groups[-1].nme_box_95 is None, "one face has no spread"


def test_the_interval_of_a_share_is_wilsons():
    assert wilson_interval(0, 10) == pytest.approx((0, 0.2775), abs=1e-3)
    assert wilson_interval(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-3)


@pytest.fixture
def people(tmp_path):
    """Three photos of a face each, a table of them, and a CSV file whose second line is the first photo's."""
    photos = make_photos(tmp_path / "photos", 3)
    (tmp_path / "people.csv").write_text("photo,age,hat\n000.png,7,yes\n001.png,70,no\n")
    (photos / "labels.csv").write_text("image,kind\n000.png,a\n001.png,b\n")
    return photos, tmp_path / "people.csv"


def test_a_table_is_joined_by_photo_and_a_label_file_by_line(people):
    photos, table = people
    rows = [("000.png", "labels.csv", 2), ("below/001.png", "labels.csv", 3), ("002.png", "labels.csv", 4)]
    assert read_groups("hat", photos, rows, table) == ("hat", ["yes", "no", "not given"])
    assert read_groups("kind", photos, rows) == ("kind", ["a", "b", "not given"])
    with pytest.raises(DataError, match="no column is called 'shoe'"):
        read_groups("shoe", photos, rows, table)
    with pytest.raises(UsageError, match="prepared set"):
        read_groups("kind", photos, [("000.png", "", 0)])
    with pytest.raises(DataError, match="none of the 1 face"):
        read_groups("hat", photos, [("x.png", "", 0)], table)


@pytest.mark.slow
def test_eval_prints_and_reports_the_groups(people, tmp_path, capsys):
    photos, table = people
    command = ["eval", "stage3", "--data", str(photos)]
    by = ["--by", "age:18", "--by", "hat", "--table", str(table), "--out", str(tmp_path / "report")]
    assert main([*command, *by]) == 0
    captured = capsys.readouterr()
    assert "under 18" in captured.out
    assert "next: kpedge predict" in captured.err
    groups = json.loads((tmp_path / "report" / "report.json").read_text())["groups"]
    assert [(group["name"], group["faces"]) for group in groups["age"]] == [
        ("under 18", 1),
        ("from 18", 1),
        ("not given", 1),
    ]
    export = ["export", "stage3", "--format", "onnx", "--groups", str(tmp_path / "report" / "report.json")]
    assert main([*export, "--out", str(tmp_path / "models")]) == 0
    card = json.loads((tmp_path / "models" / "stage3.json").read_text())
    assert card["accuracy"]["groups"] == {"photos": groups}
    capsys.readouterr()
    assert main([*command, "--by", "yaw:10", "--by", "light", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert sum(group["faces"] for group in groups["yaw"]) == sum(group["faces"] for group in groups["light"]) == 3


def test_a_report_without_groups_or_of_other_weights_is_no_part_of_a_card(tmp_path):
    report = tmp_path / "report.json"
    for content, said in (
        ([], "no"),
        ({"data": "photos", "weights_sha256": "a"}, "not a report with groups"),
        ({"data": "photos", "weights_sha256": "b", "groups": {}}, "other weights"),
    ):
        report.write_text(json.dumps(content))
        with pytest.raises(DataError, match=said):
            read_report(report, "a")
    report.write_text(json.dumps({"data": "x/photos", "weights_sha256": "a", "groups": {"age": []}}))
    assert read_report(report, "a") == ("photos", {"age": []})


def test_recall_of_a_detector_by_group(tmp_path, capsys):
    (row,) = read_labels(SAMPLE).rows
    box = ",".join(f"{value:g}" for value in row.box)
    photo = tmp_path / row.photo
    photo.write_bytes((SAMPLE / row.photo).read_bytes())
    (tmp_path / "boxes.csv").write_text(
        f"image,x1,y1,x2,y2,label\n{row.photo},{box},seen\n{row.photo},5,5,45,45,unseen\n"
    )
    assert main(["eval", "detector", "--data", str(tmp_path), "--by", "label", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]["label"]
    assert [(group["name"], group["recall"]) for group in groups] == [("seen", 1), ("unseen", 0)]


def test_a_model_no_better_than_the_mean_shape_is_called_that(people, capsys, monkeypatch):
    from kpedge.export import load
    from kpedge.runtime.sessions import OnnxModel

    class MeanShape(OnnxModel):
        def __call__(self, inputs):
            return super().__call__(inputs) | {"keypoints": np.tile(self.card.mean_shape, (len(inputs), 1, 1))}

    monkeypatch.setattr(load, "open_model", lambda path, threads: MeanShape(path, threads=threads))
    assert main(["eval", "stage1", "--data", str(people[0])]) == 0
    told = capsys.readouterr().err
    assert "no better than the mean-shape baseline" in told
    assert "next:" not in told
