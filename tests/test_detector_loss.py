import math

import numpy as np
import pytest
import torch

from kpedge.data.frame_sampling import View
from kpedge.models.detector import OUTPUTS, STRIDES, decode
from kpedge.training.config import DetectorConfig
from kpedge.training.detector_loss import (
    CANDIDATES,
    LOSSES,
    RADIUS,
    DetectorLoss,
    Targets,
    assign,
    box_iou,
    detector_losses,
)
from kpedge.training.detector_task import to_tensors

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 96
"""Of the views here."""


def total_loss(config, losses, counts):
    return DetectorLoss(None, config).total(losses, counts)


def new_cells(side=SIDE):
    return torch.tensor(
        [
            [column * stride + (stride - 1) / 2, row * stride + (stride - 1) / 2, stride]
            for stride in STRIDES
            for row in range(side // stride)
            for column in range(side // stride)
        ],
        dtype=torch.float32,
    )


def square(x, y, side):
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def points_of(box):
    """Five points in a box."""
    corner, size = torch.tensor(box[:2]), torch.tensor(box[2:]) - torch.tensor(box[:2])
    return corner + size * torch.tensor([[0.3, 0.35], [0.7, 0.35], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])


def targets_of(*frames, pad=0):
    """Targets of frames: each a list of (box, points or None, ignored)."""
    most = max(1, *(len(faces) for faces in frames)) + pad
    boxes, points = torch.zeros(len(frames), most, 4), torch.full((len(frames), most, 5, 2), torch.nan)
    real, ignore = torch.zeros(2, len(frames), most, dtype=torch.bool)
    for row, faces in enumerate(frames):
        for place, (box, labelled, ignored) in enumerate(faces):
            boxes[row, place] = torch.tensor(box)
            if labelled is not None:
                points[row, place] = labelled
            real[row, place], ignore[row, place] = not ignored, ignored
    return Targets(boxes, points, real, ignore)


def face(x, y, side):
    box = square(x, y, side)
    return box, points_of(box), False


def perfect_rows(cells, box, points=None):
    """What the network has to say in every cell for each to give this box and these points."""
    place, stride = cells[:, :2], cells[:, 2:]
    box = torch.tensor(box)
    rows = torch.zeros(len(cells), OUTPUTS)
    rows[:, 2:4] = ((box[:2] + box[2:]) / 2 - place) / stride
    rows[:, 14:15] = ((box[2:] - box[:2]).mean() / 2 / stride).log()
    if points is not None:
        rows[:, 4:14] = ((points - place[:, None]) / stride[:, None]).flatten(1)
    return rows


def random_rows(count=1, side=SIDE, seed=0):
    rows = torch.randn(count, len(new_cells(side)), OUTPUTS, generator=torch.Generator().manual_seed(seed))
    return rows * 0.5


def chosen(rows, targets, cells=None):
    cells = new_cells() if cells is None else cells
    score = (rows[..., 0].sigmoid() * rows[..., 1].sigmoid()).sqrt()
    return assign(score, decode(rows, cells)[0], cells, targets)


def losses(rows, targets, cells=None):
    return detector_losses(rows, new_cells() if cells is None else cells, targets)


def test_overlaps_by_hand():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4], [1, 1, 1, 1]])
    others = torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4], [5, 5, 9, 9], [1, 1, 3, 3], [1, 1, 1, 1]])
    assert box_iou(boxes, others).tolist() == pytest.approx([1, 8 / 24, 0, 4 / 16, 0])
    assert box_iou(boxes[:, None], others[None]).shape == (5, 5)


# Which cells answer


def test_a_perfect_answer_keeps_its_cells_and_costs_nothing_in_its_box_and_points():
    cells = new_cells()
    wanted = face(44, 50, 40)
    rows = perfect_rows(cells, *wanted[:2])[None]
    rows[..., :2] = -20  # nobody says so yet
    targets = targets_of([wanted])
    number, iou, background = chosen(rows, targets)
    mine = number[0] == 0
    assert CANDIDATES - 1 <= mine.sum() <= CANDIDATES, "all cells fit perfectly: as many answer as may"
    assert torch.allclose(iou[0, mine], torch.ones(int(mine.sum())), atol=1e-5)
    assert not iou[0, ~mine].any()
    assert torch.equal(background, ~mine[None])
    middle = torch.tensor([44.0, 50.0])
    assert ((cells[mine, :2] - middle).abs() < RADIUS * cells[mine, 2:]).all(), "they lie around its middle"
    rows[0, mine, :2] = 20
    sums, counts = losses(rows, targets)
    assert chosen(rows, targets)[0].equal(number)
    assert counts.tolist() == [mine.sum(), 5 * mine.sum()]
    assert sums.max() < 1e-3


def test_of_two_faces_at_the_same_place_a_cell_takes_the_one_that_it_fits():
    cells = new_cells()
    small, large = face(48, 48, 16), face(48, 48, 64)
    rows = torch.where(cells[:, 2:] < 32, perfect_rows(cells, *small[:2]), perfect_rows(cells, *large[:2]))[None]
    number, _, _ = chosen(rows, targets_of([small, large]))
    coarse = cells[:, 2] == 32
    within = ((cells[:, :2] > 16) & (cells[:, :2] < 80)).all(dim=1)
    assert (number[0, coarse & within] == 1).all()
    assert (number == 0).any()
    assert not (number[0, coarse] == 0).any()


@pytest.mark.parametrize("place", [(48, 48), (47.5, 47.5), (51.5, 43.5), (0, 0), (95, 0), (3, 92), (13.7, 61.2)])
@pytest.mark.parametrize("side", [1.0, 4.0])
def test_a_face_smaller_than_a_cell_still_gets_one(place, side):
    for seed in range(5):
        rows, cells = random_rows(seed=seed), new_cells()
        number, _, _ = chosen(rows, targets_of([face(*place, side)]))
        mine = cells[number[0] == 0]
        assert len(mine) >= 1
        assert ((mine[:, :2] - torch.tensor(place)).abs() < RADIUS * mine[:, 2:]).all()


def test_every_face_of_a_crowd_gets_a_cell_and_no_cell_lies_far_off():
    rng = np.random.default_rng(0)
    faces = [
        face(x + rng.uniform(-3, 3), y + rng.uniform(-3, 3), rng.uniform(8, 20))
        for x in (16, 48, 80)
        for y in (16, 48, 80)
    ]
    number, _, _ = chosen(random_rows(seed=1), targets_of(faces))
    assert set(number.unique().tolist()) == {-1, *range(9)}
    for index, (box, _, _) in enumerate(faces):
        cells = new_cells()[number[0] == index]
        reach = torch.maximum(RADIUS * cells[:, 2:], torch.tensor((box[2] - box[0]) / 2))
        assert ((cells[:, :2] - torch.tensor(box).reshape(2, 2).mean(dim=0)).abs() < reach).all()


def test_cells_of_ignored_faces_are_neither_positive_nor_background():
    cells, rows = new_cells(), random_rows()
    hidden, seen = (*square(24, 24, 30),), face(72, 72, 20)
    number, _, background = chosen(rows, targets_of([(hidden, None, True), seen]))
    inside = ((cells[:, :2] > 9) & (cells[:, :2] < 39)).all(dim=1)
    near = ((cells[:, :2] - 24).abs() < RADIUS * cells[:, 2:]).all(dim=1)
    assert set(number.unique().tolist()) == {-1, 1}
    assert not background[0, inside | near].any()
    positive = number[0] >= 0
    assert torch.equal(background[0], ~(inside | near) & ~positive)
    rest = (inside | near) & ~positive
    assert rest.sum() > 20
    loud = rows.clone()
    loud[0, rest] += 30
    targets = targets_of([(hidden, None, True), seen])
    assert torch.allclose(losses(rows, targets)[0], losses(loud, targets)[0]), "what they say costs nothing"


def test_an_ignored_face_does_not_take_the_cells_of_a_real_one():
    real = face(48, 48, 30)
    alone, _, _ = chosen(random_rows(), targets_of([real]))
    both, _, background = chosen(random_rows(), targets_of([real, (square(50, 50, 30), None, True)]))
    assert torch.equal(alone, both)
    assert not (background & (both >= 0)).any()


# What it costs


def test_padding_and_the_order_of_faces_have_no_effect():
    first, second = [face(30, 30, 24), (square(70, 40, 20), None, True), face(60, 80, 15)], [face(50, 50, 60)]
    rows = random_rows(2)
    plain = losses(rows, targets_of(first, second))
    for other in (targets_of(first, second, pad=5), targets_of(first[::-1], second, pad=1)):
        again = losses(rows, other)
        assert torch.allclose(again[0], plain[0], rtol=1e-5)
        assert torch.equal(again[1], plain[1])
    apart = [losses(rows[index : index + 1], targets_of(faces)) for index, faces in enumerate((first, second))]
    assert torch.allclose(plain[0], apart[0][0] + apart[1][0], rtol=1e-5), "frames do not know of each other"
    assert torch.equal(plain[1], apart[0][1] + apart[1][1])


def test_the_losses_of_one_cell_by_hand():
    cells = torch.tensor([[15.5, 15.5, 32.0]])
    rows = torch.zeros(1, 1, OUTPUTS)
    rows[0, 0, 14] = math.log(0.5)  # the box is -0.5 to 31.5
    rows[0, 0, 0], rows[0, 0, 1] = 0.7, -0.3
    box = [3.5, -0.5, 35.5, 31.5]  # 4 pixels further right
    points = torch.full((5, 2), 15.5)
    points[0, 0] += 8.0  # a quarter of the side
    points[1, 1] -= 0.8  # a fortieth
    sums, counts = losses(rows, targets_of([(box, points, False)]), cells)
    iou = 28 / 36
    assert counts.tolist() == [1, 5]
    presence, quality, off, distance = sums.tolist()
    assert presence == pytest.approx(math.log(1 + math.exp(-0.7)))
    assert quality == pytest.approx(iou * math.log(1 + math.exp(0.3)) + (1 - iou) * math.log(1 + math.exp(-0.3)))
    assert off == pytest.approx(1 - iou + 16 / (36**2 + 32**2))
    assert distance == pytest.approx(0.25 - 0.025 + 0.5 * 0.025**2 / 0.05)


def test_boxes_that_do_not_touch_are_still_drawn_together():
    cells = torch.tensor([[15.5, 15.5, 32.0]])
    distances = []
    for away in (20.0, 30.0, 40.0):
        rows = torch.zeros(1, 1, OUTPUTS)
        rows[0, 0, 2], rows[0, 0, 14] = -1.5 - away / 32, math.log(0.25)
        rows.requires_grad_()
        sums, _ = losses(rows, targets_of([face(18, 15.5, 16)]), cells)
        sums[2].backward()
        assert rows.grad[0, 0, 2] < 0, "further to the right is better"
        distances.append(float(sums[2].detach()))
    assert distances == sorted(distances)
    assert all(1 < distance < 2 for distance in distances)


def test_frames_without_a_face_have_a_finite_loss_and_teach_the_background():
    rows = random_rows(2).requires_grad_()
    sums, counts = losses(rows, targets_of([], []))
    assert counts.tolist() == [0, 0]
    assert sums[1:].tolist() == [0, 0, 0]
    assert float(sums[0].detach()) == pytest.approx(
        float(torch.nn.functional.softplus(rows.detach()[..., 0]).sum()), rel=1e-5
    )
    total = total_loss(DetectorConfig(), sums, counts)
    total.backward()
    assert total.isfinite()
    assert (rows.grad[..., 0] > 0).all()
    assert not rows.grad[..., 1:].any()


def test_faces_without_points_add_nothing_to_the_loss_of_points():
    box, points, _ = face(48, 48, 40)
    partly = points.clone()
    partly[2:] = torch.nan
    for labelled, share in ((None, 0), (partly, 2), (points, 5)):
        rows = random_rows().requires_grad_()
        sums, counts = losses(rows, targets_of([(box, labelled, False)]))
        sums.sum().backward()
        positive = int(counts[0])
        assert positive > 0
        assert int(counts[1]) == share * positive
        assert (sums[3] > 0) == (share > 0)
        moved = rows.grad[0, :, 4:14].reshape(-1, 5, 2).abs().sum(dim=(0, 2)) > 0
        assert moved.tolist() == [point < share for point in range(5)]
        assert rows.grad.isfinite().all()
        assert not rows.grad[..., 15].any(), "the last number is not used"


def test_only_cells_that_answer_learn_boxes_and_every_known_cell_learns_presence():
    rows = random_rows().requires_grad_()
    targets = targets_of([face(40, 40, 30), (square(80, 80, 12), None, True)])
    sums, counts = losses(rows, targets)
    sums.sum().backward()
    number, _, background = chosen(rows.detach(), targets)
    positive = number >= 0
    assert positive.sum() == counts[0]
    grad = rows.grad
    assert torch.equal(grad[..., 1:15].abs().sum(dim=-1) > 0, positive)
    assert torch.equal(grad[..., 0] != 0, positive | background)
    assert (grad[..., 0][positive] < 0).all()


def test_the_total_is_weighed_per_cell_and_per_point():
    config = DetectorConfig(face_weight=2.0, quality_weight=3.0, box_weight=5.0, point_weight=7.0)
    sums = torch.tensor([8.0, 4.0, 2.0, 10.0])
    assert float(total_loss(config, sums, torch.tensor([4.0, 20.0]))) == pytest.approx((16 + 12 + 10) / 4 + 70 / 20)
    assert float(total_loss(config, sums, torch.zeros(2))) == pytest.approx(16 + 12 + 10 + 70)
    assert LOSSES == ("face", "quality", "box", "points")


def test_views_become_a_batch_and_its_targets():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (3, 8, 8, 3), dtype=np.uint8)
    boxes = rng.uniform(0, 8, (3, 4)).astype(np.float32)
    points = rng.uniform(0, 8, (3, 5, 2)).astype(np.float32)
    points[1] = np.nan
    views = [
        View(pictures[0], boxes[:2], points[:2], np.array([False, True])),
        View(pictures[1], boxes[:0], points[:0], np.zeros(0, bool)),
        View(pictures[2], boxes[2:], points[2:], np.array([False])),
    ]
    frames, *arrays = to_tensors(views)
    targets = Targets(*arrays)
    assert np.array_equal(frames.numpy(), pictures)
    assert targets.boxes.shape == (3, 2, 4)
    assert np.array_equal(targets.boxes[0].numpy(), boxes[:2])
    assert np.array_equal(targets.points[0].numpy(), points[:2], equal_nan=True)
    assert np.array_equal(targets.boxes[2, 0].numpy(), boxes[2])
    assert targets.real.tolist() == [[True, False], [False, False], [True, False]]
    assert targets.ignore.tolist() == [[False, True], [False, False], [False, False]]
    assert to_tensors(views[1:2])[1].shape == (1, 1, 4)
