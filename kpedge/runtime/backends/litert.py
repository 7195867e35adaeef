"""LiteRT, formerly TensorFlow Lite."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import CorruptModelError
from kpedge.core.extras import importable
from kpedge.core.files import read_bytes
from kpedge.core.silence import silent
from kpedge.runtime.backends.card_of import card_of
from kpedge.runtime.backends.single_input import SingleInputModel


class LitertModel(SingleInputModel):
    """A model that LiteRT runs on the CPU."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        """Load a file that `kpedge export --format litert` wrote.

        Raises:
            CorruptModelError: it is broken, has no card, or has other inputs and outputs than its card says.
            MissingExtraError: ai-edge-litert is not installed.
        """
        self.card = card_of(path)
        try:
            with silent():  # it prints which delegate it created
                litert: Any = importable("ai_edge_litert.interpreter", "litert")
                self._interpreter = litert.Interpreter(
                    model_content=read_bytes(path, CorruptModelError), num_threads=threads
                )
                self._interpreter.allocate_tensors()
                self._run = self._interpreter.get_signature_runner()
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise CorruptModelError(f"{path}: LiteRT cannot load it: {reason}", "copy or export it again") from error
        details = self._run.get_input_details(), self._run.get_output_details()
        shape = (1, *self.card.dummy_input_shape)
        given = {name: (tuple(map(int, one["shape"])), one["dtype"]) for name, one in details[0].items()}
        if given != {self.card.input_name: (shape, np.uint8)} or set(details[1]) != set(self.card.outputs):
            raise CorruptModelError(f"{path}: inputs and outputs are not what its card says")

    def run(self, one: NDArray[np.uint8]) -> Sequence[Any]:
        """One crop or frame, uint8 (H, W, C)."""
        found = self._run(**{self.card.input_name: one[None]})
        return [found[name] for name in self.card.outputs]
