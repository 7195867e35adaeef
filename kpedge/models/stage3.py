"""Stage 3, the one that is deployed: keypoints, whether there is a face at all, and how far to trust each point."""

from torch import Tensor, nn

from kpedge.models.stage2 import RawOutput, Stage2

LEAST_ERROR = 1e-3  # no error is expected below this, in the shapes' deviation: the likelihood divides by it


class Stage3(Stage2):
    """Stage 2 with two more linear layers on the neck's vector.

    The network is plain on purpose: full 3x3 convolutions with batch normalisation and ReLU, which fold into one
    operation a layer. On one core that is faster than fewer operations in depthwise form.
    """

    scores = True
    outputs = ("face", "error")

    def __init__(self, keypoints: int, **options: str | float) -> None:
        super().__init__(keypoints, **options)  # type: ignore[arg-type]
        self.face = nn.Linear(self.features, 1)
        self.error = nn.Linear(self.features, keypoints)

    def forward(self, pixels: Tensor) -> RawOutput:
        """Normalised pixels, float32 (N, C, 112, 112)."""
        maps = self.backbone(pixels)
        assert self.neck is not None, "its own layers read the vector"  # noqa: S101
        vector = self.neck(maps)
        output = self._points(vector, maps)
        output["logit"] = self.face(vector).squeeze(1)
        # Learning how large the errors are must not change the features that make them small.
        output["error"] = nn.functional.softplus(self.error(vector.detach())) + LEAST_ERROR
        return output
