"""What is on the shelf does what its card, the README and the docs say."""

import json
import re

import numpy as np
import pytest
from conftest import ROOT, SAMPLE

from kpedge.datasets.labels import read_labels
from kpedge.export.formats import open_model
from kpedge.export.verify import verify
from kpedge.images import read_image
from kpedge.keypoints import FACES21
from kpedge.runtime.keypoints import KeypointPredictor
from kpedge.shelf import released, shelf_folder

NAMES = released()


def test_the_shelf_is_in_order():
    assert NAMES == ["stage1"]
    assert shelf_folder() == ROOT / "export"
    files = {path.name for path in shelf_folder().iterdir()}
    assert files == {f"{name}{suffix}" for name in NAMES for suffix in (".onnx", ".torchscript.pt", ".json")}


def test_the_wheel_carries_every_onnx_file_with_its_card_and_the_sample():
    text = (ROOT / "pyproject.toml").read_text()
    included = dict(re.findall(r'^"(.+)" = "kpedge/_shipped/(.+)"$', text, re.MULTILINE))
    wanted = {f"export/{name}{suffix}" for name in NAMES for suffix in (".onnx", ".json")} | {"data/sample"}
    assert included.keys() == wanted
    assert all((ROOT / source).exists() for source in included)


@pytest.mark.parametrize("name", NAMES)
def test_released_files_hold_their_proof(name):
    checks = verify([shelf_folder() / f"{name}.onnx", shelf_folder() / f"{name}.torchscript.pt"])
    assert all(check.card_matches for check in checks)
    card = json.loads((shelf_folder() / f"{name}.json").read_text())
    assert card["training"]["sets"][0] == {
        **card["training"]["sets"][0],
        "name": "faces21",
        "terms": "course data, research use",
    }
    assert card["accuracy"]["test"]["faces"] == 363
    assert {row.inputs for check in checks for row in check.rows} == {"random"}
    assert any("real" in key for key in card["parity"]["largest_difference"])


@pytest.mark.parametrize("suffix", [".onnx", ".torchscript.pt"])
@pytest.mark.parametrize("name", NAMES)
def test_released_models_find_the_sample(name, suffix):
    (row,) = read_labels(SAMPLE, FACES21).rows
    predictor = KeypointPredictor(open_model(shelf_folder() / f"{name}{suffix}"))
    (face,) = predictor(read_image(SAMPLE / row.photo), [row.box])
    errors = np.linalg.norm(face.keypoints - row.keypoints, axis=1) / (row.box[2] - row.box[0])
    assert errors.mean() < 0.035
    mean_face = predictor.model.card.mean_shape * 1.5 - 0.25
    wanted = (row.keypoints - row.box[:2]) / (row.box[2:] - row.box[:2])
    assert errors.mean() < np.linalg.norm(mean_face - wanted, axis=1).mean()


def test_the_figures_in_the_readme_are_those_of_the_cards():
    text = (ROOT / "README.md").read_text()
    for name in NAMES:
        figures = json.loads((shelf_folder() / f"{name}.json").read_text())["accuracy"]["test"]
        row = re.search(rf"^\| {name} \|(.*)\|$", text, re.MULTILINE)[1]
        shown = [cell.strip() for cell in row.split("|")]
        assert shown[:4] == [
            f"{figures['nme_box']:.2%}".replace("%", " %"),
            f"{figures['mse_112']:.2f}",
            f"{figures['failure_rate']:.1%}".replace("%", " %"),
            f"{figures['auc']:.3f}",
        ]
