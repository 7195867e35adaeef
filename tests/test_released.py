"""Released models do what their card, the README and the docs say."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, SAMPLE
from torch import nn

import kpedge
from kpedge.core.geometry import iou
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES5, FACES21, convert_points
from kpedge.core.model_zoo import (
    DEFAULT_DETECTOR,
    DEFAULT_MODEL,
    RENDERED_TERMS,
    models_folder,
    released,
    released_keypoint_models,
    resolve_weights,
)
from kpedge.data.formats.label import read_labels
from kpedge.export.load import open_eager, open_model
from kpedge.export.parity import check_parity, check_same_model
from kpedge.export.test_inputs import random_crops
from kpedge.export.verification import verify
from kpedge.runtime.detector import FaceDetector, detector_model
from kpedge.runtime.keypoints import KeypointPredictor, keypoint_model

NAMES = released()
RESULTS = ROOT / "benchmarks" / "results"
KEYPOINT_NAMES = released_keypoint_models()
FACES21_TERMS = "course data, research use"


def test_the_released_models_are_complete():
    assert NAMES == ["detector", "detector-synthetic", "stage1", "stage2", "stage3", "stage3-68", "stage3-synthetic"]
    assert (DEFAULT_MODEL, DEFAULT_DETECTOR) == ("stage3", "detector")
    assert KEYPOINT_NAMES == ["stage1", "stage2", "stage3", "stage3-68", "stage3-synthetic"]
    assert models_folder() == ROOT / "export"
    files = {path.name for path in models_folder().iterdir() if path.is_file()}
    assert files == {
        f"{name}{suffix}" for name in NAMES for suffix in (".onnx", ".torchscript.pt", ".safetensors", ".json")
    }


def test_the_wheel_carries_onnx_files_weights_cards_and_the_sample():
    text = (ROOT / "pyproject.toml").read_text()
    included = dict(re.findall(r'^"(.+)" = "kpedge/_shipped/(.+)"$', text, re.MULTILINE))
    wanted = {f"export/{name}{suffix}" for name in NAMES for suffix in (".onnx", ".safetensors", ".json")} | {
        "data/sample",
        "js/site",
    }
    assert included.keys() == wanted
    assert all((ROOT / source).exists() for source in included)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_released_files_are_verified(name):
    checks = verify([models_folder() / f"{name}.onnx", models_folder() / f"{name}.torchscript.pt"])
    assert all(check.card_matches for check in checks)
    card = json.loads((models_folder() / f"{name}.json").read_text())
    first = card["training"]["sets"][0]
    others = {"stage3-68": ("helen_afw68", "iBUG 300-W annotations, research only")}
    others |= dict.fromkeys(("stage3-synthetic", "detector-synthetic"), ("synthetic", RENDERED_TERMS))
    assert (first["name"], first["terms"]) == others.get(name, ("faces21", FACES21_TERMS))
    if name in KEYPOINT_NAMES:
        assert card["accuracy"]["test"]["faces"] == (129 if name == "stage3-68" else 363)
    assert {row.inputs for check in checks for row in check.rows} == {"random"}
    assert any("real" in key for key in card["parity"]["largest_difference"])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_released_weights_compute_what_the_released_files_do(name):
    """They were rebuilt from the files, with the layers that export folds away."""
    reference = open_model(models_folder() / f"{name}.onnx")
    rebuilt = open_eager(resolve_weights(name))
    check_same_model({"file": reference.card, "weights": rebuilt.card})
    crops = random_crops(16, reference.card.dummy_input_shape, seed=5)
    assert check_parity("weights", rebuilt, reference, {"random": crops}, extents=reference.card.extents)
    assert name == "stage1" or any(isinstance(layer, nn.BatchNorm2d) for layer in rebuilt.module.modules()), "unfolded"


@pytest.mark.parametrize("suffix", [".onnx", ".torchscript.pt"])
@pytest.mark.parametrize("name", KEYPOINT_NAMES)
def test_released_models_find_the_sample(name, suffix):
    (row,) = read_labels(SAMPLE, FACES21).rows
    predictor = KeypointPredictor(keypoint_model(open_model(models_folder() / f"{name}{suffix}")))
    (face,) = predictor(read_image(SAMPLE / row.photo), [row.box])
    scheme = predictor.model.card.scheme
    found = convert_points(face.keypoints, scheme, FACES21)
    errors = np.linalg.norm(found - row.keypoints, axis=1) / (row.box[2] - row.box[0])
    assert errors.mean() < 0.035
    mean_face = convert_points(predictor.model.card.mean_shape, scheme, FACES21) * 1.5 - 0.25
    wanted = (row.keypoints - row.box[:2]) / (row.box[2:] - row.box[:2])
    assert errors.mean() < np.linalg.norm(mean_face - wanted, axis=1).mean()


def test_the_table_in_the_readme_is_what_the_cards_say():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "tables.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def figures(name):
    return json.loads((models_folder() / f"{name}.json").read_text())["accuracy"]["test"]


def test_the_recorded_figures_keep_what_is_promised():
    assert figures("stage2")["nme_box"] <= 0.026
    deployed = figures("stage3")
    assert deployed["nme_box"] <= 0.024
    assert deployed["nme_box_60px"] <= 0.021
    assert deployed["failure_rate"] <= 0.005
    assert deployed["face_score"]["face_accuracy"] >= 0.985
    assert deployed["face_score"]["negative_accuracy"] >= 0.995
    assert (models_folder() / "stage3.onnx").stat().st_size < 2_000_000
    recorded = json.loads((ROOT / "benchmarks" / "results" / "stages.json").read_text())["models"]
    assert recorded["stage3"]["ratio"] < 2.2
    assert recorded["stage3"]["bytes"] == (models_folder() / "stage3.onnx").stat().st_size


def test_models_of_rendered_faces_keep_what_is_promised():
    points, found = figures("stage3-synthetic"), figures("detector-synthetic")
    assert points["nme_box"] <= 0.031
    assert points["failure_rate"] <= 0.01
    assert found["faces21"]["640"]["average_precision"] >= 0.85
    (face,) = kpedge.load(licence="free")(SAMPLE / "eileen_collins.jpg")
    (row,) = read_labels(SAMPLE, FACES21).rows
    assert iou(face.box[None], row.box[None])[0, 0] > 0.6
    assert np.linalg.norm(face.keypoints - row.keypoints, axis=1).mean() < 0.05 * (row.box[2] - row.box[0])


def test_the_released_stage_3_rejects_what_is_no_face():
    image = read_image(SAMPLE / "eileen_collins.jpg")
    (row,) = read_labels(SAMPLE, FACES21).rows
    x1, y1, x2, y2 = row.box
    side = x2 - x1
    suit = np.array([x1 - side / 2, y2 + side, x2 - side / 2, y2 + 2 * side])
    eye = np.array([x1, y1, x1 + side / 4, y1 + side / 4])
    predictor = KeypointPredictor(keypoint_model(open_model(models_folder() / "stage3.onnx")))
    face, *others = predictor(image, [row.box, suit, eye])
    assert len(face.keypoints) == 21
    assert face.score > 0.9
    assert all(not len(other.keypoints) for other in others)


@pytest.mark.parametrize("suffix", [".onnx", ".torchscript.pt"])
@pytest.mark.parametrize("side", [320, 640, 1300])
def test_the_released_detector_finds_the_sample(suffix, side):
    image = read_image(SAMPLE / "eileen_collins.jpg")
    (row,) = read_labels(SAMPLE, FACES21).rows
    (found,) = FaceDetector(detector_model(open_model(models_folder() / f"detector{suffix}")), side=side)(image)
    assert iou(found.box[None], row.box[None])[0, 0] > 0.75
    wanted = convert_points(row.keypoints, FACES21, FACES5)
    # The released detector's points are rough: its mouth corners lie where those of a closed mouth would.
    assert np.linalg.norm(found.points - wanted, axis=1).max() < 0.15 * (row.box[2] - row.box[0])


def test_the_released_detector_keeps_what_is_promised():
    found = figures("detector")
    assert found["faces21"]["320"]["average_precision"] >= 0.95
    assert found["facemask"]["640"]["average_precision"] >= 0.80
    assert all(figures["faceless_alarms"] <= 0.01 for figures in found["noface"].values())
    assert (models_folder() / "detector.onnx").stat().st_size <= 500_000
    recorded = {row["what"]: row for row in json.loads((RESULTS / "detection.json").read_text())["rows"]}
    assert recorded["frame to faces"]["ratio"] <= 10
    for row in json.loads((RESULTS / "detected_boxes.json").read_text())["rows"]:
        assert row["nme"]["detected, second look"] - row["nme"]["labelled"] <= 0.003
