"""OpenVINO's IR: a graph and its weights, in a folder with the card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kpedge.core.card import EXTRA_FILE
from kpedge.core.extras import importable
from kpedge.core.files import write_text
from kpedge.export.export_format import AccuracyLimits, ExportFormat, ExportSource
from kpedge.export.formats.onnx import float32_proto, set_card
from kpedge.runtime.backends.openvino import GRAPH_FILE, OpenVinoModel

HALF = "float16"


def _write(source: ExportSource, path: Path, *, half: bool) -> None:
    openvino: Any = importable("openvino", "openvino")
    path.mkdir()
    content = set_card(float32_proto(source), source.card)
    model = openvino.Core().read_model(content)
    openvino.save_model(model, str(path / GRAPH_FILE), compress_to_fp16=half)
    write_text(path / EXTRA_FILE, source.card.to_json())


def write(source: ExportSource, path: Path) -> None:
    """Write a model with float32 weights."""
    _write(source, path, half=False)


def write_half(source: ExportSource, path: Path) -> None:
    """Write a model with float16 weights, computed in float32."""
    _write(source, path, half=True)


def load(path: Path, threads: int) -> OpenVinoModel:
    """Open a folder that `write` wrote."""
    return OpenVinoModel(path, threads=threads)


def _matches(path: Path, *, half: bool) -> bool:
    card = path / EXTRA_FILE
    return (path / GRAPH_FILE).is_file() and card.is_file() and half == (f'"{HALF}"'.encode() in card.read_bytes())


_COMMON: dict[str, Any] = {
    "modules": ("torch", "onnx", "onnxscript", "openvino"),
    "load": load,
}
FORMAT = ExportFormat(
    name="openvino",
    suffix=".openvino",
    purpose="Intel processors, integrated GPUs and NPUs",
    write=write,
    matches=lambda path, _start: _matches(path, half=False),
    **_COMMON,
)
FP16 = ExportFormat(
    name="openvino-fp16",
    suffix=".fp16.openvino",
    purpose="the same, half the size",
    write=write_half,
    matches=lambda path, _start: _matches(path, half=True),
    precision=HALF,
    limits=AccuracyLimits(error=0.005),
    **_COMMON,
)
