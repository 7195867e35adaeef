"""ONNX: one self-contained file, the card inside, no trace of the machine that made it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import METADATA_KEY, Card, DetectorCard, Outputs
from kpedge.core.errors import CorruptModelError
from kpedge.core.extras import importable
from kpedge.core.files import write_bytes
from kpedge.export.converting import converting
from kpedge.export.export_format import ExportFormat, ExportSource

OPSET = 18  # the lowest opset that the exporter writes without converting: a device's older onnxruntime still reads it
IR_VERSION = 8  # the lowest that opset 18 needs; onnxruntime 1.17 and older refuse the exporter's 10
MODULES = ("torch", "onnx", "onnxscript")


def write(source: ExportSource, path: Path) -> None:
    """Write a model as an ONNX file."""
    write_bytes(path, onnx_bytes(source.model, source.card))


def float32_proto(source: ExportSource) -> Any:
    """A copy of the model as ONNX, for formats that start from it."""
    onnx: Any = importable("onnx", "export")
    return onnx.load_from_string(source.cached("onnx", lambda: onnx_bytes(source.model, source.card)))


def set_card(proto: Any, card: Card) -> bytes:
    """The content of an ONNX file with another card, checked."""
    onnx: Any = importable("onnx", "export")
    del proto.metadata_props[:]
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, card.to_json()
    proto.ir_version = IR_VERSION
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def onnx_bytes(model: Any, card: Card) -> bytes:
    """A model as the content of an ONNX file: uint8 crops in, the card's outputs out, any batch size.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        CorruptModelError: the exporter wrote something else than was asked for.
    """
    torch: Any = importable("torch", "export")
    for module in ("onnx", "onnxscript"):
        importable(module, "export")
    example = torch.zeros((2, *card.dummy_input_shape), dtype=torch.uint8)
    with converting("torch.onnx"):
        program = torch.onnx.export(
            model.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[card.input_name],
            output_names=list(card.outputs),
            dynamic_shapes=(_free_sizes(card),),
        )
    proto = program.model_proto
    _strip(proto)
    _fuse_slopes(proto)
    _name_free_sizes(proto, card)
    proto.graph.name = card.name
    opsets = {item.domain: item.version for item in proto.opset_import}
    if opsets != {"": OPSET}:
        raise CorruptModelError(f"the exporter wrote opsets {opsets}, not {OPSET}", "report this with `kpedge env`")
    return set_card(proto, card)


def _free_sizes(card: Card) -> dict[int, Any]:
    """The axes of the input whose size is free, and what they may be."""
    torch: Any = importable("torch", "export")
    sizes: dict[int, Any] = {0: torch.export.Dim("batch")}
    if isinstance(card, DetectorCard) and card.frame is None:
        sizes |= {1: card.stride * torch.export.Dim("rows"), 2: card.stride * torch.export.Dim("columns")}
    return sizes


def _fuse_slopes(proto: Any) -> None:
    """Write a PReLU with a single slope as the LeakyReLU that it is: onnxruntime computes that with the convolution
    before it, and stage 1 took 1.7 times as long without.
    """
    onnx: Any = importable("onnx", "export")
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    fused = [node for node in proto.graph.node if node.op_type == "PRelu" and tensors[node.input[1]].size == 1]
    for node in fused:
        slope = float(tensors[node.input[1]].item())
        node.CopyFrom(
            onnx.helper.make_node("LeakyRelu", [node.input[0]], list(node.output), name=node.name, alpha=slope)
        )
    used = {name for node in proto.graph.node for name in node.input}
    for tensor in [one for one in proto.graph.initializer if one.name not in used]:
        proto.graph.initializer.remove(tensor)


def _name_free_sizes(proto: Any, card: Card) -> None:
    """Give the outputs' free sizes plain names, and drop the shapes in between: they hold arithmetic with symbols, on
    which other runtimes stop, and each runtime infers them itself.
    """
    del proto.graph.value_info[:]
    for output, shape in zip(proto.graph.output, card.outputs.values(), strict=True):
        for dim, size in zip(list(output.type.tensor_type.shape.dim)[1:], shape, strict=True):
            if size is None:
                dim.dim_param = "cells"


def _strip(proto: Any) -> None:
    """Remove what the exporter notes about the source: local paths, stack traces, names of Python scopes."""
    del proto.metadata_props[:]
    proto.doc_string = ""
    for part in (proto.graph, *proto.functions):
        part.doc_string = ""
        del part.metadata_props[:]
        for node in part.node:
            node.doc_string = ""
            del node.metadata_props[:]
        for value in (*part.value_info, *getattr(part, "input", ()), *getattr(part, "output", ())):
            if hasattr(value, "metadata_props"):
                value.doc_string = ""
                del value.metadata_props[:]
    for tensor in proto.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]


class ReferenceModel:
    """onnx's own reference evaluator, slow and independent of onnxruntime."""

    def __init__(self, data: bytes) -> None:
        onnx: Any = importable("onnx", "export")
        reference: Any = importable("onnx.reference", "export")
        self._evaluator = reference.ReferenceEvaluator(onnx.load_from_string(data))

    def __call__(self, inputs: NDArray[np.uint8]) -> Outputs:
        """Crops or frames, uint8 (N, H, W, C), to named outputs."""
        values = self._evaluator.run(None, {self._evaluator.input_names[0]: inputs})
        return dict(zip(self._evaluator.output_names, values, strict=True))


FORMAT = ExportFormat(
    name="onnx",
    suffix=".onnx",
    purpose="onnxruntime on any processor or GPU; converters to other runtimes",
    modules=MODULES,
    write=write,
    signature=lambda path, _start: path.suffix == ".onnx",
)
