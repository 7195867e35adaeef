"""The one place that builds an onnxruntime session."""

from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from kpedge.core.card import METADATA_KEY, Card, Outputs, card_from_json
from kpedge.core.errors import CorruptModelError, ModelError, UsageError
from kpedge.core.files import nearest_file
from kpedge.runtime.registry import ONNXRUNTIME

ort.disable_telemetry_events()  # builds that have telemetry record events from the import on
CPU = "CPUExecutionProvider"  # the execution provider that every onnxruntime has
TINY_MODEL = (
    b'\x08\x08\x12\x00:3\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""An ONNX file: y = ReLU(x), float32 of one element, to try providers with."""
PROVIDER_PACKAGES = {
    "cuda": "onnxruntime-gpu",
    "tensorrt": "onnxruntime-gpu",
    "openvino": "onnxruntime-openvino",
    "dml": "onnxruntime-directml",
    "qnn": "onnxruntime-qnn",
}
"""Short name of an execution provider -> the package that has it; Core ML and XNNPACK are in the builds for Apple and
phones."""
FIX_PROVIDER = "see: kpedge env; or use --provider auto, which takes what works"


def new_session(model: Path | bytes, *, threads: int = 1, providers: tuple[str, ...] = (CPU,)) -> ort.InferenceSession:
    """An onnxruntime session of an ONNX file, or its content, with execution providers, the preferred first.

    Threads are set explicitly and never spin: two spinning threads at 30 frames per second cost half a core for
    nothing, and an unset number fails in containers that restrict processors.

    Raises:
        CorruptModelError: the file is missing, or onnxruntime cannot load it.
        UsageError: the first provider is not part of this onnxruntime, or cannot be used on this machine.
    """
    available = ort.get_available_providers()
    unknown = [name for name in providers if name not in available]
    if unknown:
        raise UsageError(f"this onnxruntime has no {unknown[0]}", f"available: {', '.join(available)}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only: warnings about one's own graph help no user
    name = "model" if isinstance(model, bytes) else str(model)
    if isinstance(model, Path) and not model.is_file():
        raise CorruptModelError(f"{name}: no such file", nearest_file(model))
    content = model if isinstance(model, bytes) else _loadable(model)
    try:
        session = ort.InferenceSession(content, options, list(providers), enable_fallback=0)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if providers[0] != CPU and not provider_problem(CPU, content):
            raise UsageError(f"{providers[0]} cannot be used: {reason}", FIX_PROVIDER) from error
        advice = "copy or export it again; one that is newer than this onnxruntime needs a newer one"
        raise CorruptModelError(f"{name}: onnxruntime cannot load it: {reason}", advice) from error
    if providers[0] not in session.get_providers():  # onnxruntime goes on with the CPU
        raise UsageError(f"{providers[0]} cannot be used: a library or device that it needs is missing", FIX_PROVIDER)
    return session


def provider_problem(provider: str, model: str | bytes = TINY_MODEL) -> str:
    """Why a provider cannot run a model; empty if it can. Tried with a session, by default of a single ReLU."""
    try:
        session = ort.InferenceSession(model, None, [provider], enable_fallback=0)
        if provider not in session.get_providers():
            return "a library or device that it needs is missing"
        if model is TINY_MODEL:
            session.run(None, {"x": np.ones(1, np.float32)})
    except Exception as error:  # noqa: BLE001 (the providers raise what they like)
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return ""


def offered_providers() -> dict[str, str]:
    """Short name -> name of the execution providers of this onnxruntime that compute on this machine."""
    names = {one.removesuffix("ExecutionProvider").lower(): one for one in ort.get_available_providers()}
    return {short: name for short, name in names.items() if short != "azure"}  # which asks a server


def _loadable(path: Path) -> str | bytes:
    """A path as onnxruntime takes it; the content of a file whose name is not valid UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return path.read_bytes()
    return str(path)


def save_ort(content: bytes, path: Path) -> None:
    """Write an ONNX file's content in onnxruntime's own format, with the optimisations that hold on every processor."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(content, options, providers=[CPU])


def providers_named(name: str) -> tuple[str, ...]:
    """Execution providers by the name of one, in full or short: `cuda` is CUDAExecutionProvider, `directml`
    DmlExecutionProvider, and `auto` the first that can be used. What it cannot compute, the CPU does.

    Raises:
        UsageError: this onnxruntime does not have it.
    """
    offered = offered_providers()
    short = str(name).removesuffix("ExecutionProvider").lower().replace("directml", "dml")
    if short == "auto":
        # TensorRT takes minutes to build an engine: only for those who ask for it.
        short = next(one for one in offered if one != "tensorrt" and not provider_problem(offered[one]))
    if short not in offered:
        package = PROVIDER_PACKAGES.get(short)
        advice = f"pip install {package} in place of onnxruntime; " if package else ""
        raise UsageError(
            f"this onnxruntime has no provider {name!r}", f"{advice}available: auto, {', '.join(sorted(offered))}"
        )
    return tuple(dict.fromkeys((offered[short], CPU)))


def _size_fits(size: int | None, stated: int | None) -> bool:
    """Whether a size in a file is the one that its card states; any, where the card leaves it free."""
    return stated is None or size == stated


class Model(Protocol):
    """A model in any format: a card, and a call that takes crops or frames."""

    @property
    def card(self) -> Card:
        """What the model expects and promises."""
        ...

    def __call__(self, inputs: NDArray[np.uint8], /) -> Outputs:
        """Crops or frames, uint8 (N, H, W, C), to the outputs that the card names."""
        ...


def card_of(model: Model) -> Card:
    """The card of a model.

    Raises:
        UsageError: it is no model that is open.
    """
    if not hasattr(model, "card"):
        advice = "give its name or file, or what kpedge.export.open_model returns; kpedge.load(…) has track()"
        raise UsageError(f"not a model: {type(model).__name__}", advice)
    return model.card


def not_finite(card: Card) -> ModelError:
    """The error of a model that gives NaN or infinity: as a score it would mean that nothing shows a face."""
    advice = "try it with: kpedge verify; if it computes with 16 bits, as some devices do, use 32"
    return ModelError(f"{card.name} gives values that are not finite", advice)


class OnnxModel:
    """A kpedge model in an ONNX file: its card, and a call that takes crops or frames. `provider` is the short name of
    the execution provider that computes, such as `cpu` or `cuda`.
    """

    backend = ONNXRUNTIME

    def __init__(self, path: Path, *, threads: int = 1, providers: tuple[str, ...] = (CPU,)) -> None:
        """Load a file.

        Raises:
            CorruptModelError: broken, not from kpedge (no card), or inputs and outputs differ from its card.
        """
        self._path = path
        self._reopen = partial(OnnxModel, path.absolute(), threads=threads, providers=providers)
        self.session = new_session(path, threads=threads, providers=providers)
        self.provider = self.session.get_providers()[0].removesuffix("ExecutionProvider").lower()
        try:
            metadata = self.session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError as error:
            raise CorruptModelError(f"{path}: its metadata is no text") from error
        if METADATA_KEY not in metadata:
            raise CorruptModelError(
                f"{path}: an ONNX file without a kpedge card", "export it with: kpedge export CHECKPOINT --format onnx"
            )
        self.card: Card = card_from_json(metadata[METADATA_KEY], str(path))
        self._check_signature(path)
        self._names = list(self.card.outputs)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, and what another process unpickles, opens the file again."""
        return self._reopen, ()

    def _check_signature(self, path: Path) -> None:
        inputs, outputs = (
            [
                (node.name, node.type, tuple(size if isinstance(size, int) else None for size in node.shape[1:]))
                for node in nodes
            ]
            for nodes in (self.session.get_inputs(), self.session.get_outputs())
        )
        for node in (*self.session.get_inputs(), *self.session.get_outputs()):
            if node.shape and isinstance(node.shape[0], int):
                raise CorruptModelError(f"{path}: the batch size is fixed at {node.shape[0]}, kpedge's are free")
        if inputs != [(self.card.input_name, "tensor(uint8)", self.card.input_shape)]:
            raise CorruptModelError(f"{path}: the input is {inputs}, not what its card says")
        fits = [name for name, _, _ in outputs] == list(self.card.outputs) and all(
            kind == "tensor(float)" and len(shape) == len(stated) and all(map(_size_fits, shape, stated))
            for (_, kind, shape), stated in zip(outputs, self.card.outputs.values(), strict=True)
        )
        if not fits:
            raise CorruptModelError(f"{path}: the output is {outputs}, not what its card says")

    def __call__(self, inputs: NDArray[np.uint8]) -> Outputs:
        """Crops or frames, uint8 (N, H, W, C), to the outputs that the card names.

        Raises:
            ModelError: the network cannot be computed: a damaged file may only show then, or memory runs out.
        """
        try:
            values = self.session.run(self._names, {self.card.input_name: inputs})
        except Exception as error:  # onnxruntime's share no other base
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"{self._path}: cannot be computed: {reason}", "check it with: kpedge verify") from error
        return dict(zip(self._names, values, strict=True))


def open_like(model: Any, path: Path) -> OnnxModel | None:
    """The model of another file, run as an open one is; None if that is not an ONNX file that onnxruntime runs."""
    return OnnxModel(path, **model._reopen.keywords) if isinstance(model, OnnxModel) else None
