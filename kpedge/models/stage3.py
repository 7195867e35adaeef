"""Stage 3, the one that is deployed: keypoints, whether there is a face at all, and how far to trust each point."""

from typing import Any

import torch
from torch import Tensor, nn

from kpedge.models.blocks import ConvBlock
from kpedge.models.replace import replace_layers
from kpedge.models.stage2 import RawOutput, Stage2

LEAST_ERROR = 1e-3  # no error is expected below this, in the shapes' deviation: the likelihood divides by it


class FaceBranch(nn.Module):
    """The coarsest feature map as a vector for the face score alone: what distinguishes a face from a hand is not what
    shows where its points are.

    Half the resolution and few channels are enough: twice the width or all of the map find no more faces
    (docs/training.md).
    """

    width = 24  # channels
    features = 16

    def __init__(self, channels: int, side: int, *, norm: str) -> None:
        super().__init__()
        self.first = ConvBlock(channels, self.width, stride=2, norm=norm)
        self.second = ConvBlock(self.width, self.width, norm=norm)
        self.linear = nn.Linear(self.width * (-(-side // 2)) ** 2, self.features)
        self.act = nn.ReLU()

    def forward(self, last: Tensor) -> Tensor:
        """float32 (N, channels, side, side) to (N, features)."""
        vector: Tensor = self.act(self.linear(self.second(self.first(last)).flatten(1)))
        return vector


class Stage3(Stage2):
    """Stage 2 with two more linear layers on the neck's vector; with `face_branch` that of the face score also reads a
    vector of its own.

    The network is plain on purpose: full 3x3 convolutions with batch normalisation and ReLU, which fold into one
    operation a layer. On one core that is faster than fewer operations in depthwise form.
    """

    scores = True
    outputs = ("face", "error")

    def __init__(self, keypoints: int, *, face_branch: bool = False, **options: Any) -> None:
        super().__init__(keypoints, **options)
        self.face_branch: FaceBranch | None = None
        if face_branch:
            shapes, norm = self.maps, options.get("norm", "batch")
            self.face_branch = FaceBranch(shapes.channels[-1], shapes.sides[-1], norm=norm)
            replace_layers(self.face_branch, options.get("activation", ""), options.get("pooling", ""))
        self.face = nn.Linear(self.features + (FaceBranch.features if face_branch else 0), 1)
        self.error = nn.Linear(self.features, keypoints)

    def forward(self, pixels: Tensor) -> RawOutput:
        """Normalised pixels, float32 (N, C, 112, 112)."""
        maps = self.backbone(pixels)
        assert self.neck is not None, "its own layers read the vector"  # noqa: S101
        vector = self.neck(maps)
        output = self._points(vector, maps)
        features = vector if self.face_branch is None else torch.cat([vector, self.face_branch(maps[-1])], dim=1)
        output["logit"] = self.face(features).squeeze(1)
        # Learning how large the errors are must not change the features that make them small.
        output["error"] = nn.functional.softplus(self.error(vector.detach())) + LEAST_ERROR
        return output
