"""The ONNX file that TensorRT's importer takes. The engine is built on the device: it holds for its GPU alone."""

import shlex
from pathlib import Path

from kpedge.core.files import write_bytes
from kpedge.export.export_format import ExportFormat, ExportSource
from kpedge.export.formats.onnx import MODULES, onnx_bytes
from kpedge.runtime.backends.card_of import card_of


def write(source: ExportSource, path: Path) -> None:
    """Write a model as an ONNX file of one input size, which casts uint8 pixels first: TensorRT takes uint8 for nothing
    else.
    """
    from kpedge.export.fixed_input import FixedInputModel

    write_bytes(path, onnx_bytes(FixedInputModel(source.model, source.card), source.card))


def build_line(path: Path) -> str:
    """The command that builds an engine for batches of up to 16 on the device."""
    card = card_of(path)
    size = "x".join(map(str, card.dummy_input_shape))
    shapes = " ".join(
        f"--{which}Shapes={card.input_name}:{count}x{size}" for which, count in (("min", 1), ("opt", 1), ("max", 16))
    )
    files = shlex.join([f"--onnx={path}", f"--saveEngine={path.with_suffix('.engine')}"])
    return f"trtexec {files} {shapes} --fp16"


FORMAT = ExportFormat(
    name="tensorrt",
    suffix=".tensorrt.onnx",
    purpose="Jetson and NVIDIA GPUs: trtexec builds the engine there, or --provider tensorrt",
    modules=MODULES,
    write=write,
    signature=lambda path, _start: path.name.endswith(".tensorrt.onnx"),
    fixed_input=True,
    build_line=build_line,
)
