"""Models of runtimes that compute one call at a time, for programs with several threads or processes."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import Card, Outputs
from kpedge.runtime.registry import BACKENDS


class OneAtATime:
    """A model whose calls wait for each other; a copy, and what another process unpickles, opens the file again."""

    def __init__(self, backend: str, path: Path, threads: int) -> None:
        self.backend = backend  # a key of `BACKENDS`
        self._opened_from = backend, path.absolute(), threads
        self._model, self._lock = BACKENDS[backend](path, threads=threads), threading.Lock()
        self.card: Card = self._model.card

    def __call__(self, inputs: NDArray[np.uint8]) -> Outputs:
        """Crops or frames, uint8 (N, H, W, C), to the outputs that the card names."""
        with self._lock:
            return self._model(inputs)

    def __reduce__(self) -> tuple[Any, ...]:
        return OneAtATime, self._opened_from
