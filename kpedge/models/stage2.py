"""Stage 2: keypoints from a crop, with a choice of backbone, head and normalisation."""

from typing import ClassVar, TypedDict

from torch import Tensor, nn

from kpedge.core.card import COLOURS
from kpedge.models.backbones.backbone import new_backbone
from kpedge.models.heads.head import MapShapes
from kpedge.models.heads.neck import Neck
from kpedge.models.registry import HEADS
from kpedge.models.replace import replace_layers


class RawOutput(TypedDict, total=False):
    """What a network gives for N crops, before the model around it turns it into keypoints."""

    # float32 (N, K, 2); of a head with `relative`, in units of the training shapes' deviation from their mean, else
    # fractions of the crop
    points: Tensor
    bins: Tensor  # logits of the distributions of a heatmap or SimCC head
    logit: Tensor  # (N,), above 0 for a face, where the network has a face score
    error: Tensor  # (N, K), how far each point is expected to be off, in the units of the points


class Stage2(nn.Module):
    """A backbone with its channels times `width`, a neck, a head, of `BACKBONES`, `HEADS` and `NORMS`, for crops whose
    side is a multiple of 16. `activation` (of `ACTIVATIONS`) and `pooling` (of `POOLINGS`) take the place of the
    network's own.
    """

    size = 112  # side of the crop unless another is asked for
    features = 128
    scores: ClassVar[bool] = False  # whether more than the head reads the neck's vector
    outputs: tuple[str, ...] = ()  # layers whose output is read, not rectified: they start small

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
        size: int = size,
        activation: str = "",
        pooling: str = "",
    ) -> None:
        super().__init__()
        self.colour = colour
        self.backbone = new_backbone(backbone, COLOURS[colour], norm=norm, head=head, width=width)
        channels = self.backbone.channels
        sides = [-(-size // 2 ** (level + 2)) for level in range(len(channels))]
        self.maps = MapShapes(channels, sides, self.backbone.merged)
        self.neck: Neck | None = Neck(self.maps, self.features, dropout=dropout, norm=norm)
        self.head = HEADS[head](self.maps, self.features, keypoints, norm=norm)
        if self.head.reads_maps and not self.scores:
            self.neck = None
            self.backbone.keep_finest()
        self.outputs = (f"head.{self.head.output}", *self.outputs)
        self.relative = self.head.relative
        replace_layers(self, activation, pooling)

    def forward(self, pixels: Tensor) -> RawOutput:
        """Normalised pixels, float32 (N, C, 112, 112)."""
        maps = self.backbone(pixels)
        return self._points(None if self.neck is None else self.neck(maps), maps)

    def _points(self, vector: Tensor | None, maps: list[Tensor]) -> RawOutput:
        points, bins = self.head(vector, maps)
        return {"points": points} if bins is None else {"points": points, "bins": bins}
