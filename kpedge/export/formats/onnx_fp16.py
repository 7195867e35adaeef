"""ONNX with weights of half the size: stored as float16, computed in float32."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kpedge.core.card import FLOAT16
from kpedge.core.errors import ModelError
from kpedge.core.extras import importable
from kpedge.core.files import write_bytes
from kpedge.export.export_format import ExportSource
from kpedge.export.formats.onnx import FORMAT as ONNX_FORMAT
from kpedge.export.formats.onnx import float32_proto, set_card

FEWEST = 16  # numbers in a tensor from which on halving it saves more than a node costs


def write(source: ExportSource, path: Path) -> None:
    """Write a model with float16 weights."""
    proto = float32_proto(source)
    halve_weights(proto)
    write_bytes(path, set_card(proto, source.card))


def halve_weights(proto: Any) -> None:
    """Store the weights of an ONNX model as float16, each cast to float32 where it is used; onnxruntime does that once,
    when it loads the file, so it is as fast as the float32 file.

    Raises:
        ModelError: a weight is beyond float16's largest number.
    """
    onnx: Any = importable("onnx", "export")
    casts = []
    for tensor in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < FEWEST:
            continue
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise ModelError(f"{tensor.name} holds weights beyond float16's largest number", "export --format onnx")
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_fp16"))
        casts.append(
            onnx.helper.make_node("Cast", [f"{name}_fp16"], [name], name=f"{name}_cast", to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


FORMAT = replace(
    ONNX_FORMAT,
    name="onnx-fp16",
    suffix=".fp16.onnx",
    purpose="onnxruntime, half the size of onnx, as fast",
    write=write,
    precision=FLOAT16,
)
