import numpy as np
import pytest

from kpedge.core.keypoints import FACES21
from kpedge.evaluation.evaluate import disturb_boxes
from kpedge.evaluation.keypoint_metrics import KeypointTruth, error_curve, measure


def truth(count=4, size=60.0):
    shape = np.zeros((count, 21, 2))
    shape[:, 16], shape[:, 17] = (0.3, 0.4), (0.7, 0.4)
    boxes = np.tile([0.0, 0, size, size], (count, 1))
    return KeypointTruth(shape, np.full(count, 1.5 * size), boxes, FACES21)


def test_figures_by_hand():
    """Every point 3 px right and 4 px down in a crop of 90 px around a box of 60 px: 5 px off."""
    reference = truth()
    found = measure(reference.keypoints + np.array([3, 4]) / 90, reference)
    assert found.nme_box == pytest.approx(5 / 60)
    assert found.nme_pupil == pytest.approx(5 / (0.4 * 90))
    assert found.mse_112 == pytest.approx((3 * 112 / 90) ** 2 + (4 * 112 / 90) ** 2)
    assert found.by_point == pytest.approx(np.full(21, 5 / 60))
    assert found.failure_rate == 0
    assert found.auc == pytest.approx(1 - (5 / 60) / 0.10, abs=1e-3)


def test_oblong_boxes_count_by_the_root_of_their_area():
    reference = truth(1)
    reference.boxes[0] = [0, 0, 40, 90]
    assert measure(reference.keypoints + np.array([6, 0]) / 90, reference).nme_box == pytest.approx(6 / 60)


def test_profiles_are_left_out_of_the_pupils_figure_and_counted():
    reference = truth()
    reference.keypoints[0, 17] = reference.keypoints[0, 16] + (5.9 / 90, 0)  # under a tenth of 60
    reference.keypoints[1, 17] = reference.keypoints[1, 16] + (6.1 / 90, 0)
    found = measure(reference.keypoints + np.array([3, 4]) / 90, reference)
    assert found.pupil_left_out == 1
    assert found.nme_pupil == pytest.approx(np.mean([5 / 6.1, 5 / 36, 5 / 36]))


def test_failures_and_the_curve():
    reference = truth(10)
    offsets = np.zeros((10, 21, 2))
    offsets[:3] = np.array([7, 0]) / 90  # 7 of 60 px: over a tenth
    found = measure(reference.keypoints + offsets, reference)
    assert found.failure_rate == pytest.approx(0.3)
    thresholds, share = error_curve(found.face_errors)
    assert (thresholds[0], thresholds[-1]) == (0, 0.10)
    assert share[0] == share[-1] == pytest.approx(0.7)
    assert found.auc == pytest.approx(0.7)


def test_sizes_are_told_apart():
    reference = truth(4)
    for row, size in enumerate((20, 30, 100, 500)):
        reference.boxes[row] = [0, 0, size, size]
        reference.crop_side[row] = 1.5 * size
    found = measure(reference.keypoints + 0.02, reference)
    assert [entry["faces"] for entry in found.by_size] == [1, 1, 1, 1]
    assert [entry["from_px"] for entry in found.by_size] == [0, 30, 60, 120]
    assert all(entry["nme_box"] == pytest.approx(0.03 * np.sqrt(2), abs=1e-5) for entry in found.by_size)


def test_the_dictionary_names_every_point():
    document = measure(truth().keypoints, truth()).to_dict(FACES21)
    assert list(document["by_point"]) == list(FACES21.points)
    assert document["by_size"][2] == {"from_px": 60.0, "to_px": 120.0, "faces": 4, "nme_box": 0.0}
    assert document["by_size"][0]["nme_box"] is None


def test_disturbed_boxes_stay_within_their_noise():
    boxes = np.tile([10.0, 20, 110, 120], (500, 1))
    moved = disturb_boxes(boxes, 0.05, np.random.default_rng(0))
    centre, size = (moved[:, :2] + moved[:, 2:]) / 2, moved[:, 2:] - moved[:, :2]
    assert 4 < np.abs(centre - (60, 70)).max() <= 5
    assert 4 < np.abs(size - 100).max() <= 5
    assert np.allclose(size[:, 0], size[:, 1])
    assert (disturb_boxes(boxes, 0.0, np.random.default_rng(0)) == boxes).all()
