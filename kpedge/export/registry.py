"""The formats that `kpedge export` writes, by name. Adding one: its own file, and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpedge.core.errors import UsageError
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
        "ncnn": "kpedge.export.formats.ncnn:FORMAT",
    },
)
WEB = "web"
"""A web page with its models, which is no model file: `kpedge.export.web`."""
DEFAULT_FORMATS = ("onnx", "torchscript")
ALL = "all"


def chosen_formats(text: str, *, detector: bool = False) -> tuple[str, ...]:
    """The formats of a `--format` argument: names with commas between them, or `all` that can be written here.

    Raises:
        UsageError: one has no such name, or is not for a detector.
    """
    if text == ALL:
        every = ((name, one) for name, one in FORMATS.items() if not one.missing())
        return tuple(name for name, one in every if not (detector and one.keypoints_only))
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if FORMATS[name].keypoints_only and detector:
            raise UsageError(f"--format {name} is for keypoint models only", "export a detector as onnx")
    return names
