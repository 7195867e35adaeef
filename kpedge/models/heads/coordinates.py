"""Coordinates by a linear layer."""

from torch import Tensor, nn

from kpedge.models.backbones.backbone import Maps
from kpedge.models.heads.head import Head, MapShapes


class CoordinateHead(Head):
    """Coordinates by a linear layer, in units of the training shapes' deviation from their mean."""

    relative = True

    def __init__(self, maps: MapShapes, features: int, keypoints: int, *, norm: str) -> None:
        super().__init__(maps, features, keypoints, norm=norm)
        self.linear = nn.Linear(features, 2 * keypoints)

    def forward(self, vector: Tensor | None, maps: Maps) -> tuple[Tensor, None]:
        """(N, features) to points, (N, K, 2)."""
        return self.linear(vector).unflatten(1, (-1, 2)), None
