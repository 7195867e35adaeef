"""Test-time augmentation: a crop and its mirror image, averaged."""

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import KEYPOINTS_NAME, ModelCard, Outputs
from kpedge.core.errors import UsageError
from kpedge.runtime.keypoints import CropModel


class MirrorAveraged:
    """A keypoint model whose outputs are the mean of those for a crop and for its mirror image, at twice the time.

    Raises:
        UsageError: the model's scheme has no mirror pairs.
    """

    def __init__(self, model: CropModel) -> None:
        self._model = model
        self.card: ModelCard = model.card
        if not self.card.scheme.can_mirror:
            raise UsageError(
                f"{self.card.scheme.name} lists no mirror pairs, so points cannot be mirrored", "leave --flip-test out"
            )

    def __call__(self, crops: NDArray[np.uint8], /) -> Outputs:
        """Crops, uint8 (N, H, W, C), to the outputs that the card names."""
        plain, mirrored = self._model(crops), self._model(np.ascontiguousarray(crops[:, :, ::-1]))
        order = self.card.scheme.mirror_order
        turned = {name: values[:, order] if values.ndim > 1 else values for name, values in mirrored.items()}
        keypoints = turned[KEYPOINTS_NAME].copy()
        keypoints[..., 0] = 1 - keypoints[..., 0]
        turned[KEYPOINTS_NAME] = keypoints
        return {name: (values + turned[name]) / np.float32(2) for name, values in plain.items()}
