"""A PyTorch module, called with NumPy arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import Card, Outputs
from kpedge.core.extras import importable


class TorchModel:
    """A PyTorch module, eager or TorchScript, called with NumPy arrays. It takes uint8 (N, H, W, C), and gives the
    outputs in the order of the card.
    """

    def __init__(self, module: Any, card: Card, device: str = "cpu") -> None:
        self._torch: Any = importable("torch", "train")
        self.module = module.eval().to(device)
        self.card = card
        self.device = device

    def __call__(self, inputs: NDArray[np.uint8]) -> Outputs:
        """Crops or frames, uint8 (N, H, W, C), to the outputs that the card names."""
        with self._torch.inference_mode():
            found = self.module(self._torch.from_numpy(inputs).to(self.device))
        values = found if isinstance(found, tuple | list) else (found,)
        return {
            name: np.asarray(value.cpu().numpy(), dtype=np.float32)
            for name, value in zip(self.card.outputs, values, strict=True)
        }
