"""A run's curves: nothing covers them, nothing cuts them off, and epochs are whole."""

import itertools

import pytest

from kpedge.core.errors import TrainingError
from kpedge.training.run import AT_LEAST_FROM, curves_figure


def history(epochs, start, *, scored=True):
    """Records whose shares told rightly rise from `start` to 1."""
    records = []
    for epoch in range(1, epochs + 1):
        share = start + (1 - start) * epoch / epochs - (1 - start) / epochs
        losses = dict.fromkeys(("train_loss", "train_keypoint_loss", "val_mse", "train_face_loss"), 1 / epoch)
        shares = dict.fromkeys(("val_accuracy", "train_accuracy", "val_face_accuracy", "val_negative_accuracy"), share)
        records.append({"epoch": float(epoch), "val_nme": 0.05 / epoch, **losses, **(shares if scored else {})})
    return records


@pytest.mark.parametrize(("start", "low"), [(0.99, AT_LEAST_FROM), (0.7, 70), (0.0, 0)])
def test_no_curve_is_cut_off(start, low):
    axes = curves_figure(history(20, start), 0.054).axes
    bottom, top = axes[2].get_ylim()
    assert 0 <= bottom <= low
    assert top > 100
    for axis in axes:
        bottom, top = axis.get_ylim()
        for line in axis.lines:
            assert all(bottom <= value <= top for value in line.get_ydata())


@pytest.mark.parametrize("epochs", [1, 2, 8, 20, 400])
def test_epochs_are_whole(epochs):
    figure = curves_figure(history(epochs, 0.8), 0.054)
    figure.canvas.draw()
    for axis in figure.axes:
        ticks = axis.get_xticks()
        assert len(ticks) >= 1
        assert all(tick == round(tick) for tick in ticks)


@pytest.mark.parametrize("scored", [True, False])
def test_legends_lie_beneath_the_curves_and_in_the_picture(scored):
    figure = curves_figure(history(20, 0.8, scored=scored), 0.054)
    figure.canvas.draw()
    assert len(figure.axes) == (3 if scored else 2)
    boxes = [axis.get_legend().get_window_extent() for axis in figure.axes]
    for axis, box in zip(figure.axes, boxes, strict=True):
        assert box.y1 < axis.get_window_extent().y0
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert box.y0 >= figure.bbox.y0
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_no_epoch_is_no_curve():
    with pytest.raises(TrainingError, match="no epoch was finished"):
        curves_figure([], 0.05)
