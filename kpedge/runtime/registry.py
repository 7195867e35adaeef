"""What runs models, by name. Adding one: its own file, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kpedge.core.registry import Registry

if TYPE_CHECKING:
    from kpedge.runtime.sessions import Model

BACKENDS: Registry[Callable[..., Model]] = Registry(
    "--backend",
    {
        "onnxruntime": "kpedge.runtime.sessions:OnnxModel",
        "openvino": "kpedge.runtime.backends.openvino:OpenVinoModel",
        "ncnn": "kpedge.runtime.backends.ncnn:NcnnModel",
        "litert": "kpedge.runtime.backends.litert:LitertModel",
        "executorch": "kpedge.runtime.backends.executorch:ExecutorchModel",
        "coreml": "kpedge.runtime.backends.coreml:CoreMlModel",
        "cv2": "kpedge.runtime.backends.cv2_dnn:Cv2Model",
    },
)
"""Opens a model: path of a file or folder, `threads`."""
AUTO, ONNXRUNTIME = "auto", "onnxruntime"
SUFFIXES = {
    ".openvino": "openvino",
    ".ncnn": "ncnn",
    ".tflite": "litert",
    ".pte": "executorch",
    ".mlpackage": "coreml",
}
"""Ending of a model's file or folder -> the backend that reads it; everything else is for onnxruntime."""
PYTORCH_SUFFIXES = (".pt", ".pth", ".safetensors")  # checkpoints, weights, TorchScript: no backend reads them
