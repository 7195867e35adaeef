"""The loss of a detector: which cells are assigned to which face, and what follows."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from kpedge.models.detector import DetectorModel, decode
from kpedge.training.config import DetectorConfig

RADIUS = 1.5  # cells within this many strides of a face's centre may be assigned to it, however small it is
CANDIDATES = 10  # most cells assigned to one face
COST_IOU = 3.0
COST_OUTSIDE = 1e5
"""Weights of the cost of a cell, as in YOLOX (Ge et al. 2021): of the box's fit against the score, and of lying outside
the face's centre.
"""
LOSSES = ("face", "quality", "box", "points")


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Faces of a batch of views, padded to the same number."""

    boxes: Tensor  # float32 (N, G, 4), pixels of the view
    points: Tensor  # float32 (N, G, 5, 2); NaN where not labelled
    real: Tensor  # bool (N, G): a face to learn
    ignore: Tensor  # bool (N, G): a region to ignore, neither face nor background


class DetectorLoss(nn.Module):
    """A detector with its loss."""

    def __init__(self, model: DetectorModel, config: DetectorConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    def forward(
        self, frames: Tensor, boxes: Tensor, points: Tensor, real: Tensor, ignore: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Losses and counts of a batch of frames, uint8 (N, S, S, 3), and their `Targets`, as `detector_losses` gives
        them.
        """
        dtype = getattr(torch, self.config.precision)
        with torch.autocast(frames.device.type, dtype, enabled=dtype != torch.float32):
            rows, cells = self.model.raw(frames)
        return detector_losses(rows, cells, Targets(boxes, points, real, ignore))

    def total(self, losses: Tensor, counts: Tensor) -> Tensor:
        """The loss that is minimised: losses per assigned cell and per labelled point, weighted and added."""
        config, (cells, labelled) = self.config, counts.clamp(min=1)
        face, quality, box, points = losses
        per_cell = config.face_weight * face + config.quality_weight * quality + config.box_weight * box
        total: Tensor = per_cell / cells + config.point_weight * points / labelled
        return total


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4) with others (..., 4), shapes broadcast."""
    low = torch.maximum(boxes[..., :2], others[..., :2])
    high = torch.minimum(boxes[..., 2:], others[..., 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1) + (others[..., 2:] - others[..., :2]).prod(dim=-1)
    return shared / (area - shared).clamp(min=1e-6)


@torch.no_grad()
def assign(score: Tensor, boxes: Tensor, cells: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """Assign cells (A, 3), x, y and stride, to faces by the cost of their current predictions (SimOTA, Ge et al. 2021):
    scores (N, A), 0 to 1, and boxes (N, A, 4).

    Returns:
        Number of the face that a cell is assigned to, int64 (N, A), -1 for none; the IoU of its box with that face's;
        and whether the cell is certainly background, bool (N, A).
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
    score = score.nan_to_num().clamp(1e-6, 1 - 1e-6)  # NaN shows in the loss, not as an error here
    cost = (
        functional.binary_cross_entropy(score, torch.ones_like(score), reduction="none")[:, None]
        - COST_IOU * (overlap + 1e-8).log()
    )
    cost = cost + COST_OUTSIDE * ~(within & near) + 1e9 * ~allowed
    count = min(CANDIDATES, cost.shape[-1])
    number = overlap.topk(count, dim=-1).values.sum(dim=-1).int().clamp(min=1)
    cheapest, index = cost.topk(count, dim=-1, largest=False)
    taken = (torch.arange(count, device=cost.device) < number[..., None]) & (cheapest < 1e8)
    matched = torch.zeros_like(allowed).scatter_(2, index, taken)
    face = torch.where(matched, cost, torch.inf).argmin(dim=1)
    positive = matched.any(dim=1)
    face = torch.where(positive, face, -1)
    iou = overlap.gather(1, face.clamp(min=0)[:, None])[:, 0] * positive
    hidden = ((within | near) & targets.ignore[..., None]).any(dim=1)
    return face, iou, ~positive & ~hidden


def detector_losses(rows: Tensor, cells: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """The four losses of a batch, each summed, from the network's outputs, (N, A, 16), and the cells, (A, 3): x, y and
    stride.

    Returns:
        Sums of `LOSSES`, (4,); and the counts they are divided by, (2,): cells assigned to a face, and the labelled
        points of these faces.
    """
    rows = rows.float()
    boxes, points = decode(rows, cells)
    score = (rows[..., 0].sigmoid() * rows[..., 1].sigmoid()).sqrt().detach()
    face, iou, background = assign(score, boxes.detach(), cells, targets)
    positive = face >= 0
    known = (positive | background).float()
    presence = functional.binary_cross_entropy_with_logits(rows[..., 0], positive.float(), reduction="none")
    batch, cell = positive.nonzero(as_tuple=True)
    target = targets.boxes[batch, face[batch, cell]]
    predicted = boxes[batch, cell]
    quality = functional.binary_cross_entropy_with_logits(rows[batch, cell, 1], iou[batch, cell], reduction="sum")
    side = (target[:, 2:] - target[:, :2]).prod(dim=-1).sqrt().clamp(min=1)
    labelled = targets.points[batch, face[batch, cell]]
    has_points = torch.isfinite(labelled).all(dim=-1)
    distance = (points[batch, cell] - labelled.nan_to_num()) / side[:, None, None]
    off = functional.smooth_l1_loss(distance, torch.zeros_like(distance), beta=0.05, reduction="none").sum(dim=-1)
    sums = torch.stack([(presence * known).sum(), quality, box_loss(predicted, target).sum(), (off * has_points).sum()])
    return sums, torch.stack([positive.sum(), has_points.sum()]).float()


def box_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """One minus the distance IoU of boxes (P, 4) (Zheng et al. 2020)."""
    low = torch.minimum(predicted[:, :2], target[:, :2])
    high = torch.maximum(predicted[:, 2:], target[:, 2:])
    diagonal = ((high - low) ** 2).sum(dim=-1).clamp(min=1e-6)
    distance = ((predicted[:, :2] + predicted[:, 2:] - target[:, :2] - target[:, 2:]) ** 2).sum(dim=-1) / 4
    return 1 - box_iou(predicted, target) + distance / diagonal
