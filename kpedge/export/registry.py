"""The formats that `kpedge export` writes, by name. Adding one: its own file, and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpedge.core.registry import Registry

if TYPE_CHECKING:
    from kpedge.export.export_format import ExportFormat

FORMATS: Registry[ExportFormat] = Registry(
    "--format",
    {
        "onnx": "kpedge.export.formats.onnx:FORMAT",
        "torchscript": "kpedge.export.formats.torchscript:FORMAT",
        "onnx-fp16": "kpedge.export.formats.onnx_fp16:FORMAT",
        "onnx-int8": "kpedge.export.formats.onnx_int8:FORMAT",
        "ort": "kpedge.export.formats.ort:FORMAT",
        "openvino": "kpedge.export.formats.openvino:FORMAT",
        "openvino-fp16": "kpedge.export.formats.openvino:FP16",
        "openvino-int8": "kpedge.export.formats.openvino:INT8_FORMAT",
        "litert": "kpedge.export.formats.litert:FORMAT",
        "litert-fp16": "kpedge.export.formats.litert:FP16",
        "litert-int8": "kpedge.export.formats.litert:INT8_FORMAT",
        "ncnn": "kpedge.export.formats.ncnn:FORMAT",
        "ncnn-fp16": "kpedge.export.formats.ncnn:FP16",
        "executorch": "kpedge.export.formats.executorch:FORMAT",
        "coreml": "kpedge.export.formats.coreml:FORMAT",
        "tensorrt": "kpedge.export.formats.tensorrt:FORMAT",
    },
)
WEB = "web"  # a web page with its models, which is no model file: `kpedge.export.web`
DEFAULT_FORMATS = ("onnx", "torchscript")
ALL = "all"


def chosen_formats(text: str) -> tuple[str, ...]:
    """The formats of a `--format` argument: names with commas between them, or `all` that can be written here."""
    if text == ALL:
        return tuple(name for name, one in FORMATS.items() if not one.missing())
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        FORMATS[name].check_installed()
    return names
