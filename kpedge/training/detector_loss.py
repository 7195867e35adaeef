"""Which cells of a detector answer for which face, and the loss that follows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kpedge.models.detector import decode

RADIUS = 1.5
"""Cells within this many strides of a face's middle may answer for it, even where the face is smaller than a cell."""
CANDIDATES = 10
"""Cells that at most answer for one face."""
COST_IOU = 3.0
COST_OUTSIDE = 1e5
"""Weights of the cost of a cell, as in YOLOX (Ge et al. 2021): of the box's fit against the score, and of lying outside
the face's middle.
"""
LOSSES = ("face", "quality", "box", "points")


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Faces of a batch of views, padded to the same number.

    Attributes:
        boxes: float32 (N, G, 4), pixels of the view.
        points: float32 (N, G, 5, 2); NaN where not labelled.
        real: bool (N, G): a face that is learnt.
        ignore: bool (N, G): neither face nor background.
    """

    boxes: Tensor
    points: Tensor
    real: Tensor
    ignore: Tensor


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4) with others (..., 4), shapes broadcast."""
    low = torch.maximum(boxes[..., :2], others[..., :2])
    high = torch.minimum(boxes[..., 2:], others[..., 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1) + (others[..., 2:] - others[..., :2]).prod(dim=-1)
    return shared / (area - shared).clamp(min=1e-6)


@torch.no_grad()
def assign(score: Tensor, boxes: Tensor, cells: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the cells that answer for each face by the cost of their present answers (SimOTA, Ge et al. 2021).

    Args:
        score: (N, A), what each cell says now, 0 to 1.
        boxes: (N, A, 4), likewise.
        cells: (A, 3), x, y and stride of the cells.
        targets: the faces.

    Returns:
        Number of the face that a cell answers for, int64 (N, A), -1 for none; the IoU of its box with that face's; and
        whether the cell is background for sure, bool (N, A).
    """
    x, y, stride = cells[:, 0], cells[:, 1], cells[:, 2]
    low, high = targets.boxes[..., None, :2], targets.boxes[..., None, 2:]
    place = torch.stack([x, y], dim=1)
    within = ((place > low) & (place < high)).all(dim=-1)  # (N, G, A)
    middle = (low + high) / 2
    near = ((place - middle).abs() < RADIUS * stride[:, None]).all(dim=-1)
    real = targets.real[..., None]
    allowed = (within | near) & real
    overlap = box_iou(boxes[:, None], targets.boxes[:, :, None]) * allowed
    sure = score.nan_to_num().clamp(1e-6, 1 - 1e-6)  # what is not a number shows in the loss, not as an error here
    cost = (
        functional.binary_cross_entropy(sure, torch.ones_like(sure), reduction="none")[:, None]
        - COST_IOU * (overlap + 1e-8).log()
    )
    cost = cost + COST_OUTSIDE * ~(within & near) + 1e9 * ~allowed
    count = min(CANDIDATES, cost.shape[-1])
    wanted = overlap.topk(count, dim=-1).values.sum(dim=-1).int().clamp(min=1)
    cheapest, index = cost.topk(count, dim=-1, largest=False)
    taken = (torch.arange(count, device=cost.device) < wanted[..., None]) & (cheapest < 1e8)
    matched = torch.zeros_like(allowed).scatter_(2, index, taken)
    face = torch.where(matched, cost, torch.inf).argmin(dim=1)
    positive = matched.any(dim=1)
    face = torch.where(positive, face, -1)
    iou = overlap.gather(1, face.clamp(min=0)[:, None])[:, 0] * positive
    hidden = ((within | near) & targets.ignore[..., None]).any(dim=1)
    return face, iou, ~positive & ~hidden


def detector_losses(rows: Tensor, cells: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """The four losses of a batch, each summed over what it counts.

    Args:
        rows: (N, A, 16), the network's numbers.
        cells: (A, 3), x, y and stride.
        targets: the faces.

    Returns:
        Sums (4,), of `LOSSES`; and the counts by which they are to be divided (2,): cells that answer for a face, and
        the labelled points of their faces.
    """
    rows = rows.float()
    boxes, points = decode(rows, cells)
    score = (rows[..., 0].sigmoid() * rows[..., 1].sigmoid()).sqrt().detach()
    face, iou, background = assign(score, boxes.detach(), cells, targets)
    positive = face >= 0
    known = (positive | background).float()
    presence = functional.binary_cross_entropy_with_logits(rows[..., 0], positive.float(), reduction="none")
    batch, cell = positive.nonzero(as_tuple=True)
    wanted = targets.boxes[batch, face[batch, cell]]
    found = boxes[batch, cell]
    quality = functional.binary_cross_entropy_with_logits(rows[batch, cell, 1], iou[batch, cell], reduction="sum")
    side = (wanted[:, 2:] - wanted[:, :2]).prod(dim=-1).sqrt().clamp(min=1)
    labelled = targets.points[batch, face[batch, cell]]
    has_points = torch.isfinite(labelled).all(dim=-1)
    distance = (points[batch, cell] - labelled.nan_to_num()) / side[:, None, None]
    off = functional.smooth_l1_loss(distance, torch.zeros_like(distance), beta=0.05, reduction="none").sum(dim=-1)
    sums = torch.stack([(presence * known).sum(), quality, _box_loss(found, wanted).sum(), (off * has_points).sum()])
    return sums, torch.stack([positive.sum(), has_points.sum()]).float()


def _box_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """One minus the distance IoU of boxes (P, 4) (Zheng et al. 2020)."""
    low = torch.minimum(found[:, :2], wanted[:, :2])
    high = torch.maximum(found[:, 2:], wanted[:, 2:])
    diagonal = ((high - low) ** 2).sum(dim=-1).clamp(min=1e-6)
    apart = ((found[:, :2] + found[:, 2:] - wanted[:, :2] - wanted[:, 2:]) ** 2).sum(dim=-1) / 4
    return 1 - box_iou(found, wanted) + apart / diagonal
