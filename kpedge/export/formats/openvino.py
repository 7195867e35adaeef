"""OpenVINO's IR: a graph and its weights, in a folder with the card."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kpedge.core.card import EXTRA_FILE, FLOAT32
from kpedge.core.extras import importable
from kpedge.core.files import write_text
from kpedge.export.converting import converting
from kpedge.export.export_format import AccuracyLimits, ExportFormat, ExportSource
from kpedge.export.formats.onnx import float32_proto, set_card
from kpedge.export.formats.onnx_int8 import PRECISION as INT8
from kpedge.export.formats.onnx_int8 import quantised_proto
from kpedge.runtime.backends.openvino import GRAPH_FILE, OpenVinoModel

FLOAT16 = "float16"


def _write(source: ExportSource, path: Path, *, proto: Callable[[ExportSource], Any], half: bool) -> None:
    """Write a model from its ONNX file: in float32, with float16 weights that are computed in float32, or with the
    convolutions that `onnx_int8` quantised.
    """
    openvino: Any = importable("openvino", "openvino")
    path.mkdir()
    content = set_card(proto(source), source.card)
    with converting("OpenVINO"):
        openvino.save_model(openvino.Core().read_model(content), str(path / GRAPH_FILE), compress_to_fp16=half)
    write_text(path / EXTRA_FILE, source.card.to_json())


def load(path: Path, threads: int) -> OpenVinoModel:
    """Open a folder that `_write` wrote."""
    return OpenVinoModel(path, threads=threads)


def _matches(path: Path, _start: bytes, *, precision: str) -> bool:
    card = path / EXTRA_FILE
    stated = f'"precision":"{precision}"'.encode() if precision != FLOAT32 else b""
    return (path / GRAPH_FILE).is_file() and card.is_file() and stated in card.read_bytes()


_COMMON: dict[str, Any] = {"modules": ("torch", "onnx", "onnxscript", "openvino"), "load": load, "install_mb": 180}
FORMAT = ExportFormat(
    name="openvino",
    suffix=".openvino",
    purpose="Intel processors, integrated GPUs and NPUs",
    write=partial(_write, proto=float32_proto, half=False),
    matches=partial(_matches, precision=FLOAT32),
    **_COMMON,
)
FP16 = ExportFormat(
    name="openvino-fp16",
    suffix=".fp16.openvino",
    purpose="the same, half the size",
    write=partial(_write, proto=float32_proto, half=True),
    matches=partial(_matches, precision=FLOAT16),
    precision=FLOAT16,
    limits=AccuracyLimits(error=0.005),
    **_COMMON,
)
INT8_FORMAT = ExportFormat(
    name="openvino-int8",
    suffix=".int8.openvino",
    purpose="the same with 8-bit convolutions, for VNNI, AMX and NPUs",
    write=partial(_write, proto=quantised_proto, half=False),
    matches=partial(_matches, precision=INT8),
    precision=INT8,
    recorded_tolerance=0.01,  # as onnx-int8
    limits=AccuracyLimits(error=0.02),
    **_COMMON,
)
