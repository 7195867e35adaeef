"""`convert.json`: what kpedge wrote is read as what it is, format and boxes, there and back."""

import numpy as np
import pytest
from conftest import noise_photo

from kpedge.core.keypoints import FACES21_MEAN
from kpedge.data.convert import RECORD, convert
from kpedge.data.formats import matching_formats, read_format
from kpedge.data.formats.label import format_row


@pytest.fixture
def one_each(tmp_path):
    """Photos with one face each, whose boxes are another rule's than that of their points."""
    root, rows = tmp_path / "one each", []
    for number in range(2):
        noise_photo(root / f"{number}.png", number)
        points = FACES21_MEAN * 50 + (30 + number, 20)
        rows.append(format_row(f"{number}.png", np.array([20.0, 15, 90, 95 + number]), points))
    (root / "label.txt").write_text("\n".join(rows))
    return root


@pytest.mark.parametrize("target", ["pts0", "pts"])
def test_what_kpedge_wrote_is_read_as_it_was_written(one_each, tmp_path, target):
    out = tmp_path / "out"
    convert(one_each, out, target)
    assert matching_formats(out)[0] == matching_formats(out / "0.pts")[0] == target
    labels = read_format(out)
    assert (labels.format, labels.remarks) == (target, ())
    for row, own in zip(labels.rows, read_format(one_each).rows, strict=True):
        assert np.allclose(row.keypoints, own.keypoints, atol=1e-5)
    assert read_format(out, None, "pts").format == "pts", "--format goes before the record"


def test_a_record_that_does_not_fit_what_lies_there_is_passed_over(one_each, tmp_path):
    out = tmp_path / "out"
    convert(one_each, out, "pts0")
    for record in ('{"to": "coco"}', '{"to": "pts9"}', '{"to": ["pts0"]}', "[]", "{"):
        (out / RECORD).write_text(record)
        assert matching_formats(out)[0] == "pts"
    (out / RECORD).unlink()
    assert matching_formats(out)[0] == "pts"


@pytest.mark.parametrize("target", ["yolo", "coco", "course-lists"])
def test_boxes_hold_the_same_there_and_back(one_each, tmp_path, target):
    there = convert(one_each, tmp_path / "there", target)
    notes = [remark for remark in there.remarks if "--boxes" in remark]
    assert len(notes) == (target == "yolo"), "the others tell it themselves"
    assert all("from the brows to the chin ('face')" in note and "--boxes face" in note for note in notes)
    assert read_format(tmp_path / "there").convention == "face"
    back = convert(tmp_path / "there", tmp_path / "back", "label")
    assert not [remark for remark in back.remarks if "--boxes" in remark]
    assert read_format(tmp_path / "back").convention == "face"


def test_boxes_of_another_rule_stay_so(one_each, tmp_path):
    convert(one_each, tmp_path / "yolo", "yolo")
    (tmp_path / "yolo" / RECORD).unlink()
    assert read_format(tmp_path / "yolo").convention == "points"
    back = convert(tmp_path / "yolo", tmp_path / "back", "label")
    assert any("--boxes points" in remark for remark in back.remarks)
    assert read_format(tmp_path / "back").convention == "points"
    (tmp_path / "back" / RECORD).unlink()
    assert read_format(tmp_path / "back").convention == "face"
