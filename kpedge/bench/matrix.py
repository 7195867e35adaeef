"""Every format and runtime of this machine on one model after the other: speed, size, memory and accuracy."""

import functools
import sysconfig
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from kpedge.bench.accuracy import load_samples
from kpedge.bench.latency import BenchOptions, gpu_contestants, measure_rounds, open_workers, percentiles
from kpedge.bench.worker import COMPILED, EAGER, TORCH, Contestant, Worker
from kpedge.core.card import ModelCard
from kpedge.core.errors import KpedgeError
from kpedge.core.extras import installed
from kpedge.core.model_zoo import DEFAULT_DETECTOR, resolve_weights
from kpedge.core.silence import silent
from kpedge.evaluation.evaluate import TestFaces
from kpedge.export.accuracy import run_samples
from kpedge.export.card_file import size_of
from kpedge.export.exporter import export_model
from kpedge.export.load import ONNX
from kpedge.export.registry import FORMATS
from kpedge.export.test_inputs import random_crops
from kpedge.runtime.registry import BACKENDS, ONNXRUNTIME

COMPARED = 16  # random inputs on which a file is compared with the float32 ONNX file, of a detector a quarter


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One file of a model in one runtime, or the model in PyTorch."""

    model: str
    kind: str  # "detector" or "keypoints"
    format: str  # of the file, a key of `FORMATS`; eager PyTorch or torch.compile without a file
    backend: str  # what runs it, a key of `BACKENDS`, or PyTorch
    device: str  # "cpu" or "cuda"
    load_ms: float  # from the import of the runtime to the first answer, milliseconds
    # median_ms, p95_ms: threads -> of a call with one input, milliseconds; on a GPU there is one entry
    median_ms: dict[int, float]
    p95_ms: dict[int, float]
    memory_mb: float | None  # peak memory of its process after the first answer, Python and OpenCV included
    file_mb: float  # size of the file or folder
    install_mb: float  # size of all packages that its process imports
    # largest difference of an output from the float32 ONNX file's, in its extent (the crop, or 100 pixels of a frame)
    difference: float
    accuracy: float  # mean error in fractions of the box, or of a detector the average precision


def bench_matrix(
    model: str,
    folder: Path,
    options: BenchOptions,
    *,
    data: Path | None = None,
    frames: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[MatrixRow], list[str]]:
    """Measure a model (a released name, run folder or checkpoint) in every format and runtime; formats that are not
    there yet are written to `folder`. Accuracy is measured on `data`, of detectors on `frames`; on synthetic ones
    when None. With the rows comes what could not be measured here, and why.

    Raises:
        KpedgeError: the model cannot be exported as ONNX, which the others are compared with.
    """
    weights = resolve_weights(model)
    name = Path(model).stem if weights.parent == Path(model) else weights.stem
    files, notes = write_formats(weights, folder, name)
    if ONNX not in files:
        raise KpedgeError(f"{model}: {notes[0] if notes else 'no ONNX file'}")
    contestants = [Contestant(EAGER, weights), Contestant(COMPILED, weights)] if installed("torch") else []
    contestants += [Contestant(kind, path) for kind, path in files.items()]
    others = [backend for backend in BACKENDS if backend != ONNXRUNTIME and _can_read(backend, files[ONNX])]
    contestants += [Contestant(ONNX, files[ONNX], backend=backend) for backend in others]
    on_gpu, reasons = gpu_contestants(weights, files[ONNX])
    contestants += on_gpu
    with ExitStack() as stack:
        workers, failed = open_workers(contestants, options.threads, stack)
        notes += reasons + failed
        reference = next(worker for one, worker in workers.items() if one.path == files[ONNX] and one.device == "cpu")
        labelled = load_samples(reference, data, frames)
        times = measure_rounds(workers, options, progress)
        rows = []
        for one, worker in workers.items():
            timed = {threads: percentiles(rounds) for (threads, _), rounds in times[one].items()}
            try:
                difference, accuracy = compare(worker, reference), run_samples(worker, labelled).accuracy
                memory, modules = worker.usage()
            except KpedgeError as error:
                notes.append(f"{one.name}, {worker.opened.backend}: {error}")
                continue
            rows.append(
                MatrixRow(
                    name,
                    "keypoints" if isinstance(labelled, TestFaces) else DEFAULT_DETECTOR,
                    one.name if one.name in FORMATS or worker.opened.backend == TORCH else ONNX,
                    worker.opened.backend,
                    one.device,
                    worker.opened.load_ms,
                    {threads: median for threads, (median, _) in timed.items()},
                    {threads: tail for threads, (_, tail) in timed.items()},
                    memory,
                    round(size_of(one.path) / 1e6, 3),
                    installed_mb(modules),
                    difference,
                    round(accuracy, 6),
                )
            )
    return rows, [f"{name}: {note}" for note in notes]


def write_formats(weights: Path, folder: Path, name: str) -> tuple[dict[str, Path], list[str]]:
    """A model's file in every format that can be written and run here, each checked as `kpedge export` does, and why
    others cannot. Files that are there already are taken as they are.
    """
    files, notes = {}, []
    for kind, one in FORMATS.items():
        path = folder / f"{name}{one.suffix}"
        try:
            one.check_installed()
            if not path.exists():
                export_model(weights, folder, [kind], name=name)
            if one.runs_here():
                files[kind] = path
            else:
                notes.append(f"{kind}: written, not run here")
        except Exception as error:  # noqa: BLE001 (converters raise what they like)
            notes.append(f"{kind}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    return files, notes


def _can_read(backend: str, path: Path) -> bool:
    """Whether a backend opens a file that another one's format wrote; most do not."""
    try:
        with silent():
            BACKENDS[backend](path, threads=1)
    except Exception:  # noqa: BLE001 (runtimes raise what they like)
        return False
    return True


def compare(model: Worker, reference: Worker) -> float:
    """The largest difference of any output, in its extent, on random inputs; NaN if one is not finite."""
    card = model.card
    inputs = random_crops(COMPARED if isinstance(card, ModelCard) else COMPARED // 4, card.nominal_input_shape)
    got, expected = model(inputs), reference(inputs)
    largest = max(
        float(np.abs(got[name] - expected[name]).max()) / extent for name, extent in card.extents.items() if name in got
    )
    return float(f"{largest:.2g}")


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


@functools.cache
def _size(distribution: str) -> int:
    """Bytes of an installed distribution's files."""
    files = metadata.distribution(distribution).files or []
    paths = (Path(str(file.locate())) for file in files)
    return sum(path.stat().st_size for path in paths if path.is_file())


def installed_mb(modules: Iterable[str]) -> float:
    """Megabytes of the distributions that some top-level modules belong to, without the standard library."""
    known = _distributions()
    standard = Path(sysconfig.get_path("stdlib")).name
    names = {name for module in modules if module != standard for name in known.get(module, ()) if name != "kpedge"}
    return round(sum(map(_size, names)) / 1e6, 1)
