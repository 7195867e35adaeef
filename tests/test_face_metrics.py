import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpedge.core.keypoints import FACES21
from kpedge.evaluation.evaluate import judge_forecast
from kpedge.evaluation.keypoint_metrics import KeypointTruth, measure
from kpedge.evaluation.score_metrics import (
    best_threshold,
    calibrate,
    calibration_error,
    measure_faces,
    precision_recall_curve,
    roc_curve,
)

scores = st.lists(st.integers(0, 20).map(lambda number: number / 20), min_size=1, max_size=25).map(np.array)
"""Few values, so that many are equal."""
quickly = settings(deadline=None, max_examples=80)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def gain(faces, negatives, threshold):
    """The share of faces found less that of false alarms."""
    return (faces >= threshold).mean() - (negatives >= threshold).mean()


# Curves


@quickly
@given(scores, scores)
def test_the_roc_curve_is_what_counting_gives(faces, negatives):
    thresholds, false_alarms, found = roc_curve(faces, negatives)
    assert (false_alarms[0], found[0], false_alarms[-1], found[-1]) == (0, 0, 1, 1)
    assert thresholds[0] == np.inf
    assert thresholds[1:].tolist() == sorted({*faces, *negatives}, reverse=True)
    for threshold, alarm, hit in zip(thresholds, false_alarms, found, strict=True):
        assert alarm == pytest.approx((negatives >= threshold).mean())
        assert hit == pytest.approx((faces >= threshold).mean())


@quickly
@given(scores, scores)
def test_the_precision_recall_curve_is_what_counting_gives(faces, negatives):
    for threshold, precision, recall in zip(*precision_recall_curve(faces, negatives), strict=True):
        hits, alarms = (faces >= threshold).sum(), (negatives >= threshold).sum()
        assert precision == pytest.approx(hits / (hits + alarms))
        assert recall == pytest.approx((faces >= threshold).mean())


@quickly
@given(scores, scores)
def test_the_areas_are_what_their_definitions_give(faces, negatives):
    measured = measure_faces(faces, negatives, 0.5)
    above = faces[:, None] - negatives[None, :]
    assert measured.auc == pytest.approx((above > 0).mean() + (above == 0).mean() / 2)
    precision = [(faces >= score).sum() / ((faces >= score).sum() + (negatives >= score).sum()) for score in faces]
    assert measured.average_precision == pytest.approx(np.mean(precision))


def test_faces_and_negatives_are_counted_at_the_threshold():
    faces, negatives = np.array([0.5, 0.9, 0.49, 0.7]), np.array([0.5, 0.1])
    found = measure_faces(faces, negatives, 0.5)
    assert (found.faces, found.negatives, found.threshold) == (4, 2, 0.5)
    assert (found.face_accuracy, found.negative_accuracy) == (0.75, 0.5), "a score at the threshold counts as a face"
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.face_scores is faces
    document = found.to_dict()
    assert document["threshold"] == 0.5
    assert document["faces"] == 4
    assert document["auc"] == round(found.auc, 6)
    assert set(document) >= {"negatives", "face_accuracy", "negative_accuracy", "average_precision"}


# The threshold


@quickly
@given(scores, scores)
def test_no_threshold_is_better_than_the_best(faces, negatives):
    faces, negatives = 0.01 + 0.98 * faces, 0.01 + 0.98 * negatives
    best = gain(faces, negatives, best_threshold(faces, negatives))
    others = [gain(faces, negatives, threshold) for threshold in (0.0, *faces, *negatives, 1.0)]
    assert best >= max(others) - 1e-9


def test_the_threshold_lies_in_the_middle_of_the_gap():
    assert best_threshold(np.array([0.7, 0.9, 0.8]), np.array([0.1, 0.3])) == pytest.approx(0.5)
    assert best_threshold(np.array([0.9, 0.95]), np.array([0.0, 0.2])) == pytest.approx(0.55)


def test_of_gaps_that_separate_as_well_the_widest_is_taken():
    faces, negatives = np.array([0.35, 0.9]), np.array([0.3, 0.4])
    assert gain(faces, negatives, 0.65) == gain(faces, negatives, 0.32)
    assert best_threshold(faces, negatives) == pytest.approx(0.65)


@pytest.mark.parametrize(
    ("low", "high"), [(1e-6, 3e-5), (0.99998, 0.999999), (0.50001, 0.50002), (0.12344, 0.12346), (0.0, 1e-7)]
)
def test_rounding_does_not_move_the_threshold_out_of_a_narrow_gap(low, high):
    threshold = best_threshold(np.array([high, 1.0]), np.array([low, low / 2]))
    assert low < threshold <= high


def test_thresholds_of_scores_that_tell_nothing_are_thresholds_still():
    for faces, negatives in ((np.full(5, 0.5), np.full(5, 0.5)), (np.full(5, 0.2), np.full(5, 0.8))):
        threshold = best_threshold(faces, negatives)
        assert 0 <= threshold <= 1
        assert gain(faces, negatives, threshold) == 0


# Calibration


def logistic(slope, offset, faces, negatives, seed=0):
    """Logits of faces and negatives for which the sigmoid of slope * logit + offset is the probability of a face."""
    rng = np.random.default_rng(seed)
    deviation = 2.0
    apart = deviation**2 * slope
    middle = -offset / slope
    return (
        middle + apart / 2 + deviation * rng.standard_normal(faces),
        middle - apart / 2 + deviation * rng.standard_normal(negatives),
    )


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.5, 1.0), (0.8, -3.0), (0.2, 20.0)])
@pytest.mark.parametrize(("faces", "negatives"), [(6000, 6000), (3000, 12000), (12000, 3000)])
def test_calibration_recovers_slope_and_offset_whatever_the_numbers(slope, offset, faces, negatives):
    found = calibrate(*logistic(slope, offset, faces, negatives))
    assert found[0] == pytest.approx(slope, abs=0.05)
    assert found[1] / found[0] == pytest.approx(offset / slope, rel=0.03, abs=0.25)


def test_the_calibration_error_by_hand():
    assert calibration_error(np.ones(20), np.zeros(80)) == pytest.approx(0, abs=1e-12)
    assert calibration_error(np.zeros(20), np.ones(80)) == pytest.approx(1)
    assert calibration_error(np.full(50, 0.5), np.full(50, 0.5), bins=1) == pytest.approx(0)
    assert calibration_error(np.full(10, 0.8), np.full(90, 0.8), bins=1) == pytest.approx(0.3)
    assert calibration_error(np.array([0.7]), np.array([0.2])) == pytest.approx((0.3 + 0.2) / 2), "fewer than bins"


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(2, 40), st.floats(-3, 3), st.floats(0.01, 50))
def test_calibration_is_finite_and_keeps_the_order(seed, faces, negatives, apart, scale):
    rng = np.random.default_rng(seed)
    logits = scale * (apart + rng.standard_normal(faces)), scale * rng.standard_normal(negatives)
    slope, offset = calibrate(*logits)
    assert np.isfinite([slope, offset]).all()
    assert slope >= 0.05
    together = np.sort(np.concatenate(logits))
    assert (np.diff(slope * together + offset) >= 0).all()


@pytest.mark.parametrize(("face", "negative"), [(30.0, -30.0), (1e-3, -1e-3), (101.0, 99.0), (3000.0, 0.0)])
def test_calibration_of_logits_that_lie_apart_puts_a_half_between_them(face, negative):
    rng = np.random.default_rng(0)
    spread = (face - negative) / 100
    logits = face + spread * rng.standard_normal(200), negative + spread * rng.standard_normal(600)
    slope, offset = calibrate(*logits)
    scores = [sigmoid(slope * part + offset) for part in logits]
    assert scores[0].min() > 0.9
    assert scores[1].max() < 0.1
    assert sigmoid(slope * (face + negative) / 2 + offset) == pytest.approx(0.5, abs=0.2)


def test_calibration_of_logits_that_rank_wrongly_does_not_turn_them_round_or_end_at_one_score():
    rng = np.random.default_rng(0)
    logits = rng.normal(49, 1, 300), rng.normal(51, 1, 300)
    slope, offset = calibrate(*logits)
    assert slope == 0.05
    scores = sigmoid(slope * np.concatenate(logits) + offset)
    assert scores.mean() == pytest.approx(0.5, abs=0.02)
    assert len(np.unique(scores)) == 600


# Expected errors


def truth(count=40, seed=0):
    keypoints = np.random.default_rng(seed).uniform(0.2, 0.8, (count, 21, 2))
    boxes = np.tile([0.0, 0, 60, 60], (count, 1))
    return KeypointTruth(keypoints, np.full(count, 90.0), boxes, FACES21)


def off_by(reference, distance, seed=1):
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, distance.shape)
    return reference.keypoints + distance[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def errors_made(seed=2):
    rng = np.random.default_rng(seed)
    return rng.exponential(0.02, (40, 21)) * rng.uniform(0.5, 2, (40, 1))


def test_a_perfect_forecast():
    made, reference = errors_made(), truth()
    found = judge_forecast(made.astype(np.float32), off_by(reference, made), reference)
    assert found.rank_correlation == pytest.approx(1, abs=1e-4)
    assert found.rank_correlation_faces == pytest.approx(1, abs=1e-4)
    assert found.ratio == pytest.approx(1, abs=1e-4)
    in_boxes = np.sort(made, axis=None) * 90 / 60
    assert found.kept_half_nme == pytest.approx(in_boxes[:420].mean(), rel=1e-4)
    assert found.dropped_half_nme == pytest.approx(in_boxes[420:].mean(), rel=1e-4)
    assert set(found.to_dict()) == set(found.__slots__)


def test_a_forecast_that_knows_nothing_and_one_that_is_wrong():
    made, reference = errors_made(), truth()
    shuffled = np.random.default_rng(3).permutation(made.ravel()).reshape(made.shape)
    found = judge_forecast(shuffled, off_by(reference, made), reference)
    assert abs(found.rank_correlation) < 0.1
    assert abs(found.rank_correlation_faces) < 0.4
    assert found.ratio == pytest.approx(1, abs=1e-6)
    assert found.kept_half_nme == pytest.approx(found.dropped_half_nme, rel=0.15)
    wrong = judge_forecast(1 / made, off_by(reference, made), reference)
    assert wrong.rank_correlation == pytest.approx(-1)
    assert judge_forecast(2 * made, off_by(reference, made), reference).ratio == pytest.approx(2)


def test_forecasts_of_points_that_are_not_labelled_do_not_count():
    made, reference = errors_made(), truth()
    predicted, expected = off_by(reference, made), made.copy()
    hidden = np.random.default_rng(4).uniform(size=made.shape) < 0.4
    reference.keypoints[hidden] = np.nan
    expected[hidden] = 1e3
    found = judge_forecast(expected, predicted, reference)
    assert found.rank_correlation == pytest.approx(1, abs=1e-4)
    assert found.rank_correlation_faces == pytest.approx(1, abs=1e-4)
    assert found.ratio == pytest.approx(1)


# Keypoints with gaps


def test_labels_that_are_missing_do_not_count():
    made, reference = errors_made(), truth()
    predicted = off_by(reference, made)
    hidden = np.random.default_rng(4).uniform(size=made.shape) < 0.4
    hidden[:, 5] = True
    hidden[:, 0] = False
    reference.keypoints[hidden] = np.nan
    reference.keypoints[0, 0, 0] = 0.3
    predicted[hidden] = 77  # whatever is predicted there
    found = measure(predicted, reference)
    kept = np.where(hidden, np.nan, np.linalg.norm(predicted - reference.keypoints, axis=2)) * 1.5
    assert found.face_errors == pytest.approx(np.nanmean(kept, axis=1))
    assert found.nme_box == pytest.approx(np.nanmean(kept, axis=1).mean())
    assert np.isnan(found.by_point[5])
    known = [point for point in range(21) if point != 5]
    assert found.by_point[known] == pytest.approx(np.nanmean(kept[:, known], axis=0))
    assert found.mse_112 == pytest.approx(np.nanmean(np.square(kept / 1.5)) * 112**2)
    assert found.pupil_left_out >= (hidden[:, 16] | hidden[:, 17]).sum()
    assert found.to_dict(FACES21)["by_point"][FACES21.points[5]] is None


def test_a_prediction_that_is_not_a_number_is_not_passed_over():
    reference = truth()
    predicted = off_by(reference, errors_made())
    predicted[3, 7, 1] = np.nan
    found = measure(predicted, reference)
    assert np.isnan(found.nme_box)
    assert np.isnan(found.mse_112)
    assert np.flatnonzero(np.isnan(found.face_errors)).tolist() == [3]
    assert np.flatnonzero(np.isnan(found.by_point)).tolist() == [7]
    good = measure(off_by(reference, np.full((40, 21), 1e-4)), reference)
    predicted = off_by(reference, np.full((40, 21), 1e-4))
    predicted[:4] = np.nan
    assert measure(predicted, reference).auc == pytest.approx(0.9 * good.auc)
