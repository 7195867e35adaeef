"""Apple's Core ML, on macOS."""

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import ModelError
from kpedge.core.extras import importable
from kpedge.runtime.backends.card_of import card_of
from kpedge.runtime.backends.single_input import SingleInputModel


class CoreMlModel(SingleInputModel):
    """A model that Core ML runs."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        """Load a package that `kpedge export --format coreml` wrote; Core ML decides about threads.

        Raises:
            CorruptModelError: it has no card.
            MissingExtraError: coremltools is not installed.
            ModelError: this is not macOS.
        """
        del threads
        self.card = card_of(path)
        if platform.system() != "Darwin":
            raise ModelError(f"{path}: Core ML models run on macOS and iOS only", "run kpedge verify on a Mac")
        coremltools: Any = importable("coremltools", "coreml")
        self._model: Any = coremltools.models.MLModel(str(path))

    def run(self, one: NDArray[np.uint8]) -> Sequence[Any]:
        """One crop or frame, uint8 (H, W, C)."""
        found = self._model.predict({self.card.input_name: one[None].astype(np.float32)})
        return [found[name] for name in self.card.outputs]
