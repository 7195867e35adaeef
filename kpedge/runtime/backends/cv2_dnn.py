"""OpenCV's own inference, for devices that have nothing else: ONNX files as they are."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import Outputs
from kpedge.core.errors import CorruptModelError
from kpedge.runtime.backends.card_of import card_of


class Cv2Model:
    """A model that OpenCV runs."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        """Load an ONNX file; the threads are OpenCV's, for the whole process.

        Raises:
            CorruptModelError: it is broken, or has no card.
        """
        self.card = card_of(path)
        cv2.setNumThreads(threads)
        try:
            self._net = cv2.dnn.readNetFromONNX(str(path))
        except cv2.error as error:
            raise CorruptModelError(f"{path}: OpenCV cannot load it: {error.err}", "copy or export it again") from error
        self._names = list(self.card.outputs)

    def __call__(self, inputs: NDArray[np.uint8]) -> Outputs:
        """Crops or frames, uint8 (N, H, W, C), to the outputs that the card names."""
        self._net.setInput(inputs, self.card.input_name)
        values = self._net.forward(self._names)
        return {
            name: np.array(value, np.float32).reshape(len(inputs), *np.shape(value)[1 : 1 + len(shape)])
            for (name, shape), value in zip(self.card.outputs.items(), values, strict=True)
        }
