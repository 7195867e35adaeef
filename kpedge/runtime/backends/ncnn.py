"""Tencent's ncnn, for phones and small boards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import CorruptModelError
from kpedge.core.extras import importable
from kpedge.core.silence import silent
from kpedge.runtime.backends.card_of import card_of
from kpedge.runtime.backends.single_input import SingleInputModel

PARAM_FILE, WEIGHTS_FILE = "model.ncnn.param", "model.ncnn.bin"


class NcnnModel(SingleInputModel):
    """A model that ncnn runs on the CPU, in float32."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        """Load a folder that `kpedge export --format ncnn` wrote.

        Raises:
            CorruptModelError: it is broken, or has no card.
            MissingExtraError: ncnn is not installed.
        """
        self._ncnn: Any = importable("ncnn", "ncnn")
        self.card = card_of(path)
        self._net = self._ncnn.Net()
        self._net.opt.num_threads = threads
        self._net.opt.use_vulkan_compute = False
        for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(self._net.opt, name, False)  # float32 throughout
        files = [str(path / name) for name in (PARAM_FILE, WEIGHTS_FILE)]
        with silent():  # it prints which layer it cannot read
            failed = self._net.load_param(files[0]) or self._net.load_model(files[1])
        if failed:
            raise CorruptModelError(f"{path}: ncnn cannot load it", "copy or export it again")

    def run(self, one: NDArray[np.uint8]) -> Sequence[Any]:
        """One crop or frame, uint8 (H, W, C)."""
        extractor = self._net.create_extractor()
        pixels = np.ascontiguousarray(one.transpose(2, 0, 1), np.float32)  # lives until Mat's memory is copied
        extractor.input("in0", self._ncnn.Mat(pixels).clone())
        return [np.array(extractor.extract(f"out{index}")[1]) for index in range(len(self.card.outputs))]
