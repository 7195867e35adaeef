"""Kaggle's facial keypoints: pictures that are pixels in a table."""

import csv

import pytest

from kpedge.cli.main import main
from kpedge.core.errors import DataError, ImageError
from kpedge.data.check import check, label_preview
from kpedge.data.formats import read_format
from kpedge.data.formats.kaggle_csv import COLUMNS
from kpedge.data.packed import open_set
from kpedge.data.photos import open_photo
from kpedge.data.preparation import PrepareOptions, prepare


@pytest.fixture
def kaggle(tmp_path):
    """Two faces; the second looks aside, and has but four labelled points."""
    root = tmp_path / "kaggle"
    root.mkdir()
    header = [f"{name}_{axis}" for name in COLUMNS for axis in "xy"]
    points = {
        "left_eye_center": (66, 39),
        "right_eye_center": (30, 36),
        "nose_tip": (44, 57),
        "mouth_left_corner": (61, 80),
    }
    full = {name: points.get(name, (40 + number, 30 + 2 * number)) for number, name in enumerate(COLUMNS)}
    with (root / "training.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*header, "Image"])
        for number, labelled in enumerate((full, points)):
            cells = [labelled.get(name, ("", ""))[axis == "y"] for name in COLUMNS for axis in "xy"]
            writer.writerow([*cells, " ".join(str((k + number) % 256) for k in range(96 * 96))])
    (root / "test.csv").write_text("ImageId,Image\n1,0 0 0\n")
    return root


def test_kaggles_left_is_the_persons(kaggle):
    labels = read_format(kaggle)
    assert (labels.format, labels.scheme.name, len(labels.rows)) == ("kaggle-csv", "kaggle15", 2)
    names = labels.scheme.points
    for row in labels.rows:
        found = {name: point.tolist() for name, point in zip(names, row.keypoints, strict=True)}
        assert found["right_pupil"] == [66, 39], "the person's left eye is at the picture's right"
        assert found["left_pupil"] == [30, 36]
        assert found["mouth_right_corner"] == [61, 80]
        assert found["nose_tip"] == [44, 57]
    assert labels.rows[1].labelled.sum() == 4
    assert [row.photo for row in labels.rows] == ["training.csv#2", "training.csv#3"]


def test_kaggles_pictures_are_pixels_in_the_file(kaggle, tmp_path):
    labels = read_format(kaggle)
    picture = open_photo(labels, "training.csv#3")
    assert picture.shape == (96, 96, 3)
    assert picture[0, :4, 0].tolist() == [1, 2, 3, 4]
    assert picture[2, 5].tolist() == [(2 * 96 + 5 + 1) % 256] * 3
    report, used = check(kaggle)
    assert (report.photos, report.faces, report.problems) == (2, 2, ())
    assert label_preview(used, side=100).shape[2] == 3
    counts = prepare(kaggle, tmp_path / "set", PrepareOptions(validation=0, test=0, negatives=1)).counts
    assert counts["train"]["faces"] == 2
    assert open_set(tmp_path / "set").keypoints.shape[1:] == (15, 2)
    assert main(["data", "prepare", str(kaggle), "--out", str(tmp_path / "frames"), "--frames"]) == 0


def test_broken_rows_and_pictures_of_kaggle_are_named(kaggle):
    lines = (kaggle / "training.csv").read_text().splitlines()
    lines += [lines[1] + " 3", ",".join([*[""] * 30, "1 2"])]
    points, _, pixels = lines[1].rpartition(",")
    lines += [f"{points},{pixels.replace(' 9 ', f' {value} ', 1)}" for value in ("999", "dark")]
    lines += [lines[1] + " 0" * 100_000]  # more than the csv module reads
    (kaggle / "training.csv").write_text("\n".join(lines))
    labels = read_format(kaggle)
    assert [(p.kind, p.where) for p in labels.problems] == [
        ("points", "training.csv:5"),
        ("columns", "training.csv:8"),
    ]
    with pytest.raises(ImageError, match="9,217 values in Image, expected 96x96 = 9,216 pixels"):
        open_photo(labels, "training.csv#4")
    report, _ = check(kaggle)
    pictures = [problem for problem in report.problems if problem not in labels.problems]
    assert [(problem.kind, problem.where) for problem in pictures] == [
        ("unreadable photo", f"training.csv:{line}") for line in (4, 6, 7)
    ]
    assert "photos missing" not in {finding.kind for finding in report.findings}
    (kaggle / "training.csv").write_text("left_eye_center_x,Image\n")
    with pytest.raises(DataError, match="no column is called right_eye_center_x"):
        read_format(kaggle, None, "kaggle-csv")
    (kaggle / "training.csv").write_text("\n".join([lines[0].replace("Image", "nose_tip_x,Image"), *lines[1:3]]))
    with pytest.raises(DataError, match="several columns are called nose_tip_x"):
        read_format(kaggle)
