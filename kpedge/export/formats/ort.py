"""onnxruntime's own file format."""

from pathlib import Path

from kpedge.core.files import write_bytes
from kpedge.core.leftovers import temporary_folder
from kpedge.export.export_format import ExportFormat, ExportSource
from kpedge.export.formats.onnx import MODULES, float32_proto, set_card
from kpedge.runtime.sessions import save_ort


def write(source: ExportSource, path: Path) -> None:
    """Write a model in ORT format; onnxruntime copies the card."""
    with temporary_folder() as folder:
        draft = folder / "model.ort"
        save_ort(set_card(float32_proto(source), source.card), draft)
        write_bytes(path, draft.read_bytes())


FORMAT = ExportFormat(
    name="ort",
    suffix=".ort",
    purpose="onnxruntime mobile and minimal builds",
    modules=MODULES,
    write=write,
    signature=lambda _path, start: start[4:8] == b"ORTM",
)
