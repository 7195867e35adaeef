"""Intel's OpenVINO: its own files, and ONNX files as they are."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import Outputs
from kpedge.core.errors import CorruptModelError
from kpedge.core.extras import importable
from kpedge.runtime.backends.card_of import card_of

GRAPH_FILE = "model.xml"  # name of the graph in a model's folder; its weights are in `model.bin`


class OpenVinoModel:
    """A model that OpenVINO runs on the CPU, in float32."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        """Load an ONNX file, or a folder that `kpedge export --format openvino` wrote.

        Raises:
            CorruptModelError: it is broken, or has no card.
            MissingExtraError: openvino is not installed.
        """
        openvino: Any = importable("openvino", "openvino")
        self.card = card_of(path)
        file = path / GRAPH_FILE if path.is_dir() else path
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
        try:
            compiled = openvino.Core().compile_model(str(file), "CPU", settings)
        except RuntimeError as error:
            reason = str(error).rstrip().rpartition("\n")[2]
            raise CorruptModelError(f"{path}: OpenVINO cannot load it: {reason}", "copy or export it again") from error
        self._request = compiled.create_infer_request()

    def __call__(self, inputs: NDArray[np.uint8]) -> Outputs:
        """Crops or frames, uint8 (N, H, W, C), to the outputs that the card names."""
        self._request.infer({self.card.input_name: inputs})
        return {name: self._request.get_tensor(name).data.copy() for name in self.card.outputs}
