"""How long a model takes in each of its file formats, measured in interleaved rounds.

All are timed in turn, round after round, so that a machine whose speed drifts slows all alike; what is
compared are ratios within a round. GPU times end with a synchronise.
"""

from __future__ import annotations

import functools
import gc
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import Card
from kpedge.core.errors import UsageError
from kpedge.core.extras import importable, installed
from kpedge.export.export_format import ExportSource
from kpedge.export.load import CHECKPOINT, ONNX, TORCHSCRIPT, format_of, open_eager, open_model
from kpedge.export.parity import check_same_model
from kpedge.export.registry import FORMATS
from kpedge.export.test_inputs import random_crops
from kpedge.export.torch_model import TorchModel
from kpedge.runtime.sessions import Model, OnnxModel
from kpedge.runtime.timing import time_calls

EAGER = "PyTorch eager"
SCRIPT = "TorchScript"
RUNTIME = "onnxruntime"
BACKENDS = {TORCHSCRIPT: SCRIPT, ONNX: RUNTIME}
"""Format -> what its rows are called, where that is not the format's own name."""
CUDA_PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How to measure.

    Attributes:
        batches: batch sizes.
        threads: CPU thread counts.
        rounds: how often every file has its turn.
        calls: timed calls in a turn.
        warmup: calls before the timed ones in each turn, which also put the others' threads to sleep.
    """

    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = (1, 2)
    rounds: int = 20
    calls: int = 30
    warmup: int = 10


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """One file of the model at one setting.

    Attributes:
        backend: PyTorch eager, TorchScript, onnxruntime, or a format's name; with a file's name where there are several
            of a kind, and with a model's where it is another.
        device: "cpu" or "cuda".
        threads: CPU threads; 0 on a GPU, where they do not matter.
        batch: crops a call.
        calls: timed calls.
        median_ms, p95_ms: of a call, milliseconds; None where it was not measured.
        ratio: PyTorch eager's time divided by this one's, the median over the rounds, same device, threads and batch;
            always that of the model itself.
        note: why there is no figure.
    """

    backend: str
    device: str
    threads: int
    batch: int
    calls: int = 0
    median_ms: float | None = None
    p95_ms: float | None = None
    ratio: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return asdict(self)


@dataclass(slots=True)
class _Contestant:
    row: LatencyRow
    call: Callable[[], object]
    rounds: list[NDArray[np.float64]]


def bench_latency(
    files: Sequence[Path],
    options: BenchOptions,
    *,
    others: Mapping[str, Path] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Card, list[LatencyRow]]:
    """Time the files of one model.

    Args:
        files: of the same model, of any format, several of one too. Eager PyTorch is built from a checkpoint, or from
            the weights in a TorchScript file.
        options: how to measure.
        others: name -> ONNX file of another model, which takes its turn on the CPU in the same rounds.
        progress: called with (rounds done, rounds).

    Raises:
        ParityError: the files were made from different weights.
        MissingExtraError: PyTorch is missing and no file is ONNX.

    Returns:
        The model's card, and a row for each form and setting; those that cannot be measured here say why.
    """
    kinds = {path: format_of(path) for path in dict.fromkeys(files)}
    no_torch = "" if installed("torch") else "PyTorch is not installed"
    runnable = [path for path, kind in kinds.items() if not (no_torch and kind in (CHECKPOINT, TORCHSCRIPT))]
    if not runnable:
        importable("torch", "train")
    cards = {str(path): open_model(path).card for path in runnable}
    check_same_model(cards)
    card = next(iter(cards.values()))
    # One module serves every setting; an onnxruntime session has its number of threads built in.
    weights = next((path for kind in (CHECKPOINT, TORCHSCRIPT) for path in kinds if kinds[path] == kind), None)
    eager = open_eager(weights) if weights and not no_torch else None
    without_eager = no_torch or ("" if weights else "no file with PyTorch weights")
    scripts = {name: open_model(path) for name, path in _named(kinds, TORCHSCRIPT).items() if not no_torch}
    if eager and not scripts:
        scripts = {SCRIPT: _traced(eager)}
    sessions = {name: path for kind in FORMATS if kind != TORCHSCRIPT for name, path in _named(kinds, kind).items()}
    contestants: list[_Contestant] = []
    rows: list[LatencyRow] = []

    def enter(
        backend: str, device: str, threads: int, batch: int, call: Callable[[], object] | None, note: str = ""
    ) -> None:
        row = LatencyRow(backend, device, threads, batch, note=note)
        rows.append(row)
        if call is not None and not note:
            contestants.append(_Contestant(row, call, []))

    for batch in options.batches:
        crops = random_crops(batch, card.nominal_input_shape)
        for threads in options.threads:
            enter(EAGER, "cpu", threads, batch, _torch_call(eager, crops, threads) if eager else None, without_eager)
            for name, script in scripts.items():
                enter(name, "cpu", threads, batch, _torch_call(script, crops, threads))
            if not scripts:
                enter(SCRIPT, "cpu", threads, batch, None, no_torch or "no TorchScript file")
            for name, path in sessions.items():
                model = open_model(path, threads=threads)
                enter(name, "cpu", threads, batch, functools.partial(model, crops))
            if not sessions:
                enter(RUNTIME, "cpu", threads, batch, None, "no ONNX file")
            for name, path in (others or {}).items():
                model = OnnxModel(path, threads=threads)
                other = random_crops(batch, model.card.nominal_input_shape)
                enter(f"{RUNTIME}, {name}", "cpu", threads, batch, functools.partial(model, other))
        onnx_file = next((path for path, kind in kinds.items() if kind == ONNX), None)
        _enter_gpu(enter, weights, _named(kinds, TORCHSCRIPT).get(SCRIPT), onnx_file, crops, without_eager)

    was_collecting = gc.isenabled()
    gc.disable()
    try:
        for done in range(options.rounds):
            for contestant in contestants:
                durations = time_calls(contestant.call, warmup=options.warmup, count=options.calls)
                contestant.rounds.append(durations)
            if progress:
                progress(done + 1, options.rounds)
    finally:
        if was_collecting:
            gc.enable()
    measured = _finish(contestants)
    return card, [measured.get((row.backend, row.device, row.threads, row.batch), row) for row in rows]


def _named(kinds: Mapping[Path, str], kind: str) -> dict[str, Path]:
    """Files of a format by what their rows are called: the backend, and where there are several the file too."""
    files = [path for path, one in kinds.items() if one == kind]
    name = BACKENDS.get(kind, kind)
    return {name if len(files) == 1 else f"{name}, {path.name}": path for path in files}


def _traced(eager: TorchModel) -> TorchModel:
    """The model as `kpedge export --format torchscript` writes it."""
    with tempfile.TemporaryDirectory(prefix="kpedge-bench-") as folder:
        path = Path(folder) / f"model{FORMATS[TORCHSCRIPT].suffix}"
        FORMATS[TORCHSCRIPT].write(ExportSource(eager.module.folded(), eager.card, lambda: np.empty(0, np.uint8)), path)
        model = open_model(path)
    assert isinstance(model, TorchModel)  # noqa: S101
    return model


def _torch_call(model: Model, crops: NDArray[np.uint8], threads: int) -> Callable[[], object]:
    """A call of a PyTorch module from and to NumPy on the CPU, with its own number of threads."""
    import torch

    def call() -> object:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return model(crops)

    return call


def _enter_gpu(
    enter: Callable[..., None],
    weights: Path | None,
    script_file: Path | None,
    onnx_file: Path | None,
    crops: NDArray[np.uint8],
    no_torch: str,
) -> None:
    """The CUDA rows: computation only, the crops lie on the GPU already and the points stay there."""
    batch = len(crops)
    note = no_torch
    if not note:
        import torch

        note = "" if torch.cuda.is_available() else "no CUDA device"
    for backend, path in ((EAGER, weights), (SCRIPT, script_file)):
        call = None
        if not note and path is not None:
            opened = open_eager(path) if backend == EAGER else open_model(path)
            call = _cuda_call(opened, crops)
        enter(backend, "cuda", 0, batch, call, note or ("" if path else "no TorchScript file"))
    import onnxruntime

    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        enter(RUNTIME, "cuda", 0, batch, None, "this onnxruntime has no CUDA provider")
    elif note == "no CUDA device" or onnx_file is None:
        enter(RUNTIME, "cuda", 0, batch, None, note or "no ONNX file")
    else:
        try:
            enter(RUNTIME, "cuda", 0, batch, _onnx_cuda_call(onnx_file, crops), "")
        except UsageError as error:
            enter(RUNTIME, "cuda", 0, batch, None, str(error))


def _cuda_call(model: Any, crops: NDArray[np.uint8]) -> Callable[[], object]:
    import torch

    module, on_device = model.module.to("cuda"), torch.from_numpy(crops).to("cuda")

    def call() -> object:
        with torch.inference_mode():
            output = module(on_device)
        torch.cuda.synchronize()
        return output

    return call


def _onnx_cuda_call(path: Path, crops: NDArray[np.uint8]) -> Callable[[], object]:
    model = OnnxModel(path, providers=(CUDA_PROVIDER, "CPUExecutionProvider"))
    import onnxruntime

    binding = model.session.io_binding()
    value = onnxruntime.OrtValue.ortvalue_from_numpy(crops, "cuda", 0)
    binding.bind_ortvalue_input(model.card.input_name, value)
    for output in model.session.get_outputs():
        binding.bind_output(output.name, "cuda")

    def call() -> object:
        model.session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return binding

    return call


def _finish(contestants: Sequence[_Contestant]) -> dict[tuple[str, str, int, int], LatencyRow]:
    """Medians over all calls, and the ratio to eager PyTorch round by round."""
    eager = {
        (item.row.device, item.row.threads, item.row.batch): [float(np.median(d)) for d in item.rounds]
        for item in contestants
        if item.row.backend == EAGER
    }
    rows = {}
    for item in contestants:
        row = item.row
        times = 1000 * np.concatenate(item.rounds)
        reference = eager.get((row.device, row.threads, row.batch))
        own = [float(np.median(durations)) for durations in item.rounds]
        ratio = None if reference is None else float(np.median([a / b for a, b in zip(reference, own, strict=True)]))
        rows[row.backend, row.device, row.threads, row.batch] = LatencyRow(
            row.backend,
            row.device,
            row.threads,
            row.batch,
            calls=len(times),
            median_ms=round(float(np.median(times)), 4),
            p95_ms=round(float(np.percentile(times, 95)), 4),
            ratio=None if ratio is None else round(ratio, 3),
        )
    return rows
