from math import log, sqrt

import pytest
import torch

from kpedge.core.keypoints import FACES21
from kpedge.models.heads.head import target_distributions
from kpedge.models.keypoint_model import KeypointModel
from kpedge.models.stage3 import Stage3
from kpedge.training.config import TrainConfig
from kpedge.training.keypoint_loss import (
    DatasetBias,
    KeypointLoss,
    distribution_loss,
    error_loss,
    face_loss,
    keypoint_loss,
)
from kpedge.training.losses import RECTIFIED, WING_WIDTH
from kpedge.training.registry import LOSSES

ERRORS = torch.tensor([[[0.1, -0.5], [3.0, -4.0]]])
"""One sample, two points: within and beyond every bend."""
BY_HAND = {
    "mse": [[0.01, 0.25], [9.0, 16.0]],
    "l1": [[0.1, 0.5], [3.0, 4.0]],
    "smooth-l1": [[0.5 * 0.01 / 0.3, 0.5 - 0.15], [3 - 0.15, 4 - 0.15]],
    "wing": [[2 * log(1 + 0.1 / 0.4), 2 * log(1 + 0.5 / 0.4)], [3 - 2 + 2 * log(6), 4 - 2 + 2 * log(6)]],
    "rectified-wing": [[0.0, 2 * log(2)], [3 - 2 + 2 * log(5.75), 4 - 2 + 2 * log(5.75)]],
    "euclidean": [[sqrt(0.26), sqrt(0.26)], [5.0, 5.0]],
}
NAN = float("nan")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", LOSSES)
def test_point_losses_by_hand(name):
    assert torch.allclose(LOSSES[name](ERRORS)[0], torch.tensor(BY_HAND[name]), atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_point_losses_are_zero_at_no_error_symmetric_and_rise(name):
    loss = LOSSES[name]
    assert loss(torch.zeros(1, 1, 2)).abs().max() <= (1e-3 + 1e-9 if name == "euclidean" else 0)
    assert torch.equal(loss(ERRORS), loss(-ERRORS))
    along = torch.stack([torch.linspace(0, 5, 2001), torch.zeros(2001)], dim=-1)[:, None]
    values = loss(along)[:, 0, 0]
    steps = values.diff()
    assert (steps >= 0).all()
    assert steps[100:].min() > 0
    assert steps.max() < 0.04, "it does not jump"


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [0.0, 1e-8, RECTIFIED, WING_WIDTH, 1e3])
def test_point_losses_have_a_finite_gradient(name, size):
    errors = torch.full((1, 2, 2), size, requires_grad=True)
    LOSSES[name](errors).sum().backward()
    assert errors.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_not_labelled_does_not_count(name):
    target = torch.randn(4, 5, 2, generator=generator(1))
    points = torch.randn(4, 5, 2, generator=generator(2)).requires_grad_()
    full, count = keypoint_loss(name, {"points": points}, target)
    assert count == 20
    expected = LOSSES[name](points.detach() - target).mean(dim=-1).sum()
    assert float(full.detach()) == pytest.approx(float(expected), rel=1e-5)
    target[0] = NAN  # a negative
    target[1, 3] = NAN
    target[2, 4, 1] = NAN  # half a point is none
    part, count = keypoint_loss(name, {"points": points}, target)
    known = target.isfinite().all(dim=-1)
    assert count == known.sum() == 13
    expected = LOSSES[name]((points.detach() - target)[known][:, None]).mean(dim=-1).sum()
    assert float(part.detach()) == pytest.approx(float(expected), rel=1e-5)
    part.backward()
    assert points.grad.isfinite().all()
    assert not points.grad[~known].any()
    assert points.grad[known].abs().sum(dim=-1).min() > 0


def test_a_prediction_that_is_not_a_number_is_not_passed_over():
    points = torch.zeros(1, 5, 2)
    points[0, 0, 0] = NAN
    for name in LOSSES:
        assert keypoint_loss(name, {"points": points}, torch.zeros(1, 5, 2))[0].isnan()


@pytest.mark.parametrize("shape", [(3, 4, 14, 18), (3, 4, 2, 20)])
def test_the_distribution_loss_is_least_for_the_right_logits(shape):
    fractions = torch.rand(3, 4, 2, generator=generator())
    right = target_distributions(fractions, torch.empty(shape)).log().requires_grad_()
    least = distribution_loss({"bins": right}, fractions)
    least.backward()
    assert right.grad.abs().max() < 1e-5
    for seed in range(5):
        other = right.detach() + 0.1 * torch.randn(shape, generator=generator(seed))
        assert distribution_loss({"bins": other}, fractions) > least
    moved = target_distributions(fractions.flip(-1), torch.empty(shape)).log()
    assert distribution_loss({"bins": moved}, fractions) > 2 * least, "x and y are not the same"
    shifted = distribution_loss({"bins": right.detach() + 7}, fractions)
    assert float(shifted) == pytest.approx(float(least.detach()), rel=1e-4), "a constant does not matter"


def test_the_distribution_loss_of_flat_logits_by_hand():
    fractions = torch.rand(3, 4, 2, generator=generator())
    assert float(distribution_loss({"bins": torch.zeros(3, 4, 10, 10)}, fractions)) == pytest.approx(12 * log(100))
    assert float(distribution_loss({"bins": torch.zeros(3, 4, 2, 10)}, fractions)) == pytest.approx(12 * log(10))


@pytest.mark.parametrize("shape", [(3, 4, 14, 18), (3, 4, 2, 20)])
def test_the_distribution_loss_leaves_out_what_is_not_labelled(shape):
    fractions = torch.rand(3, 4, 2, generator=generator())
    fractions[0], fractions[1, 2] = NAN, NAN
    bins = torch.randn(shape, generator=generator(1)).requires_grad_()
    loss = distribution_loss({"bins": bins}, fractions)
    one_by_one = sum(
        float(distribution_loss({"bins": bins[n : n + 1, k : k + 1]}, fractions[n : n + 1, k : k + 1]).detach())
        for n, k in ((1, 0), (1, 1), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3))
    )
    assert float(loss.detach()) == pytest.approx(one_by_one, rel=1e-5)
    loss.backward()
    assert bins.grad.isfinite().all()
    assert not bins.grad[0].any()
    assert not bins.grad[1, 2].any()
    assert bins.grad[2].any()


def test_a_logit_that_is_surely_wrong_has_its_full_gradient():
    """A sigmoid or softmax in front of a cross-entropy that has one itself would leave hardly any."""
    logit = torch.tensor([-20.0, 20.0, 20.0, -20.0], requires_grad=True)
    face_loss(logit, torch.tensor([1.0, 0.0, 1.0, 0.0]), 1.0).backward()
    assert logit.grad.tolist() == pytest.approx([-1, 1, 0, 0], abs=1e-6)
    far = face_loss(torch.tensor([-500.0]), torch.tensor([1.0]), 1.0)
    assert float(far) == pytest.approx(500), "nothing overflows"


def test_expected_errors_are_best_at_the_mean_of_those_made():
    distance = torch.tensor([0.2, 0.4, 0.9])
    target = torch.zeros(3, 1, 2)
    points = (distance[:, None, None] * torch.tensor([0.6, 0.8])).requires_grad_()
    mean = float(distance.mean())

    def loss(expected):
        return error_loss({"points": points, "error": expected.expand(3, 1)}, target)

    best = torch.tensor(mean, requires_grad=True)
    least = loss(best)
    least.backward()
    assert abs(float(best.grad)) < 1e-4
    assert points.grad is None, "the points learn nothing from it"
    assert float(least.detach()) == pytest.approx(3 * (1 + log(mean)), rel=1e-4)
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert loss(torch.tensor(factor * mean)) > least


def test_expected_errors_of_what_is_not_labelled_do_not_count():
    points = torch.randn(2, 3, 2, generator=generator())
    target = torch.zeros(2, 3, 2)
    target[0], target[1, 1, 0] = NAN, NAN
    expected = torch.full((2, 3), 0.7, requires_grad=True)
    loss = error_loss({"points": points, "error": expected}, target)
    distance = points[1, [0, 2]].norm(dim=-1)
    assert float(loss.detach()) == pytest.approx(float((distance / 0.7).sum()) + 2 * log(0.7), rel=1e-5)
    loss.backward()
    assert expected.grad.isfinite().all()
    assert (expected.grad != 0).tolist() == [[False] * 3, [True, False, True]]


def test_the_main_set_has_no_offset_and_others_have_their_own():
    offsets = DatasetBias(3, FACES21)
    torch.nn.init.normal_(offsets.values, generator=generator())
    found = offsets(torch.tensor([2, 0, 1, 2, 0]))
    assert found.shape == (5, 21, 2)
    assert not found[1].any()
    assert not found[4].any()
    assert torch.equal(found[0], found[3])
    assert not torch.allclose(found[0], found[2])
    found.square().sum().backward()
    assert offsets.values.grad.abs().amax(dim=(1, 2)).min() > 0


def test_offsets_are_those_of_the_mirrored_face():
    """Points moved and then mirrored are points mirrored and then moved."""
    offsets = DatasetBias(2, FACES21)
    torch.nn.init.normal_(offsets.values, generator=generator())
    with torch.no_grad():
        (found,) = offsets(torch.tensor([1]))
    order = torch.as_tensor(FACES21.mirror_order)
    points = torch.rand(21, 2, generator=generator(1))

    def mirrored(some):
        return (some * torch.tensor([-1.0, 1.0]))[order]

    assert torch.allclose(mirrored(points + found), mirrored(points) + found, atol=1e-6)
    assert found[14].abs().max() > 0, "a point of the middle moves, but not aside"
    assert found[14, 0] == 0


@pytest.fixture
def objective():
    torch.manual_seed(0)
    model = KeypointModel(Stage3(21, width=0.25), torch.rand(21, 2), 0.05, face=True)
    return KeypointLoss(model.eval(), TrainConfig(loss="l1", positive_weight=2.0), 2, FACES21)


@pytest.fixture
def batch():
    """Two faces of the main set, one of another, one negative."""
    crops = torch.randint(0, 256, (4, 112, 112, 1), dtype=torch.uint8, generator=generator())
    keypoints = torch.rand(4, 21, 2, generator=generator())
    keypoints[1, 5:], keypoints[3] = NAN, NAN
    return crops, keypoints, torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([0, 0, 1, 0])


def test_the_sums_of_a_batch_are_those_of_its_samples(objective, batch):
    with torch.no_grad():
        losses, counts = objective(*batch)
        parts = [objective(*(values[n : n + 1] for values in batch)) for n in range(4)]
        logit = objective.model.raw(batch[0])["logit"]
    assert torch.allclose(losses, sum(part for part, _ in parts), rtol=1e-4)
    assert torch.equal(counts, sum(part for _, part in parts))
    right = (logit > 0) == (batch[2] > 0.5)
    assert counts.tolist() == [21 + 5 + 21, 4, 3, int(right[:3].sum()), int(right[3])]
    assert float(losses[1]) == pytest.approx(float(face_loss(logit, batch[2], 2.0)), rel=1e-5)


def test_the_total_is_a_mean_over_points_and_over_samples(objective):
    objective.config = TrainConfig(keypoint_weight=2.0, face_weight=0.5)
    total = objective.total(torch.tensor([30.0, 8.0, 50.0]), torch.tensor([10.0, 4.0, 3.0, 0.0, 0.0]))
    assert float(total) == pytest.approx(2 * 3 + 0.5 * 2 + 0.1 * 5)
    nothing = objective.total(torch.tensor([0.0, 8.0, 0.0]), torch.tensor([0.0, 4.0, 0.0, 0.0, 0.0]))
    assert float(nothing) == pytest.approx(1)


def test_label_smoothing_moves_labels_towards_one_half():
    logit, face = torch.tensor([0.3, -1.0]), torch.tensor([1.0, 0.0])
    smoothed = torch.tensor([0.9, 0.1])
    assert float(face_loss(logit, face, 1.0, 0.2)) == pytest.approx(float(face_loss(logit, smoothed, 1.0)))
    sure = torch.tensor([20.0, -20.0], requires_grad=True)
    face_loss(sure, face, 1.0, 0.2).backward()
    assert sure.grad.tolist() == pytest.approx([0.1, -0.1], abs=1e-6), "too sure is wrong, too"
