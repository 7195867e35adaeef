"""ONNX with convolutions in 8-bit integers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import INT8
from kpedge.core.extras import importable
from kpedge.core.files import write_bytes
from kpedge.core.leftovers import temporary_folder
from kpedge.export.converting import converting
from kpedge.export.export_format import ExportSource
from kpedge.export.formats.onnx import FORMAT as ONNX_FORMAT
from kpedge.export.formats.onnx import float32_proto, set_card


class _Inputs:
    """Calibration inputs, one at a time, as onnxruntime's quantiser asks for them."""

    def __init__(self, name: str, inputs: NDArray[np.uint8]) -> None:
        self._feeds = iter([{name: one[None]} for one in inputs])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next feed, None at the end."""
        return next(self._feeds, None)


def write(source: ExportSource, path: Path) -> None:
    """Write a model whose convolutions compute in 8 bits."""
    write_bytes(path, set_card(quantised_proto(source), source.card))


def quantised_proto(source: ExportSource) -> Any:
    """A copy of the model as ONNX whose convolutions compute in 8 bits: activations uint8, weights int8 with a scale a
    channel, the ranges measured on the calibration inputs. The first convolution and the last ones, which the outputs
    are read from, stay in float32, as do linear layers: there 8 bits cost the most accuracy.
    """
    onnx: Any = importable("onnx", "export")
    return onnx.load_from_string(source.cached(INT8, lambda: _quantise(source)))


def _quantise(source: ExportSource) -> bytes:
    quantization: Any = importable("onnxruntime.quantization", "export")
    proto = float32_proto(source)
    inputs = source.calibration()
    with temporary_folder() as folder, converting("onnxruntime's quantiser"):
        plain, quantised = folder / "plain.onnx", folder / "int8.onnx"
        plain.write_bytes(proto.SerializeToString())
        quantization.quantize_static(
            str(plain),
            str(quantised),
            _Inputs(source.card.input_name, inputs),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=_edges(proto),
        )
        return quantised.read_bytes()


def _edges(proto: Any) -> list[str]:
    """Names of the first convolution and of those that no other convolution follows."""
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    before: set[str] = set()  # tensors from which a convolution follows
    last = []
    for node in reversed(proto.graph.node):
        follows = any(output in before for output in node.output)
        if node.op_type == "Conv" and not follows:
            last.append(node.name)
        if node.op_type == "Conv" or follows:
            before.update(node.input)
    return [convolutions[0].name, *last] if convolutions else []


FORMAT = replace(
    ONNX_FORMAT,
    name="onnx-int8",
    suffix=".int8.onnx",
    purpose="onnxruntime on processors with 8-bit instructions (VNNI, ARM dot product)",
    write=write,
    signature=lambda path, _start: path.suffix == ".onnx" and b"DequantizeLinear" in path.read_bytes(),
    precision=INT8,
)
