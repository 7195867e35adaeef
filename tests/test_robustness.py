"""`benchmarks/robustness.py` in short: no attempt of any part may end in a fault. Its long runs are recorded."""

import json

import numpy as np
import pytest
from conftest import ROOT, load_script

from kpedge.core.card import card_from_json
from kpedge.core.errors import CorruptModelError
from kpedge.data.formats.named_faces import Shape, group_shapes
from kpedge.data.rows import is_file, is_folder

robustness = load_script(ROOT / "benchmarks" / "robustness.py")

SHORT = {"labels": 150, "images": 150, "sets": 150, "models": 60, "downloads": 20, "kills": 5}


@pytest.mark.slow
@pytest.mark.parametrize("part", robustness.PARTS)
def test_no_attempt_ends_in_a_fault(tmp_path, part):
    counted = robustness.attack(part, tmp_path, 0, SHORT[part])
    assert counted["faults"] == []
    assert sum(counted.get(end, 0) for end in robustness.ENDS) == SHORT[part]


def test_what_crashes_hangs_or_raises_is_a_fault(tmp_path, monkeypatch):
    child = tmp_path / "child.py"
    child.write_text("import os, sys; print('read'); print('ValueError at 1', flush=True); os._exit(9)")
    monkeypatch.setattr(robustness, "__file__", str(child))
    monkeypatch.setitem(robustness.PARTS, "labels", robustness.Part(lambda folder: None, None, 3, 3))
    counted = robustness.attack("labels", tmp_path, 0, 3)
    assert counted["read"] == 1
    assert len(counted["faults"]) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("threshold", 10**400), ("threshold", float("nan")), ("mean_shape", [[float("nan")] * 2] * 21)),
        *(("architecture", 5), ("input", {"shape": [None, float("inf"), 1], "colour": "grey"})),
    ],
)
def test_a_card_with_impossible_values_is_named(field, value):
    card = json.loads((ROOT / "export" / "stage3.json").read_text())
    with pytest.raises(CorruptModelError, match="a card"):
        card_from_json(json.dumps({**card, "self_test": {}, field: value}), "a card")


def test_a_card_that_is_nested_too_deeply_is_named():
    with pytest.raises(CorruptModelError, match="nested too deeply"):
        card_from_json("[" * 100_000)


def test_a_name_in_a_label_file_may_be_longer_than_a_name_can_be(tmp_path):
    assert not is_file(tmp_path / ("a" * 5000))
    assert not is_folder(tmp_path / ("a" * 5000))


def test_groups_of_shapes_may_be_called_anything():
    shapes = [Shape("face", np.array([0.0, 0, 9, 9]), group=[1]), Shape("", None, {"nose": (1.0, 2.0, True)}, [1])]
    (face,) = group_shapes(shapes)
    assert list(face.points) == ["nose"]
