"""A run's curves: nothing covers them, nothing cuts them off, and epochs are whole."""

import itertools

import pytest

from kpedge.core.errors import TrainingError
from kpedge.training.curves import ACCURACY_FROM, detector_curves, keypoint_curves


def history(epochs, start, *, scored=True):
    """Records whose accuracies rise from `start` to 1."""
    records = []
    for epoch in range(1, epochs + 1):
        share = start + (1 - start) * epoch / epochs - (1 - start) / epochs
        parts = ("loss", "keypoint_loss", "face_loss")
        losses = {f"{split}_{part}": 1 / epoch for split in ("train", "val") for part in parts}
        shares = {f"{split}_{of}accuracy": share for split in ("train", "val") for of in ("", "face_", "negative_")}
        records.append({"epoch": float(epoch), "val_nme": 0.05 / epoch, **losses, **(shares if scored else {})})
    return records


@pytest.mark.slow
@pytest.mark.parametrize(("start", "low"), [(0.99, ACCURACY_FROM), (0.7, 70), (0.0, 0)])
def test_no_curve_is_cut_off(start, low):
    axes = keypoint_curves(history(20, start), 0.054).axes
    bottom, top = axes[-1].get_ylim()
    assert 0 <= bottom <= low
    assert top > 100
    for axis in axes:
        bottom, top = axis.get_ylim()
        for line in axis.lines:
            assert all(bottom <= value <= top for value in line.get_ydata())


@pytest.mark.parametrize("epochs", [1, 8, 400])
def test_epochs_are_whole(epochs):
    for axis in keypoint_curves(history(epochs, 0.8), 0.054).axes:
        ticks = axis.get_xticks()
        assert len(ticks) >= 1
        assert all(tick == round(tick) for tick in ticks)


@pytest.mark.slow
def test_legends_lie_beneath_the_curves_and_in_the_picture():
    figure = keypoint_curves(history(20, 0.8), 0.054)
    figure.canvas.draw()
    assert len(figure.axes) == 5
    assert len(keypoint_curves(history(20, 0.8, scored=False), 0.054).axes) == 2
    boxes = [axis.get_legend().get_window_extent() for axis in figure.axes]
    for axis, box in zip(figure.axes, boxes, strict=True):
        assert box.y1 < axis.get_window_extent().y0
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert box.y0 >= figure.bbox.y0
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert figure.bbox.width < 2 * figure.bbox.height  # shown on a page: in one row its text would be too small to read


def test_no_epoch_is_no_curve():
    with pytest.raises(TrainingError, match="no epoch was finished"):
        keypoint_curves([], 0.05)


def test_one_epoch_is_a_visible_point_and_training_stands_next_to_validation():
    for axis in keypoint_curves(history(1, 0.8), 0.054).axes:
        curves = [line for line in axis.lines if len(line.get_xdata()) == 1]
        assert curves
        assert all(line.get_marker() == "o" for line in curves)
    for axis in keypoint_curves(history(9, 0.8), 0.054).axes[:3]:
        assert [line.get_label() for line in axis.lines] == ["training", "validation"]


def test_a_detectors_curves_have_its_losses_and_each_set():
    records = [{"epoch": 1.0, "train_loss": 2.0}, {"epoch": 2.0, "train_loss": 1.0, "val_ap": 0.5, "val_ap_a": 0.6}]
    left, right = detector_curves(records).axes
    assert [line.get_label() for line in left.lines] == ["loss"]
    assert [line.get_label() for line in right.lines] == ["all sets", "a"]
