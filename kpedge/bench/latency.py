"""How long models take in each of their file formats and runtimes, measured in interleaved rounds.

Each has a process of its own, and all take turns, round after round, so that a machine whose speed drifts slows all
alike; what is compared are ratios within a round.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.bench.accuracy import load_samples
from kpedge.bench.worker import EAGER, Contestant, Worker
from kpedge.core.card import Card, DetectorCard
from kpedge.core.errors import KpedgeError, UsageError
from kpedge.core.extras import importable, installed
from kpedge.core.leftovers import temporary_folder
from kpedge.export.accuracy import run_samples
from kpedge.export.export_format import ExportSource
from kpedge.export.load import CHECKPOINT, ONNX, TORCHSCRIPT, format_of, open_eager, open_model
from kpedge.export.parity import check_same_model
from kpedge.export.registry import FORMATS
from kpedge.runtime.sessions import offered_providers

SCRIPT, RUNTIME = "TorchScript", "onnxruntime"
NAMES = {TORCHSCRIPT: SCRIPT, ONNX: RUNTIME}  # what a format's rows are called, where not by its name
Setting = tuple[int, int]  # threads and batch size


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How to measure."""

    batches: tuple[int, ...] = (1,)  # batch sizes
    threads: tuple[int, ...] = (1, 2)  # CPU thread counts
    rounds: int = 20  # how often every contestant has its turn
    calls: int = 30  # timed calls in a turn
    warmup: int = 10  # calls before the timed ones in each turn, which also put the others' threads to sleep


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """One contestant at one setting."""

    # PyTorch eager, TorchScript, onnxruntime, or a format's name; with a file's name where there are several of a kind,
    # and with a model's where it is another
    backend: str
    device: str  # "cpu" or "cuda"
    threads: int  # CPU threads; 0 on a GPU, where they do not matter
    batch: int  # crops per call
    calls: int  # timed calls
    # median_ms, p95_ms: of a call, milliseconds
    median_ms: float
    p95_ms: float
    # PyTorch eager's time divided by this one's, the median over the rounds, same device, threads and batch; always
    # that of the model itself. None without eager PyTorch.
    ratio: float | None = None
    # mean error in fractions of the box, or of a detector the average precision; None if not measured
    accuracy: float | None = None


def measure_rounds(
    workers: Mapping[Contestant, Worker],
    options: BenchOptions,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Contestant, dict[Setting, list[NDArray[np.float64]]]]:
    """Durations of each contestant at each setting, seconds, a list of rounds; none where it failed. A round before
    them, in which a machine wakes up and runtimes settle, does not count.
    """
    settings = [(threads, batch) for batch in options.batches for threads in options.threads]
    times: dict[Contestant, dict[Setting, list[NDArray[np.float64]]]] = {one: {} for one in workers}
    failed: set[tuple[Contestant, Setting]] = set()
    for done in range(options.rounds + 1):
        for threads, batch in settings:
            for one, worker in workers.items():
                if (one, (threads, batch)) in failed or (one.device != "cpu" and threads != options.threads[0]):
                    continue
                try:
                    durations = worker.time(threads, batch, options.warmup, options.calls)
                except (KpedgeError, OSError):
                    failed.add((one, (threads, batch)))
                    times[one].pop((threads, batch), None)
                    continue
                if done > 0:
                    times[one].setdefault((threads, batch), []).append(durations)
        if progress:
            progress(done, options.rounds)
    return times


def percentiles(rounds: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Median and 95th percentile over all calls, milliseconds."""
    durations = 1000 * np.concatenate(rounds)
    return round(float(np.median(durations)), 4), round(float(np.percentile(durations, 95)), 4)


def open_workers(
    contestants: Sequence[Contestant], threads: Sequence[int], stack: ExitStack
) -> tuple[dict[Contestant, Worker], list[str]]:
    """A process for each contestant that can be opened here, closed by the stack, and why the others cannot."""
    workers, notes = {}, []
    for one in contestants:
        try:
            workers[one] = Worker(one, threads)
        except KpedgeError as error:
            notes.append(f"{one.name}, {one.device}: {error}")
        else:
            stack.callback(workers[one].close)
    return workers, notes


def gpu_contestants(weights: Path | None, onnx_file: Path | None) -> tuple[list[Contestant], list[str]]:
    """What can be measured on a GPU, and why nothing can."""
    if not installed("torch"):
        return [], []
    import torch

    if not torch.cuda.is_available():
        return [], ["no CUDA device: CPU only"]
    found = [] if weights is None else [Contestant(EAGER, weights, "cuda")]
    if onnx_file is not None and "cuda" in offered_providers():
        return [*found, Contestant(RUNTIME, onnx_file, "cuda")], []
    return found, ["this onnxruntime has no CUDA provider"]


def bench_latency(
    files: Sequence[Path],
    options: BenchOptions,
    *,
    others: Mapping[str, Path] | None = None,
    data: Path | None = None,
    frames: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Card, list[LatencyRow], list[str]]:
    """Time the files of one model, of any format, several of one too. Eager PyTorch is built from a checkpoint, or from
    the weights in a TorchScript file. ONNX files of other models may take their turn on the CPU in the same rounds.
    Accuracy is measured, too, where there is `data` for a keypoint model, or `frames` for a detector. The result is the
    model's card, a row for each contestant and setting, and what could not be measured here and why.
    """
    kinds = {path: format_of(path) for path in dict.fromkeys(files)}
    has_torch = installed("torch")
    runnable = {path: kind for path, kind in kinds.items() if has_torch or kind not in (CHECKPOINT, TORCHSCRIPT)}
    if not runnable:
        importable("torch", "train")
    cards = {str(path): open_model(path).card for path in runnable}
    check_same_model(cards)
    card = next(iter(cards.values()))
    wanted = ("--frames", frames) if isinstance(card, DetectorCard) else ("--data", data)
    if (data or frames) and wanted[1] is None:
        raise UsageError(f"{card.name}: its accuracy needs other photos", f"give {wanted[0]}")
    weights = next((path for kind in (CHECKPOINT, TORCHSCRIPT) for path in runnable if runnable[path] == kind), None)
    onnx_file = next((path for path, kind in runnable.items() if kind == ONNX), None)
    notes = [] if has_torch else ["PyTorch is not installed"]
    if has_torch and weights is None:
        notes.append("no file with PyTorch weights: without PyTorch")
    with ExitStack() as stack:
        contestants = [] if weights is None else [Contestant(EAGER, weights)]
        if weights is not None and TORCHSCRIPT not in runnable.values():
            folder = stack.enter_context(temporary_folder())
            runnable = {_trace(weights, folder): TORCHSCRIPT, **runnable}
        for path, kind in sorted(runnable.items(), key=lambda item: item[1] != TORCHSCRIPT):
            if kind != CHECKPOINT:
                name = NAMES.get(kind, kind)
                several = list(runnable.values()).count(kind) > 1
                contestants.append(Contestant(f"{name}, {path.name}" if several else name, path))
        contestants += [Contestant(f"{RUNTIME}, {name}", path) for name, path in (others or {}).items()]
        on_gpu, reasons = gpu_contestants(weights, onnx_file)
        workers, failed = open_workers([*contestants, *on_gpu], options.threads, stack)
        times = measure_rounds(workers, options, progress)
        accuracy = {}
        if data or frames:
            samples = load_samples(next(iter(workers.values())), data, frames)
            accuracy = {one: round(run_samples(worker, samples).accuracy, 6) for one, worker in workers.items()}
    return card, _rows(times, accuracy, options), notes + reasons + failed


def _trace(weights: Path, folder: Path) -> Path:
    """The model as `kpedge export --format torchscript` writes it."""
    eager, script = open_eager(weights), FORMATS[TORCHSCRIPT]
    path = folder / f"model{script.suffix}"
    script.write(ExportSource(eager.module.folded(), eager.card, lambda: np.empty(0, np.uint8)), path)
    return path


def _rows(
    times: Mapping[Contestant, Mapping[Setting, Sequence[NDArray[np.float64]]]],
    accuracy: Mapping[Contestant, float],
    options: BenchOptions,
) -> list[LatencyRow]:
    """Medians over all calls, and the ratio to eager PyTorch round by round."""
    rows = []
    for batch in options.batches:
        for device in ("cpu", "cuda"):
            for threads in options.threads:
                here = {
                    one: t[threads, batch] for one, t in times.items() if one.device == device and (threads, batch) in t
                }
                eager_rounds = next((rounds for one, rounds in here.items() if one.name == EAGER), ())
                for one, rounds in here.items():
                    pairs = zip(eager_rounds, rounds, strict=False)
                    ratios = [float(np.median(eager) / np.median(own)) for eager, own in pairs]
                    rows.append(
                        LatencyRow(
                            one.name,
                            device,
                            threads if device == "cpu" else 0,
                            batch,
                            sum(map(len, rounds)),
                            *percentiles(rounds),
                            round(float(np.median(ratios)), 3) if ratios else None,
                            accuracy.get(one),
                        )
                    )
    return rows
