"""onnxruntime's own file format."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from kpedge.core.extras import importable
from kpedge.core.files import write_bytes
from kpedge.export.export_format import ExportFormat, ExportSource
from kpedge.export.formats.onnx import MODULES, float32_proto, load, set_card


def write(source: ExportSource, path: Path) -> None:
    """Write a model in ORT format, with the optimisations that hold on every processor; onnxruntime copies the card."""
    onnxruntime: Any = importable("onnxruntime", "export")
    with tempfile.TemporaryDirectory(prefix="kpedge-ort-") as folder:
        draft = Path(folder) / "model.ort"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(draft)
        options.log_severity_level = 3
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(
            set_card(float32_proto(source), source.card), options, providers=["CPUExecutionProvider"]
        )
        write_bytes(path, draft.read_bytes())


FORMAT = ExportFormat(
    name="ort",
    suffix=".ort",
    purpose="onnxruntime mobile and minimal builds",
    modules=MODULES,
    extra="export",
    write=write,
    load=load,
    matches=lambda _path, start: start[4:8] == b"ORTM",
)
