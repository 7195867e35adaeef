"""OpenVINO's IR: a graph and its weights, in a folder with the card."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kpedge.core.card import EXTRA_FILE, FLOAT16, INT8
from kpedge.core.extras import importable
from kpedge.core.files import write_text
from kpedge.export.converting import converting
from kpedge.export.export_format import ExportFormat, ExportSource
from kpedge.export.formats.onnx import float32_proto, set_card
from kpedge.export.formats.onnx_int8 import quantised_proto
from kpedge.runtime.backends.openvino import GRAPH_FILE


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


FORMAT = ExportFormat(
    name="openvino",
    suffix=".openvino",
    purpose="Intel processors, integrated GPUs and NPUs",
    modules=("torch", "onnx", "onnxscript", "openvino"),
    write=partial(_write, proto=float32_proto, half=False),
    signature=lambda path, _start: (path / GRAPH_FILE).is_file(),
    backend="openvino",
    install_mb=180,
)
FP16 = replace(
    FORMAT,
    name="openvino-fp16",
    suffix=".fp16.openvino",
    purpose="the same, half the size",
    write=partial(_write, proto=float32_proto, half=True),
    precision=FLOAT16,
)
INT8_FORMAT = replace(
    FORMAT,
    name="openvino-int8",
    suffix=".int8.openvino",
    purpose="the same with 8-bit convolutions, for VNNI, AMX and NPUs",
    write=partial(_write, proto=quantised_proto, half=False),
    precision=INT8,
)
