"""The released model and the whole way on the real photos, where they are."""

import json

import numpy as np
import pytest
from conftest import PHOTOS

from kpedge.cli.main import main
from kpedge.core.geometry import CropRule, crop, crop_square, crop_transform, iou
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES21
from kpedge.core.model_zoo import models_folder
from kpedge.data.check import check
from kpedge.data.negatives import MAX_IOU, read_unlabelled
from kpedge.data.packed import open_set
from kpedge.data.preparation import PrepareOptions, prepare
from kpedge.data.sampling import CropSampler
from kpedge.runtime.sessions import OnnxModel

pytestmark = [
    pytest.mark.photos,
    pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"the real photos are not here: {PHOTOS.parent.name}/{PHOTOS.name}"),
]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    out = tmp_path_factory.mktemp("real") / "faces21"
    prepare(PHOTOS, out, PrepareOptions(name="faces21", terms="course data, research use"))
    return open_set(out)


def test_all_labels_are_read(real):
    report, _ = check(PHOTOS, FACES21)
    assert (report.rows, report.photos) == (2461, 1780)
    assert report.problems == ()
    assert report.faces == 2461
    assert report.notes["faces labelled twice"] == 3
    assert report.box_px["median"] == pytest.approx(81, abs=2)
    assert (real.face == 1).sum() == 2461
    counts = real.info["counts"]["test"]
    assert (counts["photos"], counts["faces"]) == (220, 363)


def test_negatives_keep_away_from_faces_labelled_or_not(real):
    def square(box):
        x, y, side = crop_square(box, CropRule())
        return np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])

    unlabelled = read_unlabelled(PHOTOS)
    assert sum(map(len, unlabelled.values())) == 33
    assert (real.face == 0).sum() > 2.8 * 1780
    for index in np.flatnonzero(real.face == 0):
        missed = unlabelled.get(real.photos[real.photo[index]], [])
        faces = [*real.boxes[(real.photo == real.photo[index]) & (real.face == 1)], *missed]
        crop_of = square(real.boxes[index])
        assert iou(crop_of[None], np.array([square(box) for box in faces])).max() < MAX_IOU
        for box in missed:
            middle = (box[:2] + box[2:]) / 2
            assert not ((crop_of[:2] < middle) & (middle < crop_of[2:])).all()


def test_prepared_crops_equal_those_of_the_photos(real):
    sampler = CropSampler(real, 112, "grey", CropRule())
    for index in range(0, len(real), 23):
        photo = read_image(PHOTOS / real.photos[real.photo[index]], stored=True)
        expected = crop(photo, crop_transform(real.boxes[index], 112, CropRule()), 112, colour="grey")
        assert (sampler.batch(np.array([index]))[0][0] == expected).all()


@pytest.mark.parametrize("suffix", [".onnx", ".torchscript.pt"])
def test_the_released_stage_1_holds_its_floors(real, suffix, capsys):
    assert main(["eval", str(models_folder() / f"stage1{suffix}"), "--data", str(real.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["faces"] == 363
    assert found["mse_112"] < 9.0
    assert found["nme_box"] < 0.045
    assert found["nme_box"] < 0.7 * found["mean_face"]["nme_box"]
    card = json.loads((models_folder() / "stage1.json").read_text())
    assert found["nme_box"] == pytest.approx(card["accuracy"]["test"]["nme_box"], abs=2e-6)


def test_from_the_photos_themselves_it_is_the_same(capsys):
    listed = ["--list", str(PHOTOS / "test_images.txt"), "--json"]
    assert main(["eval", "stage1", "--data", str(PHOTOS), *listed]) == 0
    found = json.loads(capsys.readouterr().out)
    card = json.loads((models_folder() / "stage1.json").read_text())
    assert found["nme_box"] == pytest.approx(card["accuracy"]["test"]["nme_box"], abs=2e-6)


def test_stage_1_learns_on_real_photos(real, tmp_path):
    from kpedge.training.config import TrainConfig
    from kpedge.training.loop import train

    result = train(
        "stage1", real, tmp_path / "run", TrainConfig(epochs=6, lr=0.2, roll=0.0, scale=0.0, shift=0.0, threads=2)
    )
    assert result.error < 0.85 * result.baseline


@pytest.mark.parametrize("suffix", [".onnx", ".torchscript.pt"])
def test_the_released_stage_3_holds_its_floors(real, suffix, capsys):
    assert main(["eval", str(models_folder() / f"stage3{suffix}"), "--data", str(real.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["nme_box"] <= 0.024
    large = [group for group in found["by_size"] if group["from_px"] >= 60]
    assert sum(group["faces"] * group["nme_box"] for group in large) / sum(g["faces"] for g in large) <= 0.021
    assert found["failure_rate"] <= 0.005
    assert found["faces_found"] >= 0.985
    assert found["face_score"]["negative_accuracy"] >= 0.99
    assert found["expected_errors"]["rank_correlation"] > 0.3
    assert found["expected_errors"]["kept_half_nme"] < 0.8 * found["expected_errors"]["dropped_half_nme"]


def test_the_released_stage_3_finds_no_face_where_there_is_none(tmp_path):
    background = PHOTOS.parent / "noface"
    prepare(background, tmp_path / "set", PrepareOptions(negatives=4), label_format="background")
    source = open_set(tmp_path / "set")
    crops, _ = CropSampler(source, 112, "grey", CropRule()).batch(source.negatives("test"))
    model = OnnxModel(models_folder() / "stage3.onnx")
    scores = model(crops)["score"]
    assert len(scores) > 250
    assert (scores < model.card.threshold).mean() >= 0.995
