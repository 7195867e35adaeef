"""Two distributions for each point, along x and along y."""

from typing import ClassVar

from torch import Tensor, nn

from kpedge.models.backbones.backbone import Maps
from kpedge.models.heads.head import Head, MapShapes, cell_centres


class SimccHead(Head):
    """Two distributions a point, over columns and over rows, read at their mean (SimCC, Li et al. 2022)."""

    bins: ClassVar[int] = 112  # cells along each axis

    def __init__(self, maps: MapShapes, features: int, keypoints: int, *, norm: str) -> None:
        super().__init__(maps, features, keypoints, norm=norm)
        self.linear = nn.Linear(features, 2 * keypoints * self.bins)

    def forward(self, vector: Tensor | None, maps: Maps) -> tuple[Tensor, Tensor]:
        """(N, features) to points, (N, K, 2), fractions of the crop, and logits, (N, K, 2, bins)."""
        logits = self.linear(vector).unflatten(1, (-1, 2, self.bins))
        return (logits.softmax(dim=-1) * cell_centres(logits)).sum(dim=-1), logits
