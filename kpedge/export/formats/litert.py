"""LiteRT (.tflite), formerly TensorFlow Lite: for Android, Raspberry Pi and microcontrollers, and what compilers for
NPUs start from.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kpedge.core.card import FLOAT16, FLOAT32, INT8
from kpedge.core.extras import importable
from kpedge.core.files import write_bytes
from kpedge.core.leftovers import temporary_folder
from kpedge.export.converting import converting
from kpedge.export.export_format import ExportFormat, ExportSource
from kpedge.runtime.backends.card_of import with_card

INTEGER_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "PAD")
NETWORK = ".*_network/.*"  # scope of the layers between normalisation and decoding
FLOAT_LAYERS = (
    ".*(ConvBlock_stem|Sequential_stem/kpedge.models.blocks.ConvBlock_0|Head_head/|Conv2d_out"
    "|Stage1_network/.*Conv2d_(conv1_1|conv4_2)).*"
)
"""Scopes of the first convolution and of the last ones, which outputs are read from: they stay in float32, as in
`onnx_int8`.
"""


def _float32_bytes(source: ExportSource) -> bytes:
    from kpedge.export.fixed_input import fixed_model, for_litert

    torch: Any = importable("torch", "export")
    model, example = fixed_model(for_litert(source.model), source.card, dtype=torch.uint8)

    class Named(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, **inputs: Any) -> dict[str, Any]:
            found = self.inner(*inputs.values())
            return dict(zip(source.card.outputs, found if isinstance(found, tuple) else (found,), strict=True))

    with temporary_folder() as folder, converting("litert-torch"):
        litert_torch: Any = importable("litert_torch", "litert-export")
        draft = folder / "model.tflite"
        litert_torch.convert(Named().eval(), sample_kwargs={source.card.input_name: example}).export(str(draft))
        return draft.read_bytes()


def _write(source: ExportSource, path: Path, *, precision: str) -> None:
    """Write a model for one uint8 crop or frame a run, whose input and outputs have the card's names.

    In float16 the weights are stored in 16 bits and computed in float32. In int8 convolutions compute in integers:
    weights with a scale a channel, ranges measured on the calibration inputs. Linear layers have 8-bit weights and
    activations whose range is measured at run time: a fixed one cost stage 3 a seventh of its accuracy.
    """
    content = source.cached("litert", lambda: _float32_bytes(source))
    if precision != FLOAT32:
        content = source.cached(f"litert-{precision}", lambda: _reduce(source, content, precision))
    write_bytes(path, with_card(content, source.card))


def _reduce(source: ExportSource, content: bytes, precision: str) -> bytes:
    name = source.card.input_name
    inputs: Any = source.calibration() if precision == INT8 else ()
    with converting("ai-edge-quantizer"):
        quantizer: Any = importable("ai_edge_quantizer.quantizer", "litert-export")
        qtyping: Any = importable("ai_edge_quantizer.qtyping", "litert-export")
        tool = quantizer.Quantizer(bytearray(content))
        if precision == FLOAT16:
            half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
            for operator in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
                tool.update_quantization_recipe(
                    ".*",
                    qtyping.TFLOperationName(operator),
                    qtyping.OpQuantizationConfig(
                        weight_tensor_config=half,
                        compute_precision=qtyping.ComputePrecision.FLOAT,
                        explicit_dequantize=True,
                    ),
                    "float_casting",
                )
            return bytes(tool.quantize().quantized_model)
        for operator in INTEGER_OPERATORS:
            tool.add_static_config(NETWORK, qtyping.TFLOperationName(operator), 8, 8)
            tool.update_quantization_recipe(FLOAT_LAYERS, qtyping.TFLOperationName(operator), None, "no_quantize")
        tool.add_dynamic_config(NETWORK, qtyping.TFLOperationName.FULLY_CONNECTED, 8)
        ranges = tool.calibrate({"serving_default": [{name: one[None]} for one in inputs]}, num_threads=1)
        return bytes(tool.quantize(ranges).quantized_model)


FORMAT = ExportFormat(
    name="litert",
    suffix=".tflite",
    purpose="Android, Raspberry Pi, and what compilers for NPUs start from",
    modules=("torch", "litert_torch", "ai_edge_litert"),
    write=partial(_write, precision=FLOAT32),
    signature=lambda _path, start: start[4:8] == b"TFL3",
    backend="litert",
    fixed_input=True,
    install_mb=900,
)
FP16 = replace(
    FORMAT,
    name="litert-fp16",
    suffix=".fp16.tflite",
    purpose="the same, half the size; mobile GPUs",
    modules=(*FORMAT.modules, "ai_edge_quantizer"),
    write=partial(_write, precision=FLOAT16),
    precision=FLOAT16,
)
INT8_FORMAT = replace(
    FP16,
    name="litert-int8",
    suffix=".int8.tflite",
    purpose="ARM processors with 8-bit instructions, microcontrollers",
    write=partial(_write, precision=INT8),
    precision=INT8,
)
