"""Stage 2: keypoints from a crop, with a choice of backbone, head and normalisation."""

from __future__ import annotations

from typing import TypedDict

from torch import Tensor, nn

from kpedge.core.card import COLOURS
from kpedge.models.backbones import Pyramid, new_backbone
from kpedge.models.heads import HeatmapHead, Neck, new_head


class RawOutput(TypedDict, total=False):
    """What a network gives for N crops, before the model around it turns it into keypoints.

    Attributes:
        points: float32 (N, K, 2); of a head with `relative`, in units of the training shapes' deviation from their
            mean, else fractions of the crop.
        bins: logits of the distributions of a heatmap or SimCC head.
        logit: (N,), above 0 for a face, where the network tells faces from what is none.
        error: (N, K), how far each point is expected to be off, in the units of the points.
    """

    points: Tensor
    bins: Tensor
    logit: Tensor
    error: Tensor


class Stage2(nn.Module):
    """A backbone, a neck, a head.

    Args:
        keypoints: number of points K.
        backbone: a name of `kpedge.core.choices.BACKBONES`.
        head: a name of `kpedge.core.choices.HEADS`.
        norm: a name of `kpedge.core.choices.NORMS`.
        width: factor of the backbone's channels.
        dropout: probability of dropping a number of the neck's vector in training.
        colour: a key of `kpedge.core.card.COLOURS`.
    """

    size = 112
    features = 128
    outputs: tuple[str, ...] = ("head.linear", "head.last")
    """Layers whose output is read, not rectified: they start small."""

    def __init__(
        self,
        keypoints: int,
        *,
        backbone: str = "plain",
        head: str = "coordinates",
        norm: str = "batch",
        width: float = 1.0,
        dropout: float = 0.0,
        colour: str = "grey",
    ) -> None:
        super().__init__()
        self.colour = colour
        self.backbone = new_backbone(backbone, COLOURS[colour], norm=norm, width=width)
        pyramid = isinstance(self.backbone, Pyramid)
        channels = self.backbone.channels
        sides = [-(-self.size // 2 ** (level + 2)) for level in range(len(channels))]
        self.neck = Neck(channels, sides[-1] ** 2, features=self.features, dropout=dropout, norm=norm, joined=pyramid)
        self.head = new_head(head, self.features, channels, sides, keypoints, norm=norm, pyramid=pyramid)
        if isinstance(self.head, HeatmapHead) and type(self) is Stage2:
            self.neck = None  # type: ignore[assignment]
            if isinstance(self.backbone, Pyramid):
                self.backbone.keep_finest()
        self.relative = self.head.relative

    def forward(self, pixels: Tensor) -> RawOutput:
        """Normalised pixels, float32 (N, C, 112, 112)."""
        maps = self.backbone(pixels)
        return self._points(None if self.neck is None else self.neck(maps), maps)

    def _points(self, vector: Tensor | None, maps: list[Tensor]) -> RawOutput:
        points, bins = self.head(vector, maps)
        return {"points": points} if bins is None else {"points": points, "bins": bins}
