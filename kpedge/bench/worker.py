"""A model in a process of its own: what it takes to load and in memory is its own, and a runtime that crashes or sets
threads for the whole process disturbs no other.
"""

import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import Card, Outputs
from kpedge.core.errors import KpedgeError
from kpedge.export.load import open_eager, open_model
from kpedge.export.test_inputs import random_crops
from kpedge.runtime.registry import AUTO
from kpedge.runtime.sessions import Model
from kpedge.runtime.timing import time_calls

EAGER, COMPILED, TORCH = "PyTorch eager", "torch.compile", "PyTorch"


@dataclass(frozen=True, slots=True)
class Contestant:
    """What is measured."""

    name: str  # what its rows are called; `EAGER` and `COMPILED` take the weights in the file, others the file as it is
    path: Path  # the file, or the folder of a format that has several
    device: str = "cpu"  # "cpu" or "cuda"
    backend: str = AUTO  # what runs the file; by its kind when "auto"


@dataclass(frozen=True, slots=True)
class Opened:
    """What is known of a model when it has given its first answer."""

    card: Card  # the file's
    backend: str  # what runs it: a key of `BACKENDS`, or PyTorch
    load_ms: float  # from the import of its runtime to the first answer, milliseconds


def open_contestant(contestant: Contestant, threads: int) -> Model:
    """Open what is measured in this process."""
    if contestant.name not in (EAGER, COMPILED):
        return open_model(contestant.path, threads=threads, provider=contestant.device, backend=contestant.backend)
    import torch

    from kpedge.models.torch_model import TorchModel

    model = open_eager(contestant.path)
    module = torch.compile(model.module) if contestant.name == COMPILED else model.module
    return TorchModel(module, model.card, contestant.device)


def _set_threads(threads: int) -> None:
    """Of the runtimes in this process that have one number for all their models."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(threads)


def _peak_mb() -> float | None:
    """The most memory that this process has had, megabytes; None where the system does not say."""
    with suppress(OSError, StopIteration):
        status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return round(int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024, 1)
    return None


def _serve(pipe: Connection, contestant: Contestant, threads: Sequence[int]) -> None:
    """Open a model and answer requests until the other end closes: to time calls, to run inputs, or what it took."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # what runtimes print about themselves
        os.dup2(null, stream)
    try:
        began = time.perf_counter()
        models = {threads[0]: open_contestant(contestant, threads[0])}
        _set_threads(threads[0])
        model = models[threads[0]]
        model(random_crops(1, model.card.nominal_input_shape))
        load_ms = round(1000 * (time.perf_counter() - began), 1)
        backend = getattr(model, "backend", TORCH)
        memory = _peak_mb()
        models |= {count: open_contestant(contestant, count) for count in threads[1:]}
        pipe.send(Opened(model.card, backend, load_ms))
        gc.disable()
        while True:
            kind, *values = pipe.recv()
            if kind == "time":
                count, batch, warmup, calls = values
                timed, inputs = models[count], random_crops(batch, model.card.nominal_input_shape)
                _set_threads(count)
                pipe.send(time_calls(lambda m=timed, i=inputs: m(i), warmup=warmup, count=calls))  # type: ignore[misc]
            elif kind == "run":
                answers = [model(one[None]) for one in values[0]]
                pipe.send({name: np.concatenate([one[name] for one in answers]) for name in answers[0]})
            else:
                pipe.send((memory, sorted({name.partition(".")[0] for name in sys.modules})))
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001 (runtimes raise what they like; the other end says it)
        with suppress(OSError):
            lines = str(error).splitlines()
            pipe.send(KpedgeError(lines[0] if lines else type(error).__name__))


class Worker:
    """A contestant's process, as a model that is called with inputs; `opened` is what was known at its first answer."""

    def __init__(self, contestant: Contestant, threads: Sequence[int] = (1,)) -> None:
        """Start it."""
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, contestant, tuple(threads)), daemon=True)
        self._process.start()
        other.close()
        self.opened: Opened = self._answer()

    @property
    def card(self) -> Card:
        """The card of its file."""
        return self.opened.card

    def __call__(self, inputs: NDArray[np.uint8], /) -> Outputs:
        """Crops or frames, uint8 (N, H, W, C), to the card's outputs, one at a time: many runtimes have no batches."""
        return cast("Outputs", self._ask("run", inputs))

    def time(self, threads: int, batch: int, warmup: int, calls: int) -> NDArray[np.float64]:
        """Durations of calls on random inputs, seconds."""
        return cast("NDArray[np.float64]", self._ask("time", threads, batch, warmup, calls))

    def usage(self) -> tuple[float | None, list[str]]:
        """Peak memory after the first answer, megabytes, and the top-level modules that are imported."""
        memory, modules = self._ask("usage")
        return memory, modules

    def close(self) -> None:
        """End it."""
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.terminate()

    def _ask(self, *request: Any) -> Any:
        self._pipe.send(request)
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            self._process.join(5)
            answer = KpedgeError(f"its process ended with code {self._process.exitcode}")
        if isinstance(answer, KpedgeError):
            self.close()
            raise answer
        return answer
