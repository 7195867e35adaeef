"""ExecuTorch, whose Python runtime needs PyTorch; on a device its C++ runtime is 1 MB."""

import warnings
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


class ExecutorchModel(SingleInputModel):
    """A model that ExecuTorch runs on the CPU. The threads are those of the whole process."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        """Load a file that `kpedge export --format executorch` wrote.

        Raises:
            CorruptModelError: it is broken, or has no card.
            MissingExtraError: executorch is not installed.
        """
        self._torch: Any = importable("torch", "executorch")
        self.card = card_of(path)
        try:
            # It prints what it reads about the processor, and warns that its Python interface is experimental.
            with silent(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                runtime: Any = importable("executorch.runtime", "executorch")
                bindings: Any = importable("executorch.extension.pybindings.portable_lib", "executorch")
                bindings._unsafe_reset_threadpool(threads)
                self._program = runtime.Runtime.get().load_program(read_bytes(path, CorruptModelError))
                self._method = self._program.load_method("forward")
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise CorruptModelError(
                f"{path}: ExecuTorch cannot load it: {reason}", "copy or export it again"
            ) from error

    def run(self, one: NDArray[np.uint8]) -> Sequence[Any]:
        """One crop or frame, uint8 (H, W, C)."""
        pixels = self._torch.from_numpy(np.ascontiguousarray(one[None]))
        return [value.numpy() for value in self._method.execute([pixels])]
