"""Core ML: an ML program for iOS and macOS. coremltools writes it anywhere; only macOS runs it."""

import platform
from pathlib import Path
from typing import Any

from kpedge.core.card import METADATA_KEY
from kpedge.core.extras import importable
from kpedge.core.model_zoo import CORE_ML_FILE
from kpedge.export.converting import converting
from kpedge.export.export_format import ExportFormat, ExportSource


def write(source: ExportSource, path: Path) -> None:
    """Write a package in float32, whose input is one crop or frame of raw pixels in float32, as Core ML has no uint8
    arrays; the card is among its metadata.
    """
    from kpedge.export.fixed_input import fixed_model
    from kpedge.export.formats.torchscript import trace

    torch: Any = importable("torch", "export")
    model, example = fixed_model(source.model, source.card, dtype=torch.float32)
    with converting("coremltools"):
        tools: Any = importable("coremltools", "coreml")
        package = tools.convert(
            trace(model, example),
            inputs=[tools.TensorType(name=source.card.input_name, shape=tuple(example.shape))],
            outputs=[tools.TensorType(name=name) for name in source.card.outputs],
            minimum_deployment_target=tools.target.iOS16,
            compute_precision=tools.precision.FLOAT32,
            skip_model_load=True,
        )
        package.user_defined_metadata[METADATA_KEY] = source.card.to_json()
        package.save(str(path))


FORMAT = ExportFormat(
    name="coreml",
    suffix=".mlpackage",
    purpose="iOS and macOS",
    modules=("torch", "coremltools"),
    write=write,
    signature=lambda path, _start: (path / CORE_ML_FILE).is_file(),
    backend="coreml",
    fixed_input=True,
    runs_here=lambda: platform.system() == "Darwin",
    install_mb=60,
)
