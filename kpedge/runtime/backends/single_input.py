"""What backends share that run one crop or frame after the other."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import Card, Outputs


class SingleInputModel(ABC):
    """A model whose file takes a batch of one."""

    card: Card  # what the model expects and promises

    @abstractmethod
    def run(self, one: NDArray[np.uint8]) -> Sequence[Any]:
        """One crop or frame, uint8 (H, W, C), to the card's outputs in order, arrays with or without a batch axis."""

    def __call__(self, inputs: NDArray[np.uint8]) -> Outputs:
        """Crops or frames, uint8 (N, H, W, C), to the outputs that the card names."""
        answers = [self.run(one) for one in inputs]
        return {
            name: np.array([answer[index] for answer in answers], np.float32).reshape(
                len(inputs), *(-1 if size is None else size for size in shape)
            )
            for index, (name, shape) in enumerate(self.card.outputs.items())
        }
