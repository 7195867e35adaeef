"""Optional dependencies: import them by extra, and name the extra when they are missing."""

import importlib
import importlib.util
from collections.abc import Iterable
from types import ModuleType

from kpedge.core.errors import MissingExtraError

EXTRAS: dict[str, tuple[str, ...]] = {
    "data": ("pooch", "urllib3", "PIL", "yaml"),
    "train": ("torch", "torchvision", "tensorboard", "matplotlib", "safetensors"),
    "export": ("torch", "onnx", "onnxscript", "safetensors"),
    "video": ("av",),
    "osc": ("pythonosc",),
    "lsl": ("pylsl",),
    "websocket": ("websockets",),
    "mqtt": ("paho",),
    "parquet": ("pyarrow",),
    "heic": ("pillow_heif",),
    "screen": ("mss",),
    "serve": ("starlette", "uvicorn", "python_multipart", "prometheus_client"),
    "picamera": ("picamera2",),
    "virtual-camera": ("pyvirtualcam",),
    "openvino": ("openvino",),
    "ncnn": ("ncnn", "pnnx"),
    "litert": ("ai_edge_litert",),
    "litert-export": ("litert_torch", "ai_edge_quantizer"),
    "executorch": ("executorch",),
    "coreml": ("coremltools",),
}
"""The modules that each extra of `pyproject.toml` brings (tests hold the two against each other)."""


def pip_line(extra: str) -> str:
    """The command that installs an extra; kpedge is installed from its source folder, not from an index."""
    return f"pip install '.[{extra}]' in kpedge's source folder"


def extras_for(modules: Iterable[str]) -> str:
    """The extras that bring some modules, with commas between them."""
    names = (next(extra for extra in ("export", *EXTRAS) if module in EXTRAS[extra]) for module in modules)
    return ",".join(dict.fromkeys(names))


def installed(module: str) -> bool:
    """Whether a module can be found, without importing it."""
    return importlib.util.find_spec(module) is not None


def check_installed(*extras: str) -> None:
    """Check, before any work is done, that everything that some extras bring is installed; nothing is imported.

    Raises:
        MissingExtraError: modules are not installed; the advice is the exact pip line.
    """
    missing = {extra: [module for module in EXTRAS[extra] if not installed(module)] for extra in extras}
    if names := dict.fromkeys(module for modules in missing.values() for module in modules):
        verb = "is" if len(names) == 1 else "are"
        wanted = ",".join(extra for extra, modules in missing.items() if modules)
        raise MissingExtraError(f"{', '.join(names)} {verb} not installed", f"run: {pip_line(wanted)}")


def importable(module: str, extra: str) -> ModuleType:
    """Import `module`, or say which extra brings it.

    Raises:
        MissingExtraError: the module is not installed; the advice is the exact pip line.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise MissingExtraError(f"{missing} is not installed", f"run: {pip_line(extra)}") from error
