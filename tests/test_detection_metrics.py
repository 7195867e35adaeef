import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpedge.evaluation.detection_metrics import (
    IOU,
    SIZES,
    SMALLEST,
    FrameDetections,
    average_precision,
    choose_threshold,
    match,
    measure_detections,
    precision_recall,
)

quickly = settings(deadline=None, max_examples=60)


def square(x, y, side=40.0):
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def frame(found=(), truth=(), ignore=None):
    """A frame: found as (box, score), truth as boxes."""
    return FrameDetections(
        boxes=np.array([box for box, _ in found], dtype=np.float64).reshape(-1, 4),
        scores=np.array([score for _, score in found], dtype=np.float64),
        truth=np.array(truth, dtype=np.float64).reshape(-1, 4),
        ignore=np.zeros(len(truth), bool) if ignore is None else np.array(ignore, dtype=bool),
    )


def by_hand(outcomes, faces):
    """A frame with so many faces whose found boxes, by falling score, hit (True) or do not."""
    truth = [square(100 * number, 0) for number in range(faces)]
    free, found = iter(truth), []
    for place, hit in enumerate(outcomes):
        box = next(free) if hit else square(100 * place, 5000)
        found.append((box, 0.9 - 0.01 * place))
    return frame(found, truth)


@pytest.mark.parametrize(
    ("outcomes", "faces", "wanted"),
    [
        ([True], 1, 1.0),
        ([True, True, True], 3, 1.0),
        ([], 3, 0.0),
        ([False, False], 2, 0.0),
        ([True], 4, 1 / 4),
        ([False, True], 1, 1 / 2),
        ([True, False], 1, 1.0),
        # precision after each: 1, 1/2, 2/3, 3/4, 3/5; from the right at least 3/4
        ([True, False, True, True, False], 4, (1 + 3 / 4 + 3 / 4) / 4),
        # 0, 1/2, 1/3, 1/4, 2/5: the first hit at 1/2, the second at 2/5
        ([False, True, False, False, True], 2, (1 / 2 + 2 / 5) / 2),
        ([False, False, True, True, True], 3, 3 / 5),
    ],
)
def test_average_precision_by_hand(outcomes, faces, wanted):
    assert average_precision(match([by_hand(outcomes, faces)])) == pytest.approx(wanted)


def test_precision_is_interpolated_and_recall_rises():
    precision, recall = precision_recall(match([by_hand([True, False, True, True, False], 4)]))
    assert precision.tolist() == pytest.approx([1, 3 / 4, 3 / 4, 3 / 4, 3 / 5])
    assert recall.tolist() == pytest.approx([1 / 4, 1 / 4, 2 / 4, 3 / 4, 3 / 4])


@quickly
@given(st.lists(st.booleans(), max_size=12), st.integers(0, 4), st.integers(0, 10**6))
def test_how_boxes_are_spread_over_frames_and_ordered_does_not_matter(outcomes, missed, seed):
    together = by_hand(outcomes, sum(outcomes) + missed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(outcomes))
    shuffled = frame(
        [(together.boxes[n], together.scores[n]) for n in order], together.truth[rng.permutation(len(together.truth))]
    )
    apart = [
        frame([(box, score)], [box] if hit else [])
        for box, score, hit in zip(together.boxes, together.scores, outcomes, strict=True)
    ]
    apart += [frame(truth=[square(0, 0)])] * missed
    wanted = average_precision(match([together]))
    assert average_precision(match([shuffled])) == pytest.approx(wanted)
    assert average_precision(match(apart)) == pytest.approx(wanted)
    assert match(apart).faces == match([together]).faces == sum(outcomes) + missed
    assert len(match(apart).missed) == missed


def test_boxes_of_several_frames_are_told_by_frame_and_number():
    found = match(
        [
            frame([(square(0, 0), 0.3), (square(500, 0), 0.8)], [square(0, 0), square(200, 0)]),
            frame(),
            frame([(square(9, 9), 0.5)], [square(9, 9)]),
        ]
    )
    assert found.scores.tolist() == [0.8, 0.5, 0.3]
    assert found.hit.tolist() == [False, True, True]
    assert found.frame.tolist() == [0, 2, 0]
    assert found.box.tolist() == [1, 0, 0]
    assert found.missed == ((0, 1),)
    assert (found.faces, found.frames) == (3, 3)


def test_a_hit_needs_an_overlap_of_a_half():
    truth = square(0, 0, 40)
    # A square of 40 px moved by d overlaps by (40 - d) / (40 + d): a half at 40 / 3.
    for moved, hit in ((13.3, True), (13.4, False)):
        found = match([frame([(square(moved, 0, 40), 0.9)], [truth])])
        assert found.hit.tolist() == [hit]
        assert len(found.missed) == (not hit)
    assert match([frame([(square(13.4, 0, 40), 0.9)], [truth])], needed=0.4).hit.tolist() == [True]
    assert IOU == 0.5


def test_of_two_boxes_on_one_face_the_second_is_a_false_alarm():
    found = match([frame([(square(1, 0), 0.6), (square(5, 0), 0.9)], [square(0, 0)])])
    assert found.scores.tolist() == [0.9, 0.6]
    assert found.hit.tolist() == [True, False], "the one with the higher score hits, though it fits worse"
    assert found.false_alarms(0.5) == 1
    assert found.missed == ()


@pytest.mark.parametrize("why", ["ignored", "small", "large"])
def test_faces_that_do_not_count_are_neither_hit_nor_missed_nor_false_alarms(why):
    side = {"ignored": 40, "small": 15, "large": 300}[why]
    other, counted = square(500, 0, side), square(0, 0)
    ignore = [False, why == "ignored"]
    limits = {"largest": 200.0} if why == "large" else {}
    found = [(counted, 0.9), (other, 0.8), (square(501, 0, side), 0.7)]
    for shown in (found, found[:1]):
        matches = match([frame(shown, [counted, other], ignore)], **limits)
        assert matches.hit.tolist() == [True]
        assert matches.faces == 1
        assert matches.missed == ()
        assert average_precision(matches) == 1


def test_a_box_on_a_face_that_counts_and_one_that_does_not_is_a_hit():
    matches = match([frame([(square(2, 0), 0.9)], [square(0, 0), square(2, 0)], [False, True])])
    assert matches.hit.tolist() == [True]
    assert matches.missed == ()


def test_boxes_of_another_size_than_counts_are_no_false_alarms_but_may_hit():
    nothing_there = [(square(0, 0, 15), 0.9), (square(100, 0, 16), 0.8), (square(200, 0, 300), 0.7)]
    assert match([frame(nothing_there)]).scores.tolist() == [0.8, 0.7]
    assert match([frame(nothing_there)], largest=300.0).scores.tolist() == [0.8]
    assert match([frame(nothing_there)], smallest=0.0).false_alarms(0.0) == 3
    smaller = match([frame([(square(0, 0, 15), 0.9)], [square(0, 0, 17)])])
    assert smaller.hit.tolist() == [True]
    assert SMALLEST == 16


def test_precision_recall_and_false_alarms_at_a_threshold():
    matches = match([by_hand([True, False, True, True], 5), frame([(square(0, 0), 0.885)])])
    assert matches.scores.tolist() == pytest.approx([0.9, 0.89, 0.885, 0.88, 0.87])
    assert matches.at(0.88) == pytest.approx((2 / 4, 2 / 5)), "a score at the threshold counts"
    assert matches.at(0.0) == pytest.approx((3 / 5, 3 / 5))
    assert matches.at(0.95) == (1.0, 0.0)
    assert matches.false_alarms(0.88) == 1.0
    assert matches.false_alarms(0.887) == 0.5
    assert matches.false_alarms(0.895) == 0


def test_nothing_at_all():
    for frames in ([], [frame()], [frame(truth=[square(0, 0)], ignore=[True])]):
        matches = match(frames)
        assert (matches.faces, len(matches.scores), matches.missed) == (0, 0, ())
        assert average_precision(matches) == 0
        assert matches.at(0.5) == (1.0, 0.0)
        assert matches.false_alarms(0.5) == 0
        figures, _ = measure_detections(frames, 0.5)
        assert figures.average_precision is None
        assert figures.precision is None
        assert figures.recall is None
        assert all(row["average_precision"] is None for row in figures.by_size)


def test_figures_by_size():
    truth = [square(0, 0, 15), square(100, 0, 20), square(300, 0, 40), square(600, 0, 50), square(1000, 0, 200)]
    found = [(truth[1], 0.9), (truth[2], 0.8), (truth[4], 0.7), (square(0, 3000, 50), 0.75)]
    figures, matches = measure_detections([frame(found, truth)], 0.5)
    assert [row["from_px"] for row in figures.by_size] == list(SIZES)
    assert [row["to_px"] for row in figures.by_size] == [32, 64, 128, None]
    assert [row["faces"] for row in figures.by_size] == [1, 2, 0, 1]
    assert [row["average_precision"] for row in figures.by_size] == [1.0, 0.5, None, 1.0], (
        "the false alarm of 50 px comes after the only hit of its size"
    )
    assert figures.faces == 4
    assert (figures.precision, figures.recall) == (3 / 4, 3 / 4)
    assert figures.average_precision == pytest.approx((1 + 1 + 3 / 4) / 4)
    assert matches.missed == ((0, 3),)


# The threshold


def scored(hits, alarms, faces=None):
    truth = [square(100 * n, 0) for n in range(faces or len(hits))]
    found = [(box, score) for box, score in zip(truth, hits, strict=False)]
    found += [(square(100 * n, 900), score) for n, score in enumerate(alarms)]
    return match([frame(found, truth)])


def empty(*alarms):
    """Frames without faces, a false alarm each or None."""
    return match([frame([] if score is None else [(square(0, 0), score)]) for score in alarms], smallest=0.0)


def test_the_threshold_with_the_best_f1_is_chosen():
    threshold = choose_threshold(scored([0.9, 0.8, 0.7], [0.55, 0.6, 0.3]), [empty()], alarms=0.0)
    assert 0.6 < threshold <= 0.7
    # At 0.2 all four are found with four false alarms, F1 2/3; at 0.8 one of four, F1 2/5.
    threshold = choose_threshold(scored([0.9, 0.2, 0.2, 0.2], [0.5] * 4), [empty()], alarms=0.0)
    assert threshold <= 0.2


def test_false_alarms_in_background_frames_bound_the_threshold():
    faces = scored([0.9, 0.5, 0.4], [0.1])
    assert 0.1 < choose_threshold(faces, [empty(None, None)], alarms=0.0) <= 0.4
    assert 0.45 < choose_threshold(faces, [empty(0.455, None)], alarms=0.0) <= 0.5, "one more false alarm than none"
    assert 0.45 < choose_threshold(faces, [empty(None), empty(0.455, None)], alarms=0.0) <= 0.5, "at either size"
    assert 0.1 < choose_threshold(faces, [empty(0.455, None)], alarms=0.5) <= 0.4, "one in two frames is allowed"
    assert choose_threshold(faces, [empty(0.999)], alarms=0.0) == 0.99, "the highest where none is low enough"


def test_the_threshold_has_two_decimals_and_keeps_its_promise():
    background = empty(*np.linspace(0.05, 0.7, 50))
    threshold = choose_threshold(scored([0.9, 0.5], []), [background], alarms=0.1)
    assert threshold == round(threshold, 2)
    assert background.false_alarms(threshold) <= 0.1
    assert isinstance(threshold, float)
